//! What `svtree apply` has put into a services directory: so that the next one knows what is its own and what a program's.
//!
//! Must never open a file.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::name::{escaped, printable, unescaped};

/// Paths relative to the services directory, as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest(BTreeSet<Vec<u8>>);

/// The file.
#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    paths: Vec<String>,
}

const VERSION: u32 = 1;

impl Manifest {
    /// Adds a path.
    pub fn add(&mut self, path: &[u8]) {
        self.0.insert(path.to_vec());
    }

    /// Whether it has this path.
    #[must_use]
    pub fn has(&self, path: &[u8]) -> bool {
        self.0.contains(path)
    }

    /// What either of them has: while one is being turned into the other any of it may be there.
    #[must_use]
    pub fn or(&self, other: &Manifest) -> Manifest {
        Manifest(self.0.union(&other.0).cloned().collect())
    }

    /// The contents of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let written = Written { version: VERSION, paths: self.0.iter().map(|path| escaped(path)).collect() };
        // No map with keys other than strings, so serialisation cannot fail.
        let mut bytes = serde_json::to_vec_pretty(&written).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It is none, or one of a later version; in one line.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, String> {
        let written: Written =
            serde_json::from_slice(bytes).map_err(|error| printable(error.to_string().as_bytes()))?;
        if written.version != VERSION {
            return Err(format!("of version {}, and this svtree knows {VERSION}", written.version));
        }
        Ok(Manifest(written.paths.iter().map(|path| unescaped(path)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(paths in proptest::collection::btree_set(proptest::collection::vec(any::<u8>(), 1..20), 0..8)) {
            let manifest = Manifest(paths);
            prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
        }
    }

    #[test]
    fn what_is_none_is_said() {
        assert!(Manifest::decode(b"").is_err());
        assert!(Manifest::decode(b"{\"version\":2,\"paths\":[]}").is_err_and(|why| why.contains("of version 2")));
        let mut one = Manifest::default();
        one.add(b"web/run");
        let mut other = Manifest::default();
        other.add(b"db/run");
        assert!(one.or(&other).has(b"web/run") && one.or(&other).has(b"db/run") && !one.has(b"db/run"));
    }
}

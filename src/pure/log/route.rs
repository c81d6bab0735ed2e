//! Where what a module says goes: the file `.route` in its status directory, which the tree's logger reads.
//!
//! Must never know how it gets there.

use serde::{Deserialize, Serialize};

use super::{Full, Keeping, Timestamps};

/// Where the output of a program goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum To {
    /// Into a log of its own.
    File,
    /// Where svtree's own output goes, each line with the name of its module.
    Inherit,
    /// Nowhere.
    None,
}

impl To {
    /// Every one by its name.
    pub const ALL: [(&str, To); 3] = [("file", To::File), ("inherit", To::Inherit), ("none", To::None)];
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// Where it goes; `None`: where svtree sends it.
    pub to: Option<To>,
    /// Relative to the service directory; `None`: below the log root.
    pub directory: Option<String>,
    /// No file is longer, in bytes.
    pub max_size: u64,
    /// So many files are kept beside the one that is written.
    pub keep: u32,
    /// What stands before each line; `None`: what is usual where it goes.
    pub timestamps: Option<Timestamps>,
    /// What is done with lines that the disk does not take.
    pub full: Full,
}

impl Default for Log {
    fn default() -> Log {
        let Keeping { max_size, keep, .. } = Keeping::default();
        Log { to: None, directory: None, max_size, keep, timestamps: None, full: Full::Wait }
    }
}

/// What the logger is told of one module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it goes.
    pub to: To,
    /// The directory of its log, absolute, escaped as names are.
    pub directory: String,
    /// It is not below the log root, and may be on a disk of its own.
    pub own: bool,
    /// How it is kept.
    #[serde(flatten)]
    pub keeping: Keeping,
    /// What is done with lines that the disk does not take.
    pub full: Full,
}

impl Route {
    /// The contents of the file: one line of JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // No map with keys other than strings, so serialisation cannot fail.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads the file; `None` for what is none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Route> {
        serde_json::from_slice(bytes).ok()
    }
}

impl Log {
    /// The route that this asks for. `directory` is the one that it names or is given.
    #[must_use]
    pub fn route(&self, to: To, directory: String) -> Route {
        let usual = match to {
            To::File => Timestamps::Iso,
            To::Inherit | To::None => Timestamps::None,
        };
        let timestamps = self.timestamps.unwrap_or(usual);
        let keeping = Keeping { max_size: self.max_size, keep: self.keep, timestamps };
        Route { to, directory, own: self.directory.is_some(), keeping, full: self.full }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_comes_back_and_nothing_else_is_one() {
        let log = Log { full: Full::Drop, keep: 3, ..Log::default() };
        let route = log.route(To::File, "/var/log/\\xff".to_owned());
        assert_eq!(Route::decode(&route.encode()), Some(route));
        assert_eq!(Route::decode(b"{}"), None);
        assert_eq!(log.route(To::Inherit, String::new()).keeping.timestamps, Timestamps::None);
    }
}

//! What one svtree and the next agree upon when the one hands the tree down to the other: versions, and the answer.
//!
//! Must never know what is handed down, or how.

use serde::{Deserialize, Serialize};

/// The version of what is handed down. It changes only when an older svtree could not read it: what is unknown is passed
/// over, and what is missing has a default.
pub const VERSION: u32 = 1;

const OFFER: &str = "svtree takes over from version";

/// What an executable says when it is asked from which versions it can take over: one line.
#[must_use]
pub fn offer() -> String {
    format!("{OFFER} {VERSION}\n")
}

/// Whether what an executable has said is that it can take over from this version.
#[must_use]
pub fn is_accepted(said: &[u8]) -> bool {
    let line = str::from_utf8(said).ok().and_then(|said| said.strip_suffix('\n'));
    let versions = line.and_then(|line| line.strip_prefix(OFFER)).and_then(|versions| versions.strip_prefix(' '));
    versions.is_some_and(|versions| versions.split(' ').any(|version| version == VERSION.to_string()))
}

/// What became of the last upgrade: `.upgrade` in the status root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// How many were tried: another number is another answer.
    pub count: u64,
    /// Whether another svtree runs.
    pub upgraded: bool,
    /// The version of the one that runs now.
    pub version: String,
    /// Why it is still the same.
    pub reason: Option<String>,
    /// RFC 3339.
    pub at: String,
}

impl Answer {
    /// The contents of the file: one line of JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // No map with keys other than strings, so serialisation cannot fail.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads the file; what is none says that nothing was tried.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Answer {
        serde_json::from_slice(bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_accepted_as_it_stands_and_nothing_else() {
        assert!(is_accepted(offer().as_bytes()));
        assert!(is_accepted(b"svtree takes over from version 3 2 1\n"));
        for no in ["", "\n", "1\n", "svtree takes over from version 1", "svtree takes over from version 11\n"] {
            assert!(!is_accepted(no.as_bytes()), "{no:?}");
        }
        assert!(!is_accepted(b"svtree takes over from version\n"));
        assert!(!is_accepted(b"svtree takes over from version 1\nand more\n"));
        assert!(!is_accepted(b"\xff\n"));
    }

    #[test]
    fn an_answer_comes_back() {
        let answer = Answer { count: 7, upgraded: false, reason: Some("no".to_owned()), ..Answer::default() };
        assert_eq!(Answer::decode(&answer.encode()), answer);
        assert_eq!(Answer::decode(b"{"), Answer::default());
    }
}

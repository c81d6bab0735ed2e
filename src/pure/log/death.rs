//! What a program said last before each of its deaths: the file `.last-lines` in the status directory of its module.
//!
//! Must never know how a program ended: `exits` of `state.json` says it, and is matched by pid and time.

use serde::{Deserialize, Serialize};

/// So many lines are kept of each death,
pub const LINES: usize = 40;

/// of so many deaths,
const DEATHS: usize = 20;

/// and of each line no more than this, in bytes.
pub const LENGTH: usize = 1000;

/// A death, and what was said before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Death {
    /// The pid that the program had.
    pub pid: i32,
    /// As in `exits`.
    pub at: String,
    /// The last lines, the oldest first, without stamps.
    pub last_lines: Vec<String>,
}

/// One line of what was said, as it is kept: what is no UTF-8 is replaced, and what is too long is cut.
#[must_use]
pub fn kept(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(LENGTH)]);
    if line.len() > LENGTH { format!("{text}…") } else { text.into_owned() }
}

/// The file with one more death.
#[must_use]
pub fn with(file: &[u8], death: Death) -> Vec<u8> {
    let mut deaths = decode(file);
    deaths.retain(|known| (known.pid, &known.at) != (death.pid, &death.at));
    deaths.insert(0, death);
    deaths.truncate(DEATHS);
    // No map with keys other than strings, so serialisation cannot fail.
    let mut bytes = serde_json::to_vec(&deaths).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Every death in the file, the newest first; none in what is no such file.
#[must_use]
pub fn decode(file: &[u8]) -> Vec<Death> {
    serde_json::from_slice(file).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_are_kept_the_newest_first_and_not_without_end() {
        let death = |pid| Death { pid, at: format!("at {pid}"), last_lines: vec![format!("line of {pid}")] };
        let file = (1..=30).fold(Vec::new(), |file, pid| with(&file, death(pid)));
        let deaths = decode(&file);
        assert_eq!((deaths.len(), &deaths[0], deaths[19].pid), (DEATHS, &death(30), 11));
        // Told twice, it is known once.
        assert_eq!(decode(&with(&file, death(30))), deaths);
        assert_eq!(decode(b"{"), []);
    }

    #[test]
    fn lines_are_kept_as_text_and_cut() {
        assert_eq!(kept(b"a\xffb\0"), "a\u{fffd}b\0");
        assert_eq!(kept(&[b'x'; 2000]).chars().count(), LENGTH + 1);
    }
}

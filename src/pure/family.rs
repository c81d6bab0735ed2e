//! The small files of the family that stand in a service directory: the text of each to what it asks for.
//!
//! One table of files. Must never read one, and never know of `service.toml`, which wins over them all.

use std::time::Duration;

use super::config::{FinishTimeout, Policy, Ready, ReadyBy, parse_descriptor};
use super::exit::Signal;

/// One file: its name, and how its first line is taken.
#[derive(Debug)]
pub struct File {
    /// Its name in the service directory.
    pub name: &'static str,
    set: fn(&mut Policy, &str) -> Result<(), String>,
}

/// How many exits can be asked for with `max-death-tally`, as in s6.
pub const MOST_EXITS_KEPT: usize = 4096;

/// Every such file there is. In s6 each holds one line.
pub const FILES: [File; 5] = [
    file("down-signal", |policy, line| {
        policy.stop.signal = Signal::parse(line).ok_or("expected a signal such as TERM or 15")?;
        Ok(())
    }),
    file("timeout-kill", |policy, line| {
        policy.stop.timeout = milliseconds(line)?;
        Ok(())
    }),
    file("timeout-finish", |policy, line| {
        policy.stop.finish_timeout = FinishTimeout::Own(milliseconds(line)?);
        Ok(())
    }),
    file("max-death-tally", |policy, line| {
        let number = line.parse().ok().filter(|number| *number <= MOST_EXITS_KEPT);
        policy.exits_kept = number.ok_or_else(|| format!("expected a whole number from 0 to {MOST_EXITS_KEPT}"))?;
        Ok(())
    }),
    file("notification-fd", |policy, line| {
        let number = parse_descriptor(line).ok_or("expected the number of a descriptor from 1 to 1023")?;
        policy.ready = Ready { by: Some(ReadyBy::Descriptor(number)), of_file: true, ..Ready::default() };
        Ok(())
    }),
];

/// As in runit, an executable of this name says whether the service is there.
pub const CHECK: &str = "check";

/// There is such an executable. A descriptor that the program writes to is the better way.
pub fn has_check(policy: &mut Policy) {
    if policy.ready.by.is_none() {
        let words = vec![format!("./{CHECK}")];
        policy.ready = Ready { by: Some(ReadyBy::Check(words)), of_file: true, ..Ready::default() };
    }
}

const fn file(name: &'static str, set: fn(&mut Policy, &str) -> Result<(), String>) -> File {
    File { name, set }
}

impl File {
    /// Takes what the file asks for into a policy; what follows its first line is passed over, as in s6.
    ///
    /// # Errors
    /// Says what is expected, and what stands there.
    pub fn read(&self, bytes: &[u8], policy: &mut Policy) -> Result<(), String> {
        let line = first_line(bytes).trim_ascii();
        let text = str::from_utf8(line).unwrap_or("\u{fffd}");
        (self.set)(policy, text).map_err(|expected| {
            let shown: String = text.chars().take(40).collect();
            format!("{}: {expected}, found \"{}\"", self.name, shown.escape_debug())
        })
    }
}

/// Milliseconds as s6 writes them; 0 is for ever.
fn milliseconds(line: &str) -> Result<Option<Duration>, String> {
    let number: u32 = line.parse().map_err(|_| "expected whole milliseconds, 0 for no limit")?;
    Ok((number > 0).then(|| Duration::from_millis(u64::from(number))))
}

/// The value of the variable whose file in an `environment_dir` has these contents; `None`: the variable is unset.
///
/// As daemontools' `envdir`: the first line without the blanks and tabs at its end; a NUL in it stands for a newline.
#[must_use]
pub fn variable(contents: &[u8]) -> Option<Vec<u8>> {
    if contents.is_empty() {
        return None;
    }
    let line = first_line(contents);
    let end = line.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')).map_or(0, |last| last + 1);
    Some(line[..end].iter().map(|byte| if *byte == 0 { b'\n' } else { *byte }).collect())
}

fn first_line(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == b'\n').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &[u8]) -> Result<Policy, String> {
        let mut policy = Policy::default();
        let file = FILES.iter().find(|file| file.name == name).expect("a file of the family");
        file.read(text, &mut policy).map(|()| policy)
    }

    #[test]
    fn every_file() {
        assert_eq!(read("down-signal", b"SIGINT\n").expect("good").stop.signal, Signal::INT);
        assert_eq!(read("down-signal", b"15").expect("good").stop.signal, Signal::TERM);
        assert_eq!(read("timeout-kill", b"1500\n").expect("good").stop.timeout, Some(Duration::from_millis(1500)));
        assert_eq!(read("timeout-kill", b"0\n").expect("good").stop.timeout, None);
        let stop = read("timeout-finish", b" 20 \nmore\n").expect("good").stop;
        assert_eq!(stop.finish_limit(), Some(Duration::from_millis(20)));
        assert_eq!(read("timeout-finish", b"0").expect("good").stop.finish_limit(), None);
        assert_eq!(Policy::default().stop.finish_limit(), Policy::default().stop.timeout);
        assert_eq!(read("max-death-tally", b"0\n").expect("good").exits_kept, 0);
        assert_eq!(read("max-death-tally", b"4096\n").expect("good").exits_kept, 4096);
        let mut policy = read("notification-fd", b"3\n").expect("good");
        assert_eq!((&policy.ready.by, policy.ready.limit()), (&Some(ReadyBy::Descriptor(3)), None));
        has_check(&mut policy);
        assert_eq!(policy.ready.by, Some(ReadyBy::Descriptor(3)));
    }

    #[test]
    fn mistakes_say_what_is_expected() {
        assert_eq!(
            read("timeout-kill", b"5s\n"),
            Err("timeout-kill: expected whole milliseconds, 0 for no limit, found \"5s\"".to_owned())
        );
        for (name, text) in [
            ("timeout-kill", &b""[..]),
            ("timeout-kill", b"-1"),
            ("timeout-finish", b"4294967296"),
            ("down-signal", b"NOSUCH"),
            ("down-signal", b"\xff"),
            ("max-death-tally", b"4097"),
            ("notification-fd", b"0"),
            ("notification-fd", b"three"),
        ] {
            assert!(read(name, text).is_err(), "{name}: {text:?}");
        }
    }

    #[test]
    fn variables_are_those_of_envdir() {
        assert_eq!(variable(b""), None);
        assert_eq!(variable(b"\n"), Some(Vec::new()));
        assert_eq!(variable(b" \t"), Some(Vec::new()));
        assert_eq!(variable(b" a b \t \nmore\n"), Some(b" a b".to_vec()));
        assert_eq!(variable(b"a\0b\r\n"), Some(b"a\nb\r".to_vec()));
        assert_eq!(variable(b"a\0"), Some(b"a\n".to_vec()));
    }
}

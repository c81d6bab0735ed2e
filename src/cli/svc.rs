//! `svc` and `svok`: letters to any supervised directory, and whether it is one. Command line, words and exit codes are
//! those of daemontools.
//!
//! Must never wait for what a letter does.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use super::names::Tree;
use super::out;
use super::place::{Place, is_missing, words};
use super::roots::Roots;
use super::verbs::{NOBODY, PATIENCE};
use crate::pure::command::{Decoded, LETTERS, decode};
use crate::unix::client::Line;

/// `svc -LETTERS NAME…`: all letters to each, in one write.
#[must_use]
pub fn svc(arguments: &[OsString], roots: &Roots) -> u8 {
    let (letters, names) = match options(arguments) {
        Ok(parsed) => parsed,
        Err(letter) => {
            say(&[b"svc: illegal option -- ", &[letter][..], b"\n"].concat());
            let known: Vec<_> = LETTERS.iter().map(|row| format!("{} {}", char::from(row.byte), row.verb)).collect();
            say(format!("svc options: {}\n", known.join(", ")).as_bytes());
            return out::USAGE;
        }
    };
    let tree = Tree::new(roots);
    for name in names {
        if let Err((doing, why)) = tell(&tree, name, &letters) {
            // The name stands as it was typed, byte by byte.
            say(&[b"svc: warning: unable to ", doing.as_bytes(), b" ", name.as_bytes(), b": ", why.as_bytes(), b"\n"]
                .concat());
        }
    }
    out::DONE
}

/// As getopt does: letters of all leading options, then the names. Fails with the first letter that is none.
fn options(arguments: &[OsString]) -> Result<(Vec<u8>, &[OsString]), u8> {
    let mut letters = Vec::new();
    for (index, argument) in arguments.iter().enumerate() {
        match argument.as_bytes() {
            b"--" => return Ok((letters, &arguments[index + 1..])),
            [b'-', option @ ..] if !option.is_empty() => {
                for letter in option {
                    match decode(*letter) {
                        Decoded::Command(_) => letters.push(*letter),
                        Decoded::Blank | Decoded::Unknown(_) => return Err(*letter),
                    }
                }
            }
            _ => return Ok((letters, &arguments[index..])),
        }
    }
    Ok((letters, &[]))
}

fn tell(tree: &Tree<'_>, name: &OsStr, letters: &[u8]) -> Result<(), (&'static str, String)> {
    let place = Place::find(tree, name).map_err(|error| ("chdir to", words(&error)))?;
    let sent = match Line::open(&place.control()) {
        Ok(Some(line)) => line.send(letters, PATIENCE),
        Ok(None) => Ok(false),
        Err(error) => Err(error),
    };
    match sent {
        Ok(true) => Ok(()),
        Ok(false) => Err(("control", NOBODY.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(("write to", "its FIFO is full".to_owned())),
        Err(error) => Err(("control", words(&error))),
    }
}

/// `svok NAME`: 0 if it is supervised, 100 if not.
#[must_use]
pub fn svok(arguments: &[OsString], roots: &Roots) -> u8 {
    let Some(name) = arguments.first() else {
        say(b"svok: usage: svok dir\n");
        return out::USAGE;
    };
    let (doing, error) = match Place::find(&Tree::new(roots), name) {
        Ok(place) => match place.supervised {
            Ok(true) => return out::DONE,
            Ok(false) => return out::USAGE,
            Err(error) => ("unable to control ", error),
        },
        Err(error) => ("unable to chdir to ", error),
    };
    if is_missing(&error) {
        return out::USAGE;
    }
    let text = words(&error);
    say(&[b"svok: fatal: ", doing.as_bytes(), name.as_bytes(), b": ", text.as_bytes(), b"\n"].concat());
    out::FAILED
}

fn say(line: &[u8]) {
    // Nobody is left to be told when standard error is gone.
    let _ = io::stderr().write_all(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<(String, Vec<String>), u8> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        options(&words).map(|(letters, names)| {
            let names = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
            (String::from_utf8_lossy(&letters).into_owned(), names)
        })
    }

    #[test]
    fn options_as_getopt() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(parse(&["-du", "web"]), Ok(("du".into(), names(&["web"]))));
        assert_eq!(parse(&["-d", "-u", "a", "-x"]), Ok(("du".into(), names(&["a", "-x"]))));
        assert_eq!(parse(&["-u", "--", "-odd"]), Ok(("u".into(), names(&["-odd"]))));
        assert_eq!(parse(&["-"]), Ok((String::new(), names(&["-"]))));
        assert_eq!(parse(&[]), Ok((String::new(), names(&[]))));
        assert_eq!(parse(&["-uZ", "web"]), Err(b'Z'));
        assert_eq!(parse(&["--up", "web"]), Err(b'-'));
        let all: String = LETTERS.iter().map(|row| char::from(row.byte)).collect();
        assert_eq!(parse(&[&format!("-{all}")]), Ok((all, names(&[]))));
    }
}

//! The command line of a `supervise` alone: which of its four forms it is, told by the operands, and what they say.
//!
//! Must never look whether what is named is there.

use std::time::Duration;

use super::config::BeforeRestart;
use super::name::ModuleName;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// In the background, as a daemon.
    pub detached: bool,
    /// What is supervised.
    pub what: What,
    /// The file of settings.
    pub conf: Option<Vec<u8>>,
    /// What is run before each restart.
    pub before_restart: Option<BeforeRestart>,
}

/// What is supervised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A command.
    Command {
        /// Its status directory, as it was typed.
        status: Vec<u8>,
        /// The name that this directory gives it.
        name: ModuleName,
        /// Its words, at least one.
        words: Vec<Vec<u8>>,
    },
    /// The `run` of this service directory.
    Service(Vec<u8>),
}

/// Why there is nothing to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotRun {
    /// `-h`.
    Help,
    /// `-v`.
    Version,
    /// Wrong usage, and what is wrong.
    Wrong(String),
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// They ask for no run.
pub fn parse(arguments: &[Vec<u8>]) -> Result<Request, NotRun> {
    let mut given = Given::default();
    let operands = given.options(arguments)?;
    given.request(operands)
}

/// What the options said.
#[derive(Debug, Default)]
struct Given {
    status: Option<Vec<u8>>,
    command: Option<Vec<Vec<u8>>>,
    conf: Option<Vec<u8>>,
    script: Option<Vec<Vec<u8>>>,
    apart: Option<Duration>,
}

impl Given {
    /// Takes the options; what is left are operands.
    fn options<'a>(&mut self, mut rest: &'a [Vec<u8>]) -> Result<&'a [Vec<u8>], NotRun> {
        while let Some((argument, after)) = rest.split_first() {
            // An operand ends them: what follows may be the options of a command.
            let Some((letter, value)) = argument.strip_prefix(b"-").and_then(<[u8]>::split_first) else { break };
            rest = after;
            if argument == b"--" {
                break;
            }
            match letter {
                b'h' | b'?' => return Err(NotRun::Help),
                b'v' => return Err(NotRun::Version),
                b'p' | b'u' | b'f' | b'F' | b'r' | b't' => {}
                other => return wrong(format!("unknown option -{}", other.escape_ascii())),
            }
            // Its value is the rest of the argument, or the next one.
            let value = match (value, rest.split_first()) {
                ([], Some((next, after))) => {
                    rest = after;
                    next.as_slice()
                }
                ([], None) => return wrong(format!("option -{} needs a value", char::from(*letter))),
                (value, _) => value,
            };
            self.set(*letter, value)?;
            if *letter == b'u' {
                return Ok(rest);
            }
        }
        Ok(rest)
    }

    fn set(&mut self, letter: u8, value: &[u8]) -> Result<(), NotRun> {
        match letter {
            b'p' | b'u' => self.status = Some(value.to_vec()),
            b'f' => match words(value) {
                words if words.is_empty() => return wrong("the command is empty".to_owned()),
                words => self.command = Some(words),
            },
            b'F' => self.conf = Some(value.to_vec()),
            b'r' => match words(value) {
                words if words.is_empty() => return wrong("the script is empty".to_owned()),
                words => self.script = Some(words),
            },
            _ => {
                let seconds = std::str::from_utf8(value).ok().and_then(|text| text.trim_ascii().parse().ok());
                match seconds {
                    Some(seconds) => self.apart = Some(Duration::from_secs(seconds)),
                    None => return wrong("option -t needs a number of seconds".to_owned()),
                }
            }
        }
        Ok(())
    }

    fn request(self, operands: &[Vec<u8>]) -> Result<Request, NotRun> {
        let Given { status: named, command, conf, script, apart } = self;
        let before_restart = script.map(|words| BeforeRestart { words, apart });
        let detached = named.is_some();
        let (status, words) = match (named, command, operands) {
            (Some(status), Some(words), []) => (status, words),
            (Some(_), Some(_), [..]) => return wrong("there is a command in -f, and another one behind it".to_owned()),
            (Some(status), None, [_, ..]) => (status, operands.to_vec()),
            (Some(_), None, []) => return wrong("no command is named".to_owned()),
            (None, Some(_), _) => return wrong("-f needs -p STATUS/NAME".to_owned()),
            (None, None, []) => return wrong("nothing to supervise is named".to_owned()),
            (None, None, [directory]) if conf.is_none() && before_restart.is_none() && !directory.is_empty() => {
                return Ok(Request { detached, what: What::Service(directory.clone()), conf, before_restart });
            }
            (None, None, [_]) => return wrong("no command is named".to_owned()),
            (None, None, [status, words @ ..]) => (status.clone(), words.to_vec()),
        };
        if words.first().is_none_or(Vec::is_empty) {
            return wrong("the command is empty".to_owned());
        }
        // As the original: blanks at the end are of the script that typed it.
        let end = status.iter().rposition(|byte| !matches!(byte, b'/' | b' ' | b'\t')).map_or(0, |last| last + 1);
        let status = status[..end].to_vec();
        match name(&status) {
            Some(name) => Ok(Request { detached, what: What::Command { status, name, words }, conf, before_restart }),
            None => wrong("the directory must hold status/ and a name after it, such as status/web".to_owned()),
        }
    }
}

fn wrong<T>(text: String) -> Result<T, NotRun> {
    Err(NotRun::Wrong(text))
}

/// Split at blanks and tabs, and nothing else.
fn words(text: &[u8]) -> Vec<Vec<u8>> {
    text.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect()
}

/// What stands behind `status/`; behind the next one where the first one leads out of it again.
fn name(status: &[u8]) -> Option<ModuleName> {
    const STATUS: &[u8] = b"status/";
    let starts = (0..status.len()).filter(|at| status[*at..].starts_with(STATUS));
    starts.map(|at| &status[at + STATUS.len()..]).find_map(inside)
}

fn inside(path: &[u8]) -> Option<ModuleName> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop()?;
            }
            component => components.push(component),
        }
    }
    ModuleName::new(&components.join(&b'/')).ok()
}

/// Which command that is, whoever asks and from wherever: two numbers that no other command has. 128 bits of FNV-1a,
/// since they are recorded, and the next executable has to find the same.
#[must_use]
pub fn digest(words: &[Vec<u8>]) -> [u64; 2] {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    // A word holds no NUL.
    let bytes = words.iter().flat_map(|word| word.iter().chain(&[0]));
    let hash = bytes.fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME));
    let [high, low] = [hash >> 64, hash & u128::from(u64::MAX)];
    [high, low].map(|half| u64::try_from(half).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: &[&str]) -> Result<Request, NotRun> {
        let arguments: Vec<Vec<u8>> = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
        parse(&arguments)
    }

    fn command(arguments: &[&str]) -> (bool, String, String, String) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match asked(arguments) {
            Ok(Request { detached, what: What::Command { status, name, words }, .. }) => {
                (detached, text(&status), name.to_string(), text(&words.join(&b'|')))
            }
            other => panic!("{arguments:?}: {other:?}"),
        }
    }

    fn told(detached: bool, status: &str, name: &str, words: &str) -> (bool, String, String, String) {
        (detached, status.to_owned(), name.to_owned(), words.to_owned())
    }

    #[test]
    fn the_four_forms() {
        let web = told(true, "status/web", "web", "bin/web|-c|a b");
        assert_eq!(command(&["-u", "status/web", "bin/web", "-c", "a b"]), web);
        assert_eq!(
            command(&["status/web", "bin/web", "-c", "a b"]),
            told(false, "status/web", "web", "bin/web|-c|a b")
        );
        let split = told(true, "status/web", "web", "bin/web|-c|'a|b'|$X;|\n");
        assert_eq!(command(&["-p", "status/web", "-f", " bin/web\t-c 'a b'  $X; \n "]), split);
        assert_eq!(asked(&["service/web"]).map(|request| (request.detached, request.what)), {
            Ok((false, What::Service(b"service/web".to_vec())))
        });
    }

    #[test]
    fn options_in_any_order_and_joined_to_their_values() {
        let all = ["-t", "60", "-f", "x y", "-F", "conf", "-r", "sh restart.sh", "-p", "status/web"];
        let request = asked(&all).expect("a request");
        assert_eq!(asked(&["-pstatus/web", "-fx y", "-Fconf", "-rsh restart.sh", "-t60"]), Ok(request.clone()));
        assert_eq!(request.conf.as_deref(), Some(b"conf".as_slice()));
        let script =
            BeforeRestart { words: vec![b"sh".to_vec(), b"restart.sh".to_vec()], apart: Some(Duration::from_mins(1)) };
        assert_eq!(request.before_restart, Some(script));
        // What follows the directory of -u is the command's.
        let request = asked(&["-F", "conf", "-u", "status/web", "-f", "-h"]).expect("a request");
        assert!(matches!(request.what, What::Command { words, .. } if words == [b"-f".to_vec(), b"-h".to_vec()]));
    }

    #[test]
    fn names_of_status_directories() {
        for (typed, status, name) in [
            ("status/web", "status/web", "web"),
            ("./status//web/ /", "./status//web", "web"),
            ("/home/work/status/some-app/", "/home/work/status/some-app", "some-app"),
            ("status/group/web", "status/group/web", "group/web"),
            ("status/../status/web", "status/../status/web", "web"),
            ("status/x/../web", "status/x/../web", "web"),
            ("../a/mystatus/web/.", "../a/mystatus/web/.", "web"),
        ] {
            assert_eq!(command(&["-p", typed, "-f", "x"]), told(true, status, name, "x"), "{typed}");
        }
    }

    #[test]
    fn wrong_usage() {
        for arguments in [
            &[][..],
            &["-p", "status/web"],
            &["-p", "status/web", "-f", " \t "],
            &["-p", "status/", "-f", "x"],
            &["-p", "status", "-f", "x"],
            &["-p", "web", "-f", "x"],
            &["-p", "status/web/..", "-f", "x"],
            &["-p", "status/..", "-f", "x"],
            &["-p", "", "-f", "x"],
            &["-p", "status/web", "-f", "x", "y"],
            &["-p"],
            &["-x"],
            &["-t", "soon", "-u", "status/web", "x"],
            &["-f", "x", "status/web"],
            &["-u", "status/web"],
            &["-u", "status/web", ""],
            &["web", "x"],
            &[""],
        ] {
            assert!(matches!(asked(arguments), Err(NotRun::Wrong(_))), "{arguments:?}: {:?}", asked(arguments));
        }
        assert_eq!(asked(&["-h"]), Err(NotRun::Help));
        assert_eq!(asked(&["-p", "status/web", "-v"]), Err(NotRun::Version));
    }

    #[test]
    fn a_digest_is_of_the_words_and_stays_the_same_for_ever() {
        let words = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(digest(&[]), [0x6c62_272e_07bb_0142, 0x62b8_2175_6295_c58d]);
        // Of "a\0", by the published constants.
        assert_ne!(digest(&words(&["a b"])), digest(&words(&["a", "b"])));
        assert_ne!(digest(&words(&["a", ""])), digest(&words(&["a"])));
        assert_eq!(digest(&words(&["x"])), digest(&words(&["x"])));
    }
}

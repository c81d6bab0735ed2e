//! What an alarm says: in a message, as JSON, as variables, as a mail.
//!
//! Names, hosts and reasons are others' to choose: none of them makes a line, a header or a field of its own. Must never
//! decide what is told.

use std::time::Duration;

use serde::Serialize;

use super::alarm::Kind;
use super::exit::Exit;
use super::name::{ModuleName, escaped, printable, unescaped};
use super::state::{ExitEntry, State, StateName, seconds};
use super::time::{Wall, human};

/// Something of which an alarm tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// What.
    pub kind: Kind,
    /// When.
    pub at: Wall,
    /// How often since it was told last.
    pub count: u32,
    /// How the program ended.
    pub exit: Option<Exit>,
    /// Why, beyond what the exit says: it could not be started, was ended since it was not well, or was given up.
    pub why: Option<String>,
    /// How long it took until it was up again.
    pub downtime: Option<Duration>,
}

/// An alarm, with the fields of its JSON object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Notice {
    /// `exit`, `failed` or `recovered`.
    pub event: &'static str,
    /// The module, escaped as in `state.json`.
    pub module: String,
    /// The name of the machine.
    pub host: String,
    /// RFC 3339, when it happened.
    pub at: String,
    /// All of it in one line, for people.
    pub message: String,
    /// Starts after the first.
    pub restarts: u64,
    /// RFC 3339, when it will be started; `None` unless it waits for that.
    pub next_start: Option<String>,
    /// The last exit, as `exits` has it.
    pub exit: Option<ExitEntry>,
    /// What it wrote last.
    pub last_lines: Vec<String>,
    /// Seconds from the first thing that was told until the program was up; only with `recovered`.
    pub downtime: Option<f64>,
}

impl Notice {
    /// What there is to say, with how the module is by now.
    #[must_use]
    pub fn new(happened: &Happened, name: &ModuleName, host: &[u8], state: &State, last_lines: Vec<String>) -> Notice {
        let (at, host) = (happened.at.rfc3339(), printable(host));
        let message = format!("{host}: {}: {}", printable(name.as_bytes()), sentence(happened, state));
        Notice {
            event: happened.kind.name(),
            module: escaped(name.as_bytes()),
            host,
            at,
            message,
            restarts: state.restarts,
            next_start: state.next_start.clone(),
            exit: happened.exit.as_ref().map(ExitEntry::new),
            last_lines,
            downtime: happened.downtime.map(seconds),
        }
    }

    /// The JSON object, on one line.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        // No map with keys other than strings, so serialisation cannot fail.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The variables of a program that tells it, beside the module's name.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, String)> {
        let code = self.exit.as_ref().and_then(|exit| Some(("SVTREE_CODE", exit.code?.to_string())));
        let signal = self.exit.as_ref().and_then(|exit| Some(("SVTREE_SIGNAL", exit.signal?.to_string())));
        [
            Some(("SVTREE_EVENT", self.event.to_owned())),
            Some(("SVTREE_HOST", self.host.clone())),
            Some(("SVTREE_MESSAGE", self.message.clone())),
            code,
            signal,
        ]
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// A mail for `sendmail -t`, which takes those it is for from its header.
    #[must_use]
    pub fn mail(&self, to: &[String]) -> Vec<u8> {
        let to: Vec<String> = to.iter().map(|address| address.replace(char::is_control, "")).collect();
        let mut mail = format!(
            "To: {}\nSubject: {}\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\n\
             Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n",
            to.join(",\n "),
            header(&self.message.chars().take(LONGEST_SUBJECT).collect::<String>()),
        );
        let mut lines = vec![
            self.message.clone(),
            String::new(),
            format!("event: {}", self.event),
            format!("module: {}", printable(&unescaped(&self.module))),
            format!("host: {}", self.host),
            format!("at: {}", self.at),
            format!("restarts: {}", self.restarts),
        ];
        lines.extend(self.next_start.as_ref().map(|at| format!("next start: {at}")));
        if !self.last_lines.is_empty() {
            lines.extend([String::new(), "last lines:".to_owned()]);
            lines.extend(self.last_lines.iter().map(|line| format!("  {}", printable(line.as_bytes()))));
        }
        lines.iter().for_each(|line| mail.push_str(&wrapped(line)));
        mail.into_bytes()
    }

    /// What is said to a telephone of this number, as Baidu's `gsmsend` takes it.
    #[must_use]
    pub fn short(&self, number: &str) -> String {
        format!("{number}@{}", self.message)
    }
}

/// What happened, how often, and what comes next.
fn sentence(happened: &Happened, state: &State) -> String {
    let Happened { kind, count, exit, why, downtime, .. } = happened;
    let ended = exit.as_ref().map(|exit| format!("{} after {}", exit.how.told(exit.oom), human(exit.uptime)));
    let why = why.as_ref().map(|why| printable(why.as_bytes()));
    match kind {
        Kind::Exit => {
            let what = match (ended, why) {
                (Some(ended), None) => ended,
                (Some(ended), Some(why)) => format!("{why}, {ended}"),
                (None, why) => format!("could not be started: {}", why.unwrap_or_default()),
            };
            let often = if *count > 1 { format!(", {count} times since the last alarm") } else { String::new() };
            format!("{what}{often}; {}", next(state))
        }
        Kind::Failed => format!("failed: {}; {}", why.or(ended).unwrap_or_default(), next(state)),
        Kind::Recovered => {
            format!("recovered after {} of downtime; {}", human(downtime.unwrap_or_default()), next(state))
        }
    }
}

/// What comes next, from how the module is.
fn next(state: &State) -> String {
    match (state.state, state.pid, &state.next_start) {
        (StateName::Up | StateName::Ready | StateName::Starting, Some(pid), _) => format!("it runs as pid {pid}"),
        (StateName::Waiting, _, Some(at)) => format!("it is started again at {at}"),
        (StateName::Failed, ..) => "it stays down until it is told to be up".to_owned(),
        (StateName::Finishing, ..) => "its finish runs".to_owned(),
        (StateName::Stopping, ..) => "what it left is being ended".to_owned(),
        (StateName::Down, ..) => "it stays down".to_owned(),
        // No module that is supervised is anything else.
        (_, _, _) => "it is down".to_owned(),
    }
}

/// A longer subject is cut; the whole message stands below it.
const LONGEST_SUBJECT: usize = 180;

/// In characters, which may have 4 bytes each: no line of a mail may have more than 998 bytes.
const LONGEST_LINE: usize = 240;

/// The text of a header: what is not ASCII in encoded words, of RFC 2047, which are folded.
fn header(text: &str) -> String {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return text.to_owned();
    }
    let mut words = vec![String::new()];
    for character in text.chars() {
        let mut utf8 = [0; 4];
        let bytes = character.encode_utf8(&mut utf8).bytes();
        let code: String = bytes
            .map(|byte| match byte {
                b' ' => "_".to_owned(),
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
                _ => format!("={byte:02X}"),
            })
            .collect();
        // A word has 75 characters at most, with what encloses it.
        if words.last().is_some_and(|word| word.len() + code.len() > 62) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push_str(&code);
        }
    }
    let words: Vec<String> = words.iter().map(|word| format!("=?utf-8?q?{word}?=")).collect();
    words.join("\n ")
}

/// A line of a mail, in several if it is a long one.
fn wrapped(line: &str) -> String {
    let characters: Vec<char> = line.chars().collect();
    let parts: Vec<String> = characters.chunks(LONGEST_LINE).map(|part| part.iter().collect()).collect();
    parts.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::exit::{How, Pid, Signal};

    fn name(bytes: &[u8]) -> ModuleName {
        ModuleName::new(bytes).expect("a name")
    }

    fn exit(how: How) -> Exit {
        Exit {
            at: Wall { seconds: 1, nanos: 0 },
            pid: Pid::new(7).expect("a pid"),
            how,
            oom: false,
            uptime: Duration::from_secs(12),
        }
    }

    fn happened(kind: Kind) -> Happened {
        let exit = Some(exit(How::Exited(3)));
        Happened { kind, at: Wall { seconds: 1_795_341_600, nanos: 0 }, count: 1, exit, why: None, downtime: None }
    }

    fn up() -> State {
        State { state: StateName::Up, pid: Some(9), restarts: 4, ..State::default() }
    }

    fn message(happened: &Happened, state: &State) -> String {
        Notice::new(happened, &name(b"web"), b"db1", state, Vec::new()).message
    }

    #[test]
    fn the_message_says_host_module_what_happened_how_often_and_what_comes_next() {
        assert_eq!(message(&happened(Kind::Exit), &up()), "db1: web: exited 3 after 12 s; it runs as pid 9");
        let core = exit(How::Killed { signal: Signal(11), core: true });
        let waits = State { state: StateName::Waiting, next_start: Some("then".into()), ..State::default() };
        assert_eq!(
            message(&Happened { exit: Some(core), count: 14, ..happened(Kind::Exit) }, &waits),
            "db1: web: killed by SIGSEGV, core dumped after 12 s, 14 times since the last alarm; it is started again at then"
        );
        let failed = State { state: StateName::Failed, ..State::default() };
        assert_eq!(
            message(&Happened { exit: None, why: Some("executing ./run: \n".into()), ..happened(Kind::Exit) }, &failed),
            "db1: web: could not be started: executing ./run: \\x0a; it stays down until it is told to be up"
        );
        assert_eq!(
            message(&Happened { why: Some("gave up".into()), ..happened(Kind::Failed) }, &failed),
            "db1: web: failed: gave up; it stays down until it is told to be up"
        );
        let downtime = Some(Duration::from_millis(2500));
        assert_eq!(
            message(&Happened { downtime, ..happened(Kind::Recovered) }, &up()),
            "db1: web: recovered after 2.5 s of downtime; it runs as pid 9"
        );
    }

    #[test]
    fn the_object_and_the_variables() {
        let notice = Notice::new(&happened(Kind::Exit), &name(b"a\xff\\"), b"h", &up(), vec!["last".into()]);
        let value: serde_json::Value = serde_json::from_slice(&notice.json()).expect("JSON");
        assert_eq!(value["event"], "exit");
        assert_eq!(value["module"], "a\\xff\\\\");
        assert_eq!((&value["host"], &value["at"]), (&"h".into(), &"2026-11-22T10:00:00.000Z".into()));
        assert_eq!((&value["restarts"], &value["next_start"]), (&4.into(), &serde_json::Value::Null));
        assert_eq!((&value["exit"]["code"], &value["exit"]["pid"]), (&3.into(), &7.into()));
        assert_eq!((&value["last_lines"][0], &value["downtime"]), (&"last".into(), &serde_json::Value::Null));
        assert_eq!(notice.json().iter().filter(|byte| **byte == b'\n').count(), 1);
        let variables = notice.variables();
        let value = |name: &str| variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        assert_eq!((value("SVTREE_EVENT"), value("SVTREE_HOST")), (Some("exit"), Some("h")));
        assert_eq!(value("SVTREE_MESSAGE"), Some(notice.message.as_str()));
        assert_eq!((value("SVTREE_CODE"), value("SVTREE_SIGNAL")), (Some("3"), None));
        let killed =
            Happened { exit: Some(exit(How::Killed { signal: Signal::KILL, core: false })), ..happened(Kind::Exit) };
        let notice = Notice::new(&killed, &name(b"web"), b"h", &up(), Vec::new());
        assert!(notice.variables().contains(&("SVTREE_SIGNAL".into(), "9".into())));
    }

    #[test]
    fn a_mail_has_its_header_whatever_the_names() {
        let odd = name("a\nBcc: all@x.org\n\né".as_bytes());
        let notice = Notice::new(&happened(Kind::Exit), &odd, b"h\nX: y", &up(), vec!["one".into()]);
        let to = ["a@x.org".to_owned(), "b@x.org\nBcc: c@x.org".to_owned()];
        let mail = String::from_utf8(notice.mail(&to)).expect("text");
        let (head, body) = mail.split_once("\n\n").expect("a header and a body");
        let fields: Vec<&str> = head
            .lines()
            .filter(|line| !line.starts_with(' '))
            .map(|line| line.split(':').next().expect("a name"))
            .collect();
        assert_eq!(
            fields,
            ["To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"]
        );
        assert!(head.contains("To: a@x.org,\n b@x.orgBcc: c@x.org\n"), "{head}");
        assert!(head.contains("Subject: =?utf-8?q?h=5Cx0aX=3A_y=3A_a=5Cx0aBcc=3A_all=40x=2Eorg"), "{head}");
        assert!(body.contains(&notice.message) && body.contains("restarts: 4\n") && body.contains("  one\n"), "{body}");
        assert!(!body.contains("next start"), "{body}");
    }

    #[test]
    fn no_line_of_a_mail_is_too_long() {
        let long = vec![[0xc3, 0xa9].repeat(127); 16].join(&b'/');
        let notice = Notice::new(&happened(Kind::Exit), &name(&long), b"h", &up(), Vec::new());
        let mail = String::from_utf8(notice.mail(&["a@x.org".to_owned()])).expect("text");
        assert!(mail.lines().all(|line| line.len() <= 998), "{mail}");
        let subject = mail.split("Subject: ").nth(1).and_then(|rest| rest.split("\nAuto").next()).expect("a subject");
        for word in subject.split("\n ") {
            assert!(word.len() <= 75 && word.starts_with("=?utf-8?q?") && word.ends_with("?="), "{word}");
        }
        assert_eq!(notice.short("123"), format!("123@{}", notice.message));
    }
}

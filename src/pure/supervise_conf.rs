//! `supervise.conf`, the file of Baidu's supervise: the text to what it asks of the module of a name.
//!
//! A line that cannot be read is a warning, and the rest holds. Must never open a file.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::Policy;
use super::name::printable;

/// A file that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    /// In the order of the file.
    sections: Vec<Section>,
    /// The lines that could not be read, in their order.
    pub warnings: Vec<Warning>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Section {
    /// `None`: nobody's, since its name cannot be read or was there before.
    name: Option<Vec<u8>>,
    settings: Settings,
}

/// What the sections of one module ask for together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// In which exits are counted, and one alarm of a kind is sent; zero: no alarms and no limits; `None`: nothing is said.
    pub interval: Option<Duration>,
    /// Whom alarms are mailed to.
    pub mail: Vec<String>,
    /// The telephone numbers that they are sent to, 10 at most.
    pub gsm: Vec<String>,
    /// So many exits in `interval` are borne; `None`: any number.
    pub max_tries: Option<u32>,
    /// The same of core dumps.
    pub max_tries_if_coredumped: Option<u32>,
}

/// A line that could not be read, or only in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Counted from 1.
    pub line: usize,
    /// What stands there and what is wrong with it, in one line.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

/// The section that every module has, unless its own stands before it.
const GLOBAL: &[u8] = b"global";

/// What is asked for more often than this is asked for so often.
const SHORTEST: Duration = Duration::from_mins(1);

/// As everywhere in the configuration: longer is a mistake.
const LONGEST: u32 = 10 * 366 * 24 * 3600;

/// As many telephone numbers as the original takes.
const MOST_NUMBERS: usize = 10;

/// One key: its name, and how its value is taken; the error says what is expected.
type Key = (&'static str, fn(&mut Settings, &str) -> Result<(), String>);

/// An empty value is as good as none.
const KEYS: [Key; 5] = [
    ("alarm_interval", |settings, value| {
        let seconds = number(value)?;
        if seconds > Some(LONGEST) {
            return Err("expected at most ten years".to_owned());
        }
        let interval = seconds.map(|seconds| Duration::from_secs(seconds.into()));
        settings.interval = interval.map(|interval| if interval.is_zero() { interval } else { interval.max(SHORTEST) });
        Ok(())
    }),
    ("alarm_mail", |settings, value| {
        settings.mail.extend(words(value));
        Ok(())
    }),
    ("alarm_gsm", |settings, value| {
        if words(value).any(|number| number.starts_with('-')) {
            return Err("expected telephone numbers parted by blanks".to_owned());
        }
        settings.gsm.extend(words(value));
        let too_many = settings.gsm.len() > MOST_NUMBERS;
        settings.gsm.truncate(MOST_NUMBERS);
        if too_many { Err(format!("expected at most {MOST_NUMBERS} numbers, the first ones hold")) } else { Ok(()) }
    }),
    ("max_tries", |settings, value| {
        settings.max_tries = number(value)?.filter(|tries| *tries > 0);
        Ok(())
    }),
    ("max_tries_if_coredumped", |settings, value| {
        settings.max_tries_if_coredumped = number(value)?.filter(|tries| *tries > 0);
        Ok(())
    }),
];

impl Conf {
    /// Reads a file, whatever stands in it.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Conf {
        let mut conf = Conf::default();
        for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if let Err(text) = conf.line(line.trim_ascii()) {
                conf.warnings.push(Warning { line: index + 1, text });
            }
        }
        conf
    }

    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        match line {
            [] | [b'#' | b';', ..] => Ok(()),
            [b'[', rest @ ..] => {
                let name = self.name(line, rest);
                let readable = name.as_ref().ok().cloned();
                self.sections.push(Section { name: readable, settings: Settings::default() });
                name.map(drop)
            }
            _ => self.key(line),
        }
    }

    /// The name of a section; `rest` is the line behind its bracket.
    fn name(&self, line: &[u8], rest: &[u8]) -> Result<Vec<u8>, String> {
        // As in the original, what follows the name is passed over.
        let name = rest.iter().position(|byte| *byte == b']').map(|end| rest[..end].trim_ascii());
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Err(format!("\"{}\": expected [NAME]; its section is passed over", shown(line)));
        };
        if self.sections.iter().any(|section| section.name.as_deref() == Some(name)) {
            return Err(format!("there is a [{}] before this one, which is passed over", shown(name)));
        }
        Ok(name.to_vec())
    }

    fn key(&mut self, line: &[u8]) -> Result<(), String> {
        let text = str::from_utf8(line).map_err(|_| format!("\"{}\": not UTF-8", shown(line)))?;
        let Some((name, value)) = text.split_once(':') else {
            return Err(format!("\"{}\": expected `key : value` or `[NAME]`", shown(line)));
        };
        let name = name.trim_ascii();
        let (_, set) = KEYS.iter().find(|(key, _)| *key == name).ok_or_else(|| unknown(name))?;
        let Some(section) = self.sections.last_mut() else {
            return Err(format!("\"{}\" stands before the first section", shown(line)));
        };
        // What a terminal or a mail takes for an order of its own has no place in any value.
        if value.trim_ascii().chars().any(|character| character.is_control() && character != '\t') {
            return Err(format!("{name}: a control character cannot stand here"));
        }
        set(&mut section.settings, value).map_err(|why| format!("{name}: {why}"))
    }

    /// What the file asks of the module of this name: its own section, added to `[global]` if it stands behind that.
    #[must_use]
    pub fn settings(&self, module: &[u8]) -> Settings {
        let find = |name: &[u8]| self.sections.iter().position(|section| section.name.as_deref() == Some(name));
        let settings = |index: Option<usize>| index.map(|index| self.sections[index].settings.clone());
        match (find(module), find(GLOBAL)) {
            (own, Some(global)) if own.is_none_or(|own| own > global) => {
                let mut sum = settings(Some(global)).unwrap_or_default();
                sum.add(settings(own).unwrap_or_default());
                sum
            }
            (own, _) => settings(own).unwrap_or_default(),
        }
    }
}

impl Settings {
    /// Adds those of a section behind: as in the original, its numbers hold unless they are 0, and its lists are joined on.
    fn add(&mut self, own: Settings) {
        let said = own.interval.filter(|interval| !interval.is_zero());
        self.interval = said.or(self.interval).or(own.interval);
        self.mail.extend(own.mail);
        self.gsm.extend(own.gsm);
        self.gsm.truncate(MOST_NUMBERS);
        self.max_tries = own.max_tries.or(self.max_tries);
        self.max_tries_if_coredumped = own.max_tries_if_coredumped.or(self.max_tries_if_coredumped);
    }

    /// Takes them into a policy; what is not said stays as it is there.
    pub fn apply(&self, policy: &mut Policy) {
        if self.interval == Some(Duration::ZERO) {
            return;
        }
        let restart = &mut policy.restart;
        restart.interval = self.interval.unwrap_or(restart.interval);
        restart.max_tries = self.max_tries.or(restart.max_tries);
        restart.max_tries_if_coredumped = self.max_tries_if_coredumped.or(restart.max_tries_if_coredumped);
        if self.mail.is_empty() && self.gsm.is_empty() && self.interval.is_none() {
            return;
        }
        let alarms = policy.alarms.get_or_insert_default();
        alarms.mail.extend_from_slice(&self.mail);
        alarms.gsm.extend_from_slice(&self.gsm);
        alarms.interval = self.interval.unwrap_or(alarms.interval);
    }
}

/// The words of a value, up to a `#`.
fn words(value: &str) -> impl Iterator<Item = String> {
    value.split_ascii_whitespace().take_while(|word| !word.starts_with('#')).map(str::to_owned)
}

/// `None` where nothing stands.
fn number(value: &str) -> Result<Option<u32>, String> {
    let mut words = words(value);
    match (words.next(), words.next()) {
        (None, _) => Ok(None),
        (Some(word), None) if word.bytes().all(|byte| byte.is_ascii_digit()) && word.parse::<u32>().is_ok() => {
            Ok(word.parse().ok())
        }
        (Some(_), _) => Err(format!("expected a whole number, found \"{}\"", shown(value.trim_ascii().as_bytes()))),
    }
}

/// The line for a key that there is not, with the nearest one that is.
fn unknown(name: &str) -> String {
    let distances = KEYS.iter().map(|(key, _)| (strsim::damerau_levenshtein(name, key), *key));
    let near = distances.min().filter(|(distance, _)| *distance <= name.chars().count().div_ceil(3).max(2));
    let hint = near.map_or(String::new(), |(_, key)| format!(", did you mean `{key}`?"));
    format!("unknown key `{}`{hint}", shown(name.as_bytes()))
}

/// What stands in a line, for people, and not all of a long one.
fn shown(bytes: &[u8]) -> String {
    printable(bytes).chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Option<Duration> = Some(SHORTEST);

    fn settings(text: &str) -> Settings {
        let conf = Conf::read(text.as_bytes());
        assert_eq!(conf.warnings, []);
        conf.settings(b"web")
    }

    fn warnings(text: &[u8]) -> Vec<String> {
        Conf::read(text).warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_key() {
        let text = "[web]\nalarm_interval : 90\nalarm_mail : a@x.org\tb@x.org\nalarm_gsm:1 2\r\n  max_tries : 3 # enough\n\
                    max_tries_if_coredumped : 2\n";
        let expected = Settings {
            interval: Some(Duration::from_secs(90)),
            mail: vec!["a@x.org".into(), "b@x.org".into()],
            gsm: vec!["1".into(), "2".into()],
            max_tries: Some(3),
            max_tries_if_coredumped: Some(2),
        };
        assert_eq!(settings(text), expected);
        let mut policy = Policy::default();
        expected.apply(&mut policy);
        assert_eq!(policy.restart.interval, Duration::from_secs(90));
        assert_eq!((policy.restart.max_tries, policy.restart.max_tries_if_coredumped), (Some(3), Some(2)));
    }

    #[test]
    fn what_is_missing_empty_or_zero_is_no_limit() {
        for text in
            ["", "[web]\n", "[other]\nmax_tries : 1\n", "[web]\nalarm_interval :\nalarm_mail :\nmax_tries : 0\n"]
        {
            assert_eq!(settings(text), Settings::default(), "{text}");
        }
        let mut policy = Policy::default();
        settings("[web]\nmax_tries : 4\n").apply(&mut policy);
        assert_eq!((policy.restart.max_tries, policy.restart.interval), (Some(4), SHORTEST));
        let mut policy = Policy::default();
        settings("[web]\nalarm_interval : 0\nmax_tries : 4\n").apply(&mut policy);
        assert_eq!(policy, Policy::default());
    }

    #[test]
    fn an_interval_below_a_minute_is_a_minute() {
        for (text, interval) in [("1", MINUTE), ("59", MINUTE), ("60", MINUTE), ("61", Some(Duration::from_secs(61)))] {
            assert_eq!(settings(&format!("[web]\nalarm_interval : {text}\n")).interval, interval, "{text}");
        }
        assert_eq!(settings("[web]\nalarm_interval : 0\n").interval, Some(Duration::ZERO));
    }

    #[test]
    fn a_section_behind_global_adds_to_it() {
        let global =
            "[global]\nalarm_interval : 120\nalarm_mail : all@x.org\nmax_tries : 9\nmax_tries_if_coredumped : 5\n";
        let own = "[web]\nalarm_mail : web@x.org\nmax_tries : 2\nalarm_interval : 0\nmax_tries_if_coredumped : 0\n";
        let sum = settings(&format!("{global}[db]\nmax_tries : 1\n{own}"));
        assert_eq!(sum.mail, ["all@x.org", "web@x.org"]);
        assert_eq!((sum.max_tries, sum.max_tries_if_coredumped), (Some(2), Some(5)));
        assert_eq!(sum.interval, Some(Duration::from_mins(2)));
        assert_eq!(settings(global).max_tries, Some(9));
    }

    #[test]
    fn a_section_before_global_stands_alone() {
        let alone = settings("[web]\nmax_tries : 2\n[global]\nalarm_mail : all@x.org\nmax_tries_if_coredumped : 5\n");
        assert_eq!(alone, Settings { max_tries: Some(2), ..Settings::default() });
        let text = b"[web]\n[global]\nmax_tries : 5\n[web]\nmax_tries : 3\n";
        assert_eq!(Conf::read(text).settings(b"web"), Settings::default());
        assert_eq!(warnings(text), ["line 4: there is a [web] before this one, which is passed over"]);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_told_with_its_number_and_the_rest_holds() {
        let text = b"alarm_interval : 60\n[web]\nmax_tries = 3\nalarm_mial : a\nmax_tries : three\nmax_tries_if_coredumped : 2\n[db\n\
                     max_tries : 1\nmax_tries : \xff\nalarm_mail : a\x1bb\nalarm_gsm : -x\nalarm_interval : 4294967295\nx : 1\n";
        assert_eq!(
            warnings(text),
            [
                "line 1: \"alarm_interval : 60\" stands before the first section",
                "line 3: \"max_tries = 3\": expected `key : value` or `[NAME]`",
                "line 4: unknown key `alarm_mial`, did you mean `alarm_mail`?",
                "line 5: max_tries: expected a whole number, found \"three\"",
                "line 7: \"[db\": expected [NAME]; its section is passed over",
                "line 9: \"max_tries : \\xff\": not UTF-8",
                "line 10: alarm_mail: a control character cannot stand here",
                "line 11: alarm_gsm: expected telephone numbers parted by blanks",
                "line 12: alarm_interval: expected at most ten years",
                "line 13: unknown key `x`",
            ]
        );
        let held = Settings { max_tries_if_coredumped: Some(2), ..Settings::default() };
        assert_eq!(Conf::read(text).settings(b"web"), held);
    }

    #[test]
    fn ten_telephone_numbers_hold() {
        let text = b"[global]\nalarm_gsm : 1 2 3 4 5 6\n[web]\nalarm_gsm : 7 8 9 10 11\n[db]\nalarm_gsm : 1 2 3 4 5 6 7 8 9 10 11\n";
        let conf = Conf::read(text);
        assert_eq!((conf.settings(b"web").gsm.len(), conf.settings(b"db").gsm.len()), (10, 10));
        assert_eq!(warnings(text), ["line 6: alarm_gsm: expected at most 10 numbers, the first ones hold"]);
    }
}

//! The keys of `[alarm]`.
//!
//! Must never know what an alarm is told of: the words are those of `Kind`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use super::{Policy, duration, kind, one_of, text};
use crate::pure::alarm::{Kind, Terms};

/// `[alarm]`: who is told what of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Alarms {
    /// What is executed for each alarm; at least one word.
    pub command: Option<Vec<String>>,
    /// Whom it is mailed to.
    pub mail: Vec<String>,
    /// The telephone numbers that it is sent to; no key, but what a `supervise.conf` asks for.
    pub gsm: Vec<String>,
    /// What is told.
    pub on: Vec<Kind>,
    /// At most one of a kind is told in it.
    pub interval: Duration,
}

impl Default for Alarms {
    fn default() -> Alarms {
        Alarms {
            command: None,
            mail: Vec::new(),
            gsm: Vec::new(),
            on: Kind::ALL.to_vec(),
            interval: Duration::from_mins(1),
        }
    }
}

impl Alarms {
    /// The part of it that decides what is told.
    #[must_use]
    pub fn terms(&self, silenced: bool) -> Terms<'_> {
        Terms { on: &self.on, interval: self.interval, silenced }
    }
}

pub(super) fn command(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    alarms(policy).command = Some(super::command(value)?);
    Ok(())
}

pub(super) fn mail(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    alarms(policy).mail = texts(value)?.into_iter().map(address).collect::<Result<_, _>>()?;
    Ok(())
}

pub(super) fn on(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    let DeValue::Array(items) = value else {
        return Err(format!("expected an array of strings, found {}", kind(value)));
    };
    let kinds = Kind::ALL.map(|kind| (kind.name(), kind));
    let mut on: Vec<Kind> = items.iter().map(|item| one_of(item.get_ref(), &kinds)).collect::<Result<_, _>>()?;
    on.dedup();
    alarms(policy).on = on;
    Ok(())
}

pub(super) fn interval(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    alarms(policy).interval = duration(value)?;
    Ok(())
}

fn alarms(policy: &mut Policy) -> &mut Alarms {
    policy.alarms.get_or_insert_default()
}

fn texts(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    match value {
        DeValue::Array(items) => items.iter().map(|item| text(item.get_ref())).collect(),
        other => Err(format!("expected an array of strings, found {}", kind(other))),
    }
}

/// It goes into the header of a mail, where a line of its own would be another header.
fn address(text: String) -> Result<String, String> {
    match text.trim().is_empty() || text.chars().any(char::is_control) {
        true => Err(format!("`{}` cannot be an address", text.escape_debug())),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::service;
    use super::*;

    #[test]
    fn every_key() {
        let text = "[alarm]\ncommand = ['/etc/page', '-v']\nmail = ['ops@example.org', 'A <a@x.org>']\n\
                    on = ['failed', 'exit']\ninterval = '5m'\n";
        let expected = Alarms {
            command: Some(vec!["/etc/page".into(), "-v".into()]),
            mail: vec!["ops@example.org".into(), "A <a@x.org>".into()],
            gsm: Vec::new(),
            on: vec![Kind::Failed, Kind::Exit],
            interval: Duration::from_mins(5),
        };
        assert_eq!(service(text).expect("no mistake").alarms.as_deref(), Some(&expected));
        assert_eq!(service("").expect("no mistake").alarms, None);
        let defaults = service("[alarm]\nmail = []\n").expect("no mistake").alarms;
        assert_eq!(defaults.as_deref(), Some(&Alarms::default()));
    }

    #[test]
    fn mistakes_name_their_place_and_what_is_expected() {
        for (text, mistake) in [
            ("comand = 'x'", "line 2, column 1: unknown key `alarm.comand`, did you mean `alarm.command`?"),
            ("command = []", "line 2, column 11: command: no program is named"),
            ("mail = 'a@x.org'", "line 2, column 8: mail: expected an array of strings, found a string"),
            ("mail = [' ']", "line 2, column 8: mail: ` ` cannot be an address"),
            ("mail = [\"a\\nb\"]", "line 2, column 8: mail: `a\\nb` cannot be an address"),
            ("on = ['exits']", "line 2, column 6: on: expected \"exit\" or \"failed\" or \"recovered\""),
            ("interval = 60", "line 2, column 12: interval: expected a time with its unit, such as \"60s\""),
        ] {
            let found = service(&format!("[alarm]\n{text}\n")).map_err(|mistakes| mistakes[0].to_string());
            assert_eq!(found.err().as_deref(), Some(mistake), "{text}");
        }
    }
}

//! The values of `[ready]`, and what only the whole file can tell of them.
//!
//! Must never read a file.

use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::policy::{Limit, Policy, Ready, ReadyBy, When};
use super::{command, duration, truth};

/// Descriptors that a program can be told to write to. Standard input is none; and no program counts on higher ones.
const DESCRIPTORS: std::ops::RangeInclusive<i32> = 1..=1023;

/// The number of a descriptor, as `service.toml` and `notification-fd` write it.
#[must_use]
pub fn parse_descriptor(text: &str) -> Option<i32> {
    text.parse().ok().filter(|number| DESCRIPTORS.contains(number))
}

pub(super) fn descriptor(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    let number = value.as_integer().and_then(|number| i32::from_str_radix(number.as_str(), number.radix()).ok());
    let number = number.filter(|number| DESCRIPTORS.contains(number));
    by(policy, ReadyBy::Descriptor(number.ok_or("expected the number of a descriptor from 1 to 1023")?))
}

pub(super) fn notify(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    if truth(value)? { by(policy, ReadyBy::Notify) } else { Ok(()) }
}

pub(super) fn watchdog(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    policy.ready.watchdog = Some(some_time(value)?);
    Ok(())
}

/// More than no time.
pub(super) fn some_time(value: &DeValue<'_>) -> Result<Duration, String> {
    let time = duration(value)?;
    if time.is_zero() { Err("expected a time above 0s".to_owned()) } else { Ok(time) }
}

pub(super) fn check(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    by(policy, ReadyBy::Check(command(value)?))
}

pub(super) fn on_exit(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    if truth(value)? { by(policy, ReadyBy::Exit) } else { Ok(()) }
}

pub(super) fn timeout(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    policy.ready.timeout = Some(match value.as_str() {
        Some("never") => Limit::Never,
        _ => Limit::After(some_time(value)?),
    });
    Ok(())
}

fn by(policy: &mut Policy, by: ReadyBy) -> Result<(), String> {
    if policy.ready.by.is_some() {
        return Err(format!("only one of {WAYS} can tell when it is ready"));
    }
    policy.ready.by = Some(by);
    Ok(())
}

const WAYS: &str = "fd, notify, check and on_exit";

/// What the files of the family ask for counts only where `service.toml` says nothing: it is laid aside, and
pub(super) fn lay_aside(policy: &mut Policy) -> Ready {
    std::mem::take(&mut policy.ready)
}

/// taken up again after that was read.
pub(super) fn take_up(policy: &mut Policy, files: Ready) {
    if policy.ready.by.is_none() {
        policy.ready = Ready { timeout: policy.ready.timeout.or(files.timeout), ..files };
    }
}

/// Keys that stand well alone and not together, by the place of one of them.
pub(super) fn whole(table: &DeTable<'_>, policy: &Policy, files: &Ready, wrong: &mut Vec<(usize, String)>) {
    if policy.ready.by == Some(ReadyBy::Exit) && policy.restart.when != When::Never {
        let text = "on_exit: needs restart.when = \"never\": what is started again is never done";
        wrong.push((place(table, "ready", "on_exit"), text.to_owned()));
    }
    if policy.ready.by.is_none() && files.by.is_none() && policy.ready.timeout.is_some() {
        let text = format!("timeout: none of {WAYS} tells when it is ready");
        wrong.push((place(table, "ready", "timeout"), text));
    }
    if policy.ready.watchdog.is_some() && policy.ready.by != Some(ReadyBy::Notify) {
        let text = "watchdog: needs notify = true: by that the program says that it is well";
        wrong.push((place(table, "ready", "watchdog"), text.to_owned()));
    }
}

/// Where the value of a key stands.
pub(super) fn place(table: &DeTable<'_>, inside: &str, name: &str) -> usize {
    placed(table, inside, name).unwrap_or(0)
}

/// The same; `None` if there is no such key.
pub(super) fn placed(table: &DeTable<'_>, inside: &str, name: &str) -> Option<usize> {
    let found = table.iter().find(|(key, _)| key.get_ref() == inside).and_then(|(_, value)| match value.get_ref() {
        DeValue::Table(inner) => inner.iter().find(|(key, _)| key.get_ref() == name),
        _ => None,
    });
    found.map(|(_, value)| value.span().start)
}

#[cfg(test)]
mod tests {
    use super::super::{Awaits, service, service_over};
    use super::*;

    fn mistake(text: &str) -> String {
        service(text).expect_err("a mistake").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_way_to_be_ready() {
        let ready = |text: &str| service(text).expect("no mistake").ready;
        assert_eq!(ready("").awaits(), Awaits::Nothing);
        assert_eq!(ready("[ready]\nfd = 3").by, Some(ReadyBy::Descriptor(3)));
        assert_eq!(ready("[ready]\nfd = 3").limit(), Some(Duration::from_mins(1)));
        assert_eq!(ready("[ready]\ncheck = 'a b'").by, Some(ReadyBy::Check(vec!["a".into(), "b".into()])));
        let job = ready("[ready]\non_exit = true\ntimeout = 'never'\n[restart]\nwhen = 'never'");
        assert_eq!((job.awaits(), job.limit()), (Awaits::Exit, None));
        assert_eq!(ready("[ready]\non_exit = false").by, None);
        let notify = ready("[ready]\nnotify = true\nwatchdog = '10s'");
        assert_eq!((notify.by, notify.watchdog), (Some(ReadyBy::Notify), Some(Duration::from_secs(10))));
    }

    #[test]
    fn mistakes_name_their_place() {
        let expected = "line 2, column 6: fd: expected the number of a descriptor from 1 to 1023";
        for number in ["0", "-1", "1024", "'3'"] {
            assert_eq!(mistake(&format!("[ready]\nfd = {number}")), expected);
        }
        assert_eq!(
            mistake("[ready]\nfd = 3\ncheck = 'x'"),
            format!("line 2, column 6: fd: only one of {WAYS} can tell when it is ready")
        );
        assert_eq!(
            mistake("[ready]\non_exit = true"),
            "line 2, column 11: on_exit: needs restart.when = \"never\": what is started again is never done"
        );
        assert_eq!(
            mistake("[ready]\nfd = 3\nwatchdog = '5s'"),
            "line 3, column 12: watchdog: needs notify = true: by that the program says that it is well"
        );
        assert!(mistake("[ready]\nfd = 3\ntimeout = '0s'").contains("timeout: expected a time above 0s"));
        assert!(mistake("[ready]\nnotify = true\nwatchdog = '0s'").contains("watchdog: expected a time above 0s"));
        assert_eq!(
            mistake("\n[ready]\ntimeout = '5s'"),
            format!("line 3, column 11: timeout: none of {WAYS} tells when it is ready")
        );
    }

    #[test]
    fn what_the_files_ask_for_counts_where_service_toml_says_nothing() {
        let files = Ready { by: Some(ReadyBy::Descriptor(3)), of_file: true, ..Ready::default() };
        let over = |text: &str| {
            let mut policy = Policy { ready: files.clone(), ..Policy::default() };
            service_over(text, &mut policy).expect("no mistake");
            policy.ready
        };
        assert_eq!(over("nice = 1"), files);
        assert_eq!(over("[ready]\ntimeout = '5s'").limit(), Some(Duration::from_secs(5)));
        let check = over("[ready]\ncheck = 'x'");
        assert_eq!((check.by, check.of_file), (Some(ReadyBy::Check(vec!["x".into()])), false));
    }
}

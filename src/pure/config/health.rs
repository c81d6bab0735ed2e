//! `[health]`: what a module that runs is asked, how often, and what is made of the answers.
//!
//! Must never read a file.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use super::policy::Policy;
use super::ready::{placed, some_time};
use super::{Key, command, key, text};
use crate::pure::http::{Address, Url};

/// `[health]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// What is asked; `None`: nothing.
    pub by: Option<HealthBy>,
    /// How often.
    pub interval: Duration,
    /// An answer takes no longer.
    pub timeout: Duration,
    /// So many bad ones in a row are a failure; at least one.
    pub failures: u32,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthBy {
    /// A program with its arguments, which exits with 0.
    Check(Vec<String>),
    /// An address, which takes a connection.
    Tcp(Address),
    /// A page, which is there or elsewhere.
    Http(Url),
}

impl Default for Health {
    fn default() -> Health {
        Health { by: None, interval: Duration::from_secs(10), timeout: Duration::from_secs(2), failures: 3 }
    }
}

/// The keys of `[health]`.
pub(super) const KEYS: &[Key] = &[
    key("health", "check", check),
    key("health", "tcp", tcp),
    key("health", "http", http),
    key("health", "interval", interval),
    key("health", "timeout", timeout),
    key("health", "failures", failures),
];

fn check(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    let words = command(value)?;
    by(policy, HealthBy::Check(words))
}

fn tcp(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    let address = Address::parse(&text(value)?, None)?;
    by(policy, HealthBy::Tcp(address))
}

fn http(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    let url = Url::parse(&text(value)?)?;
    by(policy, HealthBy::Http(url))
}

fn interval(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    policy.health.interval = some_time(value)?;
    Ok(())
}

fn timeout(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    policy.health.timeout = some_time(value)?;
    Ok(())
}

fn failures(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    let number = value.as_integer().and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok());
    let number = number.filter(|number| *number > 0).ok_or("expected a whole number from 1 to 4294967295")?;
    policy.health.failures = number;
    Ok(())
}

fn by(policy: &mut Policy, by: HealthBy) -> Result<(), String> {
    if policy.health.by.is_some() {
        return Err(format!("only one of {WAYS} can tell whether it is well"));
    }
    policy.health.by = Some(by);
    Ok(())
}

const WAYS: &str = "check, tcp and http";

/// Keys that say nothing alone, by the place of one of them.
pub(super) fn whole(table: &DeTable<'_>, policy: &Policy, wrong: &mut Vec<(usize, String)>) {
    let alone = ["interval", "timeout", "failures"].map(|name| (name, placed(table, "health", name)));
    if policy.health.by.is_none()
        && let Some((name, Some(place))) = alone.into_iter().find(|(_, place)| place.is_some())
    {
        wrong.push((place, format!("{name}: none of {WAYS} says what is asked")));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{service, service_over};
    use super::*;

    fn mistake(text: &str) -> String {
        service(text).expect_err("a mistake").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_key() {
        let health = |text: &str| service(text).expect("no mistake").health;
        assert_eq!(health(""), Health::default());
        assert_eq!(health("[health]\ncheck = './check'").by, Some(HealthBy::Check(vec!["./check".into()])));
        let address = Address { host: "127.0.0.1".into(), port: 80 };
        assert_eq!(health("[health]\ntcp = '127.0.0.1:80'").by, Some(HealthBy::Tcp(address)));
        let url = Url::parse("http://a/b").expect("a URL");
        let all = health("[health]\nhttp = 'http://a/b'\ninterval = '1s'\ntimeout = '5s'\nfailures = 1");
        let (interval, timeout) = (Duration::from_secs(1), Duration::from_secs(5));
        assert_eq!(all, Health { by: Some(HealthBy::Http(url)), interval, timeout, failures: 1 });
    }

    #[test]
    fn mistakes_name_their_place() {
        assert!(mistake("[health]\ntcp = '80'").starts_with("line 2, column 7: tcp: expected HOST:PORT"));
        assert!(mistake("[health]\nhttp = 'https://a/'").contains("http: expected a URL that begins with \"http://\""));
        assert!(mistake("[health]\ncheck = 'x'\nfailures = 0").contains("failures: expected a whole number from 1"));
        assert!(mistake("[health]\ncheck = 'x'\ninterval = '0s'").contains("interval: expected a time above 0s"));
        assert!(mistake("[health]\ncheck = 'x'\ntcp = 'a:1'").contains(&format!("tcp: only one of {WAYS}")));
        let alone = format!("line 2, column 12: interval: none of {WAYS} says what is asked");
        assert_eq!(mistake("[health]\ninterval = '5s'"), alone);
    }

    #[test]
    fn what_is_read_again_is_the_same() {
        let text = "[health]\ntcp = 'a:1'\nfailures = 7";
        let mut policy = service(text).expect("no mistake");
        let before = policy.clone();
        service_over(text, &mut policy).expect("no mistake");
        assert_eq!(policy, before);
    }
}

//! `user`, `group`, `groups` and `control_group`: whose rights a program has, and who may command it.
//!
//! Must never look a name up: a name that is gone is found at each start.

use std::fmt;

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use super::{Key, key, kind};

/// A user or a group, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Account {
    /// By its name.
    Name(String),
    /// By its number.
    Number(u32),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::Name(name) => name.escape_debug().fmt(f),
            Account::Number(number) => number.fmt(f),
        }
    }
}

/// Whose rights a program has; what is `None` is svtree's own, or follows from the user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// The user.
    pub user: Option<Account>,
    /// The group; `None`: the user's own.
    pub group: Option<Account>,
    /// All the other groups; `None`: those that the user is in.
    pub groups: Option<Vec<Account>>,
}

impl Identity {
    /// Whether the program is to have other rights than svtree.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        *self != Identity::default()
    }
}

pub(super) const KEYS: &[Key] = &[
    key("", "user", |policy, value| {
        policy.identity.user = Some(account(value, "a user")?);
        Ok(())
    }),
    key("", "group", |policy, value| {
        policy.identity.group = Some(account(value, "a group")?);
        Ok(())
    }),
    key("", "groups", |policy, value| {
        let DeValue::Array(items) = value else {
            return Err(format!("expected an array of groups, found {}", kind(value)));
        };
        let groups = items.iter().map(|item| account(item.get_ref(), "a group"));
        policy.identity.groups = Some(groups.collect::<Result<_, _>>()?);
        Ok(())
    }),
    key("", "control_group", |policy, value| {
        policy.control_group = Some(account(value, "a group")?);
        Ok(())
    }),
];

/// A name or a number, which may be written as a string.
fn account(value: &DeValue<'_>, what: &str) -> Result<Account, String> {
    let wrong = || format!("expected the name or the number of {what}");
    // To the kernel the last number means "as it was".
    let number = |number: Option<u32>| number.filter(|number| *number != u32::MAX).map(Account::Number);
    match value {
        DeValue::Integer(digits) => number(u32::from_str_radix(digits.as_str(), digits.radix()).ok()),
        DeValue::String(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            number(text.parse().ok())
        }
        // What can stand in no line of passwd(5) or group(5), or would be something else there.
        DeValue::String(name) if !name.is_empty() && !name.contains([':', ',', '\n', '\0']) => {
            Some(Account::Name(name.to_string()))
        }
        _ => None,
    }
    .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::super::service;
    use super::*;

    #[test]
    fn names_and_numbers() {
        let text = "user = 'www'\ngroup = 33\ngroups = ['ssl', '101', 7]\ncontrol_group = 'ops'";
        let policy = service(text).expect("no mistake");
        let name = |name: &str| Account::Name(name.to_owned());
        let groups = Some(vec![name("ssl"), Account::Number(101), Account::Number(7)]);
        let identity = Identity { user: Some(name("www")), group: Some(Account::Number(33)), groups };
        assert_eq!((policy.identity, policy.control_group), (identity, Some(name("ops"))));
        assert_eq!(service("groups = []").expect("no mistake").identity.groups, Some(vec![]));
    }

    #[test]
    fn mistakes_are_named() {
        for text in
            ["user = ''", "user = 'a:b'", "user = -1", "user = 4294967295", "user = '99999999999'", "user = true"]
        {
            let mistakes = service(text).expect_err(text);
            assert_eq!(mistakes[0].text, "user: expected the name or the number of a user", "{text}");
        }
        assert_eq!(
            service("groups = 'ssl'").expect_err("a string")[0].text,
            "groups: expected an array of groups, found a string"
        );
        assert_eq!(service("usr = 'www'").expect_err("unknown")[0].text, "unknown key `usr`, did you mean `user`?");
    }
}

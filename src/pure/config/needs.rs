//! `needs`, `after` and `needs_restart`: what a module waits for, by name.
//!
//! Must never know what there is: a name may come later.

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use super::{Key, Policy, key, kind, one_of, text};
use crate::pure::name::{ModuleName, unescaped};

/// What a module, or all of a group, waits for. Names are of modules or groups: in the same group, else from the services
/// directory on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Needs {
    /// It is started once these are ready, and stopped before them.
    pub needs: Vec<String>,
    /// It comes after these if they come at all.
    pub after: Vec<String>,
    /// What follows for it when one that it needs is started again.
    pub restart: NeedsRestart,
}

/// What follows for a module when one that it needs is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NeedsRestart {
    /// Nothing: it runs on.
    #[default]
    Keep,
    /// It is started again as well.
    Restart,
}

pub(super) const KEYS: &[Key] = &[
    key("", "needs", |policy, value| {
        asked(policy).needs = names(value)?;
        Ok(())
    }),
    key("", "after", |policy, value| {
        asked(policy).after = names(value)?;
        Ok(())
    }),
    key("", "needs_restart", |policy, value| {
        asked(policy).restart = one_of(value, &[("keep", NeedsRestart::Keep), ("restart", NeedsRestart::Restart)])?;
        Ok(())
    }),
];

fn asked(policy: &mut Policy) -> &mut Needs {
    policy.needs.get_or_insert_default()
}

/// An array of names, none of them twice.
pub(super) fn names(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let DeValue::Array(items) = value else {
        return Err(format!("expected an array of names, found {}", kind(value)));
    };
    let mut names: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let name = text(item.get_ref())?;
        if let Err(why) = ModuleName::new(&unescaped(&name)) {
            return Err(format!("\"{}\" is no name: {why}", name.escape_debug()));
        }
        if names.contains(&name) {
            return Err(format!("\"{}\" stands there twice", name.escape_debug()));
        }
        names.push(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::super::service;
    use super::*;

    #[test]
    fn what_it_waits_for() {
        let policy = service("needs = ['db', 'site/cache']\nafter = ['log']\nneeds_restart = 'restart'").expect("good");
        let needs = Needs {
            needs: vec!["db".to_owned(), "site/cache".to_owned()],
            after: vec!["log".to_owned()],
            restart: NeedsRestart::Restart,
        };
        assert_eq!(policy.needs.as_deref(), Some(&needs));
        assert_eq!(service("").expect("good").needs, None);
    }

    #[test]
    fn what_is_no_name_is_said() {
        let mistake = |text: &str| service(text).expect_err("a mistake")[0].to_string();
        assert_eq!(
            mistake("needs = ['../db']"),
            "line 1, column 9: needs: \"../db\" is no name: a part of the name begins with a dot"
        );
        assert_eq!(mistake("after = 'db'"), "line 1, column 9: after: expected an array of names, found a string");
        assert_eq!(mistake("needs = ['db', 'db']"), "line 1, column 9: needs: \"db\" stands there twice");
        assert_eq!(mistake("needs_restart = 1"), "line 1, column 17: needs_restart: expected \"keep\" or \"restart\"");
    }
}

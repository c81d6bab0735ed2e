//! The text of a `group.toml`: how the members of a group hang together.
//!
//! Must never know who the members are.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::needs::names;
use super::{Key, Mistake, all, duration, full, key, limit, one_of, read};

/// What a group asks for, complete: every key has its value or its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupPolicy {
    /// What follows the death of a member.
    pub strategy: Strategy,
    /// So many restarts in `period` are borne, more and the group fails; `None`: any number.
    pub intensity: Option<u32>,
    /// In which the restarts are counted.
    pub period: Duration,
    /// What follows when the group fails.
    pub on_failure: OnFailure,
    /// The order of its members, by their names in the group; those that it does not name come after it, by name.
    /// `None`: no member waits for another, unless the strategy asks for an order.
    pub order: Option<Vec<String>>,
    /// All its members are started once these are ready, and stopped before them.
    pub needs: Vec<String>,
    /// All its members come after these if they come at all.
    pub after: Vec<String>,
}

impl Default for GroupPolicy {
    fn default() -> GroupPolicy {
        GroupPolicy {
            strategy: Strategy::OneForOne,
            intensity: None,
            period: Duration::from_mins(1),
            on_failure: OnFailure::Stop,
            order: None,
            needs: Vec::new(),
            after: Vec::new(),
        }
    }
}

impl GroupPolicy {
    /// Whether its members come one after the other.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.order.is_some() || self.strategy != Strategy::OneForOne
    }

    /// Whether it asks for anything beyond being a group.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        *self != GroupPolicy::default()
    }
}

/// What follows the death of a member: the strategies of Erlang's supervisors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Strategy {
    /// It is started again.
    #[default]
    OneForOne,
    /// All others are stopped, the last one first, and all are started again in order.
    OneForAll,
    /// The same, but only for those that come after it.
    RestForOne,
}

impl Strategy {
    /// The word of `group.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Strategy::OneForOne => "one_for_one",
            Strategy::OneForAll => "one_for_all",
            Strategy::RestForOne => "rest_for_one",
        }
    }
}

/// What follows when a group fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnFailure {
    /// It is stopped, and stays so.
    #[default]
    Stop,
    /// To the group that it is in it is a member that died: it is started again, as that one's strategy says.
    Restart,
    /// The group that it is in fails as well.
    Escalate,
}

impl OnFailure {
    /// The word of `group.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            OnFailure::Stop => "stop",
            OnFailure::Restart => "restart",
            OnFailure::Escalate => "escalate",
        }
    }
}

/// Reads a `group.toml`.
///
/// # Errors
/// Every mistake in it, in the order of their places.
pub fn group(text: &str) -> Result<GroupPolicy, Vec<Mistake>> {
    let mut policy = GroupPolicy::default();
    read(text, &[KEYS], &mut policy, |_, _, _| ())?;
    Ok(policy)
}

/// The names of every key of a `group.toml`.
pub fn group_keys() -> impl Iterator<Item = String> {
    all(&[KEYS]).map(|key| full(key.table, key.name))
}

const STRATEGIES: &[(&str, Strategy)] = &[
    ("one_for_one", Strategy::OneForOne),
    ("one_for_all", Strategy::OneForAll),
    ("rest_for_one", Strategy::RestForOne),
];

const KEYS: &[Key<GroupPolicy>] = &[
    key("", "strategy", |policy, value| {
        policy.strategy = one_of(value, STRATEGIES)?;
        Ok(())
    }),
    key("", "intensity", |policy, value| {
        policy.intensity = limit(value)?;
        Ok(())
    }),
    key("", "period", |policy, value| {
        policy.period = duration(value)?;
        if policy.period.is_zero() { Err("expected a time above 0s".to_owned()) } else { Ok(()) }
    }),
    key("", "on_failure", |policy, value| {
        let choices = [("stop", OnFailure::Stop), ("restart", OnFailure::Restart), ("escalate", OnFailure::Escalate)];
        policy.on_failure = one_of(value, &choices)?;
        Ok(())
    }),
    key("", "order", |policy, value| {
        let order = names(value)?;
        if let Some(far) = order.iter().find(|name| name.contains('/')) {
            return Err(format!("\"{}\" is no member of this group: one name without a slash", far.escape_debug()));
        }
        policy.order = Some(order);
        Ok(())
    }),
    key("", "needs", |policy, value| {
        policy.needs = names(value)?;
        Ok(())
    }),
    key("", "after", |policy, value| {
        policy.after = names(value)?;
        Ok(())
    }),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_asks_for_nothing() {
        let policy = group("# a group\n").expect("good");
        assert_eq!(policy, GroupPolicy::default());
        assert!(!policy.is_asking() && !policy.is_ordered());
    }

    #[test]
    fn every_key() {
        let text = "strategy = 'rest_for_one'\nintensity = 5\nperiod = '10s'\non_failure = 'escalate'\n\
                    order = ['db', 'web']\nneeds = ['net']\nafter = ['infra/log']";
        let policy = GroupPolicy {
            strategy: Strategy::RestForOne,
            intensity: Some(5),
            period: Duration::from_secs(10),
            on_failure: OnFailure::Escalate,
            order: Some(vec!["db".to_owned(), "web".to_owned()]),
            needs: vec!["net".to_owned()],
            after: vec!["infra/log".to_owned()],
        };
        assert_eq!(group(text), Ok(policy));
    }

    #[test]
    fn mistakes_name_their_place() {
        let mistake = |text: &str| group(text).expect_err("a mistake")[0].to_string();
        assert_eq!(
            mistake("strategy = 'all'"),
            "line 1, column 12: strategy: expected \"one_for_one\" or \"one_for_all\" or \"rest_for_one\""
        );
        assert_eq!(mistake("intensty = 5"), "line 1, column 1: unknown key `intensty`, did you mean `intensity`?");
        assert_eq!(mistake("period = '0s'"), "line 1, column 10: period: expected a time above 0s");
        assert!(mistake("order = ['a/b']").contains("one name without a slash"));
    }
}

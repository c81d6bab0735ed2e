//! `.group.json`: what a group asks for and how it is, for whoever looks.
//!
//! The schema is only ever added to. Must never open a file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::{GroupPolicy, OnFailure, Strategy};
use super::name::printable;
use super::state::seconds;

/// The file, as one JSON object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupRecord {
    /// The group, escaped as [`super::name::escaped`] does.
    pub name: String,
    /// `up`, `starting`, `stopping`, `down` or `failed`.
    pub state: String,
    /// Why it is as it is.
    pub reason: Option<String>,
    /// `one_for_one`, `one_for_all` or `rest_for_one`.
    pub strategy: String,
    /// So many restarts are borne; 0: any number.
    pub intensity: u32,
    /// In so many seconds.
    pub period: f64,
    /// When there were restarts that were counted, RFC 3339, the oldest first; those older than the period count no more.
    pub restarts: Vec<String>,
    /// `stop`, `restart` or `escalate`.
    pub on_failure: String,
    /// Whether its members come one after the other.
    pub ordered: bool,
    /// The names of its members in their order, as they are called in it, escaped.
    pub members: Vec<String>,
    /// The names of what all its members need, as its file has them.
    pub needs: Vec<String>,
    /// The same of what they come after.
    pub after: Vec<String>,
}

impl GroupRecord {
    /// What a group asks for.
    #[must_use]
    pub fn of(policy: &GroupPolicy) -> GroupRecord {
        GroupRecord {
            strategy: policy.strategy.name().to_owned(),
            intensity: policy.intensity.unwrap_or_default(),
            period: seconds(policy.period),
            on_failure: policy.on_failure.name().to_owned(),
            ordered: policy.is_ordered(),
            needs: policy.needs.clone(),
            after: policy.after.clone(),
            ..GroupRecord::default()
        }
    }

    /// What it asked for, for whoever makes a graph of it.
    #[must_use]
    pub fn policy(&self) -> GroupPolicy {
        let strategies = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne];
        let choices = [OnFailure::Stop, OnFailure::Restart, OnFailure::Escalate];
        GroupPolicy {
            strategy: strategies.into_iter().find(|known| known.name() == self.strategy).unwrap_or_default(),
            intensity: (self.intensity > 0).then_some(self.intensity),
            period: Duration::try_from_secs_f64(self.period).unwrap_or_default(),
            on_failure: choices.into_iter().find(|known| known.name() == self.on_failure).unwrap_or_default(),
            order: self.ordered.then(|| self.members.clone()),
            needs: self.needs.clone(),
            after: self.after.clone(),
        }
    }

    /// The contents of the file: one line of JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // No map with keys other than strings, so serialisation cannot fail.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It is no JSON object of this kind; in one line, whatever stands in the file.
    pub fn decode(bytes: &[u8]) -> Result<GroupRecord, String> {
        serde_json::from_slice(bytes).map_err(|error| printable(error.to_string().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_group_asks_for_comes_back() {
        let policy = GroupPolicy {
            strategy: Strategy::RestForOne,
            intensity: Some(5),
            period: Duration::from_millis(1500),
            on_failure: OnFailure::Escalate,
            order: Some(vec!["b".to_owned(), "a".to_owned()]),
            needs: vec!["net".to_owned()],
            after: vec!["log".to_owned()],
        };
        let members = vec!["b".to_owned(), "a".to_owned()];
        let record = GroupRecord { name: "site".to_owned(), members, ..GroupRecord::of(&policy) };
        assert_eq!(GroupRecord::decode(&record.encode()).map(|record| record.policy()), Ok(policy));
        assert!(GroupRecord::decode(b"[").is_err());
    }
}

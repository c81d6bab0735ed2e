//! What the parent publishes of directories that are no modules: rejected, or not complete yet.
//!
//! Must never touch the status directory of a module that is supervised.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::Parent;
use crate::pure::name::{ModuleName, escaped};
use crate::pure::state::{State, StateName};
use crate::unix::{clock, home, report};

impl Parent {
    /// Says of directories that are no modules what they are; retired modules of the same name come first.
    pub(super) fn publish_others(&mut self) {
        if self.closing.is_some() {
            return;
        }
        let mut states: BTreeMap<ModuleName, (PathBuf, StateName, String)> = BTreeMap::new();
        for (name, (path, other)) in self.wanted.others() {
            let state = if other.rejected { StateName::Rejected } else { StateName::Incomplete };
            states.insert(name.clone(), (path.clone(), state, other.why.clone()));
        }
        for (name, other) in &self.refused {
            let why = format!("the same directory as {other}, which is supervised");
            states.insert(name.clone(), (self.services.join(name.as_os_str()), StateName::Rejected, why));
        }
        states.retain(|name, _| !self.actual.contains_key(name));
        let gone: Vec<ModuleName> = self.published.keys().filter(|name| !states.contains_key(*name)).cloned().collect();
        for name in gone {
            self.published.remove(&name);
            if !self.actual.contains_key(&name) {
                home::unpublish_state(&self.status, &name);
            }
        }
        for (name, (path, state, why)) in states {
            let record = State {
                name: escaped(name.as_bytes()),
                state,
                want: "down".to_owned(),
                alarms: true,
                since: clock::wall().rfc3339(),
                reason: Some(why.clone()),
                rejected: (state == StateName::Rejected).then(|| why.clone()),
                directory: escaped(path.as_os_str().as_bytes()),
                ..State::default()
            };
            // Compared without its time, or it would be new at every look.
            let same = State { since: String::new(), ..record.clone() }.encode();
            if self.published.get(&name) == Some(&same) {
                continue;
            }
            if state == StateName::Rejected {
                report::line(&format!("reading {}: rejected: {why}", path.display()));
            }
            match home::publish_state(&self.status, &name, &record.encode()) {
                Ok(()) => {
                    self.published.insert(name, same);
                }
                Err(error) => self.trouble(&name, format!("writing {error}")),
            }
        }
    }
}

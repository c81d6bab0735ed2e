//! Looks up the users and groups that modules name: in the files of the system where those are all there is, else by a
//! process of its own.
//!
//! What else may be asked (LDAP, a daemon, anything that nsswitch.conf(5) names) is foreign code in whoever asks: it may
//! crash, and it may never answer. Must never be asked in svtree itself.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User as Entry, getgrouplist};
use serde::{Deserialize, Serialize};

use super::prints::{self, Print};
use super::report::plain;
use super::{clock, probe};
use crate::pure::accounts::{Database, Files, Ids, User, group, other_sources};
use crate::pure::config::{Account, Identity, Policy};
use crate::pure::time::Moment;

/// The verb by which an executable is asked to look names up; what is asked follows, as JSON.
pub const VERB: &str = "look-up";

/// It has no longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where systemd keeps users of its own; where none of these is, its source has nothing that is not in the files.
const USERDB: [&str; 5] = ["/run/systemd/userdb", "/etc/userdb", "/run/userdb", "/run/host/userdb", "/usr/lib/userdb"];

/// The files of the system that say who is who, as they are: as long as they are the same, so is what they say.
#[derive(Clone, Copy, Debug)]
pub struct Sources {
    files: [Option<Print>; 3],
    userdb: bool,
    /// When those places were looked at.
    looked: Moment,
}

/// What the C library asks, users, and groups.
const FILES: [&str; 3] = ["/etc/nsswitch.conf", "/etc/passwd", "/etc/group"];

/// A younger file may change once more without another time.
const QUIET: Duration = Duration::from_secs(1);

/// Whether systemd keeps users of its own is asked no more often than this: five names are a good part of what another user
/// costs a start. A database that comes while svtree runs is missed for so long at the most: nobody has more rights by that.
const RARE: Duration = Duration::from_mins(1);

impl Sources {
    /// As they are now, after they were so; `None` while one of them is so young that its next change might not be seen.
    #[must_use]
    pub fn now(before: Option<&Sources>) -> Option<Sources> {
        let files = FILES.map(|path| Print::at(Path::new(path)));
        let now = clock::wall();
        let is_quiet = |file: &Print| prints::age(file.changed(), now).is_some_and(|age| age >= QUIET);
        if !files.iter().flatten().all(is_quiet) {
            return None;
        }
        let looked = clock::moment();
        Some(match before.filter(|before| looked.since(before.looked) < RARE) {
            Some(before) => Sources { files, ..*before },
            None => Sources { files, userdb: has_userdb(), looked },
        })
    }

    /// Whether they say what those say.
    #[must_use]
    pub fn say_as(&self, other: &Sources) -> bool {
        (self.files, self.userdb) == (other.files, other.userdb)
    }
}

fn has_userdb() -> bool {
    USERDB.iter().any(|path| Path::new(path).exists())
}

/// What a module asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    identity: Identity,
    control_group: Option<Account>,
}

/// What it is in numbers; in words, what is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whose rights its program has.
    pub ids: Result<Ids, String>,
    /// Who may write `svcontrol` beside the owner.
    pub control_group: Option<Result<u32, String>>,
}

impl Asked {
    /// What a policy asks for; `None` if it names nobody.
    #[must_use]
    pub fn by(policy: &Policy) -> Option<Asked> {
        let asked = Asked { identity: policy.identity.clone(), control_group: policy.control_group.clone() };
        (asked.identity.is_asked_for() || asked.control_group.is_some()).then_some(asked)
    }

    /// The answer, if the files of the system alone have it.
    #[must_use]
    pub fn answer_from_files(&self) -> Option<Answer> {
        let nsswitch = fs::read_to_string(FILES[0]).unwrap_or_default();
        let is_empty = |source: &str| source == "systemd" && !has_userdb();
        if !other_sources(&nsswitch).into_iter().all(is_empty) {
            return None;
        }
        let read = |path: &str| fs::read(path).map_err(|error| format!("reading {path}: {}", plain(&error)));
        let files = read(FILES[1]).and_then(|passwd| Ok((passwd, read(FILES[2])?)));
        Some(match files {
            Ok((passwd, group)) => {
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                self.answer(&Files { passwd: text(passwd), group: text(group) })
            }
            Err(why) => Answer { ids: Err(why.clone()), control_group: self.control_group.as_ref().map(|_| Err(why)) },
        })
    }

    /// The answer of a process of its own, which is waited for: not for a thread that has anything else to do.
    #[must_use]
    pub fn answer_elsewhere(&self) -> Answer {
        let answer = || {
            let asked = serde_json::to_string(self).map_err(|error| error.to_string())?;
            let mut command = Command::new("/proc/self/exe");
            command.args([VERB, "--", &asked]);
            let (said, how) = probe::hear_out(command, PATIENCE, None)?;
            serde_json::from_slice(&said).map_err(|_| how.to_string())
        };
        answer().unwrap_or_else(|why: String| {
            let why = format!("looking it up: {why}");
            Answer { ids: Err(why.clone()), control_group: self.control_group.as_ref().map(|_| Err(why)) }
        })
    }

    /// The answer of all that the system can ask: for a process that is there for nothing else, or a client.
    #[must_use]
    pub fn answer_here(&self) -> Answer {
        self.answer(&System)
    }

    fn answer(&self, database: &impl Database) -> Answer {
        let control_group = self
            .control_group
            .as_ref()
            .map(|account| group(account, database).map_err(|why| format!("control_group {account}: {why}")));
        Answer { ids: Ids::of(&self.identity, database), control_group }
    }
}

/// What whoever is asked says: a line of JSON. `None` if that is no question.
#[must_use]
pub fn said(asked: &OsString) -> Option<Vec<u8>> {
    let asked: Asked = serde_json::from_str(asked.to_str()?).ok()?;
    serde_json::to_vec(&asked.answer_here()).ok()
}

/// Everything that the C library asks.
struct System;

impl Database for System {
    fn user(&self, account: &Account) -> Result<Option<User>, String> {
        let found = match account {
            Account::Name(name) => Entry::from_name(name),
            Account::Number(number) => Entry::from_uid(Uid::from_raw(*number)),
        };
        Ok(found.map_err(why)?.map(|entry| User {
            name: entry.name,
            uid: entry.uid.as_raw(),
            gid: entry.gid.as_raw(),
            home: entry.dir.to_string_lossy().into_owned(),
            shell: entry.shell.to_string_lossy().into_owned(),
        }))
    }

    fn group(&self, name: &str) -> Result<Option<u32>, String> {
        Ok(Group::from_name(name).map_err(why)?.map(|group| group.gid.as_raw()))
    }

    fn groups_of(&self, user: &str, gid: u32) -> Result<Vec<u32>, String> {
        let name = std::ffi::CString::new(user).map_err(|error| error.to_string())?;
        let groups = getgrouplist(&name, Gid::from_raw(gid)).map_err(why)?;
        Ok(groups.into_iter().map(Gid::as_raw).collect())
    }
}

fn why(errno: nix::errno::Errno) -> String {
    plain(&io::Error::from(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(user: &str, control_group: Option<&str>) -> Asked {
        let name = |name: &str| Account::Name(name.to_owned());
        let identity = Identity { user: Some(name(user)), ..Identity::default() };
        Asked { identity, control_group: control_group.map(name) }
    }

    #[test]
    fn the_files_say_what_the_system_says() {
        for user in ["root", "nobody", "daemon", "nosuchuser"] {
            let asked = asked(user, Some("daemon"));
            if let Some(answer) = asked.answer_from_files() {
                assert_eq!(answer, asked.answer_here(), "{user}");
            }
        }
    }

    #[test]
    fn a_question_is_answered_by_a_line() {
        let question = asked("root", None);
        let said = said(&serde_json::to_string(&question).expect("JSON").into()).expect("a question");
        let answer: Answer = serde_json::from_slice(&said).expect("an answer");
        assert_eq!(answer.ids.expect("root is there").uid, Some(0));
        assert_eq!(super::said(&"nonsense".into()), None);
    }
}

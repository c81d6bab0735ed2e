//! Users and groups: what the files of the system say of them, and what a module's identity is in numbers.
//!
//! Must never read a file: whoever asks brings a [`Database`].

use serde::{Deserialize, Serialize};

use super::config::{Account, Identity};

/// A user, as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its own group.
    pub gid: u32,
    /// Its home directory.
    pub home: String,
    /// Its shell.
    pub shell: String,
}

/// What a module's identity is in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// The user; `None`: svtree's own.
    pub uid: Option<u32>,
    /// The group; `None`: svtree's own.
    pub gid: Option<u32>,
    /// The supplementary groups; `None`: svtree's own.
    pub groups: Option<Vec<u32>>,
    /// The user's entry; `None` for a number that has none.
    pub user: Option<User>,
}

/// Where users and groups are looked up.
pub trait Database {
    /// The user of a name or a number.
    ///
    /// # Errors
    /// It cannot be asked.
    fn user(&self, account: &Account) -> Result<Option<User>, String>;

    /// The number of the group of a name.
    ///
    /// # Errors
    /// It cannot be asked.
    fn group(&self, name: &str) -> Result<Option<u32>, String>;

    /// The groups of a user whose own group is `gid`, that one included.
    ///
    /// # Errors
    /// It cannot be asked.
    fn groups_of(&self, user: &str, gid: u32) -> Result<Vec<u32>, String>;
}

impl Ids {
    /// The numbers of an identity.
    ///
    /// # Errors
    /// What is not there, or cannot be asked for. Nobody is to run as somebody else then.
    pub fn of(identity: &Identity, database: &impl Database) -> Result<Ids, String> {
        let mut ids = Ids::default();
        if let Some(account) = &identity.user {
            ids.user = database.user(account).map_err(|why| format!("user {account}: {why}"))?;
            ids.uid = Some(match (&ids.user, account) {
                (Some(user), _) => user.uid,
                (None, Account::Number(_)) if identity.group.is_none() => {
                    return Err(format!("user {account}: there is no such user, so its group must be said as well"));
                }
                (None, Account::Number(number)) => *number,
                (None, Account::Name(_)) => return Err(format!("user {account}: there is no such user")),
            });
            ids.gid = ids.user.as_ref().map(|user| user.gid);
            ids.groups = Some(Vec::new());
        }
        if let Some(account) = &identity.group {
            ids.gid = Some(group(account, database).map_err(|why| format!("group {account}: {why}"))?);
        }
        if let Some(accounts) = &identity.groups {
            let numbers = accounts
                .iter()
                .map(|account| group(account, database).map_err(|why| format!("groups: {account}: {why}")));
            ids.groups = Some(numbers.collect::<Result<_, _>>()?);
        } else if let (Some(user), Some(gid)) = (&ids.user, ids.gid) {
            let groups =
                database.groups_of(&user.name, gid).map_err(|why| format!("groups of {}: {why}", user.name))?;
            ids.groups = Some(groups);
        }
        // To the kernel that number means "as it was", which may be root.
        let all = ids.uid.iter().chain(&ids.gid).chain(ids.groups.iter().flatten());
        if all.copied().any(|number| number == u32::MAX) {
            return Err(format!("{} is no number of a user or a group", u32::MAX));
        }
        Ok(ids)
    }
}

/// The number of a group.
///
/// # Errors
/// There is none, or it cannot be asked for.
pub fn group(account: &Account, database: &impl Database) -> Result<u32, String> {
    match account {
        Account::Number(number) => Ok(*number),
        Account::Name(name) => database.group(name)?.ok_or_else(|| "there is no such group".to_owned()),
    }
}

/// The text of `/etc/passwd` and of `/etc/group`.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The one,
    pub passwd: String,
    /// and the other.
    pub group: String,
}

impl Database for Files {
    fn user(&self, account: &Account) -> Result<Option<User>, String> {
        // Of most lines nothing is kept.
        let may_be_meant = |line: &&str| match account {
            Account::Name(name) => line.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(':')),
            Account::Number(number) => line.split(':').nth(2).is_some_and(|uid| uid.parse() == Ok(*number)),
        };
        Ok(lines(&self.passwd).filter(may_be_meant).find_map(user_of))
    }

    fn group(&self, name: &str) -> Result<Option<u32>, String> {
        Ok(lines(&self.group).filter_map(group_of).find(|(other, ..)| *other == name).map(|(_, gid, _)| gid))
    }

    fn groups_of(&self, user: &str, gid: u32) -> Result<Vec<u32>, String> {
        let mut groups = vec![gid];
        for (_, gid, members) in lines(&self.group).filter_map(group_of) {
            if !groups.contains(&gid) && members.split(',').any(|member| member.trim() == user) {
                groups.push(gid);
            }
        }
        Ok(groups)
    }
}

/// What begins with `#` is a comment, with `+` or `-` an order of NIS, which has no files.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim_start).filter(|line| !line.starts_with(['#', '+', '-']))
}

/// A line of passwd(5).
fn user_of(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1)?.to_owned();
    Some(User { name, uid, gid, home, shell: fields.next().unwrap_or_default().to_owned() })
}

/// The name, number and members of a line of group(5).
fn group_of(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

/// The sources of users and groups beside the files, as an nsswitch.conf(5) names them: each name once.
#[must_use]
pub fn other_sources(nsswitch: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in nsswitch.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let Some((database, sources)) = line.split_once(':') else { continue };
        if !["passwd", "group", "initgroups"].contains(&database.trim()) {
            continue;
        }
        // `[SUCCESS=merge]` and the like say what follows a source, and are none.
        let words = sources.split(['[', ']']).step_by(2).flat_map(str::split_ascii_whitespace);
        for source in words.filter(|source| *source != "files") {
            if !found.contains(&source) {
                found.push(source);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        Files {
            passwd: "root:x:0:0:root:/root:/bin/sh\n# a:x:1:1::/:\n+nis\nwww:x:33:33:www:/var/www:/bin/false\n\
                     short:x:5\nlast:x:4294967295:7::/:\n"
                .to_owned(),
            group: "root:x:0:\nwww:x:33:\nssl:x:101:other,www\nops:x:102:www\nlogs:x:103:wwww\n".to_owned(),
        }
    }

    fn name(name: &str) -> Account {
        Account::Name(name.to_owned())
    }

    fn ids(identity: impl std::borrow::Borrow<Identity>) -> Result<Ids, String> {
        Ids::of(identity.borrow(), &files())
    }

    #[test]
    fn a_user_has_its_own_groups() {
        let ids = ids(Identity { user: Some(name("www")), ..Identity::default() }).expect("it is there");
        assert_eq!((ids.uid, ids.gid), (Some(33), Some(33)));
        assert_eq!(ids.groups, Some(vec![33, 101, 102]));
        assert_eq!(ids.user.map(|user| user.home), Some("/var/www".to_owned()));
    }

    #[test]
    fn what_is_said_wins_over_what_the_user_has() {
        let user = Some(name("www"));
        let group = Some(name("ops"));
        let own = ids(Identity { user: user.clone(), group: group.clone(), ..Identity::default() }).expect("there");
        assert_eq!((own.gid, own.groups), (Some(102), Some(vec![102, 101])));
        let groups = Some(vec![name("ssl"), Account::Number(7)]);
        let said = ids(Identity { user, group, groups }).expect("there");
        assert_eq!(said.groups, Some(vec![101, 7]));
        let only = ids(Identity { group: Some(Account::Number(5)), ..Identity::default() }).expect("a number");
        assert_eq!(only, Ids { gid: Some(5), ..Ids::default() });
    }

    #[test]
    fn a_number_has_the_rights_of_its_user_and_of_none_by_itself() {
        let by_number = ids(Identity { user: Some(Account::Number(33)), ..Identity::default() });
        assert_eq!(by_number, ids(Identity { user: Some(name("www")), ..Identity::default() }));
        let why = ids(Identity { user: Some(Account::Number(9)), ..Identity::default() }).expect_err("nobody");
        assert_eq!(why, "user 9: there is no such user, so its group must be said as well");
        let group = Some(Account::Number(9));
        let both = ids(Identity { user: Some(Account::Number(9)), group, ..Identity::default() }).expect("numbers");
        assert_eq!((both.uid, both.gid, both.groups), (Some(9), Some(9), Some(vec![])));
    }

    #[test]
    fn what_is_gone_is_named() {
        let why = |identity: Identity| ids(identity).expect_err("not there");
        let gone = || Some(name("gone"));
        assert_eq!(why(Identity { user: gone(), ..Identity::default() }), "user gone: there is no such user");
        assert_eq!(why(Identity { group: gone(), ..Identity::default() }), "group gone: there is no such group");
        let groups = Some(vec![name("ssl"), name("gone")]);
        assert_eq!(why(Identity { groups, ..Identity::default() }), "groups: gone: there is no such group");
        // What means "as it was" to the kernel is nobody.
        assert!(why(Identity { user: Some(name("last")), ..Identity::default() }).contains("4294967295"));
    }

    #[test]
    fn sources_beside_the_files() {
        let text = "passwd: files systemd # sss\ngroup:files [SUCCESS=merge] systemd\nhosts: files dns\n# group: nis\n";
        assert_eq!(other_sources(text), ["systemd"]);
        assert_eq!(other_sources("passwd: files\ngroup: files\ninitgroups: files [NOTFOUND=return] sss"), ["sss"]);
        assert!(other_sources("").is_empty());
    }
}

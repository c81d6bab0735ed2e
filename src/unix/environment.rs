//! The environment of a module's programs: svtree's own, the files of `environment_dir`, and `environment`.
//!
//! Must never set a variable of this process.

use std::borrow::Cow;
use std::ffi::{CStr, CString, NulError, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::{Dir, Mode, OFlags, openat};

use crate::pure::accounts::{Ids, User};
use crate::pure::config::Policy;
use crate::pure::exit::Pid;
use crate::pure::family;
use crate::pure::name::{ModuleName, printable};

/// What a module adds to svtree's environment and, where there is no value, takes out of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Variables(Vec<(OsString, Option<OsString>)>);

/// What a program is told of the socket on which it is to speak, and of no other one's.
#[derive(Debug)]
pub struct Told(Vec<(&'static str, String)>);

impl Told {
    /// Of the socket at this address, and of how often something is expected there.
    #[must_use]
    pub fn new(socket: Option<&str>, watchdog: Option<Duration>) -> Told {
        let Some(socket) = socket else { return Told(Vec::new()) };
        let watchdog = watchdog.map(|every| (WATCHDOG, every.as_micros().to_string()));
        Told([(SOCKET, socket.to_owned())].into_iter().chain(watchdog).collect())
    }

    /// Whether it is told its own pid as well, which is known only once it is there.
    #[must_use]
    pub fn has_own_pid(&self) -> bool {
        self.0.iter().any(|(name, _)| *name == WATCHDOG)
    }

    /// Nothing else is to say something of that.
    fn says(&self, name: &OsStr) -> bool {
        !self.0.is_empty() && [SOCKET, WATCHDOG, "WATCHDOG_PID"].iter().any(|told| name == *told)
    }
}

const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG: &str = "WATCHDOG_USEC";

/// A file or directory that could not be read, as it is called from the service directory, and why.
#[derive(Debug)]
pub struct NotRead {
    /// Which.
    pub what: String,
    /// Why.
    pub error: io::Error,
}

/// Said to svtree by its own supervisor, and lies to anybody else.
const NOT_HANDED_ON: [&str; 11] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    // Of an alarm of another svtree, which has started this one.
    EVENT,
    "SVTREE_HOST",
    "SVTREE_MESSAGE",
    "SVTREE_CODE",
    "SVTREE_SIGNAL",
];

/// What only programs have that tell an alarm: they, and what they leave, are none of the module's.
const EVENT: &str = "SVTREE_EVENT";

/// Where programs are looked for when there is no PATH at all.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The name that every program is told of.
const MODULE: &str = "SVTREE_MODULE";

/// The number that a program is told of where its module is one of several.
const INSTANCE: &str = "SVTREE_INSTANCE";

/// No program can be given a longer variable: a page of 4 KiB times 32 in Linux.
const LONGEST_VARIABLE: u64 = 128 << 10;

/// Nor more than this of them all, with the usual limit of the stack.
const MOST: usize = 2 << 20;

impl Variables {
    /// What a policy asks for; reads its `environment_dir`.
    ///
    /// # Errors
    /// The directory, or a file in it, cannot be read or is no variable.
    pub fn of(service: BorrowedFd<'_>, policy: &Policy) -> Result<Variables, NotRead> {
        let mut variables = match &policy.environment_dir {
            Some(directory) => files(service, directory)?,
            None => Vec::new(),
        };
        variables.retain(|(name, _)| !policy.environment.iter().any(|(other, _)| OsStr::new(other) == name));
        variables.extend(policy.environment.iter().map(|(name, value)| (name.into(), Some(value.into()))));
        variables.retain(|(name, _)| name != MODULE);
        Ok(Variables(variables))
    }

    /// What a login tells a user of itself, unless the module says otherwise; a number without a user is told nothing, and
    /// nothing of svtree's user either.
    pub fn belong_to(&mut self, ids: &Ids) {
        if ids.uid.is_none() {
            return;
        }
        let of = |value: fn(&User) -> &str| ids.user.as_ref().map(value);
        let shell = of(|user| &user.shell).map(|shell| if shell.is_empty() { "/bin/sh" } else { shell });
        let (name, home) = (of(|user| &user.name), of(|user| &user.home));
        for (variable, value) in [("HOME", home), ("USER", name), ("LOGNAME", name), ("SHELL", shell)] {
            if !self.0.iter().any(|(other, _)| other == variable) {
                self.0.push((variable.into(), value.map(OsString::from)));
            }
        }
    }

    /// Where programs are looked for.
    #[must_use]
    pub fn path(&self) -> OsString {
        let path = match self.0.iter().find(|(name, _)| name == "PATH") {
            Some((_, value)) => value.clone(),
            None => std::env::var_os("PATH"),
        };
        path.unwrap_or_else(|| DEFAULT_PATH.into())
    }

    /// The whole environment of a module's program, as `NAME=value`; `instance` is 0 of a module that is no instance.
    ///
    /// # Errors
    /// A NUL in what the module adds.
    pub fn environment(
        &self,
        module: &ModuleName,
        instance: u32,
        told: &Told,
    ) -> Result<Vec<Cow<'static, CStr>>, NulError> {
        // It cannot change while svtree runs: nobody sets variables in it.
        static OWN: OnceLock<Vec<(OsString, CString)>> = OnceLock::new();
        let own = OWN.get_or_init(|| {
            std::env::vars_os()
                .filter(|(name, _)| {
                    !NOT_HANDED_ON.iter().any(|other| name == other) && name != MODULE && name != INSTANCE
                })
                .filter_map(|(name, value)| pair(&name, &value).ok().map(|pair| (name, pair)))
                .collect()
        });
        let said = |name: &OsStr| self.0.iter().any(|(other, _)| other == name);
        let is_number = |name: &OsStr| instance > 0 && name == INSTANCE;
        let mut pairs = Vec::with_capacity(own.len() + self.0.len() + told.0.len() + 2);
        pairs.extend(own.iter().filter(|(name, _)| !said(name)).map(|(_, pair)| Cow::Borrowed(pair.as_c_str())));
        for (name, value) in self.0.iter().filter(|(name, _)| !told.says(name) && !is_number(name)) {
            if let Some(value) = value {
                pairs.push(Cow::Owned(pair(name, value)?));
            }
        }
        for (name, value) in &told.0 {
            pairs.push(Cow::Owned(pair(OsStr::new(name), OsStr::new(value))?));
        }
        if instance > 0 {
            pairs.push(Cow::Owned(pair(OsStr::new(INSTANCE), OsStr::new(&instance.to_string()))?));
        }
        pairs.push(Cow::Owned(pair(OsStr::new(MODULE), module.as_os_str())?));
        Ok(pairs)
    }
}

/// An exec takes no longer than so many looks of 0.2 ms.
const MOST_LOOKS: usize = 50;

/// The name of the module in the environment that a process was given, as programs are; `None` where there is none, where
/// it cannot be read, and where the process has written over it, as those do that show a title.
#[must_use]
pub fn mark(pid: Pid) -> Option<Vec<u8>> {
    let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let mut environment = read("environ");
    for _ in 0..MOST_LOOKS {
        // In the midst of its exec a process has neither arguments nor an environment. One that has ended has an end, and
        // one that was given no environment has arguments.
        if !environment.is_empty() || !read("cmdline").is_empty() || !super::remains::is_executing(pid) {
            break;
        }
        let _ = rustix::event::poll(&mut [], Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 200_000 }));
        environment = read("environ");
    }
    let is_alarm = |pair: &[u8]| pair.strip_prefix(EVENT.as_bytes()).is_some_and(|rest| rest.starts_with(b"="));
    if environment.split(|byte| *byte == 0).any(is_alarm) {
        return None;
    }
    // The last one is the one that svtree added.
    let mut marks = environment.split(|byte| *byte == 0).filter_map(|pair| pair.strip_prefix(b"SVTREE_MODULE="));
    marks.next_back().map(<[u8]>::to_vec)
}

/// The files of a directory as daemontools' `envdir` reads them: names that begin with `.` are passed over.
fn files(service: BorrowedFd<'_>, path: &str) -> Result<Vec<(OsString, Option<OsString>)>, NotRead> {
    let failed = |error: io::Error| NotRead { what: printable(path.as_bytes()), error };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(service, path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory).map_err(|errno| failed(errno.into()))? {
        let entry = entry.map_err(|errno| failed(errno.into()))?;
        let name = entry.file_name().to_bytes();
        if !name.starts_with(b".") {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    // Of more than one mistake always the same is told.
    names.sort();
    let mut variables = Vec::with_capacity(names.len());
    let mut total = 0;
    for name in names {
        let value = value(directory.as_fd(), &name)
            .map_err(|error| NotRead { what: printable(Path::new(path).join(&name).as_os_str().as_bytes()), error })?;
        total += name.len() + value.as_ref().map_or(0, |value| value.len());
        if total > MOST {
            return Err(failed(io::Error::other("more than 2 MiB of variables")));
        }
        variables.push((name, value));
    }
    Ok(variables)
}

fn value(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<OsString>> {
    if name.as_bytes().contains(&b'=') {
        return Err(io::Error::other("a variable cannot have `=` in its name"));
    }
    // Without waiting: a FIFO must not hold up the module.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST_VARIABLE).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == LONGEST_VARIABLE && !bytes.contains(&b'\n') {
        return Err(io::Error::other("its first line is longer than 128 KiB"));
    }
    Ok(family::variable(&bytes).map(OsString::from_vec))
}

fn pair(name: &OsStr, value: &OsStr) -> Result<CString, NulError> {
    let mut bytes = Vec::with_capacity(name.len() + value.len() + 2);
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(b'=');
    bytes.extend_from_slice(value.as_bytes());
    CString::new(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(fill: impl Fn(&Path)) -> Result<Variables, NotRead> {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("env")).expect("a directory");
        fill(&directory.path().join("env"));
        let held = File::open(directory.path()).expect("the directory");
        let environment = vec![("BOTH".to_owned(), "toml".to_owned())];
        let policy = Policy { environment, environment_dir: Some("env".to_owned()), ..Policy::default() };
        Variables::of(held.as_fd(), &policy)
    }

    #[test]
    fn files_are_variables_and_environment_wins() {
        let variables = read(|env| {
            let files =
                [("A", "1 \n2\n"), ("BOTH", "dir"), ("EMPTY", ""), (".hidden", "x"), (MODULE, "x"), ("PATH", "/p")];
            for (name, text) in files {
                fs::write(env.join(name), text).expect("written");
            }
        })
        .expect("read");
        let some = |text: &str| Some(OsString::from(text));
        assert_eq!(
            variables,
            Variables(vec![
                ("A".into(), some("1")),
                ("EMPTY".into(), None),
                ("PATH".into(), some("/p")),
                ("BOTH".into(), some("toml")),
            ])
        );
        assert_eq!(variables.path(), "/p");
        let web = ModuleName::new(b"web").expect("a name");
        let environment = variables.environment(&web, 0, &Told::new(None, None)).expect("no NUL");
        assert!(environment.contains(&c"A=1".into()) && environment.contains(&c"SVTREE_MODULE=web".into()));
        assert!(!environment.iter().any(|pair| pair.to_bytes().starts_with(b"EMPTY=")));
    }

    #[test]
    fn an_instance_is_told_its_number_and_nothing_else_says_one() {
        let name = ModuleName::new(b"web@2").expect("a name");
        let numbers = |instance| {
            let own = Variables(vec![("SVTREE_INSTANCE".into(), Some("7".into()))]);
            let all = own.environment(&name, instance, &Told::new(None, None)).expect("no NUL").into_iter();
            let all = all.map(Cow::into_owned).filter_map(|pair| pair.into_string().ok());
            all.filter(|pair| pair.starts_with("SVTREE_INSTANCE=")).collect::<Vec<_>>()
        };
        assert_eq!(numbers(2), ["SVTREE_INSTANCE=2"]);
        assert_eq!(numbers(0), ["SVTREE_INSTANCE=7"]);
    }

    #[test]
    fn a_socket_is_told_of_and_nothing_else_is_said_of_one() {
        let web = ModuleName::new(b"web").expect("a name");
        let of_socket = |told: &Told| {
            let own = [("NOTIFY_SOCKET", "mine"), ("WATCHDOG_PID", "1")];
            let own = Variables(own.map(|(name, value)| (name.into(), Some(value.into()))).into());
            let variables = own.environment(&web, 0, told).expect("no NUL").into_iter().map(Cow::into_owned);
            let is_of_it = |name: &str| ["NOTIFY", "WATCHDOG"].iter().any(|of_it| name.starts_with(of_it));
            variables.filter_map(|pair| pair.into_string().ok()).filter(|pair| is_of_it(pair)).collect::<Vec<_>>()
        };
        assert_eq!(of_socket(&Told::new(None, None)), ["NOTIFY_SOCKET=mine", "WATCHDOG_PID=1"]);
        assert_eq!(of_socket(&Told::new(Some("/s"), None)), ["NOTIFY_SOCKET=/s"]);
        let told = Told::new(Some("/s"), Some(Duration::from_millis(10)));
        assert_eq!(of_socket(&told), ["NOTIFY_SOCKET=/s", "WATCHDOG_USEC=10000"]);
        assert!(told.has_own_pid());
    }

    #[test]
    fn mistakes_name_the_file() {
        let mistake = |fill: &dyn Fn(&Path)| {
            let NotRead { what, error } = read(fill).expect_err("a mistake");
            format!("{what}: {error}")
        };
        let big = "x".repeat(128 << 10);
        assert_eq!(
            mistake(&|env| fs::write(env.join("A=B"), "").expect("written")),
            "env/A=B: a variable cannot have `=` in its name"
        );
        assert_eq!(mistake(&|env| fs::create_dir(env.join("sub")).expect("made")), "env/sub: not a file");
        assert_eq!(
            mistake(&|env| fs::write(env.join("BIG"), &big).expect("written")),
            "env/BIG: its first line is longer than 128 KiB"
        );
        assert!(mistake(&|env| fs::remove_dir(env).expect("removed")).starts_with("env: No such file"));
    }
}

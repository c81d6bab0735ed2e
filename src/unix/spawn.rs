//! Makes a launch of `run`, of a command or of `finish`: words, environment, where to look. Must never restart anything.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::OnceLock;

use super::adopt;
use super::raw::{self, Launch, Mark, Output, Started, Strings};
use super::report;
use crate::pure::config::{Policy, Program};
use crate::pure::exit::How;
use crate::pure::name::ModuleName;

/// What every start of one module has in common.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// Its name, for `SVTREE_MODULE`.
    pub name: &'a ModuleName,
    /// Its directory, held.
    pub directory: BorrowedFd<'a>,
    /// Its directory, absolute.
    pub path: &'a Path,
    /// Where its output goes.
    pub output: Output,
    /// Its status directory, held.
    pub home: BorrowedFd<'a>,
}

/// Why something was not started.
#[derive(Debug)]
pub struct NotStarted {
    what: String,
    step: &'static str,
    error: std::io::Error,
}

impl NotStarted {
    /// Whether the machine lacks what comes back by itself: processes, memory, descriptors.
    #[must_use]
    pub fn is_shortage(&self) -> bool {
        matches!(
            self.error.raw_os_error(),
            Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ETXTBSY)
        )
    }
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.error.raw_os_error() {
            // What the kernel says of a script is true of its interpreter, which is worth a word.
            Some(libc::ENOENT) if self.step == "executing" => "not found, or the interpreter of its first line is not",
            Some(libc::ENOEXEC) => "no program and no script with a #! line",
            Some(libc::E2BIG) => "arguments and environment are too big",
            _ => return write!(f, "{} {}: {}", self.step, self.what, report::plain(&self.error)),
        };
        write!(f, "{} {}: {why}", self.step, self.what)
    }
}

/// The file of [`super::home::file::SPAWNED`].
const MARK: &CStr = c".spawned";

/// Starts the program of a module.
///
/// # Errors
/// What could not be done; nothing runs then.
pub fn program(service: Service<'_>, policy: &Policy) -> Result<Started, NotStarted> {
    let words: Vec<OsString> = match &policy.program {
        Program::Run => vec!["./run".into()],
        Program::Argv(words) => words.iter().map(OsString::from).collect(),
    };
    let mark = Mark::new(adopt::boot_id());
    launch(service, policy, &words, policy.directory.as_deref(), Some((service.home, MARK, mark)))
}

/// Starts `finish` in the service directory.
///
/// # Errors
/// What could not be done; nothing runs then.
pub fn finish(service: Service<'_>, policy: &Policy, how: How) -> Result<Started, NotStarted> {
    let words = ["./finish".into(), how.finish_code().to_string().into(), how.finish_status().to_string().into()];
    launch(service, policy, &words, None, None)
}

fn launch(
    service: Service<'_>,
    policy: &Policy,
    words: &[OsString],
    subdirectory: Option<&str>,
    mark: Option<(BorrowedFd<'_>, &CStr, Mark)>,
) -> Result<Started, NotStarted> {
    let first = words.first().map_or(OsStr::new(""), OsString::as_os_str);
    let what = String::from_utf8_lossy(first.as_bytes()).into_owned();
    let string = |bytes: &OsStr| {
        CString::new(bytes.as_bytes()).map_err(|error| NotStarted {
            what: what.clone(),
            step: "preparing",
            error: error.into(),
        })
    };
    let candidates = candidates(first, service.path, policy, subdirectory.is_some())
        .iter()
        .map(|path| string(path))
        .collect::<Result<Vec<_>, _>>()?;
    let arguments = words.iter().map(|word| string(word)).collect::<Result<Vec<_>, _>>()?;
    let environment = environment(service.name, policy).iter().map(|pair| string(pair)).collect::<Result<_, _>>()?;
    let subdirectory = subdirectory.map(|path| string(OsStr::new(path))).transpose()?;
    raw::start(&Launch {
        directory: service.directory,
        subdirectory: subdirectory.as_deref(),
        candidates: &candidates,
        arguments: &Strings::new(arguments),
        environment: &Strings::new(environment),
        output: service.output,
        mark,
    })
    .map_err(|failure| NotStarted { what, step: failure.step, error: failure.error })
}

/// Where a program may be: with a `/` it is relative to the service directory, else each directory of PATH has it.
#[must_use]
pub fn candidates(program: &OsStr, service: &Path, policy: &Policy, elsewhere: bool) -> Vec<OsString> {
    if program.as_bytes().contains(&b'/') {
        // The child stands in the service directory unless `directory` says otherwise.
        return match elsewhere {
            true => vec![service.join(program).into_os_string()],
            false => vec![program.to_owned()],
        };
    }
    let set = policy.environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| OsString::from(value));
    let path = set.or_else(|| std::env::var_os("PATH")).unwrap_or_else(|| DEFAULT_PATH.into());
    std::env::split_paths(&path)
        .map(|directory| match directory.as_os_str().is_empty() {
            true => Path::new(".").join(program).into_os_string(),
            false => directory.join(program).into_os_string(),
        })
        .collect()
}

/// Where programs are looked for when there is no PATH at all.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Said to svtree by its own supervisor, and lies to anybody else.
const NOT_HANDED_ON: [&str; 6] =
    ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// svtree's environment, the module's own variables, and its name.
fn environment(name: &ModuleName, policy: &Policy) -> Vec<OsString> {
    // It cannot change while svtree runs: nobody sets variables in it.
    static OWN: OnceLock<Vec<(OsString, OsString)>> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        std::env::vars_os()
            .filter(|(name, _)| !NOT_HANDED_ON.iter().any(|other| name == other) && name != "SVTREE_MODULE")
            .collect()
    });
    let overridden = |name: &OsStr| policy.environment.iter().any(|(other, _)| OsStr::new(other) == name);
    let mut pairs: Vec<OsString> =
        own.iter().filter(|(name, _)| !overridden(name)).map(|(name, value)| pair(name, value)).collect();
    pairs.extend(policy.environment.iter().map(|(name, value)| pair(OsStr::new(name), OsStr::new(value))));
    pairs.push(pair(OsStr::new("SVTREE_MODULE"), name.as_os_str()));
    pairs
}

fn pair(name: &OsStr, value: &OsStr) -> OsString {
    let mut bytes = Vec::with_capacity(name.len() + value.len() + 1);
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(b'=');
    bytes.extend_from_slice(value.as_bytes());
    OsString::from_vec(bytes)
}

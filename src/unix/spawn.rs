//! Makes a launch of `run`, of a command, of `finish` or of `control/LETTER`: words, environment, where to look. Must never restart anything.

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt;
use std::iter;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Access, AtFlags, accessat};

use super::controllers::Limited;
use super::environment::{Told, Variables};
use super::mark::Mark;
use super::raw::{self, Confinement, Fifo, Launch, Output, Started, Strings};
use super::{confine, executable, report};
use crate::pure::accounts::Ids;
use crate::pure::config::{BeforeRestart, Policy, Program};
use crate::pure::exit::How;
use crate::pure::name::ModuleName;

/// What every start of one module has in common.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// Its name, for `SVTREE_MODULE`.
    pub name: &'a ModuleName,
    /// Its number, for `SVTREE_INSTANCE`; 0 if it has none.
    pub instance: u32,
    /// Its directory, held.
    pub directory: BorrowedFd<'a>,
    /// Its directory, absolute.
    pub path: &'a Path,
    /// What its program reads.
    pub input: Option<Fifo<'a>>,
    /// Where what it says goes.
    pub output: Output<'a>,
    /// Where what it complains of goes.
    pub error: Output<'a>,
    /// Its status directory, held.
    pub home: BorrowedFd<'a>,
    /// Its control group, held.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whether its processes can be born there.
    pub born_there: bool,
}

/// Why something was not started.
#[derive(Debug)]
pub struct NotStarted {
    what: String,
    step: &'static str,
    needs: &'static str,
    error: std::io::Error,
}

impl NotStarted {
    /// What it needs could not be had.
    #[must_use]
    pub fn unprepared(what: &str, error: std::io::Error) -> NotStarted {
        NotStarted { what: what.to_owned(), step: "preparing", needs: "", error }
    }

    /// Whether a FIFO of its streams is not what stands at its name.
    #[must_use]
    pub fn is_of_streams(&self) -> bool {
        [raw::OPENING_INPUT, raw::OPENING_OUTPUT].contains(&self.step)
    }

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
            Some(libc::EPERM | libc::EACCES) if !self.needs.is_empty() => {
                let why = report::plain(&self.error);
                // Root in a container may lack it.
                let root = if rustix::process::geteuid().is_root() { "" } else { "root, or " };
                return write!(f, "{} {}: {why}; it takes {root}{}", self.step, self.what, self.needs);
            }
            _ => return write!(f, "{} {}: {}", self.step, self.what, report::plain(&self.error)),
        };
        write!(f, "{} {}: {why}", self.step, self.what)
    }
}

/// The file of [`super::home::file::SPAWNED`].
const MARK: &CStr = c".spawned";

/// What a program is given to speak with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// A descriptor that it has open under this number.
    pub kept: Option<(BorrowedFd<'a>, i32)>,
    /// The address of a socket for the protocol of `sd_notify(3)`; it is also told how often to speak.
    pub socket: Option<&'a str>,
}

/// Starts the program of a module, which leaves its mark.
///
/// # Errors
/// What could not be done; nothing runs then.
pub fn program(
    service: Service<'_>,
    policy: &Policy,
    (ids, limited): (&Ids, &Limited),
    mark: Mark,
    given: Given<'_>,
) -> Result<Started, NotStarted> {
    let of_program = OfProgram {
        subdirectory: policy.directory.as_deref(),
        mark: Some((service.home, MARK, mark)),
        given,
        confined: Some((ids, limited)),
        input: service.input,
        elsewhere: None,
        executable: None,
    };
    match &policy.program {
        Program::Run => launch(service, policy, &["./run".into()], &of_program),
        Program::Argv(words) => {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            launch(service, policy, &words, &of_program)
        }
        Program::Typed(words) => typed(service, policy, &typed_words(words), &of_program),
        Program::Own(words) => {
            // By its own name: another one means other arguments.
            let words: Vec<OsString> = iter::once("svtree".into()).chain(typed_words(words)).collect();
            launch(service, policy, &words, &OfProgram { executable: Some(executable::OWN), ..of_program })
        }
    }
}

/// Starts `finish` in the service directory.
///
/// # Errors
/// What could not be done; nothing runs then.
pub fn finish(service: Service<'_>, policy: &Policy, how: How) -> Result<Started, NotStarted> {
    let words = ["./finish".into(), how.finish_code().to_string().into(), how.finish_status().to_string().into()];
    launch(service, policy, &words, &OfProgram::default())
}

/// Starts what is to run before a restart, with the count of exits.
///
/// # Errors
/// What could not be done; nothing runs then.
pub fn before_restart(
    service: Service<'_>,
    policy: &Policy,
    script: &BeforeRestart,
    count: u64,
) -> Result<Started, NotStarted> {
    let mut words = typed_words(&script.words);
    words.push(count.to_string().into());
    typed(service, policy, &words, &OfProgram::default())
}

fn typed_words(words: &[Vec<u8>]) -> Vec<OsString> {
    words.iter().map(|word| OsString::from_vec(word.clone())).collect()
}

/// Starts what was typed at a command line. A file without a `#!` line is run by the shell, as `execvp` does.
fn typed(
    service: Service<'_>,
    policy: &Policy,
    words: &[OsString],
    of_program: &OfProgram<'_>,
) -> Result<Started, NotStarted> {
    match launch(service, policy, words, of_program) {
        Err(error) if error.error.raw_os_error() == Some(libc::ENOEXEC) => {
            let mut words = words.to_vec();
            if let Some(program) = words.first_mut() {
                *program = script(program, service, policy).unwrap_or_default();
            }
            words.insert(0, SHELL.into());
            launch(service, policy, &words, of_program)
        }
        result => result,
    }
}

const SHELL: &str = "/bin/sh";

/// The file that a search in PATH has found.
fn script(program: &OsStr, service: Service<'_>, policy: &Policy) -> Option<OsString> {
    let variables = Variables::of(service.directory, policy).ok()?;
    let executable = |path: &OsString| accessat(service.directory, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok();
    candidates(program, service.path, &variables, false).into_iter().find(executable)
}

/// Starts `control/LETTER` in the service directory.
///
/// # Errors
/// What could not be done; nothing runs then.
pub fn control(service: Service<'_>, policy: &Policy, letter: u8) -> Result<Started, NotStarted> {
    launch(service, policy, &[format!("./control/{}", char::from(letter)).into()], &OfProgram::default())
}

/// Starts a check in the service directory; what it writes is read by nobody.
///
/// # Errors
/// What could not be done; nothing runs then.
pub fn check(service: Service<'_>, policy: &Policy, words: &[String]) -> Result<Started, NotStarted> {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let service = Service { output: Output::Null, error: Output::Null, ..service };
    launch(service, policy, &words, &OfProgram::default())
}

/// Starts what tells an alarm, in the service directory: as svtree's user, with these variables and this input, and in no
/// control group, so that nothing that ends the module ends it. `elsewhere` is where it is looked for last.
///
/// # Errors
/// What could not be done; nothing runs then.
pub fn alarm(
    service: Service<'_>,
    words: &[OsString],
    elsewhere: Option<&str>,
    variables: Vec<(String, String)>,
    input: BorrowedFd<'_>,
) -> Result<Started, NotStarted> {
    let policy = Policy { environment: variables, ..Policy::default() };
    let given = Given { kept: Some((input, 0)), socket: None };
    let of_program = OfProgram { elsewhere, given, ..OfProgram::default() };
    // A logger of the module's own ends with the last one that holds its FIFO: an alarm is not to be that.
    launch(Service { cgroup: None, output: service.error, ..service }, &policy, words, &of_program)
}

/// What only some programs of a module have. Its scripts are those of whoever wrote its directory: they run as svtree
/// itself.
#[derive(Default)]
struct OfProgram<'a> {
    /// What is executed, if that is not what the first word says.
    executable: Option<&'a str>,
    elsewhere: Option<&'a str>,
    subdirectory: Option<&'a str>,
    mark: Option<(BorrowedFd<'a>, &'a CStr, Mark)>,
    given: Given<'a>,
    confined: Option<(&'a Ids, &'a Limited)>,
    input: Option<Fifo<'a>>,
}

fn launch(
    service: Service<'_>,
    policy: &Policy,
    words: &[OsString],
    of_program: &OfProgram<'_>,
) -> Result<Started, NotStarted> {
    let OfProgram { executable, elsewhere, subdirectory, mark, given, confined, input } = *of_program;
    let first = words.first().map_or(OsStr::new(""), OsString::as_os_str);
    let what = String::from_utf8_lossy(first.as_bytes()).into_owned();
    let not_prepared = |error: std::ffi::NulError| NotStarted {
        what: what.clone(),
        step: "preparing",
        needs: "",
        error: error.into(),
    };
    let string = |bytes: &OsStr| CString::new(bytes.as_bytes()).map(Cow::Owned).map_err(not_prepared);
    let mut variables = Variables::of(service.directory, policy).map_err(|not_read| NotStarted {
        what: not_read.what,
        step: "reading environment_dir",
        needs: "",
        error: not_read.error,
    })?;
    let mut confinement = Confinement::default();
    if let Some((ids, limited)) = confined {
        variables.belong_to(ids);
        confinement = confine::confinement(ids, limited, policy, service.path).map_err(not_prepared)?;
    }
    // In a root of its own the service directory is not there.
    let own_root = confinement.mounts.root.is_some();
    let base = if own_root { Path::new("/") } else { service.path };
    let candidates = executable
        .map_or_else(
            || candidates(first, base, &variables, subdirectory.is_some()),
            |executable| vec![executable.into()],
        )
        .iter()
        .map(OsString::as_os_str)
        .chain(elsewhere.map(OsStr::new))
        .map(string)
        .collect::<Result<Vec<_>, _>>()?;
    let arguments = words.iter().map(|word| string(word)).collect::<Result<Vec<_>, _>>()?;
    let told = Told::new(given.socket, policy.ready.watchdog);
    let environment = variables.environment(service.name, service.instance, &told).map_err(not_prepared)?;
    let environment = if told.has_own_pid() { Strings::with_own_pid(environment) } else { Strings::new(environment) };
    let subdirectory = subdirectory.map(|path| string(OsStr::new(path))).transpose()?;
    raw::start(&Launch {
        directory: service.directory,
        subdirectory: subdirectory.as_deref(),
        candidates: &candidates,
        arguments: &Strings::new(arguments),
        environment: &environment,
        input,
        output: service.output,
        error: service.error,
        umask: policy.umask,
        nice: policy.nice,
        cgroup: service.cgroup,
        born_there: service.born_there,
        joins: confined.map_or(&[], |(_, limited)| limited.joins()),
        confinement: &confinement,
        mark,
        kept: given.kept,
    })
    .map_err(|failure| {
        let what = match failure.step {
            raw::ENTERING_DIRECTORY => policy.directory.clone().unwrap_or_default(),
            raw::ENTERING_ROOT => policy.sandbox.root.clone().unwrap_or_default(),
            _ => what,
        };
        NotStarted { what, step: failure.step, needs: failure.needs, error: failure.error }
    })
}

/// Where a program may be: with a `/` it is relative to the service directory, else each directory of PATH has it.
#[must_use]
pub fn candidates(program: &OsStr, service: &Path, variables: &Variables, elsewhere: bool) -> Vec<OsString> {
    if program.as_bytes().contains(&b'/') {
        // The child stands in the service directory unless `directory` says otherwise.
        return match elsewhere {
            true => vec![service.join(program).into_os_string()],
            false => vec![program.to_owned()],
        };
    }
    std::env::split_paths(&variables.path())
        .map(|directory| match directory.as_os_str().is_empty() {
            true => Path::new(".").join(program).into_os_string(),
            false => directory.join(program).into_os_string(),
        })
        .collect()
}

//! The clone that starts a program: what it is given, the stack it stands on, what came of it.
//!
//! Must never let go of what the child shares before that has executed or ended.

use std::borrow::Cow;
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use super::child::{Job, LONGEST, Progress, child};
use super::limits::Limits;
use super::mounts::Mounts;
use super::process::{ORIGINAL, prepare_process, schedule};
use super::rights::Rights;
use super::streams::{Fifo, Output};
use crate::pure::exit::Pid;
use crate::unix::mark::Mark;
use crate::unix::{clock, pidfd};

/// Strings for `execve`: what owns them, and the array of pointers that ends in NULL.
#[derive(Debug)]
pub struct Strings {
    _owned: Vec<Cow<'static, CStr>>,
    pub(super) pointers: Vec<*const c_char>,
    /// `WATCHDOG_PID=`, and room for the pid, which the child writes.
    own_pid: Option<Box<UnsafeCell<[u8; OWN_PID.len() + DIGITS + 1]>>>,
}

const OWN_PID: &[u8] = b"WATCHDOG_PID=";

/// Of the largest pid.
const DIGITS: usize = 10;

impl Strings {
    /// Takes the strings.
    #[must_use]
    pub fn new(owned: Vec<Cow<'static, CStr>>) -> Strings {
        // The heap block of one that is owned does not move with it.
        let pointers = owned.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Strings { _owned: owned, pointers, own_pid: None }
    }

    /// The same with one more, in which the child writes its own pid.
    #[must_use]
    pub fn with_own_pid(owned: Vec<Cow<'static, CStr>>) -> Strings {
        let mut strings = Strings::new(owned);
        let mut text = [0; OWN_PID.len() + DIGITS + 1];
        text[..OWN_PID.len()].copy_from_slice(OWN_PID);
        let text = Box::new(UnsafeCell::new(text));
        strings.pointers.insert(0, text.get().cast::<c_char>().cast_const());
        strings.own_pid = Some(text);
        strings
    }

    /// Writes the pid of the caller where one is wanted.
    ///
    /// # Safety
    /// Only in a child, while its parent waits: nobody else reads or writes the text then.
    pub(super) unsafe fn write_own_pid(&self, pid: c_int) {
        let Some(text) = &self.own_pid else { return };
        // SAFETY: nobody else has a reference to the text, as the caller says.
        let Some(room) = (unsafe { &mut *text.get() }).get_mut(OWN_PID.len()..OWN_PID.len() + DIGITS) else { return };
        room.fill(0);
        write_digits(pid, room);
    }
}

/// Writes a pid, as far as there is room; says how long it is. It allocates nothing.
pub(super) fn write_digits(pid: c_int, room: &mut [u8]) -> usize {
    let mut rest = pid.unsigned_abs();
    // The last digit comes first.
    let mut digits = [0; DIGITS];
    let mut count = 0;
    while rest > 0 && count < DIGITS {
        digits[count] = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
    }
    for (place, digit) in room.iter_mut().zip(digits.iter().take(count).rev()) {
        *place = *digit;
    }
    count
}

/// Everything that a child needs, made before the clone.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Its working directory, first.
    pub directory: BorrowedFd<'a>,
    /// Its working directory, then; relative to the first.
    pub subdirectory: Option<&'a CStr>,
    /// What to execute: tried in turn, as a search in PATH does.
    pub candidates: &'a [Cow<'static, CStr>],
    /// `argv`.
    pub arguments: &'a Strings,
    /// `environ`.
    pub environment: &'a Strings,
    /// Standard input: a FIFO, opened to read, so that it ends with its last writer; `None`: `/dev/null`.
    pub input: Option<Fifo<'a>>,
    /// Standard output.
    pub output: Output<'a>,
    /// Standard error; the same open file where it goes to the same FIFO.
    pub error: Output<'a>,
    /// Its file mode creation mask; `None`: ours.
    pub umask: Option<u32>,
    /// Its priority; `None`: ours.
    pub nice: Option<i32>,
    /// The control group that it is to be in; a path descriptor of its directory.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whether it can be born there; else it moves there.
    pub born_there: bool,
    /// Files by which it joins more control groups, open for writing.
    pub joins: &'a [OwnedFd],
    /// What it is confined by.
    pub confinement: &'a Confinement,
    /// Where the child leaves its mark.
    pub mark: Option<(BorrowedFd<'a>, &'a CStr, Mark)>,
    /// A descriptor that it keeps, and its number there.
    pub kept: Option<(BorrowedFd<'a>, c_int)>,
}

/// What a program is confined by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Whose rights it has.
    pub rights: Rights,
    /// What it may take.
    pub limits: Limits,
    /// It must be in its control group.
    pub grouped: bool,
    /// What it sees of the file system.
    pub mounts: Mounts,
}

/// A program that runs.
#[derive(Debug)]
pub struct Started {
    /// Its pid.
    pub pid: Pid,
    /// Its pidfd, where the kernel gives one.
    pub pidfd: Option<OwnedFd>,
    /// `CLOCK_BOOTTIME` in nanoseconds, before and after the clone.
    pub between: [u64; 2],
    /// Whether it is in the control group.
    pub grouped: bool,
}

/// What a child could not do.
#[derive(Debug)]
pub struct Failure {
    /// The step, for people.
    pub step: &'static str,
    /// The capability that it takes, if it takes one.
    pub needs: &'static str,
    /// Why.
    pub error: io::Error,
}

/// Starts a program: a clone that shares memory and blocks this thread until the child has executed.
///
/// The child has a session of its own, `/dev/null` as standard input unless it reads a FIFO, default dispositions, an
/// empty signal mask, and no descriptor but 0, 1, 2 and what it is to keep. While it prepares itself it shares the table
/// of descriptors, so that nothing of it is copied, and leaves it by `close_range`, which copies only what is below 3, or
/// up to what it keeps.
///
/// # Errors
/// The step that failed; nothing runs then.
pub fn start(launch: &Launch<'_>) -> Result<Started, Failure> {
    prepare_process();
    let Some(original) = ORIGINAL.get() else {
        return Err(Failure { step: "preparing the process", needs: "", error: io::Error::from(io::ErrorKind::Other) });
    };
    let mut job = Job {
        launch,
        original,
        // SAFETY: a call without arguments that cannot fail.
        parent: if original.policy.is_some() { unsafe { libc::gettid() } } else { 0 },
        progress: Progress::default(),
        errno: 0,
        before: clock::boottime(),
        after: 0,
        grouped: false,
    };
    let mut flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    if original.close_range {
        flags |= libc::CLONE_FILES;
    }
    let mut number: RawFd = -1;
    let mut pid = match launch.cgroup.filter(|_| launch.born_there) {
        Some(cgroup) => clone_into(flags, cgroup, &mut job, &mut number),
        None => -1,
    };
    if pid < 0 {
        // No group is asked for, or the kernel or a sandbox has no such clone: the child moves there by itself.
        job.grouped = false;
        pid = clone(flags, &mut job, &mut number);
    }
    if pid < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        // Before Linux 5.2 there are no pidfds.
        pid = clone(flags & !libc::CLONE_PIDFD, &mut job, &mut number);
    }
    let error = io::Error::last_os_error();
    if let Some(policy) = original.policy {
        schedule(0, policy);
    }
    if pid < 0 {
        return Err(Failure { step: "cloning", needs: "", error });
    }
    // SAFETY: the kernel put a new descriptor here, which nobody else owns.
    let pidfd = (number >= 0).then(|| unsafe { OwnedFd::from_raw_fd(number) });
    // SAFETY: `job` is alive and initialised; the child that wrote to it has executed or ended. Volatile, since the
    // compiler does not know of that writer.
    let (errno, progress, before, after, grouped) = unsafe {
        (
            ptr::read_volatile(&raw const job.errno),
            ptr::read_volatile(&raw const job.progress),
            job.before,
            ptr::read_volatile(&raw const job.after),
            ptr::read_volatile(&raw const job.grouped),
        )
    };
    let Progress { step, needs } = progress;
    if errno != 0 {
        collect(pid);
        return Err(Failure { step, needs, error: io::Error::from_raw_os_error(errno) });
    }
    if Duration::from_nanos(clock::boottime().saturating_sub(after)) >= LONGEST
        && pidfd.as_ref().is_some_and(|pidfd| pidfd::ends_within(pidfd.as_fd(), ENDING))
    {
        collect(pid);
        let text = format!("not done within {}s, so it was killed; something held or stopped it", LONGEST.as_secs());
        return Err(Failure { step, needs: "", error: io::Error::new(io::ErrorKind::TimedOut, text) });
    }
    match Pid::new(pid) {
        Some(pid) => Ok(Started { pid, pidfd, between: [before, after.max(before)], grouped }),
        None => Err(Failure { step: "cloning", needs: "", error: io::Error::from(io::ErrorKind::Other) }),
    }
}

/// A child that was killed leaves our memory before it has ended: that takes no longer.
const ENDING: Duration = Duration::from_secs(1);

/// Collects a child that has ended, or is about to.
fn collect(pid: c_int) {
    // SAFETY: waits for a child of this thread, and takes no status.
    while unsafe { libc::waitpid(pid, ptr::null_mut(), 0) } < 0
        && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
    {}
}

/// Whether a child can be born in a control group. It cannot in kernels that lack the clone for it, and is killed at birth
/// by one that takes the signals to the group of the parent for signals to that of the child (Linux 6.15 to 6.18, where
/// `cgroup.kill` was written to one of them before).
#[must_use]
pub fn can_be_born_in(cgroup: BorrowedFd<'_>) -> bool {
    prepare_process();
    let Some(original) = ORIGINAL.get() else { return false };
    // A child that has nothing to execute ends with 127.
    let nothing = Strings::new(Vec::new());
    let launch = Launch {
        directory: cgroup,
        subdirectory: None,
        candidates: &[],
        arguments: &nothing,
        environment: &nothing,
        input: None,
        output: Output::Null,
        error: Output::Null,
        umask: None,
        nice: None,
        cgroup: Some(cgroup),
        born_there: true,
        joins: &[],
        confinement: &Confinement::default(),
        mark: None,
        kept: None,
    };
    let progress = Progress::default();
    let mut job = Job { launch: &launch, original, parent: 0, progress, errno: 0, before: 0, after: 0, grouped: false };
    let mut flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    if original.close_range {
        flags |= libc::CLONE_FILES;
    }
    let pid = clone_into(flags, cgroup, &mut job, &mut -1);
    let mut status = 0;
    // SAFETY: waits for the child just made, and writes its status.
    pid > 0 && unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid && libc::WIFEXITED(status)
}

/// What a child may take of the stack of the thread that waits for it: far more than `prepare` does, also without
/// optimisation.
const ROOM: usize = 32 * 1024;

/// Between the frame in which the child is made and what it stands on; the call of the C library has its own in there.
const MARGIN: usize = 2048;

/// Where the stack of a child begins. It stands below the frames of the thread that waits for it, which has no use for what
/// is there until the child is done with it; and that is warm, and mapped.
#[inline]
fn below() -> *mut c_void {
    let here = 0u8;
    let here = std::hint::black_box(&raw const here).expose_provenance();
    ptr::with_exposed_provenance_mut((here - MARGIN) & !15)
}

#[inline(never)]
fn clone(flags: c_int, job: &mut Job<'_>, pidfd: &mut RawFd) -> c_int {
    // SAFETY: what is below this frame and that of the call is nobody's, and enough for `child`, which never returns into our
    // frames. CLONE_VFORK keeps this thread, and with it `job` and `pidfd`, where it is until the child has executed or ended.
    // Handlers cannot run in the child: all signals are blocked but faults, which end it.
    unsafe { libc::clone(child, below(), flags, ptr::from_mut(job).cast::<c_void>(), ptr::from_mut(pidfd)) }
}

/// The argument of `clone3`: `struct clone_args` of `linux/sched.h`, as of Linux 5.7.
#[repr(C)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Of `linux/sched.h`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// As `clone`, with the child born in a control group: to move there costs it ten times as much. The C library has no call
/// for it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(never)]
fn clone_into(flags: c_int, cgroup: BorrowedFd<'_>, job: &mut Job<'_>, pidfd: &mut RawFd) -> c_int {
    let number = |number: c_int| u64::from(number.cast_unsigned());
    let arguments = CloneArguments {
        flags: number(flags & !libc::SIGCHLD) | CLONE_INTO_CGROUP,
        pidfd: (&raw mut *pidfd).expose_provenance() as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: number(libc::SIGCHLD),
        stack: (below().expose_provenance() - ROOM) as u64,
        stack_size: ROOM as u64,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: number(cgroup.as_raw_fd()),
    };
    job.grouped = true;
    let size = size_of::<CloneArguments>();
    let result: libc::c_long;
    // SAFETY: as for `clone`: what is below is nobody's, and this thread waits until the child is done with what it shares.
    // The child begins behind the system call with an empty stack, whose end is aligned, and never gets back here.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") &raw const arguments,
            in("rsi") size,
            in("r12") ptr::from_mut(job),
            in("r13") child as extern "C" fn(*mut c_void) -> c_int,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") &raw const arguments => result,
            in("x1") size,
            in("x20") ptr::from_mut(job),
            in("x21") child as extern "C" fn(*mut c_void) -> c_int,
        );
    }
    c_int::try_from(result).unwrap_or(-1)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn clone_into(_: c_int, _: BorrowedFd<'_>, _: &mut Job<'_>, _: &mut RawFd) -> c_int {
    -1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    use crate::pure::exit::Signal;
    use crate::unix::raw::{kill, kill_by_pidfd};

    fn owned(words: &[&str]) -> Vec<Cow<'static, CStr>> {
        words.iter().map(|word| Cow::Owned(CString::new(*word).expect("no NUL"))).collect()
    }

    fn strings(words: &[&str]) -> Strings {
        Strings::new(owned(words))
    }

    fn run(candidates: &[&str], arguments: &[&str]) -> Result<Started, Failure> {
        let root = std::fs::File::open("/").expect("the root");
        start(&Launch {
            directory: root.as_fd(),
            subdirectory: None,
            candidates: &owned(candidates),
            arguments: &strings(arguments),
            environment: &strings(&[]),
            input: None,
            output: Output::Null,
            error: Output::Null,
            umask: None,
            nice: None,
            cgroup: None,
            born_there: false,
            joins: &[],
            confinement: &Confinement::default(),
            mark: None,
            kept: None,
        })
    }

    fn wait(pid: Pid) -> c_int {
        let mut status = 0;
        // SAFETY: waits for a child of this test.
        assert_eq!(unsafe { libc::waitpid(pid.get(), &raw mut status, 0) }, pid.get());
        status
    }

    #[test]
    fn a_program_runs_and_its_failure_is_told() {
        let started = run(&["/bin/sh"], &["sh", "-c", "exit 7"]).expect("started");
        assert!(started.between[0] <= started.between[1]);
        assert_eq!(libc::WEXITSTATUS(wait(started.pid)), 7);

        let failure = run(&["/nowhere/program"], &["program"]).expect_err("not there");
        assert_eq!((failure.step, failure.error.raw_os_error()), ("executing", Some(libc::ENOENT)));
        let failure = run(&["/etc/passwd", "/nowhere"], &["program"]).expect_err("not executable");
        assert_eq!(failure.error.raw_os_error(), Some(libc::EACCES));
    }

    #[test]
    fn signals_reach_it() {
        let started = run(&["/bin/sleep"], &["sleep", "1000"]).expect("started");
        match &started.pidfd {
            Some(pidfd) => kill_by_pidfd(pidfd.as_fd(), Signal::KILL).expect("signalled"),
            None => kill(started.pid, Signal::KILL).expect("signalled"),
        }
        assert_eq!(libc::WTERMSIG(wait(started.pid)), 9);
    }
}

//! What a child does between its clone and its exec, step by step.
//!
//! It shares our memory, and until it leaves it our table of descriptors: system calls only, and nothing that the C
//! library would do for all threads. Must never allocate, lock, panic or return into the frames of its parent.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::time::Duration;

use super::clone::{Launch, write_digits};
use super::process::{Original, schedule, set_default};
use super::streams::direct_all;

/// What parent and child share; the parent reads it once the child has executed or ended.
pub(super) struct Job<'a> {
    pub(super) launch: &'a Launch<'a>,
    pub(super) original: &'a Original,
    /// The thread that is to give way once it is woken, as far as it has to be told to; else 0.
    pub(super) parent: libc::pid_t,
    pub(super) progress: Progress,
    pub(super) errno: c_int,
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) grouped: bool,
}

/// How far a child has come.
#[derive(Clone, Copy, Default)]
pub(super) struct Progress {
    /// The step that it is at, for people.
    pub(super) step: &'static str,
    /// The capability that the step takes, if it takes one.
    pub(super) needs: &'static str,
}

impl Progress {
    /// At this step from now on.
    pub(super) fn at(&mut self, step: &'static str, needs: &'static str) {
        *self = Progress { step, needs };
    }
}

/// The child. It shares our memory: system calls only, no allocation, no lock, no panic.
pub(super) extern "C" fn child(argument: *mut c_void) -> c_int {
    // SAFETY: the argument is the `Job` of `start`, whose thread is suspended as long as this runs.
    let job = unsafe { &mut *argument.cast::<Job<'_>>() };
    // SAFETY: `prepare` keeps to system calls on valid pointers; `_exit` ends this process alone.
    unsafe {
        prepare(job);
        // Here only on failure.
        job.errno = match *libc::__errno_location() {
            0 => libc::EIO,
            errno => errno,
        };
        libc::_exit(127)
    }
}

/// Becomes the program; returns only on failure, with `errno` and `job.progress` set.
///
/// The order is that of privileges: what takes svtree's rights comes before they are given away, and what the program
/// itself must be allowed to do after that.
unsafe fn prepare(job: &mut Job<'_>) {
    let launch = job.launch;
    // SAFETY: as each of these functions says; the launch and all that it points to are alive, and this is the child.
    unsafe {
        leave_mark(job);
        if launch.confinement.rights.uid.is_some() {
            end_in_time();
        }
        if job.parent != 0 {
            // The moment this one leaves our memory, in the midst of its exec, the kernel wakes the thread that waits for
            // it, and would let it take this processor to write its records, while the program stands still.
            schedule(job.parent, libc::SCHED_BATCH);
        }
        // Before it is anybody else's: a handler of ours that somebody calls by a signal would run in our memory.
        for signal in &job.original.not_default {
            set_default(*signal);
        }
        let prepared = join_groups(job)
            && begin_session(job)
            && stand_in(job)
            && limit(job)
            && launch.confinement.mounts.take(&mut job.progress)
            && launch.confinement.rights.take(job.original.last_capability, &mut job.progress)
            && enter_subdirectory(job);
        if !prepared {
            return;
        }
        if let Some(umask) = launch.umask {
            libc::umask(umask);
        }
        launch.environment.write_own_pid(libc::getpid());
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        execute(job);
    }
}

/// Writes down what it is. A mark that cannot be written protects nobody; the program is started all the same.
unsafe fn leave_mark(job: &mut Job<'_>) {
    // SAFETY: structures of this frame, a path that ends in NUL, bytes of this frame with their length.
    unsafe {
        let mut clock: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut clock);
        job.after = (clock.tv_sec.cast_unsigned()) * 1_000_000_000 + clock.tv_nsec.cast_unsigned();
        if let Some((directory, name, mut mark)) = job.launch.mark {
            mark.set(libc::getpid(), job.before, job.after);
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let file = libc::openat(directory.as_raw_fd(), name.as_ptr(), flags, 0o600);
            if file >= 0 {
                libc::write(file, mark.bytes().as_ptr().cast::<c_void>(), mark.bytes().len());
                libc::close(file);
            }
        }
    }
}

/// A child that becomes another user may take so long until its exec is done: who else is that user can stop it.
pub(super) const LONGEST: Duration = Duration::from_secs(10);

/// Has the kernel kill this child if it has not executed by then: also one that is stopped, and without anybody who looks at
/// a clock, since the thread that could waits for it. An exec takes the timer away.
unsafe fn end_in_time() {
    // SAFETY: structures of this frame, for which zeroes are valid; the kernel reads the first and the last and writes the
    // number. Where there can be no timer a child has no such end, and does nothing worse.
    unsafe {
        let mut end: libc::sigevent = std::mem::zeroed();
        end.sigev_notify = libc::SIGEV_SIGNAL;
        end.sigev_signo = libc::SIGKILL;
        let mut timer: c_int = 0;
        if libc::syscall(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, &raw const end, &raw mut timer) == 0 {
            // Two times as the kernel reads them here: how often, and when.
            let times = [[0, 0], [LONGEST.as_secs().cast_signed() as c_long, 0]];
            libc::syscall(libc::SYS_timer_settime, timer, 0, times.as_ptr(), ptr::null_mut::<c_void>());
        }
    }
}

/// Moves to its control group, unless it was born there. Where it may not go, it is found in another way; but not into one
/// that is to limit it.
unsafe fn join_groups(job: &mut Job<'_>) -> bool {
    job.progress.at("joining the control groups of", "");
    let confinement = job.launch.confinement;
    // SAFETY: descriptors, and a path that ends in NUL.
    unsafe {
        if let Some(cgroup) = job.launch.cgroup.filter(|_| !job.grouped) {
            let cgroup = cgroup.as_raw_fd();
            job.grouped = join_in(cgroup, c"cgroup.procs".as_ptr())
                || (*libc::__errno_location() == libc::EBUSY && join_below(cgroup));
        }
        (job.grouped || !confinement.grouped) && job.launch.joins.iter().all(|file| join(file.as_raw_fd()))
    }
}

/// Moves to the group that a file in this directory is of; on failure `errno` says why.
unsafe fn join_in(cgroup: RawFd, path: *const c_char) -> bool {
    // SAFETY: a descriptor, and a path that ends in NUL.
    unsafe {
        let file = libc::openat(cgroup, path, libc::O_WRONLY | libc::O_CLOEXEC);
        if file < 0 || !join(file) {
            // Both descriptors and errno are left as they are: the child ends, or leaves the table.
            return false;
        }
        libc::close(file);
        true
    }
}

/// Moves to a new group in a group. The last program may have made groups of its own there, and given them controllers, as
/// what supervises others does: then nobody can be in it, only below, where its limits hold as well.
unsafe fn join_below(cgroup: RawFd) -> bool {
    const PREFIX: &[u8] = b"of-";
    const FILE: &[u8] = b"/cgroup.procs";
    let mut path = [0u8; 32];
    path.iter_mut().zip(PREFIX).for_each(|(place, byte)| *place = *byte);
    // SAFETY: descriptors, and paths that end in NUL, since what is written is shorter than the array.
    unsafe {
        let digits = path.get_mut(PREFIX.len()..).map_or(0, |room| write_digits(libc::getpid(), room));
        if libc::mkdirat(cgroup, path.as_ptr().cast(), 0o755) < 0 {
            return false;
        }
        path.iter_mut().skip(PREFIX.len() + digits).zip(FILE).for_each(|(place, byte)| *place = *byte);
        join_in(cgroup, path.as_ptr().cast())
    }
}

/// Moves to the group that a file is of.
unsafe fn join(file: RawFd) -> bool {
    // SAFETY: a descriptor, and one byte.
    unsafe { libc::write(file, c"0".as_ptr().cast::<c_void>(), 1) == 1 }
}

unsafe fn begin_session(job: &mut Job<'_>) -> bool {
    job.progress.at("making a session for", "");
    // SAFETY: it takes nothing.
    unsafe { libc::setsid() >= 0 }
}

/// Goes to the service directory, and leaves our table of descriptors with nothing but its standard streams.
unsafe fn stand_in(job: &mut Job<'_>) -> bool {
    let launch = job.launch;
    // SAFETY: descriptors, numbers, and a path that ends in NUL.
    unsafe {
        job.progress.at("entering the service directory of", "");
        if libc::fchdir(launch.directory.as_raw_fd()) < 0 {
            return false;
        }
        job.progress.at("closing descriptors for", "");
        let first = launch.kept.map_or(3, |(kept, _)| kept.as_raw_fd() + 1).max(job.original.null + 1);
        if job.original.close_range
            && libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) < 0
        {
            return false;
        }
        if !direct_all(launch, job.original.null, &mut job.progress) {
            return false;
        }
        job.progress.at("handing its descriptor to", "");
        launch.kept.is_none_or(|(kept, number)| keep(kept.as_raw_fd(), number, job.original.close_range))
    }
}

/// Sets its limits and its priority.
unsafe fn limit(job: &mut Job<'_>) -> bool {
    // SAFETY: structures that are alive, and numbers.
    unsafe {
        job.progress.at("setting the limits of", "");
        let limits = &job.launch.confinement.limits;
        if !limits.limit_open_files() && libc::setrlimit(libc::RLIMIT_NOFILE, &raw const job.original.open_files) < 0 {
            // Somebody lowered our hard limit meanwhile: the program gets what is left of it.
            let mut now: libc::rlimit = std::mem::zeroed();
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut now);
            now.rlim_cur = if job.original.open_files.rlim_cur < now.rlim_max {
                job.original.open_files.rlim_cur
            } else {
                now.rlim_max
            };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const now) < 0 {
                return false;
            }
        }
        job.progress.at("setting the priority of", "CAP_SYS_NICE");
        if let Some(nice) = job.launch.nice
            && libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, nice) < 0
        {
            return false;
        }
        limits.take(&mut job.progress)
    }
}

/// The step whose object is the directory, and
pub const ENTERING_DIRECTORY: &str = "entering its directory";
/// that whose object is the root of the program.
pub const ENTERING_ROOT: &str = "entering its root";

/// As the user that the program is: where that may not go, the program may not begin.
unsafe fn enter_subdirectory(job: &mut Job<'_>) -> bool {
    job.progress.at(ENTERING_DIRECTORY, "");
    // SAFETY: a path that ends in NUL.
    job.launch.subdirectory.is_none_or(|path| unsafe { libc::chdir(path.as_ptr()) >= 0 })
}

/// As execvp: a candidate that may not be executed is remembered, one that is not there passed over.
unsafe fn execute(job: &mut Job<'_>) {
    let launch = job.launch;
    job.progress.at("executing", "");
    let mut forbidden = false;
    for path in launch.candidates {
        // SAFETY: a path that ends in NUL, and two arrays of such strings that end in NULL.
        unsafe {
            libc::execve(path.as_ptr(), launch.arguments.pointers.as_ptr(), launch.environment.pointers.as_ptr());
            match *libc::__errno_location() {
                libc::EACCES => forbidden = true,
                libc::ENOENT | libc::ENOTDIR => {}
                _ => return,
            }
        }
    }
    if forbidden {
        // SAFETY: `errno` of this thread, which the child shares with it.
        unsafe { *libc::__errno_location() = libc::EACCES };
    }
}

/// Gives a descriptor its number, and closes all others but the standard streams; the table is the child's own by then.
///
/// # Safety
/// Only in a child that has left the table of this process.
unsafe fn keep(kept: c_int, number: c_int, close_range: bool) -> bool {
    // SAFETY: takes numbers.
    unsafe {
        // On itself `dup2` would leave it to be closed by the exec.
        let placed = if kept == number { libc::fcntl(kept, libc::F_SETFD, 0) } else { libc::dup2(kept, number) };
        if placed < 0 {
            return false;
        }
        if close_range {
            if number > 3 {
                libc::syscall(libc::SYS_close_range, 3, number - 1, 0);
            }
            libc::syscall(libc::SYS_close_range, number.max(2) + 1, libc::c_uint::MAX, 0);
        }
        true
    }
}

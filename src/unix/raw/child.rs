//! What a child does between its clone and its exec, step by step.
//!
//! It shares our memory, and until it leaves it our table of descriptors: system calls only, and nothing that the C
//! library would do for all threads. Must never allocate, lock, panic or return into the frames of its parent.

use std::ffi::{c_int, c_void};
use std::os::fd::AsRawFd;
use std::ptr;

use super::clone::{Launch, Output};
use super::process::{Original, schedule, set_default};

/// What parent and child share; the parent reads it once the child has executed or ended.
pub(super) struct Job<'a> {
    pub(super) launch: &'a Launch<'a>,
    pub(super) original: &'a Original,
    pub(super) step: &'static str,
    pub(super) errno: c_int,
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) grouped: bool,
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

/// Becomes the program; returns only on failure, with `errno` and `job.step` set.
unsafe fn prepare(job: &mut Job<'_>) {
    let launch = job.launch;
    // SAFETY: every pointer is to a live value of `job`, its `launch` or this frame; numbers are valid for their call.
    unsafe {
        let mut clock: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut clock);
        job.after = (clock.tv_sec.cast_unsigned()) * 1_000_000_000 + clock.tv_nsec.cast_unsigned();
        if let Some((directory, name, mut mark)) = launch.mark {
            mark.set(libc::getpid(), job.before, job.after);
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let file = libc::openat(directory.as_raw_fd(), name.as_ptr(), flags, 0o600);
            // A mark that cannot be written protects nobody; the program is started all the same.
            if file >= 0 {
                libc::write(file, mark.bytes().as_ptr().cast::<c_void>(), mark.bytes().len());
                libc::close(file);
            }
        }
        if let Some(policy) = job.original.policy {
            schedule(policy);
        }
        if let Some(cgroup) = launch.cgroup
            && !job.grouped
        {
            // Where it may not go, it is found in another way.
            let flags = libc::O_WRONLY | libc::O_CLOEXEC;
            let file = libc::openat(cgroup.as_raw_fd(), c"cgroup.procs".as_ptr(), flags);
            job.grouped = file >= 0 && libc::write(file, c"0".as_ptr().cast::<c_void>(), 1) == 1;
            if file >= 0 {
                libc::close(file);
            }
        }
        job.step = "making a session";
        if libc::setsid() < 0 {
            return;
        }
        job.step = "resetting signals";
        for signal in &job.original.ignored {
            set_default(*signal);
        }
        job.step = "setting its limits";
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const job.original.open_files) < 0 {
            // Somebody lowered our hard limit meanwhile: the program gets what is left of it.
            let mut now: libc::rlimit = std::mem::zeroed();
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut now);
            now.rlim_cur = if job.original.open_files.rlim_cur < now.rlim_max {
                job.original.open_files.rlim_cur
            } else {
                now.rlim_max
            };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const now) < 0 {
                return;
            }
        }
        job.step = "setting its priority";
        if let Some(nice) = launch.nice
            && libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, nice) < 0
        {
            return;
        }
        if let Some(umask) = launch.umask {
            libc::umask(umask);
        }
        job.step = "entering its directory";
        if libc::fchdir(launch.directory.as_raw_fd()) < 0 {
            return;
        }
        if let Some(path) = launch.subdirectory
            && libc::chdir(path.as_ptr()) < 0
        {
            return;
        }
        job.step = "closing descriptors";
        let first = launch.kept.map_or(3, |(kept, _)| kept.as_raw_fd() + 1);
        if job.original.close_range
            && libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) < 0
        {
            return;
        }
        job.step = "opening /dev/null";
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if null < 0 || libc::dup2(null, 0) < 0 {
            return;
        }
        if launch.output == Output::Null && (libc::dup2(null, 1) < 0 || libc::dup2(null, 2) < 0) {
            return;
        }
        job.step = "handing it its descriptor";
        if let Some((kept, number)) = launch.kept
            && !keep(kept.as_raw_fd(), number, job.original.close_range)
        {
            return;
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        job.step = "executing";
        execute(launch);
    }
}

/// As execvp: a candidate that may not be executed is remembered, one that is not there passed over. Returns only on
/// failure.
unsafe fn execute(launch: &Launch<'_>) {
    let mut forbidden = false;
    // SAFETY: the pointers are to strings of `launch`, and to arrays of such that end in NULL.
    unsafe {
        for path in launch.candidates {
            libc::execve(path.as_ptr(), launch.arguments.pointers.as_ptr(), launch.environment.pointers.as_ptr());
            match *libc::__errno_location() {
                libc::EACCES => forbidden = true,
                libc::ENOENT | libc::ENOTDIR => {}
                _ => return,
            }
        }
        if forbidden {
            *libc::__errno_location() = libc::EACCES;
        }
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

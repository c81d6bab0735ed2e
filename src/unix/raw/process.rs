//! Facts that hold for the whole process, which every child has to undo: dispositions, the signal mask, limits.
//!
//! Must never be changed once there is a second thread.

use std::ffi::{c_int, c_ulong, c_void};
use std::ptr;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::rights::last_capability;
use crate::pure::exit::Signal;

/// What this process was started with and its programs are to get back.
#[derive(Debug)]
pub(super) struct Original {
    /// Signals that are ignored now, or handled, as faults are by the standard library; every child sets them to their
    /// default.
    pub(super) not_default: Vec<c_int>,
    /// The limit of open files before it was raised.
    pub(super) open_files: libc::rlimit,
    /// The file mode creation mask.
    umask: libc::mode_t,
    /// Whether `close_range` works, so that a child may share the table of descriptors until it leaves it.
    pub(super) close_range: bool,
    /// `/dev/null`, where it is held under a number so low that a child may keep all below it; else -1.
    pub(super) null: c_int,
    /// The scheduling policy, for a thread that gave way to its child; `None` for one that no thread of ours changes.
    pub(super) policy: Option<c_int>,
    /// The last capability that the kernel knows.
    pub(super) last_capability: c_ulong,
}

pub(super) static ORIGINAL: OnceLock<Original> = OnceLock::new();

/// Prepares the process, before it has a second thread: every signal that can be waited for is blocked, SIGCHLD is at
/// its default, inherited descriptors close on exec, and the soft limit of open files is raised to the hard one.
pub fn prepare_process() {
    prepare(None, None);
}

/// As [`prepare_process`], in a program that was executed in the place of another one, which had raised the limit already.
pub fn prepare_process_again(original: OpenFiles) {
    prepare(Some(original), None);
}

/// As [`prepare_process`], for a process that any signal may end at any moment as it would any other, TERM above all,
/// whatever it inherited: but HUP, which it ignores, SIGCHLD, and `held`, which are waited for unless they are ignored.
pub fn prepare_process_alone(held: &[Signal]) {
    for (signal, handler) in [(libc::SIGHUP, libc::SIG_IGN), (libc::SIGTERM, libc::SIG_DFL)] {
        // SAFETY: takes numbers; no handler is installed.
        unsafe {
            libc::signal(signal, handler);
        }
    }
    prepare(None, Some(held));
}

/// As [`prepare_process`], for a process in front at a terminal: only `held`, and SIGCHLD, are waited for, and HUP is what
/// it was.
pub fn prepare_process_in_front(held: &[Signal]) {
    prepare(None, Some(held));
}

/// The limit of open files that svtree was started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFiles {
    soft: u64,
    hard: u64,
}

/// The limit that programs get; `None` before `prepare_process`.
#[must_use]
pub fn open_files() -> Option<OpenFiles> {
    let limit = ORIGINAL.get()?.open_files;
    Some(OpenFiles { soft: limit.rlim_cur, hard: limit.rlim_max })
}

fn prepare(original: Option<OpenFiles>, held: Option<&[Signal]>) {
    ORIGINAL.get_or_init(|| {
        let (mut ignored, mut not_default) = (Vec::new(), Vec::new());
        // SAFETY: `rt_sigaction` and `pthread_sigmask` read and write only the valid structures given to them; no
        // handler is installed. A zeroed `rlimit` is valid. `umask` and `close_range` take numbers.
        unsafe {
            for signal in 1..=LAST_SIGNAL {
                let mut action: KernelAction = [0; 8];
                if libc::syscall(libc::SYS_rt_sigaction, signal, ptr::null::<KernelAction>(), &raw mut action, 8) < 0
                    || action[0] == libc::SIG_DFL
                {
                    continue;
                }
                if signal == libc::SIGCHLD {
                    // Ignored, it would make the kernel reap our children behind our back.
                    set_default(signal);
                    continue;
                }
                not_default.push(signal);
                if action[0] == libc::SIG_IGN {
                    ignored.push(signal);
                }
            }
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            // Faults of our own must still end us.
            for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS] {
                libc::sigdelset(&raw mut all, fault);
            }
            if let Some(held) = held {
                libc::sigemptyset(&raw mut all);
                libc::sigaddset(&raw mut all, libc::SIGCHLD);
                for signal in held.iter().filter(|signal| !ignored.contains(&signal.0)) {
                    libc::sigaddset(&raw mut all, signal.0);
                }
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());

            let mut open_files: libc::rlimit = std::mem::zeroed();
            if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut open_files) == 0 {
                // With the privilege the hard limit too: each module needs eight.
                let most = libc::rlimit { rlim_cur: MOST_FILES, rlim_max: MOST_FILES };
                if open_files.rlim_max >= MOST_FILES || libc::setrlimit(libc::RLIMIT_NOFILE, &raw const most) < 0 {
                    let raised = libc::rlimit { rlim_cur: open_files.rlim_max, rlim_max: open_files.rlim_max };
                    libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised);
                }
            }
            if let Some(OpenFiles { soft, hard }) = original {
                open_files = libc::rlimit { rlim_cur: soft.min(hard), rlim_max: hard };
            }
            let umask = libc::umask(0o077);
            libc::umask(umask);
            let close_range =
                libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0;
            // What the C library takes for itself, it would take from an arena of its own for each thread.
            #[cfg(target_env = "gnu")]
            libc::mallopt(libc::M_ARENA_MAX, 1);
            let policy = Some(libc::sched_getscheduler(0)).filter(|policy| *policy == libc::SCHED_OTHER);
            let last_capability = last_capability();
            let null = hold_null();
            Original { not_default, open_files, umask, close_range, null, policy, last_capability }
        }
    });
}

/// To open it takes a child as long as most of what it does.
fn hold_null() -> c_int {
    // SAFETY: a path that ends in NUL, and the number of a descriptor that nobody else has.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if null > LOW {
            libc::close(null);
            return -1;
        }
        null
    }
}

/// A table of descriptors of so many is the smallest that the kernel has.
const LOW: c_int = 32;

/// The process's umask; 022 before `prepare_process`.
#[must_use]
pub fn umask() -> u32 {
    ORIGINAL.get().map_or(0o022, |original| original.umask)
}

/// What the limit of open files is raised to: the kernel's own default for the most it allows.
const MOST_FILES: libc::rlim_t = 1 << 20;

/// The number of the last signal.
const LAST_SIGNAL: c_int = 64;

/// The kernel's own `sigaction`, larger than any architecture's; its first word is the handler. The C library's hides
/// two signals, which a parent may have ignored all the same.
type KernelAction = [usize; 8];

/// Sets a signal to its default, which is a structure of zeroes.
///
/// # Safety
/// None is needed: it is unsafe only in being a bare system call, and fit for a child.
pub(super) unsafe fn set_default(signal: c_int) {
    let action: KernelAction = [0; 8];
    // SAFETY: the kernel reads one structure, which is smaller than this one, and writes nothing.
    unsafe {
        libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, ptr::null_mut::<KernelAction>(), 8);
    }
}

/// Lets this thread never take a processor from another one that runs: for one that hears of every exit, but has to do
/// only with orphans, and must not get in the way of the restart.
pub fn give_way() {
    let mut parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: writes one structure; 0 is the calling thread.
    let before = unsafe {
        libc::sched_getparam(0, &raw mut parameters);
        libc::sched_getscheduler(0)
    };
    let _ = HASTE.set((before, parameters.sched_priority));
    schedule(0, libc::SCHED_BATCH);
}

/// As it was before: for a thread that executes another program.
pub fn give_way_no_more() {
    if let Some((policy, priority)) = HASTE.get() {
        schedule_at(0, *policy, *priority);
    }
}

/// Gives back the code that only the start took, ours and that of the C library. The kernel maps it in large pieces, and of
/// a process that rests most of it would stay; what is executed again is found in the page cache.
pub fn trim_code() {
    // SAFETY: the C library calls `trim_object` for each object, before this returns, and it reads what it is given.
    unsafe {
        libc::dl_iterate_phdr(Some(trim_object), ptr::null_mut());
    }
}

/// Gives back the code of one object that is loaded.
unsafe extern "C" fn trim_object(object: *mut libc::dl_phdr_info, _: libc::size_t, _: *mut c_void) -> c_int {
    // SAFETY: as the C library promises: one record, with so many headers behind its pointer.
    let (address, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr, std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    let is_code = |flags: u32| flags & (libc::PF_X | libc::PF_W) == libc::PF_X;
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && is_code(header.p_flags)) {
        let start = usize::try_from(address + header.p_vaddr).unwrap_or(0);
        let end = start.saturating_add(usize::try_from(header.p_memsz).unwrap_or(0));
        let (start, end) = (start.next_multiple_of(PAGE), end & !(PAGE - 1));
        if start < end {
            // SAFETY: these pages are those of a file, which nobody can write to while it is executed; nobody has changed
            // them, since they cannot be written and the code is position-independent.
            unsafe {
                libc::madvise(ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED);
            }
        }
    }
    0
}

/// The smallest page there is; where pages are larger, the call is refused or rounds up to whole pages of the same file.
const PAGE: usize = 4096;

/// How the one thread that gives way was scheduled before.
static HASTE: OnceLock<(c_int, c_int)> = OnceLock::new();

/// Sets the scheduling policy of a thread, 0 being the calling one; its nice value stays.
pub(super) fn schedule(thread: libc::pid_t, policy: c_int) {
    schedule_at(thread, policy, 0);
}

fn schedule_at(thread: libc::pid_t, policy: c_int, priority: c_int) {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: reads one structure. Where it is refused nothing is different but the haste.
    unsafe {
        libc::syscall(libc::SYS_sched_setscheduler, thread, policy, &raw const parameters);
    }
}

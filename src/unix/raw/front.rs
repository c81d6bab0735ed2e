//! What a process takes that stands in front of another one: signals as a queue, a start that hides nothing of it, and a
//! place in the background.
//!
//! Must never be used by a process that has a second thread.

use std::ffi::c_int;
use std::io;
use std::mem::zeroed;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::time::Duration;

use crate::pure::exit::{Pid, Signal};

/// What this process was started with, and the program behind it is to be started with as well.
#[derive(Clone, Copy)]
pub struct Inherited {
    mask: libc::sigset_t,
    ignores_children: bool,
}

/// Blocks every signal, so that each waits until it is taken: also those that the kernel would keep from a process with
/// pid 1. A fault of our own ends us all the same.
#[must_use]
pub fn hold_signals() -> Inherited {
    // SAFETY: the calls read and write only the structures given to them, for which zeroes are valid; no handler is
    // installed.
    unsafe {
        let mut mask: libc::sigset_t = zeroed();
        libc::pthread_sigmask(libc::SIG_SETMASK, &every_signal(), &raw mut mask);
        let mut action: libc::sigaction = zeroed();
        libc::sigaction(libc::SIGCHLD, ptr::null(), &raw mut action);
        let ignores_children = action.sa_sigaction == libc::SIG_IGN;
        if ignores_children {
            // The kernel would collect our children behind our back.
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        }
        Inherited { mask, ignores_children }
    }
}

/// Takes a signal that is held, or waits for one, at most for `limit`; `None` when there was none, or for no reason.
#[must_use]
pub fn next_signal(limit: Option<Duration>) -> Option<Signal> {
    next_of(&every_signal(), limit)
}

/// The same of these alone.
#[must_use]
pub fn next_signal_of(signals: &[Signal], limit: Option<Duration>) -> Option<Signal> {
    // SAFETY: zeroes are a valid set, and this one is written to.
    let set = unsafe {
        let mut set: libc::sigset_t = zeroed();
        for signal in signals {
            libc::sigaddset(&raw mut set, signal.0);
        }
        set
    };
    next_of(&set, limit)
}

fn next_of(set: &libc::sigset_t, limit: Option<Duration>) -> Option<Signal> {
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    });
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: reads the set and, where it is not NULL, the time; NULL for the details is allowed.
    let signal = unsafe { libc::sigtimedwait(set, ptr::null_mut(), limit) };
    (signal > 0).then_some(Signal(signal))
}

fn every_signal() -> libc::sigset_t {
    // SAFETY: zeroes are a valid set, and this one is written to.
    unsafe {
        let mut all: libc::sigset_t = zeroed();
        libc::sigfillset(&raw mut all);
        all
    }
}

/// Starts a program with the signals that this process was started with, in a group of its own, which gets the terminal
/// at standard input if that is asked for: before it runs, since it may read at once.
///
/// # Errors
/// As `execvp`; nothing runs then.
pub fn start_behind(command: &mut Command, inherited: Inherited, terminal: bool) -> io::Result<Option<Pid>> {
    command.process_group(0);
    let before_exec = move || {
        // SAFETY: system calls on valid values. The terminal may be taken from the background, because TTOU is still
        // blocked; where it cannot be had the program runs without.
        unsafe {
            if terminal {
                libc::tcsetpgrp(0, libc::getpid());
            }
            if inherited.ignores_children {
                libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            }
            libc::sigprocmask(libc::SIG_SETMASK, &raw const inherited.mask, ptr::null_mut());
        }
        Ok(())
    };
    #[expect(clippy::disallowed_methods, reason = "one thread, little memory: a fork costs nothing and is safe here")]
    // SAFETY: what runs between fork and exec makes system calls only, and there is no other thread that could have held
    // a lock at the fork.
    unsafe {
        command.pre_exec(before_exec);
    }
    #[expect(clippy::disallowed_methods, reason = "the child sets the mask that it is to have itself")]
    let child = command.spawn()?;
    Ok(c_int::try_from(child.id()).ok().and_then(Pid::new))
}

/// Sends a signal to the group that a child was started in; the child must not have been collected.
///
/// # Errors
/// As `kill`.
pub fn kill_group(leader: Pid, signal: Signal) -> io::Result<()> {
    // SAFETY: takes numbers.
    super::signal::check(unsafe { libc::kill(-leader.get(), signal.0) })
}

/// Sends a signal to every process of this pid namespace but this one; does nothing unless this one has pid 1.
pub fn kill_everybody(signal: Signal) {
    // SAFETY: takes numbers. Whoever is not the first process would reach what is not its own.
    unsafe {
        if libc::getpid() == 1 {
            libc::kill(-1, signal.0);
        }
    }
}

/// Sends this process a signal.
pub fn raise(signal: Signal) {
    // SAFETY: takes a number.
    unsafe {
        libc::raise(signal.0);
    }
}

/// Goes on in the background: in a process of its own, with a session of its own and `/dev/null` as standard streams. The
/// one that was started ends with 0 at once.
///
/// # Errors
/// There can be no other process, or no `/dev/null`; still in the process that was started.
pub fn detach() -> io::Result<()> {
    // SAFETY: a path that ends in NUL, and numbers. There is one thread, so the child of the fork lacks none; the parent
    // ends without running anything of ours.
    unsafe {
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        super::signal::check(null)?;
        let child = libc::fork();
        super::signal::check(child)?;
        if child > 0 {
            libc::_exit(0);
        }
        // A child is never the leader of a group, so there is a session for it.
        libc::setsid();
        for stream in 0..=libc::STDERR_FILENO {
            libc::dup2(null, stream);
        }
        libc::close(null);
    }
    Ok(())
}

/// Ends this process by a signal, as if nobody had held it.
pub fn die_of(signal: Signal) {
    // SAFETY: takes numbers, and a set for which zeroes are valid.
    unsafe {
        libc::signal(signal.0, libc::SIG_DFL);
        let mut set: libc::sigset_t = zeroed();
        libc::sigaddset(&raw mut set, signal.0);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
    }
    raise(signal);
}

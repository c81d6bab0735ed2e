//! `svtree init`: in front of one program it does what a container's first process has to: hands on every signal,
//! collects whatever ends, and ends as the program did.
//!
//! Must never change what the program inherits, but for its group and who has the terminal.

use std::ffi::OsString;
use std::io::{Error, ErrorKind, stdin};
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{getpgrp, set_parent_process_death_signal};
use rustix::termios::{tcgetpgrp, tcsetpgrp};

use crate::pure::exit::{How, Pid, Signal};
use crate::unix::report::plain;
use crate::unix::{pidfd, raw, ward};

/// What `svtree init` was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program and its arguments; there is at least the program.
    pub words: Vec<OsString>,
    /// Signals go to the program's group, and what is left of it when the program has ended gets TERM.
    pub group: bool,
    /// Signals that are handed on as others.
    pub rewrites: Vec<Rewrite>,
    /// Codes that count as 0.
    pub expected: Vec<u8>,
    /// What this process gets when its parent dies.
    pub parent_death: Option<Signal>,
}

/// A signal that is handed on as another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// What comes.
    pub from: Signal,
    /// What the program gets; `None`: nothing.
    pub to: Option<Signal>,
}

/// Runs the program to its end and returns its code, or 128 and the signal. To be called while there is no other thread.
///
/// # Errors
/// The program could not be started.
pub fn run(options: Options) -> Result<u8, String> {
    let inherited = raw::hold_signals();
    if let Some(signal) = options.parent_death {
        rustix::process::Signal::from_named_raw(signal.0)
            .ok_or(Errno::INVAL)
            .and_then(|named| set_parent_process_death_signal(Some(named)))
            .map_err(|error| format!("asking for {signal} at the parent's death: {}", plain(&error.into())))?;
    }
    if !ward::is_first() {
        // Where it is forbidden the orphans go to an init that collects them.
        let _ = ward::become_subreaper();
    }
    let [program, arguments @ ..] = options.words.as_slice() else {
        return Err("no program was named".to_owned());
    };
    let terminal = is_in_foreground();
    let started = raw::start_behind(Command::new(program).args(arguments), inherited, terminal);
    let failed = |error: Error| match error.kind() {
        ErrorKind::NotFound => {
            format!("executing {}: not found, or the interpreter of its first line is not", program.display())
        }
        _ => format!("executing {}: {}", program.display(), plain(&error)),
    };
    let pid = started.map_err(failed)?.ok_or("executing it: it has no pid")?;
    let init = Init { options, pid, terminal };
    let how = init.wait();
    if init.options.group {
        let _ = raw::kill_group(pid, Signal::TERM);
        let _ = raw::kill_group(pid, Signal::CONT);
    }
    pidfd::reap(pid);
    init.take_terminal();
    let code = how.code();
    Ok(if init.options.expected.contains(&code) { 0 } else { code })
}

struct Init {
    options: Options,
    pid: Pid,
    /// The program's group was given the terminal.
    terminal: bool,
}

impl Init {
    /// Waits for the program's end.
    fn wait(&self) -> How {
        loop {
            match raw::next_signal(None) {
                Some(Signal::CHLD) => {
                    if let Some(how) = ward::collect(Some(self.pid)) {
                        return how;
                    }
                    // From the terminal: whoever started us has to hear of it, and gets the terminal back.
                    if self.terminal && ward::has_stopped(self.pid) {
                        self.stop();
                    }
                }
                Some(signal) => self.hear(signal),
                None => {}
            }
        }
    }

    fn hear(&self, signal: Signal) {
        let rewrite = self.options.rewrites.iter().find(|rewrite| rewrite.from == signal);
        match rewrite.map_or(Some(signal), |rewrite| rewrite.to) {
            Some(signal @ (Signal::TSTP | Signal::TTIN | Signal::TTOU)) => {
                self.hand_on(signal);
                self.stop();
            }
            Some(Signal::CONT) => self.go_on(),
            Some(signal) => self.hand_on(signal),
            None => {}
        }
    }

    /// The program is not collected yet, so its pid and its group are its own.
    fn hand_on(&self, signal: Signal) {
        // One that has ended meanwhile needs none.
        let _ = match self.options.group {
            true => raw::kill_group(self.pid, signal),
            false => raw::kill(self.pid, signal),
        };
    }

    /// The whole job is stopped, this process with it; the first of a pid namespace is not one that can be.
    fn stop(&self) {
        if !ward::is_first() {
            self.take_terminal();
            raw::raise(Signal::STOP);
        }
    }

    /// The whole job goes on: in the foreground, if that is where we were put.
    fn go_on(&self) {
        if self.terminal {
            if is_in_foreground() {
                set_foreground(self.pid);
            }
            // The terminal stopped the whole group.
            let _ = raw::kill_group(self.pid, Signal::CONT);
        } else {
            self.hand_on(Signal::CONT);
        }
    }

    fn take_terminal(&self) {
        if self.terminal
            && let Some(own) = Pid::new(getpgrp().as_raw_nonzero().get())
        {
            set_foreground(own);
        }
    }
}

/// Whether standard input is our terminal and we are in its foreground.
fn is_in_foreground() -> bool {
    tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp())
}

/// Gives the terminal to a group. It may be done from the background: TTOU is held.
fn set_foreground(group: Pid) {
    if let Some(group) = rustix::process::Pid::from_raw(group.get()) {
        // Where the terminal is gone nobody is in its foreground.
        let _ = tcsetpgrp(stdin(), group);
    }
}

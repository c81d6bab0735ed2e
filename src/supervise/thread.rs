//! The thread that a module is supervised in: how it is started, and how its keeper hears of it.
//!
//! Must never let a defect of one module reach another.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use crossbeam_channel::Sender;

use super::{Beginning, Mail, Report, Starting, Task, Why, run};
use crate::pure::exit::Pid;
use crate::pure::name::ModuleName;
use crate::unix::inbox::Inbox;
use crate::unix::{pidfd, raw, signals};

/// Of a supervise thread; what it touches stays resident, the rest costs nothing.
const STACK: usize = if cfg!(debug_assertions) { 512 * 1024 } else { 128 * 1024 };

/// To the keeper of supervise threads.
#[derive(Clone, Debug)]
pub struct Reports {
    sender: Sender<Report>,
    /// It is the main thread, which waits for signals.
    wakes: bool,
}

impl Reports {
    /// To one that waits for them.
    #[must_use]
    pub fn new(sender: Sender<Report>) -> Reports {
        Reports { sender, wakes: false }
    }

    /// To the main thread, which waits for SIGCHLD.
    #[must_use]
    pub fn to_main(sender: Sender<Report>) -> Reports {
        Reports { sender, wakes: true }
    }

    pub(super) fn send(&self, report: Report) {
        // Without a keeper there is nobody to tell, and the module runs on.
        let _ = self.sender.send(report);
        if self.wakes {
            signals::call_between();
        }
    }
}

/// Supervises a module in a thread of its own, named after it; [`Report::Gone`] tells of its end.
///
/// # Errors
/// There can be no more threads.
pub fn start(task: Box<Task>, beginning: Beginning, inbox: Inbox<Mail>) -> io::Result<raw::Thread> {
    let (module, program, reports) = (task.name.clone(), Arc::clone(&task.program), task.reports.clone());
    let starting = Starting::one();
    raw::Thread::spawn(module.clone().as_bytes(), STACK, move || {
        let why = catch_unwind(AssertUnwindSafe(|| run(task, beginning, &inbox, starting)));
        gone(module, why.ok(), &program, &reports);
    })
}

/// Has a thread at hand for the next [`start`].
pub fn keep_spare() {
    raw::Thread::keep_spare(STACK);
}

/// Tells the keeper that a thread ended; without a reason it was a defect.
#[inline(never)]
fn gone(module: ModuleName, why: Option<Why>, program: &AtomicI32, reports: &Reports) {
    let why = why.unwrap_or_else(|| {
        // The program becomes a child of the main thread, which must not collect it.
        if let Some(pid) = Pid::new(program.load(Ordering::SeqCst)) {
            pidfd::claim(pid);
        }
        Why::Panicked
    });
    reports.send(Report::Gone(module, why));
}

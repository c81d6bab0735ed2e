//! `supervise` alone: one module in a process of its own, in the background or in front, as the original had it.
//!
//! The main thread keeps the supervise thread: it collects orphans, reads the settings again, and ends the process. Must
//! never decide anything about the program.

mod module;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use self::module::{Module, failed};
use crate::pure::alone::Request;
use crate::pure::exit::Signal;
use crate::pure::time::Moment;
use crate::supervise::{self, Beginning, Mail, Report, Reports, Task, Why};
use crate::unix::controllers::Controllers;
use crate::unix::home::{self, Level, Place};
use crate::unix::inbox::{self, Inbox, Mailbox};
use crate::unix::raw;
use crate::unix::report::plain;
use crate::unix::{clock, pidfd, ward};

/// A thread that ended by a defect is replaced after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// Supervises until it is told to leave; of a detached one only the child returns. To be called while there is one thread,
/// and nothing open but the standard streams.
///
/// # Errors
/// What kept it from beginning.
pub fn run(request: Request) -> Result<u8, String> {
    raw::close_all();
    let detached = request.detached;
    let held = held_signals(detached);
    raw::prepare_process_alone(&held);
    let mut module = Module::new(request)?;
    let (home, _) = module.place.open(module.service.as_fd()).map_err(|error| failed(&module.place.path(), &error))?;
    home::open_logs(home.as_fd()).map_err(|(name, error)| failed(&module.place.path().join(name), &error))?;
    if detached {
        raw::detach().map_err(|error| format!("going to the background: {}", plain(&error)))?;
    }
    // What a program leaves behind comes here, so that it can be followed and collected.
    if let Err(error) = ward::become_subreaper() {
        let text = format!("becoming a subreaper: {}; a program that goes to the background is lost", plain(&error));
        home::log(home.as_fd(), &[(Level::Warning, text)]);
    }
    module.configure(home.as_fd());
    let end = Keeper::start(module).and_then(|mut keeper| keeper.keep(&held));
    end.inspect_err(|why| home::log(home.as_fd(), &[(Level::Fatal, format!("not supervised: {why}"))]))
}

/// All other signals end it as they end any program. At the terminal the program is to hear of it too; and the first process
/// of a container has to end by itself.
fn held_signals(detached: bool) -> Vec<Signal> {
    match (detached, ward::is_first()) {
        (_, true) => vec![Signal::TERM, Signal::INT],
        (false, false) => vec![Signal::INT],
        (true, false) => Vec::new(),
    }
}

/// The main thread's part.
struct Keeper {
    module: Module,
    program: Arc<AtomicI32>,
    mailbox: Mailbox<Mail>,
    thread: Option<raw::Thread>,
    reports: Receiver<Report>,
    sender: Reports,
    /// What ended it, beside `x`.
    signal: Option<Signal>,
    /// When a thread that ended by a defect is replaced.
    again_at: Option<Moment>,
}

impl Keeper {
    fn start(module: Module) -> Result<Keeper, String> {
        let (sender, reports) = unbounded();
        let sender = Reports::to_main(sender);
        let program = Arc::<AtomicI32>::default();
        let (mailbox, inbox) = inbox::pair().map_err(|error| format!("starting a thread: {}", plain(&error)))?;
        let (thread, signal, again_at) = (None, None, None);
        let mut keeper = Keeper { module, program, mailbox, thread, reports, sender, signal, again_at };
        keeper.start_thread(inbox)?;
        Ok(keeper)
    }

    fn start_thread(&mut self, inbox: Inbox<Mail>) -> Result<(), String> {
        let Module { name, place, service, path, id, loaded, output, .. } = &self.module;
        let failed = |error: io::Error| format!("starting a thread: {}", plain(&error));
        let beginning = Beginning::Directory(service.try_clone().map_err(failed)?, None);
        let task = Box::new(Task {
            name: name.clone(),
            word: None,
            path: path.clone(),
            id: *id,
            loaded: Arc::clone(loaded),
            view: matches!(place, Place::Service(_)),
            place: place.clone(),
            alone: true,
            output: *output,
            logging: None,
            reads: None,
            settle: Duration::from_millis(100),
            anew: true,
            ends_all: false,
            cgroups: None,
            controllers: Arc::new(Controllers::new(&format!("{}-{}", id.device, id.inode))),
            program: Arc::clone(&self.program),
            mailbox: self.mailbox.clone(),
            reports: self.sender.clone(),
        });
        self.thread = Some(supervise::start(task, beginning, inbox).map_err(failed)?);
        Ok(())
    }

    /// Waits for the end, and returns the exit code.
    fn keep(&mut self, held: &[Signal]) -> Result<u8, String> {
        let waited: Vec<Signal> = held.iter().copied().chain([Signal::CHLD]).collect();
        loop {
            while let Ok(report) = self.reports.try_recv() {
                if let Some(code) = self.hear(report)? {
                    return Ok(code);
                }
            }
            pidfd::reap_orphans();
            let now = clock::moment();
            if self.again_at.is_some_and(|at| at <= now) {
                self.replace()?;
            }
            let limit = self.again_at.map(|at| at.since(now));
            match raw::next_signal_of(&waited, limit) {
                Some(Signal::INT) => self.leave(Signal::INT, Mail::Interrupt),
                Some(Signal::TERM) => self.leave(Signal::TERM, Mail::Release),
                Some(_) | None => {}
            }
        }
    }

    fn leave(&mut self, signal: Signal, mail: Mail) {
        self.signal = Some(signal);
        self.mailbox.send(mail);
    }

    /// Says what the process exits with, if it does.
    fn hear(&mut self, report: Report) -> Result<Option<u8>, String> {
        match report {
            Report::Reread(_) => self.configure(true),
            Report::Stale(_) => self.configure(false),
            Report::Begun(_) | Report::Damaged(_) | Report::Ended(..) | Report::NeedsNoLogger(_) => {}
            // Nobody waits for it.
            Report::Standing(..) => {}
            Report::Gone(_, why) => {
                if let Some(thread) = self.thread.take() {
                    thread.join();
                }
                match why {
                    Why::Left => return Ok(Some(0)),
                    Why::Retired { .. } => {
                        let signal = self.signal.unwrap_or(Signal::TERM);
                        raw::die_of(signal);
                        // The first process of a container cannot.
                        return Ok(Some(u8::try_from(128 + signal.0).unwrap_or(u8::MAX)));
                    }
                    Why::NotOpened(text) => return Err(text),
                    Why::Panicked => self.again_at = Some(clock::moment().plus(AGAIN)),
                }
            }
        }
        Ok(None)
    }

    fn replace(&mut self) -> Result<(), String> {
        self.again_at = None;
        let (mailbox, inbox) = inbox::pair().map_err(|error| format!("starting a thread: {}", plain(&error)))?;
        self.mailbox = mailbox;
        self.start_thread(inbox)
    }

    /// Reads the settings again.
    fn configure(&mut self, at_once: bool) {
        let Module { place, service, .. } = &self.module;
        // The status directory may be another one by now.
        if let Ok((home, _)) = place.open(service.as_fd()) {
            self.module.configure(home.as_fd());
        }
        self.mailbox.send(Mail::Configured(Arc::clone(&self.module.loaded), at_once));
    }
}

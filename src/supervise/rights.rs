//! Whose rights a module's program is to have, and who may command it: asked for before each start.
//!
//! Where the files of the system do not say it, another process is asked, and the start waits for its answer while the
//! thread goes on. Must never go on without an answer: what was not found is nobody, least of all svtree's own user.

use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use super::{Mail, Supervise};
use crate::pure::accounts::Ids;
use crate::pure::machine::Phase;
use crate::pure::time::Moment;
use crate::unix::accounts::{Answer, Asked, Sources};
use crate::unix::home::Level;
use crate::unix::{clock, report};

/// What is known of the names that a module asks for.
#[derive(Debug, Default)]
pub(super) struct Names {
    asking: Option<Box<Asking>>,
    /// What the files of the system said last.
    known: Option<Box<Known>>,
    /// Why the group that may command it is not to be had.
    not_delegated: Option<String>,
}

/// An answer of the files of the system, as they were.
#[derive(Debug)]
struct Known {
    asked: Asked,
    sources: Sources,
    answer: Answer,
}

/// An answer that is waited for.
#[derive(Debug)]
struct Asking {
    asked: Asked,
    answer: Receiver<Answer>,
    /// After which it is looked for again.
    pause: Duration,
}

/// An answer soon comes, most of the time,
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// and it comes with mail for those that have nothing to start.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What there is to say about a module's names.
pub(super) enum Found {
    /// They are these, or not there.
    Answer(Result<Ids, String>),
    /// It is to be asked again then.
    Later(Moment),
}

impl Supervise {
    /// What the names are that the module has now; with the answer `control_group` is in force.
    pub(super) fn look_up(&mut self) -> Found {
        let Some(asked) = Asked::by(&self.task.loaded.policy) else {
            self.names.asking = None;
            self.delegate(None);
            return Found::Answer(Ok(Ids::default()));
        };
        if let Some(asking) = self.names.asking.take_if(|asking| asking.asked == asked) {
            return self.hear_answer(*asking);
        }
        let sources = Sources::now(self.names.known.as_ref().map(|known| &known.sources));
        if let (Some(known), Some(sources)) = (&mut self.names.known, &sources)
            && known.asked == asked
            && known.sources.say_as(sources)
        {
            known.sources = *sources;
            let answer = known.answer.clone();
            return self.names_known(answer);
        }
        let Some(answer) = asked.answer_from_files() else { return self.ask_elsewhere(asked) };
        // The sources as they were before they were read.
        self.names.known = sources
            .filter(|_| answer.ids.is_ok())
            .map(|sources| Box::new(Known { asked, sources, answer: answer.clone() }));
        self.names_known(answer)
    }

    #[inline(never)]
    fn ask_elsewhere(&mut self, asked: Asked) -> Found {
        let (tell, answer) = sync_channel(1);
        let (question, mailbox) = (asked.clone(), self.task.mailbox.clone());
        let thread = Builder::new().name("look-up".to_owned()).stack_size(128 * 1024).spawn(move || {
            // Whoever has asked may be gone.
            let _ = tell.send(question.answer_elsewhere());
            mailbox.send(Mail::Look);
        });
        match thread {
            Ok(_) => self.hear_answer(Asking { asked, answer, pause: SHORTEST_PAUSE }),
            Err(error) => Found::Answer(Err(format!("starting a thread: {}", report::plain(&error)))),
        }
    }

    fn hear_answer(&mut self, asking: Asking) -> Found {
        match asking.answer.try_recv() {
            Ok(answer) => self.names_known(answer),
            Err(TryRecvError::Empty) => {
                let until = clock::moment().plus(asking.pause);
                let pause = (asking.pause * 2).min(LONGEST_PAUSE);
                self.names.asking = Some(Box::new(Asking { pause, ..asking }));
                Found::Later(until)
            }
            Err(TryRecvError::Disconnected) => Found::Answer(Err("looking names up: a defect of svtree".to_owned())),
        }
    }

    fn names_known(&mut self, answer: Answer) -> Found {
        self.delegate(answer.control_group);
        Found::Answer(answer.ids)
    }

    /// For a module that is not started: its FIFO is delegated all the same.
    pub(super) fn hear_names(&mut self) {
        // An answer that a start waits for is that one's.
        if self.names.asking.is_some() && !matches!(self.machine.phase(), Phase::Waiting { .. } | Phase::Held) {
            let _ = self.look_up();
        }
    }

    /// Without the group nobody but the owner may write the FIFO, which is no reason not to start.
    fn delegate(&mut self, group: Option<Result<u32, String>>) {
        let failed = |error: std::io::Error| {
            let takes = match error.kind() {
                std::io::ErrorKind::PermissionDenied => "; it takes root, CAP_CHOWN, or to be in that group",
                _ => "",
            };
            format!("control_group: {}{takes}", report::plain(&error))
        };
        let why = match group.transpose() {
            Ok(group) => self.home.delegate(group).map_err(failed).err(),
            Err(why) => {
                let _ = self.home.delegate(None);
                Some(why)
            }
        };
        if let Some(why) = &why
            && self.names.not_delegated.as_ref() != Some(why)
        {
            self.lines.push((Level::Warning, format!("{why}; only svtree's own user may write svcontrol")));
        }
        self.names.not_delegated = why;
    }
}

//! The module's `control/LETTER` scripts, which may stand for a signal: one of a kind at a time, and never waited for.
//!
//! Must never signal the program: whether a script stood for the signal is told to the machine.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::helper::{HandedHelper, Helper, Seen};
use super::{Child, Supervise};
use crate::pure::command::{Command, Decoded, decode, encode};
use crate::pure::exit::{How, Pid};
use crate::pure::machine::Event;
use crate::pure::time::Moment;
use crate::unix::home::Level;
use crate::unix::{clock, spawn};

/// A script has no longer than this, or than the program has to stop if that is less.
const LONGEST: Duration = Duration::from_secs(10);

/// A script that runs.
#[derive(Debug)]
pub(super) struct Script {
    helper: Helper,
    letter: u8,
    question: Question,
    /// The same was asked while it ran, about this program. However often that was: so it is with signals, too.
    again: Option<Pid>,
}

/// What a script is asked.
#[derive(Clone, Debug)]
struct Question {
    /// What it may stand for.
    command: Command,
    /// The program that the signal is for.
    program: Pid,
    /// The letters of the scripts that are asked after this one, the next one last.
    letters: Vec<u8>,
}

impl Script {
    pub(super) fn pid(&self) -> Pid {
        self.helper.pid()
    }

    /// Readable once it has ended.
    pub(super) fn ended(&self) -> Option<BorrowedFd<'_>> {
        self.helper.ended()
    }

    /// When it must be looked at.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.helper.deadline()
    }
}

/// A script as it is handed down to the next svtree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct HandedScript {
    #[serde(flatten)]
    helper: HandedHelper,
    letter: u8,
    command: u8,
    program: i32,
    letters: Vec<u8>,
    again: Option<i32>,
}

impl HandedScript {
    pub(super) fn pid(&self) -> Option<Pid> {
        self.helper.pid()
    }
}

impl Script {
    pub(super) fn child(&self) -> &Child {
        self.helper.child()
    }

    pub(super) fn handed(&self) -> HandedScript {
        let Question { command, program, letters } = &self.question;
        HandedScript {
            helper: self.helper.handed(),
            letter: self.letter,
            // Every command has a letter.
            command: encode(*command).unwrap_or(b' '),
            program: program.get(),
            letters: letters.clone(),
            again: self.again.map(Pid::get),
        }
    }

    /// The script again; `None` if it cannot be one.
    pub(super) fn handed_down(handed: HandedScript) -> Option<Script> {
        let program = Pid::new(handed.program)?;
        let Decoded::Command(command) = decode(handed.command) else { return None };
        Some(Script {
            helper: Helper::handed_down(&handed.helper, true)?,
            letter: handed.letter,
            question: Question { command, program, letters: handed.letters },
            again: handed.again.and_then(Pid::new),
        })
    }
}

impl Supervise {
    /// Asks the scripts that may stand for what is commanded; the answer comes at once where there is none.
    pub(super) fn control(&mut self, command: Command, program: Pid) -> Option<Event> {
        if let Some(running) = self.scripts.iter_mut().find(|script| script.question.command == command) {
            running.again = Some(program);
            return None;
        }
        // As in runit, what stands for TERM stands for it in a stop as well.
        let letters = match command {
            Command::Down => vec![b't', b'd'],
            Command::Signal(_) => encode(command).into_iter().collect(),
            Command::Up | Command::Once | Command::Exit => Vec::new(),
            Command::Silence | Command::Alarms | Command::Reload => Vec::new(),
        };
        self.ask(Question { command, program, letters })
    }

    /// Starts the next script there is.
    fn ask(&mut self, mut question: Question) -> Option<Event> {
        while let Some(letter) = question.letters.pop() {
            if !self.glance.has_control(self.home.service(), letter) {
                continue;
            }
            let cgroup = self.group_of_helpers();
            let loaded = self.started_with();
            let policy = &loaded.policy;
            let limit = policy.stop.timeout.map_or(LONGEST, |timeout| timeout.min(LONGEST));
            match spawn::control(self.service(cgroup.as_ref()), policy, letter) {
                Ok(started) => {
                    if started.pidfd.is_none() {
                        self.wait_elsewhere(started.pid);
                    }
                    let helper = Helper::new(started, limit, true);
                    self.scripts.push(Script { helper, letter, question, again: None });
                    return None;
                }
                Err(error) => self.lines.push((Level::Warning, error.to_string())),
            }
        }
        let Question { command, program, letters: _ } = question;
        Some(Event::Controlled { command, pid: program, done: false })
    }

    /// Hears the scripts that have ended, and kills those whose time is up.
    pub(super) fn look_at_scripts(&mut self) {
        let now = clock::moment();
        for mut script in std::mem::take(&mut self.scripts) {
            let how = match script.helper.look(now) {
                Seen::Ended(how) => how,
                seen => {
                    if seen == Seen::TooLong {
                        let text = format!("control/{} took too long and is killed", char::from(script.letter));
                        self.lines.push((Level::Warning, text));
                    }
                    self.scripts.push(script);
                    continue;
                }
            };
            self.lines.push((Level::Notice, format!("control/{} {how}", char::from(script.letter))));
            self.heard(script, how);
        }
    }

    fn heard(&mut self, script: Script, how: How) {
        let Script { question, again, .. } = script;
        let command = question.command;
        let answer = match how.success() {
            true => Some(Event::Controlled { command, pid: question.program, done: true }),
            false => self.ask(question),
        };
        // Whoever asks again waits until all the scripts of this question have been heard.
        match (answer, again) {
            (Some(answer), Some(program)) => {
                self.feed(answer);
                if let Some(answer) = self.control(command, program) {
                    self.feed(answer);
                }
            }
            (Some(answer), None) => self.feed(answer),
            (None, again) => {
                if let Some(next) = self.scripts.last_mut() {
                    next.again = again;
                }
            }
        }
    }

    /// Nobody is left to hear them.
    pub(super) fn end_scripts(&mut self) {
        for mut script in std::mem::take(&mut self.scripts) {
            script.helper.kill();
        }
    }
}

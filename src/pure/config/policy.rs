//! What a module can ask for, as values with their defaults.
//!
//! Must never know how it is written down.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Alarms;
use super::health::Health;
use super::identity::{Account, Identity};
use super::limits::Limits;
use super::needs::Needs;
use super::sandbox::Sandbox;
use crate::pure::exit::Signal;
use crate::pure::log::Log;

/// What a module asks for, complete: every key has its value or its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// What is executed.
    pub program: Program,
    /// Working directory, relative to the service directory; `None`: the service directory itself.
    pub directory: Option<String>,
    /// Whether it is started when svtree starts.
    pub enabled: bool,
    /// How many modules its directory stands for, each with a number; `None`: one, without.
    pub instances: Option<u32>,
    /// Variables added to svtree's own, in the order of their names.
    pub environment: Vec<(String, String)>,
    /// A directory with a file for each variable, relative to the service directory; `environment` wins over it.
    pub environment_dir: Option<String>,
    /// The file mode creation mask; `None`: svtree's own.
    pub umask: Option<u32>,
    /// The priority, from -20 to 19; `None`: svtree's own.
    pub nice: Option<i32>,
    /// Whose rights it has.
    pub identity: Identity,
    /// Who may write `svcontrol` beside its owner.
    pub control_group: Option<Account>,
    /// How much of the machine it may take.
    pub limits: Limits,
    /// What it is kept from.
    pub sandbox: Sandbox,
    /// Whether a program that puts itself in the background is followed there.
    pub forking: Forking,
    /// How many exits are remembered.
    pub exits_kept: usize,
    /// What is run before it is started again, in the stead of a `finish`.
    pub before_restart: Option<BeforeRestart>,
    /// What it waits for; boxed, since mostly that is nothing.
    pub needs: Option<Box<Needs>>,
    /// When it is started again.
    pub restart: Restart,
    /// How it is stopped.
    pub stop: Stop,
    /// When it is ready.
    pub ready: Ready,
    /// What it is asked once it is.
    pub health: Health,
    /// Who is told what of it; boxed, since mostly nobody is.
    pub alarms: Option<Box<Alarms>>,
    /// Where what it says goes.
    pub log: Log,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            program: Program::Run,
            directory: None,
            enabled: true,
            instances: None,
            environment: Vec::new(),
            environment_dir: None,
            umask: None,
            nice: None,
            identity: Identity::default(),
            control_group: None,
            limits: Limits::default(),
            sandbox: Sandbox::default(),
            forking: Forking::Follow,
            exits_kept: 20,
            before_restart: None,
            needs: None,
            restart: Restart::default(),
            stop: Stop::default(),
            ready: Ready::default(),
            health: Health::default(),
            alarms: None,
            log: Log::default(),
        }
    }
}

/// What the machine goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// When it is started again.
    pub restart: Restart,
    /// How it is stopped.
    pub stop: Stop,
    /// How many exits are remembered.
    pub exits_kept: usize,
    /// Whether a program that puts itself in the background is followed there; of the program that runs, so it holds from
    /// a start on.
    pub forking: Forking,
    /// What makes it ready; of the program that runs as well.
    #[serde(default)]
    pub awaits: Awaits,
}

impl Policy {
    /// The part of it that the machine goes by.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            restart: self.restart,
            stop: self.stop,
            exits_kept: self.exits_kept,
            forking: self.forking,
            awaits: self.ready.awaits(),
        }
    }

    /// Whether the rest of it, which holds from a start on, is the same.
    #[must_use]
    pub fn starts_as(&self, other: &Policy) -> bool {
        // Without `..`: a new key has to be decided upon.
        let Policy {
            program,
            directory,
            enabled,
            // Of no concern to any one of them.
            instances: _,
            environment,
            environment_dir,
            umask,
            nice,
            identity,
            control_group,
            limits,
            sandbox,
            forking,
            exits_kept: _,
            before_restart,
            needs: _,
            restart: _,
            stop: _,
            ready,
            health,
            alarms: _,
            log,
        } = self;
        *program == other.program
            && *directory == other.directory
            && *enabled == other.enabled
            && *environment == other.environment
            && *environment_dir == other.environment_dir
            && *umask == other.umask
            && *nice == other.nice
            && *identity == other.identity
            && *control_group == other.control_group
            && *limits == other.limits
            && *sandbox == other.sandbox
            && *forking == other.forking
            && *before_restart == other.before_restart
            && *ready == other.ready
            && *health == other.health
            && *log == other.log
    }
}

/// What becomes of a module whose program exits with 0 untold and leaves a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Forking {
    /// That process is its program from then on.
    Follow,
    /// Its exit is its exit.
    Ignore,
}

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// `./run` of the service directory.
    Run,
    /// A program and its arguments, at least one word.
    Argv(Vec<String>),
    /// The same, typed at a command line: words of any bytes. The service directory is only where it runs, and no file in
    /// it means anything.
    Typed(Vec<Vec<u8>>),
    /// This very executable, with these arguments of any bytes, whatever stands where it was started from by now.
    Own(Vec<Vec<u8>>),
}

/// When a program that exited is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    /// Always.
    Always,
    /// Unless it exited 0.
    Failure,
    /// Never.
    Never,
}

/// `[restart]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restart {
    /// After which exits.
    pub when: When,
    /// The pause between two starts.
    pub delay: Duration,
    /// What that pause grows to; `None`: it does not grow.
    pub max_delay: Option<Duration>,
    /// So many exits in `interval` are borne; `None`: any number.
    pub max_tries: Option<u32>,
    /// So many core dumps in `interval` are borne; `None`: any number.
    pub max_tries_if_coredumped: Option<u32>,
    /// In which the tries are counted; as long a run ends a back-off.
    pub interval: Duration,
}

impl Default for Restart {
    fn default() -> Restart {
        Restart {
            when: When::Always,
            delay: Duration::from_secs(1),
            max_delay: None,
            max_tries: None,
            max_tries_if_coredumped: None,
            interval: Duration::from_mins(1),
        }
    }
}

/// What is run when the program has ended and is to be started again, and waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeforeRestart {
    /// Its words, at least one; the count of exits follows them.
    pub words: Vec<Vec<u8>>,
    /// Exits further apart than this are counted from 1 again; `None`: never.
    pub apart: Option<Duration>,
}

/// How much of a module a stop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// All that the module started.
    Tree,
    /// What is in the session of the program.
    Session,
    /// Only the program.
    Main,
}

/// `[stop]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stop {
    /// What `d` sends before CONT.
    pub signal: Signal,
    /// After which KILL follows; `None`: never.
    pub timeout: Option<Duration>,
    /// When a `finish` runs.
    pub finish: Finish,
    /// After which a `finish` is killed.
    pub finish_timeout: FinishTimeout,
    /// After which what the program left is killed.
    pub left_timeout: FinishTimeout,
    /// What is ended.
    pub scope: Scope,
}

/// When a `finish` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finish {
    /// After each end of the program.
    Always,
    /// Only where the program is started again; a word to the contrary ends it at once.
    BeforeRestart,
}

/// After which a `finish`, or what a program left, is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishTimeout {
    /// As long as a program has to end.
    AsStop,
    /// A time of its own; `None`: never.
    Own(Option<Duration>),
}

impl Stop {
    /// After which a `finish` is killed; `None`: never.
    #[must_use]
    pub fn finish_limit(&self) -> Option<Duration> {
        self.limit(self.finish_timeout)
    }

    /// After which what the program left is killed; `None`: never.
    #[must_use]
    pub fn left_limit(&self) -> Option<Duration> {
        self.limit(self.left_timeout)
    }

    fn limit(&self, timeout: FinishTimeout) -> Option<Duration> {
        match timeout {
            FinishTimeout::AsStop => self.timeout,
            FinishTimeout::Own(limit) => limit,
        }
    }
}

impl Default for Stop {
    fn default() -> Stop {
        Stop {
            signal: Signal::TERM,
            timeout: Some(Duration::from_secs(30)),
            finish: Finish::Always,
            finish_timeout: FinishTimeout::AsStop,
            left_timeout: FinishTimeout::AsStop,
            scope: Scope::Tree,
        }
    }
}

/// `[ready]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ready {
    /// How it is known to be ready; `None`: it is once it runs.
    pub by: Option<ReadyBy>,
    /// A small file of the family asks for it, of which nobody expects that a time ends the waiting.
    pub of_file: bool,
    /// Not ready by then counts as a failure; `None`: nothing is said of it.
    pub timeout: Option<Limit>,
    /// Once it is ready it is to say so often that it is well; `None`: nothing is expected.
    pub watchdog: Option<Duration>,
}

/// How a program is known to be ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadyBy {
    /// It writes a newline on the descriptor of this number.
    Descriptor(i32),
    /// It says so by the protocol of `sd_notify(3)`.
    Notify,
    /// This program, with its arguments, is run until it exits with 0.
    Check(Vec<String>),
    /// It has exited with 0.
    Exit,
}

/// A time limit that can be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// So long.
    After(Duration),
    /// For ever.
    Never,
}

impl Ready {
    /// After which time it is a failure not to be ready; `None`: never.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        match self.timeout {
            Some(Limit::After(limit)) => Some(limit),
            Some(Limit::Never) => None,
            None => (!self.of_file).then_some(READY_TIMEOUT),
        }
    }

    /// What makes it ready.
    #[must_use]
    pub fn awaits(&self) -> Awaits {
        match self.by {
            None => Awaits::Nothing,
            Some(ReadyBy::Descriptor(_) | ReadyBy::Notify | ReadyBy::Check(_)) => Awaits::Word,
            Some(ReadyBy::Exit) => Awaits::Exit,
        }
    }
}

const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// What makes a program ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Awaits {
    /// That it runs.
    #[default]
    Nothing,
    /// That it is told.
    Word,
    /// That it has exited with 0, if it is not to be started again then.
    Exit,
}

//! The words between the machine and its driver: phases, events, actions, and what they carry.
//!
//! Must never hold behaviour.

use std::collections::VecDeque;
use std::time::Duration;

use crate::pure::command::Command;
use crate::pure::config::Rules;
use crate::pure::exit::{Exit, How, Pid, Signal};
use crate::pure::restart::History;
use crate::pure::standing::Gate;
use crate::pure::status::Want;
use crate::pure::time::{Moment, Stamp};

/// What is true of a module now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing runs, and nothing will by itself.
    Down,
    /// As `Down`, because it was given up; `reason` says why.
    Failed,
    /// Nothing runs until this moment.
    Waiting {
        /// When it is started.
        until: Moment,
    },
    /// Nothing runs, and it is started once its gate opens.
    Held,
    /// The program is being spawned; the answer comes at once.
    Starting,
    /// The program runs.
    Up {
        /// The program.
        pid: Pid,
        /// Whether it was sent STOP.
        paused: bool,
    },
    /// The program runs and was told to end.
    Stopping {
        /// The program.
        pid: Pid,
        /// Whether it was sent STOP.
        paused: bool,
        /// When KILL follows.
        kill_at: Option<Moment>,
        /// Whether KILL was sent.
        killed: bool,
    },
    /// Whether something that the module started still runs is being asked; the answer comes at once.
    Looking {
        /// When KILL follows, if there is something.
        kill_at: Option<Moment>,
    },
    /// Something that the module started still runs, and is to end.
    Sweeping {
        /// The program, or the `finish`, that ended and is not reaped; `None` when it was long ago.
        pid: Option<Pid>,
        /// How the program ended, if a `finish` follows.
        finish: Option<How>,
        /// When KILL follows.
        kill_at: Option<Moment>,
        /// All of it; else only what is in the session of the one that ended.
        whole: bool,
    },
    /// `finish` is being spawned; the answer comes at once.
    StartingFinish,
    /// `finish` runs.
    Finishing {
        /// `finish`.
        pid: Pid,
        /// When it is killed.
        kill_at: Option<Moment>,
    },
    /// The supervise thread has been told to leave.
    Gone,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The home is open: begin.
    Begin,
    /// The home is open, and this program of a predecessor runs.
    Adopted {
        /// Which.
        pid: Pid,
        /// Whether it was paused.
        paused: bool,
    },
    /// The home is open, and this `finish` of a predecessor runs.
    AdoptedFinish(Pid),
    /// The home is open, and the program of a predecessor has ended meanwhile.
    Lost(Ended),
    /// A letter came.
    Command(Command),
    /// The program runs under this pid.
    Spawned(Pid),
    /// It could not be started.
    SpawnFailed(NotStarted),
    /// It was not started: its files are being changed. It is tried again then, or once they have been read.
    Deferred(Moment),
    /// `finish` runs under this pid.
    FinishSpawned(Pid),
    /// `finish` could not be started, and why.
    FinishFailed(String),
    /// This process has ended; it is not reaped yet.
    Exited(Ended),
    /// How a process that has ended before did so.
    Learned(Pid, How),
    /// Nothing of what was to be swept up runs any more.
    Swept,
    /// Whether something that the module started runs.
    Left(bool),
    /// The program can be relied on from now on.
    Ready,
    /// The program runs and is not well, and why.
    Unwell(String),
    /// The program says that it ends by itself.
    Stopping,
    /// A program that ends needs so long from now.
    Extend(Duration),
    /// The program says that this process of the module is the program.
    MainPid(Pid),
    /// The answer of `control/LETTER`.
    Controlled {
        /// What was commanded.
        command: Command,
        /// The program that its signal is for.
        pid: Pid,
        /// Whether the script stood for the signal; else that is sent.
        done: bool,
    },
    /// The configuration was read again.
    Configured(Configured),
    /// The word of the tree on its starts.
    Gate(Gate),
    /// Stop, then leave; KILL follows within this time if it is shorter than the module's own.
    Retire(Option<Duration>),
    /// Leave at once, whatever runs.
    Release,
    /// The record could not be written.
    PublishFailed,
    /// The record on disk may be wrong, and must be written again.
    Heal,
    /// A deadline may have passed: look at the clock.
    Tick,
}

/// A start that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotStarted {
    /// Why, for people.
    pub why: String,
    /// Whether the machine lacks something that comes back (processes, memory, descriptors); no fault of the program.
    pub shortage: bool,
}

/// A process that ended, with what was seen at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub pid: Pid,
    /// How.
    pub how: How,
    /// Whether that was for want of memory.
    pub oom: bool,
    /// What it left.
    pub left: Left,
    /// Whether the module has a `finish`.
    pub finish: bool,
}

/// What a process left when it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Something in its session or group runs.
    pub session: bool,
    /// Something that the module started runs.
    pub any: bool,
    /// The process that the rest of it descends from, or the oldest.
    pub heir: Option<Heir>,
}

/// A process that may be the module's program from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heir {
    /// Which.
    pub pid: Pid,
    /// Whether it runs the executable that the program ran.
    pub same_executable: bool,
    /// Whether it has left the program's session, as a daemon does.
    pub detached: bool,
}

/// A configuration that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// What the machine goes by, if it is to hold at once.
    pub at_once: Option<Rules>,
    /// Whether the program was started with something else.
    pub changed: bool,
    /// Whether a new svtree would start it.
    pub enabled: bool,
    /// What is wrong with the files; the last good ones stay in force.
    pub mistake: Option<String>,
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the program; answered by `Spawned` or `SpawnFailed`.
    Spawn,
    /// Start `finish`; answered by `FinishSpawned` or `FinishFailed`.
    SpawnFinish(How),
    /// Ask the module's `control/LETTER` whether it stands for the signal of a command to this program; answered by
    /// `Controlled`, at once where there is none.
    Control(Command, Pid),
    /// Send a signal to a process that was not reaped.
    Signal(Pid, Signal),
    /// From now on this process, which the program left, is the program.
    Follow(Pid),
    /// Ask whether something that the module started runs; answered by `Left`.
    Look,
    /// Send a signal, then CONT, to what was left; `Swept` follows once nothing is left.
    Sweep {
        /// The process that ended and is not reaped, if it is known.
        leader: Option<Pid>,
        /// What is sent.
        signal: Signal,
        /// To all that the module started; else only to what is in the session of the one that ended.
        whole: bool,
    },
    /// Replace the records.
    Publish,
    /// Collect the process that ended.
    Reap(Pid),
    /// Read the configuration again; `Configured` may follow.
    Reload,
    /// End the supervision.
    Leave,
}

/// What a predecessor recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// What was asked.
    pub want: Want,
    /// Until when it waited.
    pub until: Option<Moment>,
    /// Whether alarms were silenced.
    pub silenced: bool,
    /// Whether the module had been given up.
    pub failed: bool,
    /// Why it was as it was.
    pub reason: Option<String>,
    /// When its pid changed last.
    pub since: Stamp,
    /// Its restarts.
    pub history: History,
    /// Its exits, the newest first.
    pub exits: VecDeque<Exit>,
    /// How many there were.
    pub exits_total: u64,
    /// Starts after the first.
    pub restarts: u64,
    /// Whether its program had put itself in the background.
    pub followed: bool,
    /// Whether its program had been told to end.
    pub told: bool,
    /// Whether `d` or the end of the tree had been the last word.
    pub ending: bool,
    /// Whether it was to be started again once it had stopped.
    pub asked: bool,
    /// Whether it was to leave once nothing ran.
    pub leaving: bool,
    /// How far the stop had come.
    pub stopping: Option<Stopping>,
    /// Why, if it was not asked for.
    pub cause: Cause,
    /// Whether it could be relied on.
    pub readiness: Readiness,
    /// If the predecessor was this very process: whether the program had been adopted.
    pub was_adopted: Option<bool>,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// When KILL follows.
    pub kill_at: Option<Moment>,
    /// Whether KILL was sent.
    pub killed: bool,
}

/// Whether a module can be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// Nobody asks: it is ready once it runs.
    #[default]
    Unasked,
    /// It is not ready yet.
    Awaited,
    /// It is, since then: its program runs and has said so, or has done what it was there for.
    Since(Stamp),
}

/// Why a program is being stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// It was asked for.
    #[default]
    Asked,
    /// It is not well: it is started again as the policy says of a failure.
    Unwell(String),
    /// It said so itself: what follows its end is up to the policy.
    Itself,
    /// The tree asked for it: it is wanted as before.
    Tree,
}

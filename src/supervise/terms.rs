//! The words between a supervise thread and its keeper: what the one is given and told, and what it reports.
//!
//! Must never hold behaviour.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::handover::HandOver;
use super::route::Logging;
use super::thread::Reports;
use crate::pure::config::Policy;
use crate::pure::exit::How;
use crate::pure::name::ModuleName;
use crate::pure::reconcile::Id;
use crate::pure::standing::{Gate, Standing};
use crate::unix::cgroup::Cgroups;
use crate::unix::controllers::Controllers;
use crate::unix::home::Place;
use crate::unix::inbox::Mailbox;
use crate::unix::prints::{Print, Prints};
use crate::unix::raw::Output;

/// What a module asks for, and the files that it was read from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// What it asks for: of the last good files. Modules that ask for the same share it.
    pub policy: Arc<Policy>,
    /// The files as they are now.
    pub prints: Prints,
    /// What is wrong with them, if they are not the last good ones.
    pub mistake: Option<String>,
    /// Whether what its program says goes to a logger.
    #[serde(default)]
    pub logged: bool,
    /// No good files of it are known, and nothing is started: what runs was started by a predecessor.
    #[serde(default)]
    pub unknown: bool,
    /// `finish` as it is now.
    #[serde(default)]
    pub finish: Option<Print>,
    /// A digest of `run`, unless that is no script.
    #[serde(default)]
    pub run: Option<u64>,
}

impl Loaded {
    /// Whether `run` is, in effect, the same script as one of this digest.
    #[must_use]
    pub fn is_run(&self, run: Option<u64>) -> bool {
        run.is_some() && self.run == run
    }
}

/// Everything that one supervise thread is given.
#[derive(Debug)]
pub struct Task {
    /// The module.
    pub name: ModuleName,
    /// What the tree says to it before it begins, where others have to do with it; and the number of that.
    pub word: Option<(Gate, u64)>,
    /// Its directory, absolute.
    pub path: PathBuf,
    /// Which directory that is.
    pub id: Id,
    /// What it asks for.
    pub loaded: Arc<Loaded>,
    /// Whether it gets a `supervise/` directory.
    pub view: bool,
    /// Where its home is.
    pub place: Place,
    /// It is supervised alone: it leaves when its tries run out, and nobody else looks after its home.
    pub alone: bool,
    /// Where its output goes, unless that is a logger.
    pub output: Output<'static>,
    /// What holds where it does not say where it is logged; `None`: it is not.
    pub logging: Option<Arc<Logging>>,
    /// The module whose output it reads, if it is a logger.
    pub reads: Option<ModuleName>,
    /// How long its files must have been quiet before a start uses them.
    pub settle: Duration,
    /// Nothing but `exits` of what was recorded counts: it was dropped anew.
    pub anew: bool,
    /// The end of its program is the end of all.
    pub ends_all: bool,
    /// Where there are control groups: those of the tree.
    pub cgroups: Option<Arc<Cgroups>>,
    /// What limits modules as a whole.
    pub controllers: Arc<Controllers>,
    /// The pid of the program as long as there is one; it outlives the thread.
    pub program: Arc<AtomicI32>,
    /// To this thread, for those that it starts itself.
    pub mailbox: Mailbox<Mail>,
    /// To the parent.
    pub reports: Reports,
}

/// What the parent says to a supervise thread.
#[derive(Clone, Debug)]
pub enum Mail {
    /// Stop the program and leave, with KILL within this time if that is sooner than the module's own.
    Retire(Option<Duration>),
    /// Of a logger: read what is left and leave; as `Retire` if that takes too long.
    Drain(Option<Duration>),
    /// Leave at once and let the program run.
    Release,
    /// The same, and the program gets INT: it was typed at the terminal.
    Interrupt,
    /// Its files were read again; whether `[restart]` and `[stop]` are to hold at once.
    Configured(Arc<Loaded>, bool),
    /// What the tree says to it, and the number of that.
    Gate(Gate, u64),
    /// Something of the home may have been damaged.
    Look,
    /// Whether a server that was asked is well, and why not.
    Health(Result<(), String>),
    /// Tell everything to another svtree, and wait.
    HandOver(HandOver),
    /// The program has been up for long: what it runs is to be remembered.
    Sample,
    /// There are many by now: what is kept at hand is to be given back.
    Rest,
}

/// What a supervise thread says to the parent.
#[derive(Debug)]
pub enum Report {
    /// Its files must be read again; at once and for all that can be changed at once.
    Reread(ModuleName),
    /// Its files are not those that it was given.
    Stale(ModuleName),
    /// Its home is open, or is whole again.
    Begun(ModuleName),
    /// What its program says goes to no logger any more.
    NeedsNoLogger(ModuleName),
    /// Its home is damaged and could not be put right.
    Damaged(ModuleName),
    /// Its program has ended for good, and how, if that is known yet; only from a task that ends all.
    Ended(ModuleName, How),
    /// How it stands, where others have to do with it.
    Standing(ModuleName, Standing),
    /// The thread is gone.
    Gone(ModuleName, Why),
}

/// Why a supervise thread ended.
#[derive(Debug)]
pub enum Why {
    /// Told to by the parent, or by ABRT.
    Retired {
        /// Nothing is left of its home.
        removed: bool,
    },
    /// Told to by `x`.
    Left,
    /// Its home could not be opened.
    NotOpened(String),
    /// A defect; its program runs on.
    Panicked,
}

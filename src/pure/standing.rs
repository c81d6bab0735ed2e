//! The words between a module and the tree that it stands in: how it stands, and whether it may be started.
//!
//! Must never hold behaviour.

/// What a module is to those who wait for it or are started with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Of the last word that it has heard.
    pub number: u64,
    /// How it stands.
    pub stand: Stand,
    /// Whether it is to run.
    pub wanted: bool,
    /// Whether something of it runs.
    pub runs: bool,
    /// Whether it would be started now.
    pub may: bool,
    /// How often it ended, or could not be started, when it was to run, since its thread began.
    pub deaths: u64,
    /// How often its thread started it.
    pub spawns: u64,
}

/// How a module stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stand {
    /// Nothing runs, and nothing is to.
    Down,
    /// It was given up.
    Failed,
    /// Nothing runs, and it is to be started: later, or once it may.
    Waiting,
    /// It runs, and is not ready.
    Coming,
    /// It can be relied on.
    Ready,
    /// It is being stopped, or its `finish` runs.
    Ending,
}

/// The word of the tree on the starts of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Gate {
    /// It is started whenever its own rules say so.
    #[default]
    Open,
    /// It is started once; then the gate is closed until another word comes.
    Once,
    /// It is not started now, and why. What runs runs on.
    Closed(String),
    /// As `Closed`; what runs is stopped and stays wanted, and what was given up is wanted again.
    Stop(String),
    /// As `Closed`; what runs is stopped, and the module is given up.
    Fail(String),
}

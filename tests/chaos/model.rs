//! What the contract asks of each name, from what was done to it: nothing where what was done has more than one outcome.
//!
//! Must never look at the tree: it is told what was done, and at a quiet point what was seen.

use std::path::PathBuf;

use super::natures::Nature;
use super::records::Want;

/// What stands under a name in the services directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Absent,
    Incomplete,
    Rejected,
    Module,
    /// A module or one that is rejected, as the look at it fell.
    Either,
}

/// A service directory; it keeps these when it is moved.
#[derive(Clone, Debug)]
pub struct Dir {
    pub nature: Nature,
    /// Whether there is a file `down` in it.
    pub down: bool,
    /// Whether its `service.toml` has a mistake.
    pub broken: bool,
    /// Where it stands, if the entry is only a link to it.
    pub target: Option<PathBuf>,
}

/// The ways that letters take: their order is known within one way only.
pub const WAYS: usize = 3;

/// A name.
#[derive(Clone, Debug)]
pub struct Entry {
    pub kind: Kind,
    pub dir: Option<Dir>,
    /// What it must want; `None` when that is not known.
    pub want: Option<Want>,
    /// Whether its alarms must be on; `None` when that is not known.
    pub alarms: Option<bool>,
    /// It was told `x` and may have left.
    pub leaving: bool,
    /// It has not begun anew since then: it leaves once it is down.
    pub must_leave: bool,
    /// It has left, as the last quiet point saw.
    pub left: bool,
    /// It began anew since the last quiet point: a letter may go to the one before.
    pub fresh: bool,
    /// Its status directory was damaged since then: a letter may be lost.
    pub damaged: bool,
    /// What came last by each way since then.
    ways: [Option<(Option<Want>, Option<bool>)>; WAYS],
}

impl Entry {
    /// A name that nothing stands under.
    pub fn absent() -> Entry {
        Entry {
            kind: Kind::Absent,
            dir: None,
            want: None,
            alarms: None,
            leaving: false,
            must_leave: false,
            left: false,
            fresh: false,
            damaged: false,
            ways: [None; WAYS],
        }
    }

    /// Whether letters may reach it.
    pub fn is_module(&self) -> bool {
        self.kind == Kind::Module
    }

    /// A directory that is not the one of before stands there: what was before does not count.
    pub fn arrives(&mut self, dir: Dir) {
        self.dir = Some(dir);
        self.begins_anew();
    }

    /// It begins as for the first time.
    pub fn begins_anew(&mut self) {
        let dir = self.dir.as_ref().expect("it stands there");
        self.kind = if dir.broken { Kind::Rejected } else { Kind::Module };
        self.want = Some(if dir.down { Want::Down } else { Want::Up });
        self.alarms = Some(true);
        (self.leaving, self.must_leave, self.left, self.fresh) = (false, false, false, true);
        self.ways = [None; WAYS];
    }

    /// It may have begun anew, or not.
    pub fn may_begin_anew(&mut self) {
        if self.dir.as_ref().is_some_and(|dir| dir.broken) {
            self.kind = Kind::Either;
        }
        (self.want, self.alarms, self.fresh, self.left) = (None, None, true, false);
        self.must_leave = false;
    }

    /// Nothing stands there any more.
    pub fn goes(&mut self) -> Dir {
        let damaged = self.damaged;
        let gone = std::mem::replace(self, Entry { damaged, fresh: true, ..Entry::absent() });
        gone.dir.expect("it stood there")
    }

    /// svscan was told to look at what left again.
    pub fn rescanned(&mut self) {
        if self.left && self.dir.as_ref().is_some_and(|dir| !dir.broken) {
            self.begins_anew();
        } else if self.leaving {
            self.may_begin_anew();
        }
    }

    /// These letters were taken from the caller; they go by one way of several.
    pub fn told(&mut self, way: usize, letters: &[u8]) {
        let doubtful = self.fresh || self.damaged || !self.is_module();
        let mut want = None;
        let mut alarms = None;
        for letter in letters {
            match letter {
                b'u' => want = Some(Want::Up),
                b'd' => want = Some(Want::Down),
                b'o' => want = Some(Want::Once),
                b's' => alarms = Some(false),
                b'n' => alarms = Some(true),
                b'x' => (self.leaving, self.left) = (true, false),
                _ => {}
            }
        }
        self.must_leave |= letters.contains(&b'x') && !doubtful;
        let before = self.ways[way].unwrap_or_default();
        self.ways[way] = Some((want.or(before.0), alarms.or(before.1)));
        if let Some(want) = want {
            let same = self.ways.iter().flatten().all(|way| way.0.is_none_or(|other| other == want));
            self.want = (same && !doubtful).then_some(want);
        }
        if let Some(alarms) = alarms {
            let same = self.ways.iter().flatten().all(|way| way.1.is_none_or(|other| other == alarms));
            self.alarms = (same && !doubtful).then_some(alarms);
        }
    }

    /// It is not known whether the letters came to it.
    pub fn may_have_been_told(&mut self) {
        (self.want, self.alarms) = (None, None);
    }

    /// A quiet point saw this, and all that was done has had its effect.
    pub fn seen(&mut self, seen: &Seen) {
        match seen {
            Seen::Nothing => {}
            Seen::NoModule(kind) => self.kind = *kind,
            Seen::Left => (self.kind, self.left) = (Kind::Module, true),
            Seen::Supervised { want, alarms, .. } => {
                self.kind = Kind::Module;
                (self.want, self.alarms, self.left) = (Some(*want), Some(*alarms), false);
            }
        }
        (self.fresh, self.damaged) = (false, false);
        self.ways = [None; WAYS];
    }
}

/// What a quiet point saw of a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    Nothing,
    NoModule(Kind),
    Left,
    Supervised { want: Want, alarms: bool, pid: i32, state: String },
}

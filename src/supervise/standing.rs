//! How a module stands, as those hear who wait for it, and the word that they have for it.
//!
//! Must never know who they are.

use super::{Report, Supervise};
use crate::pure::machine::Event;
use crate::pure::standing::{Gate, Standing};

/// What was heard of the tree and told to it.
#[derive(Debug)]
pub(super) struct Bond {
    /// Of the last word.
    number: u64,
    told: Option<Standing>,
}

impl Bond {
    pub(super) fn new(number: u64) -> Bond {
        Bond { number, told: None }
    }
}

impl Supervise {
    /// The tree has a word for this module.
    pub(super) fn gate(&mut self, gate: Gate, number: u64) {
        match &mut self.bond {
            Some(bond) => bond.number = number,
            None => self.bond = Some(Bond::new(number)),
        }
        self.feed(Event::Gate(gate));
    }

    /// Tells the tree how it stands, if that is news and anybody wants to know.
    pub(super) fn tell_standing(&mut self) {
        let Some(bond) = &mut self.bond else { return };
        let standing = self.machine.standing(bond.number);
        if bond.told.replace(standing) != Some(standing) {
            let name = self.task.name.clone();
            self.report(Report::Standing(name, standing));
        }
    }
}

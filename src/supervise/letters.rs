//! Letters from the FIFOs: read as they come, obeyed in order.
//!
//! Must never decide what a command does.

use std::os::fd::BorrowedFd;

use super::Supervise;
use crate::pure::command::{Command, Decoded, decode, encode};
use crate::pure::exit::Signal;
use crate::pure::machine::Event;
use crate::pure::name::printable;
use crate::unix::home::Level;

impl Supervise {
    /// The FIFOs that are read now.
    pub(super) fn controls(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.home.controls().filter(|_| !self.rereading)
    }

    /// Says whether there was any.
    pub(super) fn read_letters(&mut self, control: usize) -> bool {
        // So many at a turn: whoever writes without end gets no more of the thread than others.
        let mut bytes = [0; 64];
        let Some(fifo) = self.home.controls().nth(control) else { return false };
        if let Ok(count) = rustix::io::read(fifo, &mut bytes) {
            self.letters.extend(&bytes[..count]);
            return count > 0;
        }
        false
    }

    pub(super) fn obey_letters(&mut self) {
        let mut unknown = Vec::new();
        while !self.rereading
            && let Some(byte) = self.letters.pop_front()
        {
            match decode(byte) {
                Decoded::Command(command) => self.command(command),
                Decoded::Blank => {}
                Decoded::Unknown(byte) => unknown.push(byte),
            }
        }
        if !unknown.is_empty() {
            self.lines.push((Level::Warning, format!("unknown letters were skipped: {}", printable(&unknown))));
        }
    }

    fn command(&mut self, command: Command) {
        self.defect(command);
        if let Some(letter) = encode(command) {
            self.lines.push((Level::Notice, format!("command {}", char::from(letter))));
        }
        self.feed(Event::Command(command));
    }

    /// In a debug build with `SVTREE_DEFECT=NAME`, the letter `a` is a defect of that module's thread, so that tests see
    /// what a defect costs.
    fn defect(&self, command: Command) {
        let named = || std::env::var_os("SVTREE_DEFECT").is_some_and(|name| name == self.task.name.as_os_str());
        let asked = cfg!(debug_assertions) && command == Command::Signal(Signal::ALRM) && named();
        assert!(!asked, "SVTREE_DEFECT is set");
    }
}

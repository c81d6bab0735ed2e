//! The commands: one table of letter, command, long form and help line.
//!
//! Must never know where the letters come from.

use super::exit::Signal;

/// One order to a module, as a letter in its `svcontrol` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Start it if it is down, restart it when it exits.
    Up,
    /// Stop it and do not start it again.
    Down,
    /// Start it if it is down, do not restart it when it exits.
    Once,
    /// Send this signal to the program; `Stop` and `Cont` pause and continue it.
    Signal(Signal),
    /// Leave as soon as the program is down.
    Exit,
    /// Silence alarms.
    Silence,
    /// Alarms on again.
    Alarms,
    /// Read the configuration again.
    Reload,
}

/// A row of the table.
#[derive(Debug)]
pub struct Letter {
    /// The byte in the FIFO, and the letter of `svc -LETTER`.
    pub byte: u8,
    /// What it orders.
    pub command: Command,
    /// The verb: `svtree VERB NAME…`.
    pub verb: &'static str,
    /// One line for `--help` and the manual.
    pub help: &'static str,
}

/// Every letter there is; both directions and the command line are derived from it.
pub const LETTERS: [Letter; 17] = [
    row(b'u', Command::Up, "up", "start it if it is down, and restart it when it exits"),
    row(b'd', Command::Down, "down", "stop it: TERM then CONT, KILL after stop.timeout; not started again"),
    row(b'o', Command::Once, "once", "start it if it is down, and do not restart it when it exits"),
    row(b'k', Command::Signal(Signal::KILL), "kill", "send KILL to the program"),
    row(b't', Command::Signal(Signal::TERM), "term", "send TERM to the program"),
    row(b'h', Command::Signal(Signal::HUP), "hup", "send HUP to the program"),
    row(b'a', Command::Signal(Signal::ALRM), "alarm", "send ALRM to the program"),
    row(b'i', Command::Signal(Signal::INT), "interrupt", "send INT to the program"),
    row(b'q', Command::Signal(Signal::QUIT), "quit", "send QUIT to the program"),
    row(b'1', Command::Signal(Signal::USR1), "usr1", "send USR1 to the program"),
    row(b'2', Command::Signal(Signal::USR2), "usr2", "send USR2 to the program"),
    row(b'p', Command::Signal(Signal::STOP), "pause", "pause it: send STOP to the program"),
    row(b'c', Command::Signal(Signal::CONT), "cont", "continue it: send CONT to the program"),
    row(b'x', Command::Exit, "exit", "end its supervision as soon as the program is down"),
    row(b's', Command::Silence, "silence", "silence its alarms"),
    row(b'n', Command::Alarms, "alarms", "turn its alarms on again"),
    row(b'r', Command::Reload, "reload", "read its configuration again"),
];

const fn row(byte: u8, command: Command, verb: &'static str, help: &'static str) -> Letter {
    Letter { byte, command, verb, help }
}

/// What one byte of a control FIFO says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A command.
    Command(Command),
    /// White space: nothing.
    Blank,
    /// No letter of ours.
    Unknown(u8),
}

/// Reads one byte of a control FIFO.
#[must_use]
pub fn decode(byte: u8) -> Decoded {
    match LETTERS.iter().find(|letter| letter.byte == byte) {
        Some(letter) => Decoded::Command(letter.command),
        None if byte.is_ascii_whitespace() || byte == 0x0b => Decoded::Blank,
        None => Decoded::Unknown(byte),
    }
}

/// The byte that stands for a command; `None` for signals that have no letter.
#[must_use]
pub fn encode(command: Command) -> Option<u8> {
    LETTERS.iter().find(|letter| letter.command == command).map(|letter| letter.byte)
}

/// The row of a long form such as `up`.
#[must_use]
pub fn by_verb(verb: &str) -> Option<&'static Letter> {
    LETTERS.iter().find(|letter| letter.verb == verb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_round_trips_and_is_unique() {
        for letter in &LETTERS {
            assert_eq!(decode(letter.byte), Decoded::Command(letter.command));
            assert_eq!(encode(letter.command), Some(letter.byte));
            assert_eq!(by_verb(letter.verb).map(|found| found.byte), Some(letter.byte));
        }
    }

    #[test]
    fn white_space_is_nothing() {
        for byte in *b" \t\r\n\x0b\x0c" {
            assert_eq!(decode(byte), Decoded::Blank);
        }
        assert_eq!(decode(b'Z'), Decoded::Unknown(b'Z'));
        assert_eq!(decode(0), Decoded::Unknown(0));
    }
}

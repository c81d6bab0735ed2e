//! `svtree init`: hands its options to the process in front of the program.
//!
//! Must never decide what is done with a signal.

use std::ffi::OsString;

use clap::Args;

use super::out;
use crate::init::{self, Options, Rewrite};
use crate::pure::exit::Signal;

/// What `svtree init` takes.
#[derive(Args, Clone, Debug)]
#[command(after_help = AFTER)]
pub struct InitArgs {
    /// Signals go to the program's whole group; what is left of it at the end gets TERM
    #[arg(short, long)]
    group: bool,
    /// Hand a signal on as another one, or, as 0, not at all; may be given again
    #[arg(short, long = "rewrite", value_name = "FROM:TO", value_parser = rewrite)]
    rewrites: Vec<Rewrite>,
    /// Exit 0 where it would be CODE, such as 143; may be given again
    #[arg(short, long = "expect", value_name = "CODE")]
    expected: Vec<u8>,
    /// The signal that is to come here, and so to the program, when the parent of init dies
    #[arg(short, long, value_name = "SIGNAL", value_parser = signal)]
    parent_death: Option<Signal>,
    /// The program, from PATH if there is no `/` in it, and its arguments
    #[arg(value_names = ["PROGRAM", "ARG"], num_args = 1.., required = true, trailing_var_arg = true)]
    words: Vec<OsString>,
}

const AFTER: &str = "As PID 1 or anywhere else it runs the program, hands every signal on to it and reaps whatever \
    else ends. It exits with the program's code, or 128 and the signal that killed it; 100 for wrong usage, 111 where \
    the program could not be started. The program has a group of its own, and the terminal if init has it; nothing \
    else of what it inherits is changed.";

/// Runs the program to its end.
#[must_use]
pub fn run(args: InitArgs) -> u8 {
    let InitArgs { group, rewrites, expected, parent_death, words } = args;
    match init::run(Options { words, group, rewrites, expected, parent_death }) {
        Ok(code) => code,
        Err(error) => {
            out::complain("svtree", error);
            out::FAILED
        }
    }
}

fn signal(text: &str) -> Result<Signal, String> {
    Signal::parse(text).ok_or_else(|| "expected a signal, such as TERM or 15".to_owned())
}

fn rewrite(text: &str) -> Result<Rewrite, String> {
    let (from, to) = text.split_once(':').ok_or("expected two signals, such as TERM:QUIT")?;
    Ok(Rewrite { from: signal(from)?, to: if to == "0" { None } else { Some(signal(to)?) } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrites_are_two_signals_and_0_is_none() {
        let quit = Rewrite { from: Signal::TERM, to: Some(Signal::QUIT) };
        assert_eq!(rewrite("TERM:QUIT"), Ok(quit));
        assert_eq!(rewrite("15:3"), Ok(quit));
        assert_eq!(rewrite("WINCH:0"), Ok(Rewrite { from: Signal::WINCH, to: None }));
        for wrong in ["TERM", "TERM:", ":TERM", "0:TERM", "TERM:NO", "65:1", ""] {
            assert!(rewrite(wrong).is_err(), "{wrong}");
        }
    }
}

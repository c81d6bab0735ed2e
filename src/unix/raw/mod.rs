//! The only unsafe code: the clone that starts a program, threads that are as small as can be, signals by number.
//!
//! Must never decide what is started or signalled.

#![allow(unsafe_code, reason = "here alone, as the first line says")]

mod clone;
mod process;
mod signal;
mod thread;

pub use clone::{Failure, Launch, Output, Started, Strings, start};
pub use process::{give_way, prepare_process, umask};
pub use signal::{kill, kill_by_pidfd, peek_own_thread};
pub use thread::{Thread, trim_stack};

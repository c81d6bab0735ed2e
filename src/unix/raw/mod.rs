//! The only unsafe code: the clone that starts a program, threads that are as small as can be, signals by number.
//!
//! Must never decide what is started or signalled.

#![allow(unsafe_code, reason = "here alone, as the first line says")]

mod child;
mod clone;
mod front;
mod handed;
mod limits;
mod mounts;
mod notify;
mod process;
mod rights;
mod signal;
mod streams;
mod thread;

pub use child::{ENTERING_DIRECTORY, ENTERING_ROOT};
pub use clone::{Confinement, Failure, Launch, Started, Strings, can_be_born_in, start};
pub use front::{
    Inherited, detach, die_of, hold_signals, kill_everybody, kill_group, next_signal, next_signal_of, raise,
    start_behind,
};
pub use handed::{Descriptors, close_all, survives_exec, take_variable};
pub use limits::Limits;
pub use mounts::Mounts;
pub use notify::{Received, pass_credentials, receive};
pub use process::{
    OpenFiles, give_way, give_way_no_more, open_files, prepare_process, prepare_process_again, prepare_process_alone,
    prepare_process_in_front, trim_code, umask,
};
pub use rights::Rights;
pub use signal::{cgroup_of, exit_status, kill, kill_by_pidfd, peek_own_thread};
pub use streams::{Fifo, OPENING_INPUT, OPENING_OUTPUT, Output};
pub use thread::{Thread, are_few, leave_stacks, trim_stack};

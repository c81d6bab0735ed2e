//! The thin files: each wraps one facility of the kernel and decides nothing.

pub mod accounts;
pub mod adopt;
pub mod cgroup;
pub mod client;
pub mod clock;
pub mod environment;
pub mod executable;
pub mod handover;
pub mod holder;
pub mod home;
pub mod inbox;
pub mod listener;
pub mod log;
pub mod mark;
pub mod pidfd;
pub mod pipe;
pub mod prints;
pub mod probe;
pub mod raw;
pub mod remains;
pub mod report;
pub mod scan;
pub mod signals;
pub mod spawn;
pub mod ward;
pub mod watch;

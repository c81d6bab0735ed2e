//! What writes logs: one for a `log/run`, and the one of the tree.
//!
//! A logger is a process of its own, and may be killed at any moment: nothing that a program wrote is lost, and nothing is
//! written twice. Must never know how a program is supervised.

pub mod alone;
mod echo;
mod feed;
mod relief;
mod tap;
pub mod tree;
mod worker;

//! Several machines and the tree that steers them, joined by queues as the threads and the parent are: whatever is told
//! keeps its order and may come late. An adversary lets programs die, be ready or not start, writes letters, takes
//! threads and whole svtrees away, edits what is asked for, and lets time pass.
//!
//! Small scenes are walked whole, breadth first (`walk.rs`); trees as they come are run through at random (`random.rs`).
//! What must hold is in `rules.rs`, by a reading of what is asked for that shares no code with `src/pure/tree` (`law.rs`).
//!
//! That it bites was seen with faults put into `src/pure` by hand, each of which is found: a word that counts as heard
//! before it was (`Member::is_stopped` without the number); a start that is free for ever (`use_up` does nothing); an
//! earlier death that is no part of a restart (no `min` of `from`); groups that do not go on (no `settle`); a module that
//! is held and does not fail when it is told to.

#![expect(clippy::panic, reason = "a fault is reported by the walk, which is no test by itself")]

mod law;
mod random;
mod rules;
mod walk;
mod world;

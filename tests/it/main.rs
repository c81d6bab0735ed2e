//! The black-box suite: the real executable, in real directories, seen only from outside.
//!
//! Every test builds a [`harness::Tree`] in a directory of its own, drops service directories into it, and then reads
//! what an operator could read: the files of the status directories, exit codes, lines, `/proc`. The suite shares no
//! code with the program: it decodes `status` and `state.json` itself, so that a mistake in an encoding cannot hide
//! behind its own decoder.
//!
//! How it is built:
//!
//! - One file a topic, one test a promise; the name of a test is the promise as a sentence.
//! - Nothing sleeps and hopes. [`harness::eventually`] waits for a condition with a deadline, [`harness::stays`] watches
//!   that a condition holds; between them they own the only `sleep`.
//! - A test that leaves a process behind fails: every tree marks the environment of all that it starts, and when it is
//!   dropped it stops svtree and looks through `/proc` for the mark.
//! - Everything runs in parallel, as root and as a plain user. What a machine cannot do is skipped with a line that says
//!   why; a program that is not installed is a failure where `CI` or `SVTREE_REQUIRE_PROGRAMS` is set.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::panic,
    reason = "an outsider reads clocks, starts programs, prints and fails; the rules are for the supervisor"
)]

mod alarms;
mod alarms_sent;
mod alone_alarms;
mod alone_command;
mod alone_conf;
mod alone_detached;
mod alone_ends;
mod alone_files;
mod alone_front;
mod alone_letters;
mod alone_script;
mod apply;
mod aside;
mod changes;
mod chaos_found;
mod child;
mod clients;
mod config;
mod crash;
mod crowd;
mod daemons;
mod dropin;
mod enable;
mod examples;
mod family;
mod faults_control;
mod faults_files;
mod faults_lifecycle;
mod faults_resources;
mod faults_scan;
mod faults_security;
mod faults_status;
mod finish;
mod forest;
mod forking;
mod groups;
mod harness;
mod health;
mod identity;
mod init;
mod instances;
mod keeper;
mod letters;
mod limits;
mod log_read;
mod log_run;
mod log_run_clients;
mod log_run_family;
mod log_run_faults;
mod log_sizes;
mod log_slow;
mod log_tree;
mod log_writer;
mod needs;
mod notify;
mod panics;
mod parent;
mod peers;
mod pid1;
mod plan;
mod programs;
mod ready;
mod restart;
mod retire;
mod sandbox;
mod status_files;
mod stop;
mod strategies;
mod supervise_conf;
mod survives;
mod tree_ends;
mod tree_shown;
mod try_one;
mod upgrade;
mod why;

//! The pure core: given the time, the state and one event, it says what to do.
//!
//! Nothing here may read a clock, open a file, start a thread or name the operating system's
//! interface; time and facts come in as arguments, orders go out as values.

pub mod accounts;
pub mod alarm;
pub mod alone;
pub mod command;
pub mod config;
pub mod drawing;
pub mod exit;
pub mod family;
pub mod group_record;
pub mod handover;
pub mod http;
pub mod instances;
pub mod log;
pub mod machine;
pub mod manifest;
pub mod name;
pub mod notice;
pub mod plan;
pub mod reconcile;
pub mod restart;
pub mod sd_notify;
pub mod settle;
pub mod size;
pub mod standing;
pub mod state;
pub mod status;
pub mod supervise_conf;
pub mod time;
pub mod tree;
pub mod vitals;
pub mod why;

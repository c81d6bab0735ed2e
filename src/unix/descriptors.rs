//! Room in the table of descriptors, made before it is needed.
//!
//! The kernel doubles the table of a process when it is full. Where several threads share it, whoever needs the room, and
//! everybody after him, then stands still for a grace period of RCU: 5 to 20 ms, as long as it takes to start fifty programs.
//! Must never keep anybody waiting who has something to do.

use std::thread::Builder;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::fcntl_dupfd_cloexec;

/// The least there is room for, 8 KiB of the kernel's: small trees never wait.
const LEAST: u64 = 1024;

/// The table of this process.
#[derive(Debug)]
pub struct Table {
    room: u64,
}

impl Table {
    /// With room for so many: to be called by a thread that is the only one, for whom that takes no time.
    #[must_use]
    pub fn new(needed: u64) -> Table {
        let room = needed.max(LEAST).next_power_of_two();
        make_room(room);
        Table { room }
    }

    /// That so many are needed, sooner or later: where a quarter more would not fit, there is soon room for twice as many.
    pub fn expect(&mut self, needed: u64) {
        if needed + needed / 4 <= self.room {
            return;
        }
        let room = (needed * 2).next_power_of_two();
        // Without another thread whoever needs it makes it.
        if Builder::new().name("table".to_owned()).stack_size(64 * 1024).spawn(move || make_room(room)).is_ok() {
            self.room = room;
        }
    }
}

/// The table grows so that there is a last one of so many; where the limit is below that, it is as large as it may get.
fn make_room(count: u64) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let last = i32::try_from(count.min(limit).saturating_sub(1)).unwrap_or(i32::MAX);
    // It is closed again at once; the table stays as large as it was.
    let _ = eventfd(0, EventfdFlags::CLOEXEC).and_then(|any| fcntl_dupfd_cloexec(any, last));
}

//! The mark that a child leaves of itself in `status/NAME/.spawned`. Must never touch a file.

use crate::pure::exit::Pid;
use crate::pure::reconcile::Id;
use crate::pure::status::Want;

/// The mark that a child writes before it becomes the program: should svtree die between the clone and the record of
/// it, its successor finds the program by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark([u8; MARK]);

/// In bytes: the boot id as text; the pid; `CLOCK_BOOTTIME` before the clone and after it in nanoseconds; device and
/// inode of the service directory; what was wanted, as the letter of a record; the number of the instance, which those
/// lack that older versions wrote. Numbers in the byte order of the machine.
const MARK: usize = OLDER + 4;
const OLDER: usize = 36 + 4 + 8 + 8 + 8 + 8 + 1;

/// What a mark says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// The boot that the times and the pid are of.
    pub boot_id: String,
    /// The child.
    pub pid: Pid,
    /// `CLOCK_BOOTTIME` before its clone and after it, in nanoseconds.
    pub started: [u64; 2],
    /// The service directory.
    pub id: Id,
    /// What was wanted when it was started.
    pub want: Want,
}

impl Mark {
    /// A mark that lacks what only the child knows.
    #[must_use]
    pub fn new(boot_id: &str, id: Id, want: Want) -> Mark {
        let mut bytes = [0; MARK];
        for (to, from) in bytes.iter_mut().zip(boot_id.as_bytes().iter().take(36)) {
            *to = *from;
        }
        bytes[56..64].copy_from_slice(&id.device.to_ne_bytes());
        bytes[64..72].copy_from_slice(&id.inode.to_ne_bytes());
        bytes[72] = want.byte();
        bytes[OLDER..].copy_from_slice(&id.instance.to_ne_bytes());
        Mark(bytes)
    }

    /// What is written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads what a child wrote.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Marked> {
        let instance = match bytes.get(OLDER..)? {
            [] => 0,
            number => u32::from_ne_bytes(number.try_into().ok()?),
        };
        let number = |from: usize| Some(u64::from_ne_bytes(bytes.get(from..from + 8)?.try_into().ok()?));
        Some(Marked {
            boot_id: std::str::from_utf8(&bytes[..36]).ok()?.to_owned(),
            pid: Pid::new(i32::from_ne_bytes(bytes[36..40].try_into().ok()?))?,
            started: [number(40)?, number(48)?],
            id: Id { device: number(56)?, inode: number(64)?, instance },
            want: Want::from_byte(bytes[72])?,
        })
    }

    /// Adds what only the child knows. No allocation, no panic: it is fit for a child.
    pub fn set(&mut self, pid: i32, before: u64, after: u64) {
        self.0[36..40].copy_from_slice(&pid.to_ne_bytes());
        self.0[40..48].copy_from_slice(&before.to_ne_bytes());
        self.0[48..56].copy_from_slice(&after.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let boot_id = "0123456789abcdef0123456789abcdef0123";
        let id = Id::of(3, 4).instance(5);
        let mut mark = Mark::new(boot_id, id, Want::Once);
        assert_eq!(Mark::read(&mark.0), None);
        mark.set(7, 1, 2);
        let pid = Pid::new(7).expect("positive");
        let marked = Marked { boot_id: boot_id.to_owned(), pid, started: [1, 2], id, want: Want::Once };
        assert_eq!(Mark::read(&mark.0), Some(marked.clone()));
        assert_eq!(Mark::read(&mark.0[..OLDER]), Some(Marked { id: Id::of(3, 4), ..marked }));
        assert_eq!(Mark::read(&mark.0[1..]), None);
    }
}

//! The mark that a child leaves of itself in `status/NAME/.spawned`. Must never touch a file.

use crate::pure::exit::Pid;
use crate::pure::status::Want;

/// The mark that a child writes before it becomes the program: should svtree die between the clone and the record of
/// it, its successor finds the program by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark([u8; MARK]);

/// In bytes: the boot id as text; the pid; `CLOCK_BOOTTIME` before the clone and after it in nanoseconds; device and
/// inode of the service directory; what was wanted, as the letter of a record. Numbers in the byte order of the machine.
const MARK: usize = 36 + 4 + 8 + 8 + 8 + 8 + 1;

/// What a mark says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// The boot that the times and the pid are of.
    pub boot_id: String,
    /// The child.
    pub pid: Pid,
    /// `CLOCK_BOOTTIME` before its clone and after it, in nanoseconds.
    pub started: [u64; 2],
    /// Device and inode of the service directory.
    pub directory: [u64; 2],
    /// What was wanted when it was started.
    pub want: Want,
}

impl Mark {
    /// A mark that lacks what only the child knows.
    #[must_use]
    pub fn new(boot_id: &str, directory: [u64; 2], want: Want) -> Mark {
        let mut bytes = [0; MARK];
        for (to, from) in bytes.iter_mut().zip(boot_id.as_bytes().iter().take(36)) {
            *to = *from;
        }
        bytes[56..64].copy_from_slice(&directory[0].to_ne_bytes());
        bytes[64..72].copy_from_slice(&directory[1].to_ne_bytes());
        bytes[72] = want.byte();
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
        let bytes: &[u8; MARK] = bytes.try_into().ok()?;
        let number = |from: usize| Some(u64::from_ne_bytes(bytes.get(from..from + 8)?.try_into().ok()?));
        Some(Marked {
            boot_id: std::str::from_utf8(&bytes[..36]).ok()?.to_owned(),
            pid: Pid::new(i32::from_ne_bytes(bytes[36..40].try_into().ok()?))?,
            started: [number(40)?, number(48)?],
            directory: [number(56)?, number(64)?],
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
        let mut mark = Mark::new(boot_id, [3, 4], Want::Once);
        assert_eq!(Mark::read(&mark.0), None);
        mark.set(7, 1, 2);
        let pid = Pid::new(7).expect("positive");
        let marked = Marked { boot_id: boot_id.to_owned(), pid, started: [1, 2], directory: [3, 4], want: Want::Once };
        assert_eq!(Mark::read(&mark.0), Some(marked));
        assert_eq!(Mark::read(&mark.0[1..]), None);
    }
}

//! The mark that a child leaves of itself in `status/NAME/.spawned`. Must never touch a file.

use crate::pure::exit::Pid;

/// The mark that a child writes before it becomes the program: should svtree die between the clone and the record of
/// it, its successor finds the program by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark([u8; MARK]);

/// In bytes: the boot id as text, the pid, and `CLOCK_BOOTTIME` before the clone and after it in nanoseconds, all in
/// the byte order of the machine.
const MARK: usize = 36 + 4 + 8 + 8;

impl Mark {
    /// A mark that lacks what only the child knows.
    #[must_use]
    pub fn new(boot_id: &str) -> Mark {
        let mut bytes = [0; MARK];
        for (to, from) in bytes.iter_mut().zip(boot_id.as_bytes().iter().take(36)) {
            *to = *from;
        }
        Mark(bytes)
    }

    /// What is written.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Boot id, pid, and the two times, of bytes that a child wrote.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<(String, Pid, [u64; 2])> {
        let bytes: &[u8; MARK] = bytes.try_into().ok()?;
        let boot_id = std::str::from_utf8(&bytes[..36]).ok()?.to_owned();
        let pid = Pid::new(i32::from_ne_bytes(bytes[36..40].try_into().ok()?))?;
        let before = u64::from_ne_bytes(bytes[40..48].try_into().ok()?);
        let after = u64::from_ne_bytes(bytes[48..].try_into().ok()?);
        Some((boot_id, pid, [before, after]))
    }

    /// Adds what only the child knows. No allocation, no panic: it is fit for a child.
    pub fn set(&mut self, pid: i32, before: u64, after: u64) {
        self.0[36..40].copy_from_slice(&pid.to_ne_bytes());
        self.0[40..48].copy_from_slice(&before.to_ne_bytes());
        self.0[48..].copy_from_slice(&after.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let boot_id = "0123456789abcdef0123456789abcdef0123";
        let mut mark = Mark::new(boot_id);
        assert_eq!(Mark::read(&mark.0), None);
        mark.set(7, 1, 2);
        assert_eq!(Mark::read(&mark.0), Some((boot_id.to_owned(), Pid::new(7).expect("positive"), [1, 2])));
        assert_eq!(Mark::read(&mark.0[1..]), None);
    }
}

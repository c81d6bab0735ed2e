//! Bytes as a file that is nowhere but in memory, and that nobody can change any more.
//!
//! Must never know what the bytes say.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// Nobody else can have changed what is sealed so.
pub const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// A file of these bytes, to be read from its beginning.
///
/// # Errors
/// There is no memory, or no descriptor.
pub fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match rustix::fs::memfd_create("svtree", flags | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3; since then a machine may allow no other.
        Err(Errno::INVAL) => rustix::fs::memfd_create("svtree", flags)?,
        memory => memory?,
    };
    let mut file = File::from(memory);
    file.write_all(bytes)?;
    file.rewind()?;
    rustix::fs::fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn what_is_sealed_is_read_from_its_beginning_and_cannot_be_changed() {
        let mut file = File::from(sealed(b"bytes").expect("memory"));
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read");
        assert_eq!(text, "bytes");
        assert!(file.write_all(b"more").is_err());
        assert!(file.set_len(0).is_err());
    }
}

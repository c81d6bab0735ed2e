//! Handing down: bytes and descriptors, from this program to the one that is executed in its place.
//!
//! Must never know what the bytes say, and never leave a descriptor open for any other program.

use std::convert::Infallible;
use std::ffi::CString;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::raw::{self, Descriptors};

/// The variable that says which descriptor the bytes are in; it is gone before anything is started.
const VARIABLE: &str = "SVTREE_HANDED_DOWN";

/// Nobody else can have changed what is sealed so.
const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// Executes another program in the place of this one, with the same arguments and environment, and with these descriptors
/// open. Returns only if that cannot be; nothing has changed then. No other thread may start a program meanwhile.
#[must_use]
pub fn exec(executable: &Path, bytes: &[u8], descriptors: &[RawFd]) -> io::Error {
    let survive = |survives: bool| {
        // One that is not open is found by whoever is to take it.
        descriptors.iter().for_each(|number| drop(raw::survives_exec(*number, survives)));
    };
    let result = sealed(bytes).and_then(|memory| {
        survive(true);
        replace(executable, &memory)
    });
    survive(false);
    match result {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

fn replace(executable: &Path, memory: &OwnedFd) -> io::Result<Infallible> {
    let executable = CString::new(executable.as_os_str().as_bytes())?;
    let arguments = std::env::args_os().map(|word| CString::new(word.into_vec())).collect::<Result<Vec<_>, _>>()?;
    let mut environment = std::env::vars_os()
        .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<Result<Vec<_>, _>>()?;
    environment.push(CString::new(format!("{VARIABLE}={}", memory.as_raw_fd()))?);
    raw::survives_exec(memory.as_raw_fd(), true)?;
    Ok(nix::unistd::execve(&executable, &arguments, &environment)?)
}

/// Memory that nobody can change any more.
fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match rustix::fs::memfd_create("svtree", flags | MemfdFlags::NOEXEC_SEAL) {
        // Before Linux 6.3; since then a machine may allow no other.
        Err(Errno::INVAL) => rustix::fs::memfd_create("svtree", flags)?,
        memory => memory?,
    };
    let mut file = std::fs::File::from(memory);
    file.write_all(bytes)?;
    rustix::fs::fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}

/// The bytes that were handed down to this program; `None` if it was started in any other way. To be called once, by the
/// only thread, before anything is opened.
#[must_use]
pub fn received() -> Option<Vec<u8>> {
    let number: RawFd = raw::take_variable(VARIABLE)?.to_str()?.parse().ok()?;
    let memory = Descriptors::own([number]).ok()?.take(number)?;
    // Somebody else's variable names nothing that is sealed.
    if !rustix::fs::fcntl_get_seals(&memory).is_ok_and(|seals| seals.contains(SEALS)) {
        return None;
    }
    let mut file = std::fs::File::from(memory);
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_cannot_be_changed() {
        let mut file = std::fs::File::from(sealed(b"bytes").expect("memory"));
        assert!(file.write_all(b"more").is_err());
        assert!(file.set_len(0).is_err());
        let mut text = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut text)).expect("read");
        assert_eq!(text, "bytes");
    }

    #[test]
    fn an_exec_that_fails_changes_nothing() {
        let file = std::fs::File::open("/").expect("the root");
        let error = exec(Path::new("/nowhere/svtree"), b"{}", &[file.as_raw_fd()]);
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        let flags = rustix::io::fcntl_getfd(&file).expect("its flags");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
}

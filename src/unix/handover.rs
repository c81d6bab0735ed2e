//! Handing down: bytes and descriptors, from this program to the one that is executed in its place.
//!
//! Must never know what the bytes say, and never leave a descriptor open for any other program.

use std::convert::Infallible;
use std::ffi::CString;
use std::io::{self, Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::memory::{SEALS, sealed};
use super::raw::{self, Descriptors};

/// The variable that says which descriptor the bytes are in; it is gone before anything is started.
const VARIABLE: &str = "SVTREE_HANDED_DOWN";

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
    fn an_exec_that_fails_changes_nothing() {
        let file = std::fs::File::open("/").expect("the root");
        let error = exec(Path::new("/nowhere/svtree"), b"{}", &[file.as_raw_fd()]);
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        let flags = rustix::io::fcntl_getfd(&file).expect("its flags");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
}

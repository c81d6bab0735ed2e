//! What outlives an exec: descriptors, which are kept open over it and owned anew after it, and how they are told of.
//!
//! Must never be asked for a descriptor that another part of the process owns.

use std::collections::BTreeMap;
use std::ffi::{OsString, c_int};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Says whether a descriptor stays open over an exec; it belongs to somebody who does not let go of it meanwhile.
///
/// # Errors
/// It is not open.
pub fn survives_exec(number: RawFd, survives: bool) -> io::Result<()> {
    let flags = if survives { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: takes numbers; nothing but the flag of the descriptor changes.
    super::signal::check(unsafe { libc::fcntl(number, libc::F_SETFD, flags) })
}

/// Descriptors that were open when this program was executed, until somebody takes them; what nobody takes is closed.
#[derive(Debug, Default)]
pub struct Descriptors(BTreeMap<RawFd, OwnedFd>);

impl Descriptors {
    /// Takes possession, and closes them on the next exec. To be called before anything else is opened: what is open then
    /// belongs to nobody yet.
    ///
    /// # Errors
    /// One is not open, is named twice, or is a standard stream; all others are closed then.
    pub fn own(numbers: impl IntoIterator<Item = RawFd>) -> io::Result<Descriptors> {
        let mut owned = BTreeMap::new();
        for number in numbers {
            if number <= libc::STDERR_FILENO || owned.contains_key(&number) {
                return Err(io::Error::from_raw_os_error(libc::EBADF));
            }
            survives_exec(number, false)?;
            // SAFETY: it is open, as the call before has shown, and nobody else owns it: it was open before this program
            // began, and is taken here for the first time.
            owned.insert(number, unsafe { OwnedFd::from_raw_fd(number) });
        }
        Ok(Descriptors(owned))
    }

    /// Hands one out.
    pub fn take(&mut self, number: RawFd) -> Option<OwnedFd> {
        self.0.remove(&number)
    }

    /// Hands one out if there is to be one; `None` if that is missing.
    pub fn take_any(&mut self, number: Option<RawFd>) -> Option<Option<OwnedFd>> {
        number.map_or(Some(None), |number| self.take(number).map(Some))
    }
}

/// Closes all but the standard streams. To be called before anything is opened: what is open then belongs to nobody.
pub fn close_all() {
    let first = libc::STDERR_FILENO + 1;
    // SAFETY: takes numbers. Nothing here owns a descriptor yet.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) < 0 {
            // Before Linux 5.9.
            for number in first..=c_int::try_from(libc::sysconf(libc::_SC_OPEN_MAX)).unwrap_or(0) {
                libc::close(number);
            }
        }
    }
}

/// Takes a variable out of the environment, so that nothing that is started inherits it. To be called while there is only
/// one thread.
#[must_use]
pub fn take_variable(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name)?;
    #[expect(clippy::disallowed_methods, reason = "it is ours, and there is one thread")]
    // SAFETY: there is no other thread that could read the environment.
    unsafe {
        std::env::remove_var(name);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    fn opened() -> RawFd {
        std::fs::File::open("/").expect("the root").into_raw_fd()
    }

    #[test]
    fn each_is_owned_once() {
        let (one, other) = (opened(), opened());
        let mut owned = Descriptors::own([one, other]).expect("open");
        assert!(owned.take(one).is_some());
        assert!(owned.take(one).is_none());
        assert!(owned.take(other).is_some());
    }

    #[test]
    fn standard_streams_and_what_is_not_open_are_nobodys() {
        assert!(Descriptors::own([0]).is_err());
        assert!(Descriptors::own([-1]).is_err());
        assert!(Descriptors::own([RawFd::MAX]).is_err());
        let one = opened();
        assert!(Descriptors::own([one, one]).is_err());
    }
}

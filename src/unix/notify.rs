//! The socket on which a module's programs speak the protocol of `sd_notify(3)`: its place, and who sends.
//!
//! Must never heed what is said.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode, chmodat, fstat, renameat, statat};

use super::home::file;
use super::raw;
pub use super::raw::Received;
use crate::pure::exit::Signal;
use crate::pure::sd_notify::LONGEST;

/// `sockaddr_un` has room for so many bytes and a NUL.
const LONGEST_PATH: usize = 107;

/// A socket that is bound.
#[derive(Debug)]
pub struct Socket {
    bound: OwnedFd,
    /// What programs are told in `NOTIFY_SOCKET`.
    address: String,
    /// Which file it is, unless its name is an abstract one.
    file: Option<(u64, u64)>,
}

impl Socket {
    /// Binds it in a status directory, in the place of one that stands there. Where the path is too long for a socket, or
    /// may be `hidden` from the program, its name is an abstract one, by the number of the directory; so it is the same
    /// under every svtree.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn bind(home: BorrowedFd<'_>, hidden: bool) -> io::Result<Socket> {
        let own = PathBuf::from(format!("/proc/self/fd/{}", home.as_raw_fd()));
        let path = std::fs::read_link(&own)?.join(file::NOTIFY);
        Ok(match path.to_str().filter(|path| !hidden && path.len() <= LONGEST_PATH) {
            Some(path) => {
                let new = format!("{}.new", file::NOTIFY);
                // Whatever stands there is one that never got its name.
                let _ = rustix::fs::unlinkat(home, &new, AtFlags::empty());
                let socket = UnixDatagram::bind(own.join(&new))?;
                // Before anybody can find it: what is sent before that names nobody.
                raw::pass_credentials(socket.as_fd())?;
                // Programs that drop their privileges speak after that; who does is seen by what the kernel says. A plain
                // user's programs have that user.
                let mode = if rustix::process::geteuid().is_root() { 0o666 } else { 0o600 };
                chmodat(home, &new, Mode::from_raw_mode(mode), AtFlags::empty())?;
                renameat(home, &new, home, file::NOTIFY)?;
                let stat = statat(home, file::NOTIFY, AtFlags::SYMLINK_NOFOLLOW)?;
                Socket { bound: socket.into(), address: path.to_owned(), file: Some((stat.st_dev, stat.st_ino)) }
            }
            None => {
                let stat = fstat(home)?;
                let name = format!("svtree-notify-{}-{}", stat.st_dev, stat.st_ino);
                let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes())?)?;
                raw::pass_credentials(socket.as_fd())?;
                Socket { bound: socket.into(), address: format!("@{name}"), file: None }
            }
        })
    }

    /// The socket of a predecessor, which was bound in this status directory.
    ///
    /// # Errors
    /// It is none.
    pub fn handed_down(home: BorrowedFd<'_>, socket: OwnedFd) -> io::Result<Socket> {
        let socket = UnixDatagram::from(socket);
        let address = match socket.local_addr()?.as_abstract_name() {
            Some(name) => format!("@{}", String::from_utf8_lossy(name)),
            None => {
                let own = PathBuf::from(format!("/proc/self/fd/{}", home.as_raw_fd()));
                let path = std::fs::read_link(own)?.join(file::NOTIFY);
                String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned()
            }
        };
        let stat = statat(home, file::NOTIFY, AtFlags::SYMLINK_NOFOLLOW).ok();
        let file = stat.filter(|_| !address.starts_with('@')).map(|stat| (stat.st_dev, stat.st_ino));
        Ok(Socket { bound: socket.into(), address, file })
    }

    /// What programs are told.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether programs still find it under its name.
    #[must_use]
    pub fn stands(&self, home: BorrowedFd<'_>) -> bool {
        let Some(file) = self.file else { return true };
        statat(home, file::NOTIFY, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::Socket && (stat.st_dev, stat.st_ino) == file
        })
    }

    /// The next datagram, if there is one.
    #[must_use]
    pub fn receive(&self, buffer: &mut [u8; LONGEST]) -> Option<Received> {
        raw::receive(self.bound.as_fd(), buffer).ok()
    }

    /// Its number, for the next svtree.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.bound.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bound.as_fd()
    }
}

/// Whether the process of a pidfd has not been collected yet: so its pid is no other's.
#[must_use]
pub fn is_held(pidfd: BorrowedFd<'_>) -> bool {
    // Signal 0 only asks.
    !raw::kill_by_pidfd(pidfd, Signal(0)).is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH))
}

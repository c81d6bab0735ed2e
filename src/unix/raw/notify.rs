//! Datagrams with what the kernel says of their senders, and with the descriptors that come along.
//!
//! Must never lose a descriptor: each that comes is owned, and closed by whoever drops it.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use super::signal::check;
use crate::pure::exit::Pid;

/// A datagram that was received.
#[derive(Debug)]
pub struct Received {
    /// How many bytes it has.
    pub length: usize,
    /// Whether it had no more than that.
    pub is_whole: bool,
    /// Who sent it; `None` from outside of our namespace of processes.
    pub pid: Option<Pid>,
    /// The same process, held; `None` before Linux 6.5.
    pub pidfd: Option<OwnedFd>,
    /// What came with it.
    pub descriptors: Vec<OwnedFd>,
}

/// Of `asm-generic/socket.h` and `linux/socket.h`, since Linux 6.5.
const SO_PASSPIDFD: libc::c_int = 76;
const SCM_PIDFD: libc::c_int = 4;

/// In words: room for the 253 descriptors that the kernel passes on at most, for the credentials, and for a pidfd.
const CONTROL: usize = 160;

/// Asks the kernel to say who sends.
///
/// # Errors
/// As `setsockopt`.
pub fn pass_credentials(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    // SAFETY: each call reads one number.
    unsafe {
        let number = socket.as_raw_fd();
        // Older kernels have no such option, and then the pid alone has to do.
        libc::setsockopt(number, libc::SOL_SOCKET, SO_PASSPIDFD, (&raw const on).cast(), size);
        check(libc::setsockopt(number, libc::SOL_SOCKET, libc::SO_PASSCRED, (&raw const on).cast(), size))
    }
}

/// Takes the next datagram, without waiting.
///
/// # Errors
/// As `recvmsg`; `WouldBlock` when there is none.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = vec![0u64; CONTROL];
    let mut received = Received { length: 0, is_whole: false, pid: None, pidfd: None, descriptors: Vec::new() };
    // SAFETY: `recvmsg` writes within the two buffers, whose sizes it is told, and to the header. The macros go from one
    // control message to the next within what the kernel has written, and the data of each is as long as it says; it is
    // read without regard to its alignment. A descriptor that comes is new, and nobody else's.
    unsafe {
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut header: libc::msghdr = zeroed();
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = control.len() * size_of::<u64>();
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        let length = libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags);
        received.length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        received.is_whole = header.msg_flags & libc::MSG_TRUNC == 0;
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            let start = data.addr() - message.addr();
            let size = (*message).cmsg_len.saturating_sub(start);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if size >= size_of::<libc::ucred>() => {
                    received.pid = Pid::new(ptr::read_unaligned(data.cast::<libc::ucred>()).pid);
                }
                (libc::SOL_SOCKET, libc::SCM_RIGHTS | SCM_PIDFD) => {
                    let is_pidfd = (*message).cmsg_type == SCM_PIDFD;
                    for index in 0..size / size_of::<libc::c_int>() {
                        let number =
                            ptr::read_unaligned(data.add(index * size_of::<libc::c_int>()).cast::<libc::c_int>());
                        match number {
                            ..0 => {}
                            _ if is_pidfd => received.pidfd = Some(OwnedFd::from_raw_fd(number)),
                            _ => received.descriptors.push(OwnedFd::from_raw_fd(number)),
                        }
                    }
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn the_kernel_says_who_sends() {
        let (one, other) = UnixDatagram::pair().expect("a pair");
        pass_credentials(one.as_fd()).expect("asked");
        other.send(b"hello").expect("sent");
        other.send(b"").expect("sent");
        other.send(&[b'x'; 20]).expect("sent");
        let mut buffer = [0; 10];
        let received = receive(one.as_fd(), &mut buffer).expect("received");
        assert_eq!((&buffer[..received.length], received.is_whole), (&b"hello"[..], true));
        assert_eq!(received.pid.map(Pid::get), i32::try_from(std::process::id()).ok());
        assert!(received.descriptors.is_empty());
        assert_eq!(receive(one.as_fd(), &mut buffer).expect("received").length, 0);
        assert!(!receive(one.as_fd(), &mut buffer).expect("received").is_whole);
        let none = receive(one.as_fd(), &mut buffer).expect_err("no more");
        assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
    }
}

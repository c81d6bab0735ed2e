//! Pipes: made, measured, looked into, filled by a thread.
//!
//! Must never decide what is done with what is in one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::Builder;
use std::time::Duration;

use rustix::event::{Timespec, poll};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, tee};

/// Makes a pipe larger where that is allowed, so that a burst does not hold up who writes into it; says how large it is.
#[must_use]
pub fn enlarge(pipe: BorrowedFd<'_>, size: usize) -> usize {
    let _ = fcntl_setpipe_size(pipe, size);
    self::size(pipe)
}

/// How much a pipe holds.
#[must_use]
pub fn size(pipe: BorrowedFd<'_>) -> usize {
    fcntl_getpipe_size(pipe).unwrap_or(64 * 1024)
}

/// Lets who writes go on for so long.
pub fn pause(time: Duration) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
    let _ = poll(&mut [], Some(&timeout));
}

/// What is at the head of a pipe, at most so many bytes; it stays there.
///
/// # Errors
/// There is no descriptor or no memory for another pipe.
pub fn peek(pipe: BorrowedFd<'_>, most: usize) -> io::Result<Vec<u8>> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let mut bytes = vec![0; most];
    let copied = match tee(pipe, &writer, most, SpliceFlags::NONBLOCK) {
        Ok(copied) => copied,
        Err(rustix::io::Errno::AGAIN) => 0,
        Err(errno) => return Err(errno.into()),
    };
    let count = if copied > 0 { rustix::io::read(&reader, &mut bytes)? } else { 0 };
    bytes.truncate(count);
    Ok(bytes)
}

/// A pipe into which a thread writes what `from` has, to its end.
///
/// # Errors
/// There is no pipe or no thread.
pub fn fed_by(from: OwnedFd) -> io::Result<OwnedFd> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Builder::new().name("pump".to_owned()).stack_size(256 * 1024).spawn(move || {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = rustix::io::retry_on_intr(|| rustix::io::read(from.as_fd(), &mut bytes)) {
            let mut rest = &bytes[..count];
            while !rest.is_empty() {
                match rustix::io::retry_on_intr(|| rustix::io::write(&writer, rest)) {
                    Ok(written) => rest = &rest[written..],
                    Err(_) => return,
                }
            }
        }
    })?;
    Ok(reader)
}

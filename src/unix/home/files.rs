//! Files that others may damage or fight for: how each is locked, made, replaced, and its place cleared.
//!
//! Must never know which files there are, nor what they say.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, RawDir, SeekFrom, Stat, fchmod, fchown, flock, fstat,
    ftruncate, linkat, mkfifoat, openat, renameat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::NotOpened;
use crate::pure::exit::Pid;
use crate::pure::name::ModuleName;
use crate::unix::{clock, raw};

/// How long a lock that is held is tried for.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_millis(200);

/// How a directory is opened that files are to be made in.
pub(super) const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

/// A file that is to replace another has this behind the name of that one until it does.
pub(super) const NEW: &str = ".new";

/// Makes `root/group/module`, each 0755 whatever the umask; replaces what is no directory. Says whether the last one was not
/// there.
pub(super) fn make_directories(root: &Path, name: &ModuleName) -> io::Result<bool> {
    let mut path = root.to_path_buf();
    let mut is_new = false;
    for component in name.components() {
        path.push(OsStr::from_bytes(component));
        is_new = true;
        match fs::DirBuilder::new().mode(0o755).create(&path) {
            Ok(()) if raw::umask() & 0o755 != 0 => fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?,
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                is_new = false;
                if !fs::symlink_metadata(&path)?.is_dir() {
                    if path.parent().is_some_and(|home| home.join(super::file::LOCK).exists()) {
                        return Err(io::Error::other("its group is a module that is not gone yet"));
                    }
                    fs::remove_file(&path)?;
                    fs::DirBuilder::new().mode(0o755).create(&path)?;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(is_new)
}

/// Opens and locks a lock file. `home` is where it is, for messages.
pub(in crate::unix) fn lock(
    at: BorrowedFd<'_>,
    name: &Path,
    home: &Path,
    patience: Duration,
) -> Result<OwnedFd, NotOpened> {
    let failed = |error: io::Error| NotOpened::Failed(home.join(name), error);
    let until = clock::moment().plus(patience);
    loop {
        let file = match openat(
            at,
            name,
            OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK,
            Mode::from_raw_mode(0o600),
        ) {
            Ok(file) => file,
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                discard(at, name).map_err(failed)?;
                continue;
            }
            Err(errno) => return Err(failed(errno.into())),
        };
        let stat = fstat(&file).map_err(|errno| failed(errno.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            discard(at, name).map_err(failed)?;
            continue;
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // The name may have been given to another file between the two calls.
            Ok(()) if is_at(at, name, &stat) => return Ok(file),
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let left = until.since(clock::moment());
                if left.is_zero() {
                    return Err(NotOpened::Locked(home.join(name), holder(&stat)));
                }
                // The kernel does not tell when a lock comes free within a time.
                pause(left.min(Duration::from_millis(10)));
            }
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

fn pause(time: Duration) {
    let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
    let _ = rustix::event::poll(&mut [], Some(&timeout));
}

fn is_at(at: BorrowedFd<'_>, name: &Path, file: &Stat) -> bool {
    statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|found| (found.st_dev, found.st_ino) == (file.st_dev, file.st_ino))
}

/// Whether a name is still that of an open file.
pub(super) fn stands(at: BorrowedFd<'_>, name: &Path, file: BorrowedFd<'_>) -> bool {
    fstat(file).is_ok_and(|file| is_at(at, name, &file))
}

/// What a regular file says, of at most so many bytes; anything else that stands there, and a longer one, is
/// [`io::ErrorKind::InvalidData`].
pub(super) fn read(at: BorrowedFd<'_>, name: &Path, most: usize) -> io::Result<Vec<u8>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    // What is no file must not even be opened: a FIFO waits, and a device may act on it.
    let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(invalid());
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = openat(at, name, flags, Mode::empty())?;
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).min(most) + 1);
    fs::File::from(file).take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > most { Err(invalid()) } else { Ok(bytes) }
}

/// Whether a file is there and says what it should. What cannot be read now, as without descriptors, counts as in order:
/// it could not be put right either.
pub(super) fn says(at: BorrowedFd<'_>, name: &Path, most: usize, expected: impl FnOnce(&[u8]) -> bool) -> bool {
    match read(at, name, most) {
        Ok(bytes) => expected(&bytes),
        Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData),
    }
}

/// Who holds the lock of a module, if it can be told; for a client, which takes none itself.
#[must_use]
pub fn lock_holder(lock: &Path) -> Option<Pid> {
    holder(&rustix::fs::stat(lock).ok()?)
}

/// Who holds a `flock` on a file, as `/proc/locks` tells.
fn holder(file: &Stat) -> Option<Pid> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let major = rustix::fs::major(file.st_dev);
    let minor = rustix::fs::minor(file.st_dev);
    let place = format!("{major:02x}:{minor:02x}:{}", file.st_ino);
    locks.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let kind = fields.next()?;
        let pid = fields.nth(2)?;
        let found = fields.next()?;
        (kind == "FLOCK" && found == place).then(|| Pid::new(pid.parse().ok()?))?
    })
}

/// Opens the FIFO `name` for reading, made anew unless one that can be used stands there. It is opened for writing
/// too, so that it never says end of file.
pub(in crate::unix) fn fifo(at: BorrowedFd<'_>, name: &Path) -> io::Result<OwnedFd> {
    let own = rustix::process::geteuid().as_raw();
    fifo_of(at, name, |owner| owner == own)
}

/// As [`fifo`], for one that root may have given to somebody: what it holds is kept whoever that was.
pub(super) fn stream(at: BorrowedFd<'_>, name: &Path) -> io::Result<OwnedFd> {
    let own = rustix::process::geteuid();
    fifo_of(at, name, |owner| owner == own.as_raw() || own.is_root())
}

fn fifo_of(at: BorrowedFd<'_>, name: &Path, is_ours: impl Fn(u32) -> bool) -> io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(0o600);
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    for _ in 0..3 {
        match mkfifoat(at, name, mode) {
            // Just made, and nobody else may write here.
            Ok(()) if raw::umask() & 0o600 == 0 => return Ok(openat(at, name, flags, Mode::empty())?),
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        // What is no FIFO must not even be opened: a device may act on it.
        let usable = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo && is_ours(stat.st_uid));
        if usable {
            match openat(at, name, flags, Mode::empty()) {
                Ok(fifo) => {
                    fchmod(&fifo, mode)?;
                    return Ok(fifo);
                }
                Err(Errno::NOENT) => continue,
                Err(Errno::ACCESS) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        discard(at, name)?;
    }
    Err(io::Error::other("somebody replaces it again and again"))
}

/// Lets a group write a FIFO, or nobody but its owner: whoever could read it would take letters away. It is held, so nothing
/// is followed, and the umask has no say.
pub(super) fn delegate(fifo: BorrowedFd<'_>, group: Option<Gid>) -> io::Result<()> {
    if group.is_some() {
        fchown(fifo, None, group)?;
    }
    Ok(fchmod(fifo, Mode::from_raw_mode(if group.is_some() { 0o620 } else { 0o600 }))?)
}

/// Makes `link` another name of the FIFO `name`.
pub(super) fn same_fifo(at: BorrowedFd<'_>, link: &Path, name: &Path) -> io::Result<()> {
    match linkat(at, name, at, link, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) => {
            let fifo = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if is_at(at, link, &fifo) {
                return Ok(());
            }
            discard(at, link)?;
        }
        Err(_) => {}
    }
    if linkat(at, name, at, link, AtFlags::empty()).is_err() {
        // A file system without hard links.
        let target = name.file_name().unwrap_or(name.as_os_str());
        symlinkat(target, at, link)?;
    }
    Ok(())
}

/// Which of these names are in a directory; all of them may be where it cannot be read.
pub(super) fn which<const COUNT: usize>(directory: &OwnedFd, names: &[&str; COUNT]) -> [bool; COUNT] {
    let mut there = [false; COUNT];
    let mut room = [MaybeUninit::uninit(); 1024];
    if rustix::fs::seek(directory, SeekFrom::Start(0)).is_err() {
        return [true; COUNT];
    }
    let mut entries = RawDir::new(directory, &mut room);
    while let Some(entry) = entries.next() {
        let Ok(entry) = entry else { return [true; COUNT] };
        if let Some(place) = names.iter().position(|name| name.as_bytes() == entry.file_name().to_bytes()) {
            there[place] = true;
        }
    }
    there
}

/// What is set aside has this behind its name, and a number.
pub(super) const DISPLACED: &str = ".displaced";

/// Clears the place of a file of ours: whatever stands there is removed, or set aside as `NAME.displaced.N` if it is a
/// directory with something in it.
pub(super) fn discard(at: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    match unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    match unlinkat(at, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::NOTEMPTY) if statat(at, name.join(super::file::SVCONTROL), AtFlags::SYMLINK_NOFOLLOW).is_ok() => {
            Err(io::Error::other(format!("{} is the home of a module", name.display())))
        }
        Err(Errno::NOTEMPTY) => {
            let aside = format!("{DISPLACED}.{}", clock::boottime());
            Ok(renameat(at, name, at, with_suffix(name, &aside))?)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn with_suffix(name: &Path, suffix: &str) -> PathBuf {
    let mut longer = name.as_os_str().to_owned();
    longer.push(suffix);
    PathBuf::from(longer)
}

/// Writes a small file of ours where it stands, which takes neither room nor names, or empties it. Unlike with [`replace`]
/// a reader who comes in that very moment may find some of both.
///
/// # Errors
/// It is not ours, not there, has another name, or would become shorter: nothing was written.
pub(super) fn overwrite(at: BorrowedFd<'_>, name: &Path, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = openat(at, name, flags, Mode::empty())?;
    let stat = fstat(&file)?;
    let is_ours = stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_nlink == 1;
    if !is_ours || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if bytes.is_empty() {
        return Ok(ftruncate(&file, 0)?);
    }
    if u64::try_from(stat.st_size).is_ok_and(|size| size > bytes.len() as u64) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    match rustix::io::pwrite(&file, bytes, 0)? == bytes.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Replaces a file in one rename, so that no reader ever sees half of it.
pub(in crate::unix) fn replace(at: BorrowedFd<'_>, name: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_as(at, name, bytes, Mode::from_raw_mode(0o644))
}

/// As [`replace`], with a mode of its own, whatever the umask.
pub(super) fn replace_as(at: BorrowedFd<'_>, name: &Path, bytes: &[u8], mode: Mode) -> io::Result<()> {
    let new = with_suffix(name, NEW);
    // Made anew: what stands there may be a link, or a FIFO that somebody reads.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = match openat(at, &new, flags, mode) {
        Err(Errno::EXIST) => {
            discard(at, &new)?;
            openat(at, &new, flags, mode)?
        }
        file => file?,
    };
    if raw::umask() & mode.as_raw_mode() != 0 {
        fchmod(&file, mode)?;
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    drop(file);
    match renameat(at, &new, at, name) {
        Err(Errno::ISDIR) => {
            discard(at, name)?;
            Ok(renameat(at, &new, at, name)?)
        }
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn only_what_is_a_file_of_ours_alone_is_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = openat(rustix::fs::CWD, directory.path(), DIRECTORY, Mode::empty()).expect("opened");
        let path = |name: &str| directory.path().join(name);
        let write = |bytes: &[u8]| overwrite(at.as_fd(), Path::new("record"), bytes).is_ok();
        let says = |name: &str, bytes: &[u8]| fs::read(path(name)).expect("read") == bytes;
        fs::write(path("record"), "run\n").expect("written");
        assert!(write(b"down\n") && says("record", b"down\n"));
        assert!(!write(b"run\n") && says("record", b"down\n"), "it would be half of both for a moment");
        assert!(write(b"") && says("record", b""));
        assert!(write(b"run\n") && says("record", b"run\n"));
        fs::rename(path("record"), path("other")).expect("moved");
        assert!(!write(b"down\n"), "nothing is made");
        fs::hard_link(path("other"), path("record")).expect("linked");
        assert!(!write(b"down\n") && !write(b""), "another name of it may mean something else");
        fs::remove_file(path("record")).expect("removed");
        std::os::unix::fs::symlink("other", path("record")).expect("linked");
        assert!(!write(b"down\n") && !write(b""));
        fs::remove_file(path("record")).expect("removed");
        mkfifoat(&at, "record", Mode::RWXU).expect("made");
        let _reader = openat(&at, "record", OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).expect("opened");
        assert!(!write(b"down\n"));
        assert!(says("other", b"run\n"));
    }
}

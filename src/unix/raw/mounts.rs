//! The steps by which a child gets a file system that looks different from ours.
//!
//! In a mount namespace of its own, of which nothing comes back: a child shares memory with us, but neither root and
//! directory nor, from here on, mounts. Must never mount anything before that namespace is private.

use std::ffi::{CStr, CString, c_int};
use std::ptr;

use super::child::{ENTERING_ROOT, Progress};

/// What a program is to see of the file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// What is `/` to it, from where the child stands.
    pub root: Option<CString>,
    /// What it cannot write at and below, in its own root.
    pub read_only: Vec<CString>,
    /// Whether `/tmp` and `/var/tmp` are its own.
    pub private_tmp: bool,
    /// Where it stands, absolute, if that is not to be its root.
    pub service: CString,
}

impl Mounts {
    /// Whether there is anything to do.
    fn is_asked_for(&self) -> bool {
        self.root.is_some() || self.private_tmp || !self.read_only.is_empty()
    }

    /// Makes them in the child; says whether all of it was done.
    ///
    /// # Safety
    /// Only for a child that is about to execute or to end, and that shares neither root nor directory with us.
    pub(super) unsafe fn take(&self, progress: &mut Progress) -> bool {
        if !self.is_asked_for() {
            return true;
        }
        progress.at("making a mount namespace for", "CAP_SYS_ADMIN");
        // SAFETY: numbers, and paths that end in NUL and live through each call.
        unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                // What is mounted here is to go nowhere, and what others mount is not to come in, where it could be
                // written.
                && mount(None, c"/", libc::MS_REC | libc::MS_PRIVATE)
                && self.enter_root(progress)
                && self.forbid_writing(progress)
                && self.mount_tmp(progress)
        }
    }

    /// With the old root out of reach, not only out of sight: there is no way back for whoever may call `chroot`.
    unsafe fn enter_root(&self, progress: &mut Progress) -> bool {
        let Some(root) = &self.root else { return true };
        progress.at(ENTERING_ROOT, "CAP_SYS_ADMIN");
        // SAFETY: as for `take`.
        unsafe {
            if !mount(Some(root), root, libc::MS_BIND | libc::MS_REC) || libc::chdir(root.as_ptr()) < 0 {
                return false;
            }
            let entered = if libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) == 0 {
                libc::umount2(c".".as_ptr(), libc::MNT_DETACH) == 0
            } else {
                // The first root of all cannot be pivoted away from, as in an initramfs: this one is put over it.
                *libc::__errno_location() == libc::EINVAL
                    && mount(Some(c"."), c"/", libc::MS_MOVE)
                    && libc::chroot(c".".as_ptr()) == 0
            };
            entered && libc::chdir(c"/".as_ptr()) == 0
        }
    }

    unsafe fn forbid_writing(&self, progress: &mut Progress) -> bool {
        if self.read_only.is_empty() {
            return true;
        }
        progress.at("making file systems read-only for", "CAP_SYS_ADMIN");
        // SAFETY: as for `take`; a zeroed `stat` is valid.
        unsafe {
            for path in &self.read_only {
                // What is no mount of its own is made one.
                let forbidden = set_read_only(path)
                    || (*libc::__errno_location() == libc::EINVAL
                        && mount(Some(path), path, libc::MS_BIND | libc::MS_REC)
                        && set_read_only(path));
                if !forbidden {
                    return false;
                }
            }
            if self.root.is_some() {
                return true;
            }
            // Where it stands may be below one that was made: only a new look at its path finds that.
            progress.at("entering the service directory of", "");
            let (mut before, mut after): (libc::stat, libc::stat) = (std::mem::zeroed(), std::mem::zeroed());
            let found = libc::stat(c".".as_ptr(), &raw mut before) == 0
                && libc::chdir(self.service.as_ptr()) == 0
                && libc::stat(c".".as_ptr(), &raw mut after) == 0;
            if found && (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino) {
                *libc::__errno_location() = libc::ESTALE;
                return false;
            }
            found
        }
    }

    /// The last: what was made read-only may be what they are mounted on.
    unsafe fn mount_tmp(&self, progress: &mut Progress) -> bool {
        if !self.private_tmp {
            return true;
        }
        progress.at("mounting a /tmp for", "CAP_SYS_ADMIN");
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        [c"/tmp", c"/var/tmp"].into_iter().all(|path| {
            // SAFETY: strings that end in NUL; a tmpfs takes its options as one.
            unsafe {
                let kind = c"tmpfs".as_ptr();
                libc::mount(kind, path.as_ptr(), kind, flags, c"mode=1777".as_ptr().cast()) == 0
                    || (path == c"/var/tmp" && *libc::__errno_location() == libc::ENOENT)
            }
        })
    }
}

unsafe fn mount(source: Option<&CStr>, target: &CStr, flags: libc::c_ulong) -> bool {
    let source = source.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: strings that end in NUL, and none where the kernel asks for none with these flags.
    unsafe { libc::mount(source, target.as_ptr(), ptr::null(), flags, ptr::null()) == 0 }
}

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// A mount, with all that is mounted below it; since Linux 5.12.
unsafe fn set_read_only(path: &CStr) -> bool {
    /// Of `linux/mount.h`.
    const READ_ONLY: u64 = 1;
    /// Of `linux/fcntl.h`.
    const RECURSIVE: c_int = 0x8000;
    let attributes = MountAttributes { set: READ_ONLY, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: the kernel reads a string that ends in NUL and a structure of the size that is told.
    unsafe {
        let size = size_of::<MountAttributes>();
        libc::syscall(SYS_MOUNT_SETATTR, libc::AT_FDCWD, path.as_ptr(), RECURSIVE, &raw const attributes, size) == 0
    }
}

/// The same on every architecture.
const SYS_MOUNT_SETATTR: libc::c_long = 442;

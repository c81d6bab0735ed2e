//! The steps by which a child takes on other rights and gives its own away.
//!
//! Raw system calls: what the C library has under these names is done to every thread of svtree. Must never go on after a
//! step that failed, and must never leave a way back.

use std::ffi::{c_int, c_ulong};

#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
use libc::{SYS_setgroups as SETGROUPS, SYS_setresgid as SETRESGID, SYS_setresuid as SETRESUID};
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
use libc::{SYS_setgroups32 as SETGROUPS, SYS_setresgid32 as SETRESGID, SYS_setresuid32 as SETRESUID};

use super::child::Progress;

/// The rights that a child is to have; what is `None` stays as svtree has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Its user: real, effective and saved.
    pub uid: Option<u32>,
    /// Its group, in the same way.
    pub gid: Option<u32>,
    /// Its other groups.
    pub groups: Option<Vec<u32>>,
    /// Its capabilities, a bit for each: these and no other one, now and whatever it executes.
    pub capabilities: Option<u64>,
    /// Of those that svtree has, it has not these; only without `capabilities`.
    pub forgone: u64,
    /// Whether what it executes can give it none.
    pub no_new_privileges: bool,
}

impl Rights {
    /// Takes them on in the child; says whether all of it was done.
    ///
    /// # Safety
    /// Only for a child that is about to execute or to end: it is a process of one thread, whatever it shares.
    pub(super) unsafe fn take(&self, last: c_ulong, progress: &mut Progress) -> bool {
        // SAFETY: numbers, and pointers to what lives through each call; nothing is written through them.
        unsafe { self.bound(last, progress) && self.switch(progress) && self.keep(progress) }
    }

    /// The capabilities that anything it executes can have at most.
    unsafe fn bound(&self, last: c_ulong, progress: &mut Progress) -> bool {
        let kept = self.capabilities.unwrap_or(!self.forgone);
        if kept == u64::MAX {
            return true;
        }
        progress.at("bounding the capabilities of", "CAP_SETPCAP");
        for capability in (0..=last).filter(|capability| kept & (1 << capability) == 0) {
            // SAFETY: an option that takes numbers.
            if !unsafe { set(libc::PR_CAPBSET_DROP, capability, 0) } {
                return false;
            }
        }
        // Else the change of user would take those that it is to keep; an exec sets that back.
        // SAFETY: as above.
        self.capabilities.is_none_or(|kept| kept == 0) || unsafe { set(libc::PR_SET_KEEPCAPS, 1, 0) }
    }

    /// Other groups first: once it is another user it may not change them any more.
    unsafe fn switch(&self, progress: &mut Progress) -> bool {
        // SAFETY: the kernel reads so many numbers from a slice that is alive; the other calls take numbers.
        unsafe {
            if let Some(groups) = &self.groups {
                progress.at("setting the groups of", "CAP_SETGID");
                if libc::syscall(SETGROUPS, groups.len(), groups.as_ptr()) < 0 {
                    return false;
                }
            }
            if let Some(gid) = self.gid {
                progress.at("setting the group of", "CAP_SETGID");
                if libc::syscall(SETRESGID, gid, gid, gid) < 0 {
                    return false;
                }
            }
            let Some(uid) = self.uid else { return true };
            progress.at("setting the user of", "CAP_SETUID");
            let before = libc::geteuid();
            if libc::syscall(SETRESUID, uid, uid, uid) < 0 {
                return false;
            }
            // Until its exec this process of that user holds our memory, and whoever is that user could look at it. The
            // kernel sees to that at the change, unless it was told otherwise by fs.suid_dumpable; it is never undone,
            // since another thread's child may be as far.
            before == uid || set(libc::PR_SET_DUMPABLE, 0, 0)
        }
    }

    /// The capabilities that it has, and that what it executes inherits.
    unsafe fn keep(&self, progress: &mut Progress) -> bool {
        // A user that is not root has none, also where svtree itself has some without being root.
        let kept = self.capabilities.or_else(|| self.uid.filter(|uid| *uid != 0).map(|_| 0));
        if let Some(kept) = kept {
            progress.at("setting the capabilities of", "those capabilities");
            let half = |bits: u32| CapabilityData { effective: bits, permitted: bits, inheritable: bits };
            let data = halves(kept).map(half);
            let mut header = HEADER;
            // SAFETY: the kernel reads a header and, for this version, two structures; the option takes numbers.
            unsafe {
                if libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) < 0 {
                    return false;
                }
                let raise = c_ulong::from(libc::PR_CAP_AMBIENT_RAISE.cast_unsigned());
                for capability in (0..64).filter(|capability| kept & (1 << capability) != 0) {
                    if !set(libc::PR_CAP_AMBIENT, raise, capability) {
                        return false;
                    }
                }
            }
        }
        if kept.is_none() && self.forgone != 0 {
            progress.at("giving up capabilities of", "");
            // SAFETY: as the function says.
            if !unsafe { give_up(self.forgone) } {
                return false;
            }
        }
        progress.at("forbidding new privileges to", "");
        // SAFETY: an option that takes numbers.
        !self.no_new_privileges || unsafe { set(libc::PR_SET_NO_NEW_PRIVS, 1, 0) }
    }
}

/// Keeps of its capabilities only what is not in `bits`; of the bounding set that is done before.
unsafe fn give_up(bits: u64) -> bool {
    let mut header = HEADER;
    let mut data = halves(0).map(|_| CapabilityData { effective: 0, permitted: 0, inheritable: 0 });
    // SAFETY: the kernel reads a header, and for this version writes and reads two structures.
    unsafe {
        if libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) < 0 {
            return false;
        }
        for (data, bits) in data.iter_mut().zip(halves(bits)) {
            data.effective &= !bits;
            data.permitted &= !bits;
            data.inheritable &= !bits;
        }
        libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) == 0
    }
}

/// As the kernel takes them: 32 and 32.
fn halves(bits: u64) -> [u32; 2] {
    [bits & u64::from(u32::MAX), bits >> 32].map(|half| u32::try_from(half).unwrap_or(0))
}

/// Of `linux/capability.h`.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

/// Of `linux/capability.h`: 32 capabilities.
#[repr(C)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The third version, of 64 capabilities; of the process that asks.
const HEADER: CapabilityHeader = CapabilityHeader { version: 0x2008_0522, pid: 0 };

/// The last capability that this kernel knows.
pub(super) fn last_capability() -> c_ulong {
    // SAFETY: `prctl` with numbers; it tells 0 or 1.
    let is_known =
        |capability: &c_ulong| unsafe { libc::prctl(libc::PR_CAPBSET_READ, *capability, ZERO, ZERO, ZERO) } >= 0;
    (0..64).take_while(is_known).last().unwrap_or(0)
}

/// As wide as the kernel reads it.
const ZERO: c_ulong = 0;

/// Sets something of this process; says whether it is set.
unsafe fn set(option: c_int, one: c_ulong, two: c_ulong) -> bool {
    // SAFETY: `prctl` with numbers, of options that take no pointer.
    unsafe { libc::prctl(option, one, two, ZERO, ZERO) == 0 }
}

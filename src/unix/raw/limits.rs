//! The limits that a child sets for itself.
//!
//! Must never fall back to another limit than the one that was asked for.

use std::ffi::{CString, c_uint, c_void};
use std::ptr;

use super::child::Progress;
use crate::pure::config::Resource;

/// What a program is limited to for each of its processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// So much, soft and hard, of each of these.
    pub resources: Vec<(Resource, u64)>,
    /// What is written to `oom_score_adj`.
    pub oom_score_adj: Option<CString>,
}

impl Limits {
    /// Whether it says how many files may be open.
    pub(super) fn limit_open_files(&self) -> bool {
        self.resources.iter().any(|(resource, _)| *resource == Resource::OpenFiles)
    }

    /// Sets them in the child; says whether all of it was done.
    ///
    /// # Safety
    /// Only for a child that is about to execute or to end.
    pub(super) unsafe fn take(&self, progress: &mut Progress) -> bool {
        // SAFETY: strings that end in NUL or have their length, and a structure that is alive; nothing is written.
        unsafe {
            if let Some(adjustment) = &self.oom_score_adj {
                progress.at("setting limits.oom_score_adj for", "CAP_SYS_RESOURCE");
                // Of this process alone: of one that is to execute the kernel spares those that it shares memory with.
                let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                let text = adjustment.as_bytes();
                if file < 0 || libc::write(file, text.as_ptr().cast::<c_void>(), text.len()) < 0 {
                    return false;
                }
                libc::close(file);
            }
            for (resource, most) in &self.resources {
                let (number, step) = of_kernel(*resource);
                progress.at(step, "CAP_SYS_RESOURCE, to raise a hard limit");
                let limit = [*most, *most];
                let old = ptr::null_mut::<[u64; 2]>();
                if libc::syscall(libc::SYS_prlimit64, 0, number, &raw const limit, old) < 0 {
                    return false;
                }
            }
        }
        true
    }
}

/// The number of a resource, and the step that limits it.
fn of_kernel(resource: Resource) -> (c_uint, &'static str) {
    #[cfg(not(target_env = "gnu"))]
    use i32::cast_unsigned as number;
    #[cfg(target_env = "gnu")]
    use std::convert::identity as number;
    match resource {
        Resource::OpenFiles => (number(libc::RLIMIT_NOFILE), "setting limits.open_files for"),
        Resource::Core => (number(libc::RLIMIT_CORE), "setting limits.core for"),
        Resource::Processes => (number(libc::RLIMIT_NPROC), "setting limits.processes for"),
        Resource::Stack => (number(libc::RLIMIT_STACK), "setting limits.stack for"),
        Resource::AddressSpace => (number(libc::RLIMIT_AS), "setting limits.address_space for"),
        Resource::LockedMemory => (number(libc::RLIMIT_MEMLOCK), "setting limits.locked_memory for"),
        Resource::FileSize => (number(libc::RLIMIT_FSIZE), "setting limits.file_size for"),
        Resource::CpuTime => (number(libc::RLIMIT_CPU), "setting limits.cpu_time for"),
    }
}

//! Makes of what a module asks for what its child can take without a thought: rights, limits, mounts.
//!
//! Must never leave out what was asked for: what cannot be had is found by the child, and nothing runs then.

use std::ffi::{CString, NulError};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::controllers::Limited;
use super::raw::{Confinement, Limits, Mounts, Rights};
use crate::pure::accounts::Ids;
use crate::pure::config::{self, Policy};

/// What a module's program is confined by; `service` is its directory, absolute.
///
/// # Errors
/// A NUL in a path.
pub fn confinement(ids: &Ids, limited: &Limited, policy: &Policy, service: &Path) -> Result<Confinement, NulError> {
    Ok(Confinement {
        rights: rights(ids, policy),
        limits: limits(policy),
        grouped: limited.grouped,
        mounts: mounts(policy, service)?,
    })
}

/// The rights that it is to have, without those that svtree has as well: what is not changed takes no privilege.
fn rights(ids: &Ids, policy: &Policy) -> Rights {
    let sandbox = &policy.sandbox;
    let mut rights = Rights {
        uid: ids.uid,
        gid: ids.gid,
        groups: ids.groups.clone(),
        capabilities: sandbox.capabilities,
        forgone: if sandbox.mounts() && sandbox.capabilities.is_none() { config::UNDOING } else { 0 },
        no_new_privileges: sandbox.no_new_privileges,
    };
    let own = rustix::process::geteuid();
    let is_self = ids.uid == Some(own.as_raw()) && ids.gid == Some(rustix::process::getegid().as_raw());
    if is_self && !own.is_root() && policy.identity.groups.is_none() {
        (rights.uid, rights.gid, rights.groups) = (None, None, None);
    }
    rights
}

fn limits(policy: &Policy) -> Limits {
    let text = |number: i32| CString::new(number.to_string()).unwrap_or_default();
    Limits { resources: policy.limits.resources.clone(), oom_score_adj: policy.limits.oom_score_adj.map(text) }
}

fn mounts(policy: &Policy, service: &Path) -> Result<Mounts, NulError> {
    let sandbox = &policy.sandbox;
    Ok(Mounts {
        root: sandbox.root.as_deref().map(CString::new).transpose()?,
        read_only: sandbox.read_only.iter().map(|path| CString::new(path.as_str())).collect::<Result<_, _>>()?,
        private_tmp: sandbox.private_tmp,
        service: CString::new(service.as_os_str().as_bytes())?,
    })
}

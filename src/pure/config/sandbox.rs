//! `[sandbox]`: what a program is kept from.
//!
//! Must never know how that is done.

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use super::policy::{Policy, Program};
use super::ready::place;
use super::{Key, key, kind, text, truth};

/// `[sandbox]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sandbox {
    /// What it executes gives it no privileges.
    pub no_new_privileges: bool,
    /// The capabilities that it has, a bit for each; `None`: those that its user has.
    pub capabilities: Option<u64>,
    /// What is `/` to it, relative to the service directory.
    pub root: Option<String>,
    /// It has a `/tmp` and a `/var/tmp` of its own.
    pub private_tmp: bool,
    /// Nothing at and below these absolute paths can be written.
    pub read_only: Vec<String>,
}

impl Sandbox {
    /// Whether the file system is to look different to it.
    #[must_use]
    pub fn mounts(&self) -> bool {
        self.root.is_some() || self.private_tmp || !self.read_only.is_empty()
    }
}

pub(super) const KEYS: &[Key] = &[
    key("sandbox", "no_new_privileges", |policy, value| {
        policy.sandbox.no_new_privileges = truth(value)?;
        Ok(())
    }),
    key("sandbox", "capabilities", |policy, value| {
        let mut bits = 0;
        for name in strings(value)? {
            bits |= capability(&name)?;
        }
        policy.sandbox.capabilities = Some(bits);
        Ok(())
    }),
    key("sandbox", "root", |policy, value| {
        policy.sandbox.root = Some(text(value).and_then(named)?);
        Ok(())
    }),
    key("sandbox", "private_tmp", |policy, value| {
        policy.sandbox.private_tmp = truth(value)?;
        Ok(())
    }),
    key("sandbox", "read_only", |policy, value| {
        let paths = strings(value)?;
        if let Some(relative) = paths.iter().find(|path| !path.starts_with('/')) {
            return Err(format!("`{}` does not begin with `/`", relative.escape_debug()));
        }
        policy.sandbox.read_only = paths;
        Ok(())
    }),
];

/// What stands well alone and not together.
pub(super) fn whole(table: &DeTable<'_>, policy: &Policy, wrong: &mut Vec<(usize, String)>) {
    if policy.sandbox.root.is_some() && policy.program == Program::Run {
        let text = "root: takes a `command`, since `run` is outside of it";
        wrong.push((place(table, "sandbox", "root"), text.to_owned()));
    }
}

fn strings(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let DeValue::Array(items) = value else {
        return Err(format!("expected an array of strings, found {}", kind(value)));
    };
    items.iter().map(|item| text(item.get_ref())).collect()
}

fn named(path: String) -> Result<String, String> {
    if path.is_empty() { Err("no directory is named".to_owned()) } else { Ok(path) }
}

/// The bit of a capability, by its name with or without `cap_`.
fn capability(name: &str) -> Result<u64, String> {
    let lower = name.to_ascii_lowercase();
    let bare = lower.strip_prefix("cap_").unwrap_or(&lower);
    if let Some(number) = CAPABILITIES.iter().position(|known| *known == bare) {
        return Ok(1 << number);
    }
    let distance = |known: &&&str| strsim::damerau_levenshtein(known, bare);
    let nearest = CAPABILITIES.iter().min_by_key(distance).filter(|known| distance(known) <= bare.len().div_ceil(3));
    let hint = nearest.map(|known| format!(", did you mean `{known}`?")).unwrap_or_default();
    Err(format!("unknown capability `{}`{hint}", name.escape_debug()))
}

/// The names of capabilities(7), each at the place of its number.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// By which a program that runs as root could undo what was mounted for it, or go around it: another mount, a look through
/// `/proc` into another process, a file by its handle, a module of the kernel, a device.
pub const UNDOING: u64 = 1 << 21 | 1 << 19 | 1 << 2 | 1 << 16 | 1 << 17 | 1 << 27;

#[cfg(test)]
mod tests {
    use super::super::service;
    use super::*;

    fn mistake(text: &str) -> String {
        service(text).expect_err("a mistake")[0].text.clone()
    }

    #[test]
    fn capabilities_by_every_name() {
        let bits = |text: &str| service(text).expect("no mistake").sandbox.capabilities;
        assert_eq!(bits("[sandbox]\ncapabilities = ['net_bind_service', 'CAP_CHOWN', 'cap_net_raw']"), Some(0x2401));
        assert_eq!(bits("[sandbox]\ncapabilities = []"), Some(0));
        assert_eq!(bits("[sandbox]\nprivate_tmp = true"), None);
        assert_eq!(
            mistake("[sandbox]\ncapabilities = ['net_bind_servce']"),
            "capabilities: unknown capability `net_bind_servce`, did you mean `net_bind_service`?"
        );
        assert_eq!(mistake("[sandbox]\ncapabilities = ['all']"), "capabilities: unknown capability `all`");
        let undoing = ["sys_admin", "sys_ptrace", "dac_read_search", "sys_module", "sys_rawio", "mknod"];
        assert_eq!(undoing.map(|name| capability(name).expect("known")).iter().sum::<u64>(), UNDOING);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(mistake("[sandbox]\nread_only = ['/', 'etc']"), "read_only: `etc` does not begin with `/`");
        assert_eq!(mistake("[sandbox]\nread_only = '/'"), "read_only: expected an array of strings, found a string");
        assert_eq!(mistake("[sandbox]\nroot = 'd'"), "root: takes a `command`, since `run` is outside of it");
        assert!(service("command = '/bin/x'\n[sandbox]\nroot = 'd'").is_ok());
        assert!(mistake("[sandbox]\nprivatetmp = true").ends_with("did you mean `sandbox.private_tmp`?"));
    }
}

//! `[limits]`: how much of the machine a program may take.
//!
//! Must never know how that is enforced.

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use super::{Key, duration, key, kind};
use crate::pure::size::parse_size;

/// What the kernel limits for each process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resource {
    /// Descriptors, and one more than the highest.
    OpenFiles,
    /// A core dump, in bytes.
    Core,
    /// Processes of its user.
    Processes,
    /// Its stack, in bytes.
    Stack,
    /// All its memory that is mapped, in bytes.
    AddressSpace,
    /// Memory that is locked, in bytes.
    LockedMemory,
    /// A file that it writes, in bytes.
    FileSize,
    /// Processor time in seconds.
    CpuTime,
}

/// Without a limit.
pub const UNLIMITED: u64 = u64::MAX;

/// `[limits]`; what is not there is svtree's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// For each process, the soft limit and the hard one.
    pub resources: Vec<(Resource, u64)>,
    /// Memory of the module as a whole, in bytes,
    pub memory: Option<u64>,
    /// its processes and threads,
    pub tasks: Option<u64>,
    /// and its share of processor time, in thousandths of a processor.
    pub cpu: Option<u32>,
    /// How soon it is killed when the machine has no memory left, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
}

pub(super) const KEYS: &[Key] = &[
    key("limits", "open_files", |policy, value| policy.limits.set(Resource::OpenFiles, count(value))),
    key("limits", "core", |policy, value| policy.limits.set(Resource::Core, size(value))),
    key("limits", "processes", |policy, value| policy.limits.set(Resource::Processes, count(value))),
    key("limits", "stack", |policy, value| policy.limits.set(Resource::Stack, size(value))),
    key("limits", "address_space", |policy, value| policy.limits.set(Resource::AddressSpace, size(value))),
    key("limits", "locked_memory", |policy, value| policy.limits.set(Resource::LockedMemory, size(value))),
    key("limits", "file_size", |policy, value| policy.limits.set(Resource::FileSize, size(value))),
    key("limits", "cpu_time", |policy, value| policy.limits.set(Resource::CpuTime, seconds(value))),
    key("limits", "memory", |policy, value| {
        policy.limits.memory = Some(some(size(value)?)?).filter(|most| *most != UNLIMITED);
        Ok(())
    }),
    key("limits", "tasks", |policy, value| {
        policy.limits.tasks = Some(some(count(value)?)?).filter(|most| *most != UNLIMITED);
        Ok(())
    }),
    key("limits", "cpu", |policy, value| {
        policy.limits.cpu = if is_unlimited(value) { None } else { Some(thousandths(value)?) };
        Ok(())
    }),
    key("limits", "oom_score_adj", |policy, value| {
        let number = value.as_integer().and_then(|number| i32::from_str_radix(number.as_str(), number.radix()).ok());
        let number = number.filter(|number| (-1000..=1000).contains(number));
        policy.limits.oom_score_adj = Some(number.ok_or("expected a whole number from -1000 to 1000")?);
        Ok(())
    }),
];

impl Limits {
    /// Whether something of the module as a whole is limited.
    #[must_use]
    pub fn of_group(&self) -> bool {
        self.memory.is_some() || self.tasks.is_some() || self.cpu.is_some()
    }

    fn set(&mut self, resource: Resource, value: Result<u64, String>) -> Result<(), String> {
        self.resources.push((resource, value?));
        Ok(())
    }
}

fn is_unlimited(value: &DeValue<'_>) -> bool {
    matches!(value.as_str(), Some("unlimited" | "infinity"))
}

fn integer(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok().filter(|number| *number != UNLIMITED)
}

/// A module needs some of it: 0 is not "no limit" here.
fn some(most: u64) -> Result<u64, String> {
    if most == 0 { Err("expected more than 0, or \"unlimited\"".to_owned()) } else { Ok(most) }
}

fn count(value: &DeValue<'_>) -> Result<u64, String> {
    if is_unlimited(value) {
        return Ok(UNLIMITED);
    }
    integer(value).ok_or_else(|| "expected a whole number or \"unlimited\"".to_owned())
}

/// A size, or so many bytes.
fn size(value: &DeValue<'_>) -> Result<u64, String> {
    if is_unlimited(value) {
        return Ok(UNLIMITED);
    }
    match value {
        DeValue::String(text) => parse_size(text),
        value => integer(value)
            .ok_or_else(|| format!("expected a size such as \"64MiB\", or \"unlimited\", found {}", kind(value))),
    }
}

fn seconds(value: &DeValue<'_>) -> Result<u64, String> {
    if is_unlimited(value) {
        return Ok(UNLIMITED);
    }
    let time = duration(value)?;
    match (time.as_secs(), time.subsec_nanos()) {
        (0, _) => Err("expected one second at least".to_owned()),
        (seconds, 0) => Ok(seconds),
        _ => Err("the kernel counts whole seconds".to_owned()),
    }
}

/// A number of processors, also of parts of one, in thousandths.
fn thousandths(value: &DeValue<'_>) -> Result<u32, String> {
    let number: Option<f64> = match value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(number) => number.as_str().parse().ok(),
        _ => None,
    };
    // Less than that the kernel does not count.
    let number = number.filter(|number| (0.01..=100_000.0).contains(number));
    let number = number.ok_or("expected a number of processors from 0.01 on, such as 1.5")?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 10 to 100,000,000")]
    Ok((number * 1000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::super::service;
    use super::*;

    fn mistake(text: &str) -> String {
        service(&format!("[limits]\n{text}")).expect_err(text)[0].text.clone()
    }

    #[test]
    fn every_limit() {
        let text = "[limits]\nopen_files = 65536\ncore = 0\nprocesses = 'unlimited'\nstack = '8MiB'\n\
                    address_space = '1GiB'\nlocked_memory = '64KiB'\nfile_size = 'infinity'\ncpu_time = '1m'\n\
                    oom_score_adj = -500";
        let limits = service(text).expect("no mistake").limits;
        let mut found = limits.resources;
        found.sort_by_key(|(resource, _)| *resource as u8);
        let expected = [
            (Resource::OpenFiles, 65536),
            (Resource::Core, 0),
            (Resource::Processes, UNLIMITED),
            (Resource::Stack, 8 << 20),
            (Resource::AddressSpace, 1 << 30),
            (Resource::LockedMemory, 64 << 10),
            (Resource::FileSize, UNLIMITED),
            (Resource::CpuTime, 60),
        ];
        assert_eq!((found.as_slice(), limits.oom_score_adj), (expected.as_slice(), Some(-500)));
    }

    #[test]
    fn limits_of_the_module_as_a_whole() {
        let limits = |text: &str| service(&format!("[limits]\n{text}")).expect("no mistake").limits;
        let found = limits("memory = '512MiB'\ntasks = 100\ncpu = 1.5");
        assert_eq!((found.memory, found.tasks, found.cpu), (Some(512 << 20), Some(100), Some(1500)));
        assert_eq!(limits("cpu = 2").cpu, Some(2000));
        assert!(!limits("memory = 'unlimited'\ntasks = 'infinity'\ncpu = 'unlimited'\ncore = 0").of_group());
        for text in ["cpu = 0", "cpu = -1.0", "cpu = nan", "cpu = inf", "cpu = '150%'"] {
            assert_eq!(mistake(text), "cpu: expected a number of processors from 0.01 on, such as 1.5", "{text}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(mistake("memory = 0"), "memory: expected more than 0, or \"unlimited\"");
        assert_eq!(mistake("tasks = 0"), "tasks: expected more than 0, or \"unlimited\"");
        assert_eq!(mistake("open_files = -1"), "open_files: expected a whole number or \"unlimited\"");
        assert_eq!(mistake("open_files = '64KiB'"), "open_files: expected a whole number or \"unlimited\"");
        assert!(mistake("core = 'much'").starts_with("core: expected a size such as"));
        assert_eq!(
            mistake("core = true"),
            "core: expected a size such as \"64MiB\", or \"unlimited\", found a boolean"
        );
        assert_eq!(mistake("cpu_time = '100ms'"), "cpu_time: expected one second at least");
        assert_eq!(mistake("cpu_time = '1500ms'"), "cpu_time: the kernel counts whole seconds");
        assert_eq!(mistake("oom_score_adj = 1001"), "oom_score_adj: expected a whole number from -1000 to 1000");
        assert_eq!(mistake("open_file = 1"), "unknown key `limits.open_file`, did you mean `limits.open_files`?");
    }
}

//! The keys of `[log]`.
//!
//! Must never read a file.

use toml::de::DeValue;

use super::{Key, key, kind, one_of, text};
use crate::pure::log::{Full, LEAST_SIZE, Timestamps, To};
use crate::pure::size::parse_size;

pub(super) const KEYS: &[Key] = &[
    key("log", "to", |policy, value| {
        policy.log.to = Some(one_of(value, &To::ALL)?);
        Ok(())
    }),
    key("log", "directory", |policy, value| {
        policy.log.directory = Some(text(value)?).filter(|directory| !directory.is_empty());
        if policy.log.directory.is_some() { Ok(()) } else { Err("no directory is named".to_owned()) }
    }),
    key("log", "max_size", |policy, value| {
        policy.log.max_size = match size(value)? {
            size if size < LEAST_SIZE => return Err(format!("a file of a log has at least {LEAST_SIZE} bytes")),
            size => size,
        };
        Ok(())
    }),
    key("log", "keep", |policy, value| {
        let number = value.as_integer().and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok());
        policy.log.keep = number.ok_or("expected a whole number from 0 to 4294967295")?;
        Ok(())
    }),
    key("log", "timestamps", |policy, value| {
        policy.log.timestamps = Some(one_of(value, &Timestamps::ALL)?);
        Ok(())
    }),
    key("log", "full", |policy, value| {
        policy.log.full = one_of(value, &[("wait", Full::Wait), ("drop", Full::Drop)])?;
        Ok(())
    }),
];

fn size(value: &DeValue<'_>) -> Result<u64, String> {
    match value {
        DeValue::String(text) => parse_size(text),
        DeValue::Integer(number) => parse_size(number.as_str()),
        other => Err(format!("expected a size such as \"64MiB\", found {}", kind(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::service;
    use crate::pure::log::{Full, Log, Timestamps, To};

    #[test]
    fn every_key_of_a_log() {
        let log = service(
            "[log]\nto = 'inherit'\ndirectory = 'log'\nmax_size = '1MiB'\nkeep = 3\ntimestamps = 'tai64n'\nfull = 'drop'\n",
        );
        assert_eq!(
            log.map(|policy| policy.log),
            Ok(Log {
                to: Some(To::Inherit),
                directory: Some("log".to_owned()),
                max_size: 1 << 20,
                keep: 3,
                timestamps: Some(Timestamps::Tai64n),
                full: Full::Drop,
            })
        );
        for wrong in
            ["to = 'syslog'", "max_size = '1KiB'", "max_size = true", "keep = -1", "full = 1", "directory = ''"]
        {
            assert!(service(&format!("[log]\n{wrong}\n")).is_err(), "{wrong}");
        }
    }
}

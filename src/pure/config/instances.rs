//! The key `instances`: how many modules a directory stands for.
//!
//! Must never name one of them.

use toml::de::DeValue;

use super::{Key, Policy, key};

pub(super) const KEYS: &[Key] = &[key("", "instances", instances)];

/// More of one directory is a slip of the pen.
const MOST: u32 = 1000;

fn instances(policy: &mut Policy, value: &DeValue<'_>) -> Result<(), String> {
    let number = value.as_integer().and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok());
    policy.instances = match number {
        Some(number @ 1..=MOST) => Some(number),
        Some(0) => return Err("none is no number of instances; `enabled = false` keeps all of them down".to_owned()),
        Some(_) | None => return Err(format!("expected a whole number from 1 to {MOST}")),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{service, service_over};

    fn mistake(text: &str) -> String {
        service(text).expect_err("a mistake").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn they_are_counted_from_one() {
        assert_eq!(service("").map(|policy| policy.instances), Ok(None));
        for (text, number) in [("instances = 1", 1), ("instances = 0x10", 16), ("instances = 1000", 1000)] {
            assert_eq!(service(text).map(|policy| policy.instances), Ok(Some(number)), "{text}");
        }
        for text in ["instances = 1001", "instances = -1", "instances = '4'", "instances = 1.5"] {
            assert!(mistake(text).ends_with("instances: expected a whole number from 1 to 1000"), "{text}");
        }
        assert!(mistake("instances = 0").contains("`enabled = false`"));
    }

    #[test]
    fn their_number_stands_in_no_other_file() {
        let mut policy = service("instances = 3").expect("no mistake");
        service_over("", &mut policy).expect("no mistake");
        assert_eq!(policy.instances, None);
    }
}

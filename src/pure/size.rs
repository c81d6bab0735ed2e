//! Sizes as people write them: `64MiB`, `1MB`, `4096`.
//!
//! Must never know what a size is of.

/// Units and what they stand for, in bytes.
const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A number of bytes with or without its unit.
///
/// # Errors
/// Says what is expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim_start());
    let size = number.parse::<u64>().ok().zip(unit).and_then(|(number, (_, unit))| number.checked_mul(*unit));
    size.ok_or_else(|| {
        format!("expected a size such as \"64MiB\", \"1MB\" or \"4096\", found \"{}\"", text.escape_debug())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_nothing_else() {
        for (text, size) in [("4096", 4096), ("64MiB", 64 << 20), ("1MB", 1_000_000), ("2 KiB", 2048), ("0B", 0)] {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for wrong in ["", "MiB", "-1", "+1", "1.5MiB", "1XB", "99999999999TiB", "1MiB x"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}

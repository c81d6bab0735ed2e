//! `ModuleName`: a module's name, checked once, with `/` between group and module.
//!
//! Must never touch a path on disk.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The name of a module or group in the tree: one or more components joined by `/`.
///
/// No component is empty, begins with `.`, or holds a NUL or a `/`; so a name joined to a root
/// never leaves it. Names are bytes: they need not be UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleName(Vec<u8>);

impl ModuleName {
    /// Checks a whole name, such as `web` or `group/web`.
    ///
    /// # Errors
    /// Says in words what is wrong with it.
    pub fn new(bytes: &[u8]) -> Result<ModuleName, BadName> {
        for component in bytes.split(|byte| *byte == b'/') {
            check(component)?;
        }
        Ok(ModuleName(bytes.to_vec()))
    }

    /// The name of svtree's own logger, which no directory of services can have.
    #[must_use]
    pub fn own_logger() -> ModuleName {
        ModuleName(LOGGER.to_vec())
    }

    /// Whether it is that of svtree's own logger.
    #[must_use]
    pub fn is_own_logger(&self) -> bool {
        self.0 == LOGGER
    }

    /// A name that svtree has written down: as [`ModuleName::new`], or that of its logger.
    ///
    /// # Errors
    /// As [`ModuleName::new`].
    pub fn recorded(bytes: &[u8]) -> Result<ModuleName, BadName> {
        if bytes == LOGGER { Ok(ModuleName::own_logger()) } else { ModuleName::new(bytes) }
    }

    /// The name of the entry `component` of this group.
    ///
    /// # Errors
    /// The component is not a single valid one.
    pub fn join(&self, component: &[u8]) -> Result<ModuleName, BadName> {
        check(component)?;
        let mut joined = self.0.clone();
        joined.push(b'/');
        joined.extend_from_slice(component);
        Ok(ModuleName(joined))
    }

    /// The name as bytes, as it stands in a path.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name as a relative path.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// The same as an owned relative path.
    #[must_use]
    pub fn to_os_string(&self) -> OsString {
        OsString::from_vec(self.0.clone())
    }

    /// Its components, the outermost group first.
    #[must_use]
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The group it stands in, or `None` at the top of the tree.
    #[must_use]
    pub fn parent(&self) -> Option<ModuleName> {
        let slash = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(ModuleName(self.0[..slash].to_vec()))
    }

    /// The module whose logger this one is by its name; there may be no such module.
    #[must_use]
    pub fn logged(&self) -> Option<ModuleName> {
        let module = self.0.strip_suffix(b"/log")?;
        Some(ModuleName(module.to_vec()))
    }

    /// The logger of this module.
    #[must_use]
    pub fn logger(&self) -> ModuleName {
        ModuleName([self.as_bytes(), b"/log"].concat())
    }

    /// The instance of this number, of a module of which there are several.
    ///
    /// # Errors
    /// The number makes the name too long.
    pub fn instance(&self, number: u32) -> Result<ModuleName, BadName> {
        ModuleName::new(&[self.as_bytes(), format!("@{number}").as_bytes()].concat())
    }

    /// The module whose instance this one is by its name, and its number; there may be no such module.
    #[must_use]
    pub fn instance_of(&self) -> Option<(ModuleName, u32)> {
        let at = self.0.iter().rposition(|byte| *byte == b'@')?;
        let (module, digits) = (ModuleName::new(&self.0[..at]).ok()?, &self.0[at + 1..]);
        // A number is written in one way.
        let number = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with(['0', '+']))?.parse().ok()?;
        Some((module, number))
    }

    /// The entry of the services directory that it stands in.
    #[must_use]
    pub fn top(&self) -> ModuleName {
        ModuleName(self.top_bytes().to_vec())
    }

    /// The same as bytes.
    #[must_use]
    pub fn top_bytes(&self) -> &[u8] {
        self.components().next().unwrap_or_default()
    }

    /// Whether it is `outer` or stands in that group.
    #[must_use]
    pub fn is_within(&self, outer: &ModuleName) -> bool {
        match self.0.strip_prefix(outer.as_bytes()) {
            Some(rest) => rest.is_empty() || rest.starts_with(b"/"),
            None => false,
        }
    }
}

const LOGGER: &[u8] = b".logger";

// Bytes compare as names do, so that a set of names can be asked for bytes.
impl std::borrow::Borrow<[u8]> for ModuleName {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

fn check(component: &[u8]) -> Result<(), BadName> {
    match component {
        [] => Err(BadName::Empty),
        [b'.', ..] => Err(BadName::Dot),
        _ if component.contains(&0) || component.contains(&b'/') => Err(BadName::Byte),
        _ if component.len() > 255 => Err(BadName::Long),
        _ => Ok(()),
    }
}

/// Why a name is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadName {
    /// The name, or a part between slashes, is empty.
    Empty,
    /// A part begins with a dot.
    Dot,
    /// A part holds a NUL byte or a slash.
    Byte,
    /// A part is longer than 255 bytes.
    Long,
}

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadName::Empty => "a part of the name is empty",
            BadName::Dot => "a part of the name begins with a dot",
            BadName::Byte => "the name holds a byte that names cannot have",
            BadName::Long => "a part of the name is longer than 255 bytes",
        })
    }
}

impl std::error::Error for BadName {}

/// For JSON: a byte that is not UTF-8 becomes `\xHH`, a backslash `\\`; nothing else changes.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' {
                text.push('\\');
            }
            text.push(character);
        }
        for byte in chunk.invalid() {
            push_hex(&mut text, *byte);
        }
    }
    text
}

/// Takes back what [`escaped`] did; text that it did not make is passed on as it is.
#[must_use]
pub fn unescaped(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let hex = rest
            .strip_prefix(b"\\x")
            .and_then(|digits| digits.get(..2))
            // A number may begin with `+`, an escape may not.
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = hex {
            plain.push(byte);
            at += 4;
        } else if rest.starts_with(b"\\\\") {
            plain.push(b'\\');
            at += 2;
        } else {
            plain.push(bytes[at]);
            at += 1;
        }
    }
    plain
}

/// For a terminal or a log line: as [`escaped`], and control characters become `\xHH` too.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for character in escaped(bytes).chars() {
        if character.is_control() {
            let mut utf8 = [0; 4];
            for byte in character.encode_utf8(&mut utf8).bytes() {
                push_hex(&mut text, byte);
            }
        } else {
            text.push(character);
        }
    }
    text
}

fn push_hex(text: &mut String, byte: u8) {
    use fmt::Write;
    // Writing to a String cannot fail.
    let _ = write!(text, "\\x{byte:02x}");
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0))
    }
}

impl fmt::Debug for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", printable(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_components() {
        assert!(ModuleName::new(b"web").is_ok());
        assert!(ModuleName::new(b"group/web").is_ok());
        assert_eq!(ModuleName::new(b""), Err(BadName::Empty));
        assert_eq!(ModuleName::new(b"a//b"), Err(BadName::Empty));
        assert_eq!(ModuleName::new(b"a/../b"), Err(BadName::Dot));
        assert_eq!(ModuleName::new(b".hidden"), Err(BadName::Dot));
        assert_eq!(ModuleName::new(ModuleName::own_logger().as_bytes()), Err(BadName::Dot));
        assert_eq!(ModuleName::recorded(b".logger"), Ok(ModuleName::own_logger()));
        assert_eq!(ModuleName::new(b"a\0b"), Err(BadName::Byte));
        assert_eq!(ModuleName::new(&[b'a'; 256]), Err(BadName::Long));
    }

    #[test]
    fn a_logger_is_named_after_its_module() {
        let name = |text: &str| ModuleName::new(text.as_bytes()).expect("a name");
        assert_eq!(name("group/web").logger(), name("group/web/log"));
        assert_eq!(name("group/web/log").logged(), Some(name("group/web")));
        for none in ["log", "web", "web/blog", "log/web"] {
            assert_eq!(name(none).logged(), None);
        }
    }

    #[test]
    fn an_instance_is_named_after_its_module_and_its_number() {
        let name = |text: &str| ModuleName::new(text.as_bytes()).expect("a name");
        assert_eq!(name("group/web").instance(12), Ok(name("group/web@12")));
        assert_eq!(name("group/web@12").instance_of(), Some((name("group/web"), 12)));
        assert_eq!(name("web@1@2").instance_of(), Some((name("web@1"), 2)));
        for none in
            ["web", "@1", "group/@1", "web@", "web@0", "web@01", "web@+1", "web@-1", "web@1/log", "web@4294967296"]
        {
            assert_eq!(name(none).instance_of(), None, "{none}");
        }
        assert_eq!(name(&"a".repeat(254)).instance(1), Err(BadName::Long));
    }

    #[test]
    fn escapes() {
        assert_eq!(escaped(b"a\xffb\\c"), "a\\xffb\\\\c");
        assert_eq!(unescaped("a\\xffb\\\\c"), b"a\xffb\\c");
        assert_eq!(printable(b"a\x1b[m\n"), "a\\x1b[m\\x0a");
    }
}

//! Files that the kernel makes up as they are read, as those of `/proc` and of control groups: they have no size, and most
//! of them are a line.
//!
//! Must never be used for files that people write.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What most of them fit into: one call reads it, and one more finds the end.
const ROOM: usize = 1024;

/// All that such a file says.
///
/// # Errors
/// It is not there, or cannot be read.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = vec![0; ROOM];
    let mut length = 0;
    loop {
        match file.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if length == bytes.len() {
            bytes.resize(2 * length, 0);
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// The same, of what is text.
///
/// # Errors
/// As [`read`]; or it is no text.
pub fn text(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_file_is_read_however_long_it_is() {
        let maps = text("/proc/self/maps").expect("read");
        assert!(maps.len() > ROOM && maps.ends_with('\n'), "{maps}");
        assert_eq!(text("/proc/self/comm").expect("read"), std::fs::read_to_string("/proc/self/comm").expect("read"));
        assert!(read("/proc/self/nothing").is_err());
    }
}

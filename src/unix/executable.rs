//! The path that this program was started by, at which a newer one of it may stand later.
//!
//! Must never resolve a link: whoever upgrades replaces the link.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// This very executable, also when it is no longer at any path.
pub const OWN: &str = "/proc/self/exe";

/// The absolute path for the name that this program was called by, as a shell would have found it; [`OWN`] when what
/// stands there is another file.
#[must_use]
pub fn path(called: &OsStr) -> PathBuf {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    find(called, &directories, |path| {
        let same = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
        matches!((same(path), same(Path::new(OWN))), (Ok(found), Ok(own)) if found == own)
    })
    .unwrap_or_else(|| OWN.into())
}

fn find(called: &OsStr, directories: &OsStr, is_own: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let candidates: Vec<PathBuf> = if called.as_bytes().contains(&b'/') {
        vec![called.into()]
    } else {
        std::env::split_paths(directories).map(|directory| directory.join(called)).collect()
    };
    candidates.iter().filter_map(|path| std::path::absolute(path).ok()).find(|path| is_own(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_searched_for_and_a_path_is_made_absolute() {
        let path = OsStr::new("/usr/local/bin:/usr/bin");
        let is_own = |found: &Path| found == Path::new("/usr/bin/svtree");
        assert_eq!(find(OsStr::new("svtree"), path, is_own), Some("/usr/bin/svtree".into()));
        assert_eq!(find(OsStr::new("/usr/bin/svtree"), path, is_own), Some("/usr/bin/svtree".into()));
        assert_eq!(find(OsStr::new("svscan"), path, is_own), None);
        let relative = find(OsStr::new("target/svtree"), path, |_| true);
        assert!(relative.is_some_and(|found| found.is_absolute() && found.ends_with("target/svtree")));
    }
}

//! A service directory, from its first file to its place in the tree.
//!
//! Must never write into the services directory but in the way that its last word says: moved, linked or copied in.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::{Tree, write};

/// A program that does nothing for a long time and ends on TERM.
pub const SLEEPER: &str = "#!/bin/sh\nexec sleep 1000\n";

/// As [`SLEEPER`], and each start leaves a line, its pid, in the notes of its module.
pub const NOTING: &str = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"\nexec sleep 1000\n";

/// As [`NOTING`], but it ends at once with code 1.
pub const CRASHING: &str = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"\nexit 1\n";

/// As [`NOTING`], and a copy that finds another one of its module alive says so in the notes `twice`; the kernel drops
/// the lock with the last process that holds it, however that ends.
pub const ONE_COPY: &str = "#!/bin/sh
exec 9>> \"$SVTREE_IT/notes/$SVTREE_MODULE.lock\"
if flock -n 9; then echo $$ >&9
else echo \"$SVTREE_MODULE: $$ beside $(tail -n 1 \"$SVTREE_IT/notes/$SVTREE_MODULE.lock\")\" >> \"$SVTREE_IT/notes/twice\"
fi
echo $$ >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"
exec sleep 1000
";

/// A program that does not end on TERM, and notes `deaf` once it is deaf.
pub const DEAF: &str = "#!/bin/sh\ntrap '' TERM\necho deaf >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"\nexec sleep 1000\n";

/// A service directory on its way into a tree.
pub struct Service<'a> {
    pub(super) tree: &'a Tree,
    pub(super) name: PathBuf,
    pub(super) dir: PathBuf,
}

impl Service<'_> {
    /// Its `run`.
    pub fn run(self, script: &str) -> Self {
        self.script("run", script)
    }

    /// Its `service.toml`.
    pub fn toml(self, toml: &str) -> Self {
        self.file("service.toml", toml)
    }

    /// A file in it, 0644.
    pub fn file(self, name: &str, contents: &str) -> Self {
        write(&self.dir.join(name), contents, 0o644);
        self
    }

    /// An executable in it, 0755.
    pub fn script(self, name: &str, contents: &str) -> Self {
        write(&self.dir.join(name), contents, 0o755);
        self
    }

    /// Drops it in by one rename, in the place of an entry of that name if there is one; returns where it stands.
    pub fn moved_in(self) -> PathBuf {
        let entry = self.tree.entry(&self.name);
        if entry.symlink_metadata().is_ok() {
            self.tree.move_out(&self.name);
        }
        fs::rename(&self.dir, &entry).expect("moved in");
        entry
    }

    /// Drops it in by a symbolic link; returns the directory that is linked to.
    pub fn linked_in(self) -> PathBuf {
        symlink(&self.dir, self.tree.entry(&self.name)).expect("linked in");
        self.dir
    }

    /// Drops it in by `cp -r`; returns where it stands.
    pub fn copied_in(self) -> PathBuf {
        let entry = self.tree.entry(&self.name);
        let words = ["cp".as_ref(), "-r".as_ref(), self.dir.as_os_str(), entry.as_os_str()];
        self.tree.ran(words).ok();
        entry
    }

    /// Leaves it where it is prepared.
    pub fn dir(self) -> PathBuf {
        self.dir
    }
}

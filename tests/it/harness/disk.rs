//! A small disk that can be filled.
//!
//! Must never leave anything mounted.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::{Tree, is_root, program, ran, skip};

/// A small file system in memory, as the status root or the services directory of a tree. To be made before the tree.
pub struct Disk(TempDir);

impl Disk {
    /// `None`, with a line that says why, where nothing can be mounted.
    pub fn new() -> Option<Disk> {
        let dir = tempfile::tempdir().expect("a directory");
        let words = ["-t", "tmpfs", "-o", "size=512k,nr_inodes=200,mode=755", "none"];
        if !is_root() || program("mount").is_none() || Disk::mount(&words, dir.path()) != Some(0) {
            skip("nothing can be mounted here");
            return None;
        }
        Some(Disk(dir))
    }

    fn mount(words: &[&str], on: &Path) -> Option<i32> {
        ran(std::process::Command::new("mount").args(words).arg(on)).code
    }

    /// Makes it another one, such as `ro`.
    pub fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        assert_eq!(Disk::mount(&["-o", &option], self.0.path()), Some(0));
    }

    /// Stands for the directory of this name in the tree.
    pub fn stands_for(&self, tree: &Tree, name: &str) {
        fs::remove_dir(tree.path(name)).expect("removed");
        symlink(self.0.path(), tree.path(name)).expect("a link");
    }

    /// Takes all its room: that for names too.
    pub fn fill(&self) {
        let mut file = File::create(self.0.path().join(".fill")).expect("a file");
        for size in [4096, 1] {
            while file.write(&vec![0; size]).is_ok() {}
        }
        let full = (0..1000).any(|number| File::create(self.0.path().join(format!(".fill{number}"))).is_err());
        assert!(full, "there is room for no more names");
    }

    /// Gives the room back.
    pub fn free(&self) {
        for entry in fs::read_dir(self.0.path()).expect("its names").flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(b".fill") {
                fs::remove_file(entry.path()).expect("removed");
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let gone = ran(std::process::Command::new("umount").arg("-l").arg(self.0.path()));
        assert!(gone.code == Some(0) || std::thread::panicking(), "{gone:?}");
    }
}

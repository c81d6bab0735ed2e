//! Small disks: one that can be filled, and one that can be made not to answer.
//!
//! Must never leave anything mounted.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

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
        ran(Command::new("mount").args(words).arg(on)).code
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
        let gone = ran(Command::new("umount").arg("-l").arg(self.0.path()));
        assert!(gone.code == Some(0) || std::thread::panicking(), "{gone:?}");
    }
}

/// A disk in a file, mounted on a directory of the tree, that does not answer while it is frozen.
pub struct Freezer(PathBuf);

impl Freezer {
    /// `None`, with a line that says why, where that cannot be.
    pub fn new(tree: &Tree, on: &str) -> Option<Freezer> {
        if !is_root() {
            skip("a disk that can be frozen takes the right to mount");
            return None;
        }
        for name in ["mkfs.ext4", "fsfreeze", "mount"] {
            program(name)?;
        }
        let (image, on) = (tree.path("elsewhere/image"), tree.path(on));
        File::create(&image).and_then(|file| file.set_len(16 << 20)).expect("an image");
        fs::create_dir_all(&on).expect("made");
        let made = ran(Command::new("mkfs.ext4").arg("-q").arg(&image)).code == Some(0);
        if !made || ran(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&on)).code != Some(0) {
            skip("no file can be mounted here");
            return None;
        }
        Some(Freezer(on))
    }

    /// Nothing that is written there ends until it is thawed.
    pub fn freeze(&self) {
        assert_eq!(ran(Command::new("fsfreeze").arg("-f").arg(&self.0)).code, Some(0));
    }

    /// What has waited goes on.
    pub fn thaw(&self) {
        assert_eq!(ran(Command::new("fsfreeze").arg("-u").arg(&self.0)).code, Some(0));
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        // Whoever waits for it would never end.
        let _ = ran(Command::new("fsfreeze").arg("-u").arg(&self.0));
        let _ = ran(Command::new("umount").arg("-l").arg(&self.0));
    }
}

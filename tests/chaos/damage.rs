//! What others do to a status directory, and to its view in the service directory, under a running module.
//!
//! Must never put anything there that svtree does not know, or the directory would rightly stay.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::model::Entry;
use super::natures;
use super::random::Random;
use super::world::{World, lock};

/// The files of a status directory that something else is put in the place of.
const FILES: [&str; 4] = ["svcontrol", "control", "ok", "lock"];
const VIEW: [&str; 4] = ["control", "ok", "lock", "status"];
const RECORDS: [&str; 3] = ["status", "state.json", "supervise.log"];

/// One blow.
pub fn act(world: &World, random: &mut Random, at: usize, entry: &mut Entry) {
    let home = world.home(at);
    let file = *random.pick(&FILES);
    let path = home.join(file);
    let away = world.elsewhere();
    let view = world.service(at).join("supervise");
    let (what, done) = match random.below(11) {
        0 | 1 => (format!("{file} removed"), fs::remove_file(&path)),
        2 => {
            let record = *random.pick(&RECORDS);
            (format!("{record} removed"), fs::remove_file(home.join(record)))
        }
        3 => ("status directory removed".to_owned(), fs::remove_dir_all(&home)),
        4 => ("status directory moved away".to_owned(), fs::rename(&home, &away)),
        5 => (format!("{file} replaced by a file"), replace_by_file(&path)),
        6 => ("lock truncated".to_owned(), truncate(&home.join("lock"))),
        7 => ("supervise removed".to_owned(), fs::remove_dir_all(view)),
        8 => {
            let file = *random.pick(&VIEW);
            (format!("supervise/{file} removed"), fs::remove_file(view.join(file)))
        }
        9 => (format!("{file} replaced by a FIFO, in one rename"), replace_by_fifo(&away, &path)),
        _ => (format!("{file} moved away"), fs::rename(&path, &away)),
    };
    world.note(at, format!("{what}: {done:?}"));
    entry.damaged = true;
    *lock(&world.damaged[at]) = Some(Instant::now());
    // What was moved away is of no more use to anybody.
    let _ = fs::remove_dir_all(&away).or_else(|_| fs::remove_file(&away));
}

fn replace_by_file(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    natures::write(path, "not what it was\n", 0o644)
}

fn replace_by_fifo(new: &Path, path: &Path) -> io::Result<()> {
    fs::symlink_metadata(path)?;
    mknodat(CWD, new, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    fs::rename(new, path)
}

fn truncate(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).truncate(true).open(path).map(drop)
}

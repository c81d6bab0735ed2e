//! `supervise` alone: what others do to its files while it runs.

use std::fs::{self, File};

use crate::harness::{Alone, alive, eventually, write_fifo};

const FILES: [&str; 8] =
    ["lock", "svcontrol", "control", "ok", "status", "state.json", "supervise.log", "supervise.log.wf"];

/// What `d` and `u` do, by the FIFO that is there now.
fn obeys(alone: &Alone, pid: i32) -> i32 {
    eventually("svcontrol to be there", || write_fifo(&alone.home("web").join("svcontrol")).is_ok());
    alone.letter("web", "d");
    eventually("it to be down", || alone.state("web")["state"] == "down" && !alive(pid));
    alone.letter("web", "u");
    alone.up_again("web", pid)
}

#[test]
fn a_file_that_is_deleted_does_no_harm_and_is_there_again() {
    let alone = Alone::new();
    let mut pid = alone.start("sleep 1000", &[]);
    for file in FILES {
        fs::remove_file(alone.home("web").join(file)).expect("removed");
        if !file.starts_with("supervise") {
            eventually(format!("{file} to be there again"), || alone.home("web").join(file).exists());
        }
        assert_eq!(alone.up("web"), pid, "{file}");
        pid = obeys(&alone, pid);
        eventually(format!("{file} to be there"), || alone.home("web").join(file).exists());
    }
    assert_eq!(alone.supervisors().len(), 1);
}

#[test]
fn a_file_that_is_truncated_does_no_harm() {
    let alone = Alone::new();
    let mut pid = alone.start("sleep 1000", &[]);
    for file in FILES {
        let path = alone.home("web").join(file);
        if !path.metadata().expect("there").is_file() {
            continue;
        }
        File::options().write(true).open(&path).and_then(|file| file.set_len(0)).expect("truncated");
        eventually(format!("the status to be true after {file}"), || alone.pid("web") == Some(pid));
        pid = obeys(&alone, pid);
    }
}

#[test]
fn its_log_goes_on_after_it_was_deleted_or_truncated() {
    let alone = Alone::new();
    let pid = alone.start("sleep 1000", &[]);
    eventually("a line", || !alone.log().is_empty());
    fs::remove_file(alone.home("web").join("supervise.log")).expect("removed");
    alone.letter("web", "1");
    eventually("a line in a new one", || alone.log().contains("command 1"));
    File::options()
        .write(true)
        .open(alone.home("web").join("supervise.log"))
        .and_then(|log| log.set_len(0))
        .expect("cut");
    let next = alone.up_again("web", pid);
    alone.letter("web", "t");
    eventually("a line from the beginning of it", || alone.log().starts_with('[') && alone.log().contains("command t"));
    assert!(!alone.log().contains('\0') && !alone.log().contains("command 1"), "{}", alone.log());
    alone.up_again("web", next);
}

#[test]
fn a_status_directory_that_is_removed_or_moved_is_whole_again() {
    for damage in [
        |alone: &Alone| fs::remove_dir_all(alone.home("web")),
        |alone: &Alone| fs::rename(alone.home("web"), alone.path("elsewhere/web")),
    ] {
        let alone = Alone::new();
        let pid = alone.start("sleep 1000", &[]);
        damage(&alone).expect("done");
        assert_eq!(alone.up("web"), pid);
        obeys(&alone, pid);
        assert_eq!(alone.supervisors().len(), 1);
    }
}

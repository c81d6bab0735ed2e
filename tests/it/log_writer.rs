//! `svtree log`, the logger of a `log/run`: what it writes, when it rotates, and that nothing is lost or doubled.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    Disk, Logger, SVTREE, Tree, alive, eventually, fifo, logged, logged_lines, logged_size, ran, rotated, stays, text,
};

/// Logs `input` to its end.
fn log(tree: &Tree, input: &[u8], options: &[&str]) {
    let path = tree.path("elsewhere/input");
    fs::write(&path, input).expect("written");
    let mut logger = Logger::start(tree, fs::File::open(&path).expect("opened"), "log", options);
    assert!(logger.ended().success(), "{}", tree.stderr());
}

#[test]
fn each_line_has_the_stamp_that_was_asked_for_and_one_blank() {
    let tree = Tree::new();
    log(&tree, b"one\n\ntwo", &[]);
    let lines = logged_lines(&tree.path("log"));
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (line, said) in lines.iter().zip(["one", "", "two"]) {
        let (stamp, rest) = line.split_once(' ').expect("a blank");
        assert!(stamp.len() == 27 && stamp.starts_with("20") && stamp.ends_with('Z'), "{line}");
        assert_eq!(rest, said);
    }
    assert!(logged(&tree.path("log")).ends_with(b"two\n"), "the last line has an end");

    let tree = Tree::new();
    log(&tree, b"one\n", &["--timestamps", "tai64n"]);
    let line = logged_lines(&tree.path("log")).remove(0);
    assert!(line.starts_with("@40000000") && line.len() == 25 + 4 && line.ends_with(" one"), "{line}");

    let tree = Tree::new();
    log(&tree, b"one\ntwo\n", &["--timestamps", "none"]);
    assert_eq!(logged(&tree.path("log")), b"one\ntwo\n");
}

#[test]
fn every_byte_passes_as_it_is() {
    let tree = Tree::new();
    let bytes: Vec<u8> = (0..=255_u8).cycle().take(100_000).chain([b'\n']).collect();
    log(&tree, &bytes, &["--timestamps", "none"]);
    assert!(logged(&tree.path("log")) == bytes);
}

#[test]
fn a_line_without_end_is_cut_at_64_kib_and_marked() {
    let tree = Tree::new();
    let mut bytes = vec![b'x'; 100_000];
    bytes.push(b'\n');
    log(&tree, &bytes, &["--timestamps", "none"]);
    let lines = logged_lines(&tree.path("log"));
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], "x".repeat(64 * 1024) + " [cut]");
    assert_eq!(lines[1], "x".repeat(100_000 - 64 * 1024));
}

#[test]
fn files_are_rotated_named_by_tai64n_bounded_and_the_oldest_go() {
    let tree = Tree::new();
    log(&tree, &numbered(30_000), &["--max-size", "16KiB", "--keep", "3"]);
    let log = tree.path("log");
    let files = rotated(&log);
    assert_eq!(files.len(), 3);
    for file in &files {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(
            name.starts_with("@40000000") && name.len() == 27 && file.extension().is_some_and(|kind| kind == "s"),
            "{name}"
        );
        assert!(fs::read(file).expect("read").ends_with(b"\n"), "no line is parted");
    }
    for file in files.iter().chain([&log.join("current")]) {
        assert!(fs::metadata(file).expect("it is there").len() <= 16 * 1024);
    }
    assert!(logged_size(&log) <= 4 * 16 * 1024);
    // What is left is the end, with nothing missing in it.
    let lines = logged_lines(&log);
    let numbers: Vec<usize> =
        lines.iter().map(|line| line.rsplit(' ').next().expect("a word").parse().expect("a number")).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1) && numbers.last() == Some(&29_999));
}

#[test]
fn the_files_of_a_log_are_never_more_than_was_allowed() {
    let tree = Tree::new();
    let log = tree.path("log");
    let pipe = fifo(&tree.path("fifo"));
    let input = pipe.try_clone().expect("a descriptor");
    let mut logger = Logger::start(&tree, input, "log", &["--max-size", "32KiB", "--keep", "2"]);
    let written = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..100_000 {
                writeln!(&pipe, "this is the line with the number {number}").expect("written");
                written.store(number + 1, Ordering::Relaxed);
            }
        });
        while written.load(Ordering::Relaxed) < 100_000 {
            assert!(logged_size(&log) <= 3 * 32 * 1024, "{}", logged_size(&log));
        }
    });
    eventually("the last line", || text(&log.join("current")).contains("number 99999\n"));
    logger.signal(Signal::TERM);
    assert!(logger.ended().success());
    assert!(logged_size(&log) <= 3 * 32 * 1024);
}

#[test]
fn smaller_limits_hold_from_the_next_start_on() {
    let tree = Tree::new();
    let input = "a line\n".repeat(10_000);
    log(&tree, input.as_bytes(), &["--max-size", "8KiB", "--keep", "9"]);
    assert_eq!(rotated(&tree.path("log")).len(), 9);
    log(&tree, b"", &["--max-size", "8KiB", "--keep", "2"]);
    assert_eq!(rotated(&tree.path("log")).len(), 2);
}

#[test]
fn on_term_it_finishes_its_line_and_leaves_the_next_one_in_the_pipe() {
    let tree = Tree::new();
    let current = tree.path("log/current");
    let pipe = fifo(&tree.path("fifo"));
    let start = || Logger::start(&tree, pipe.try_clone().expect("a descriptor"), "log", &["--timestamps", "none"]);
    let mut logger = start();
    (&pipe).write_all(b"begun, ").expect("written");
    eventually("the beginning", || text(&current) == "begun, ");
    logger.signal(Signal::TERM);
    stays(Duration::from_millis(300), "it waits for the end of the line", || alive(logger.pid()));
    (&pipe).write_all(b"ended\nthe next ").expect("written");
    assert!(logger.ended().success());
    assert_eq!(text(&current), "begun, ended\n");
    let mut logger = start();
    (&pipe).write_all(b"one\n").expect("written");
    eventually("the next line", || text(&current) == "begun, ended\nthe next one\n");
    logger.signal(Signal::TERM);
    assert!(logger.ended().success());
}

#[test]
fn on_term_between_two_lines_it_ends_at_once_and_a_line_that_nobody_ends_holds_it_up_for_two_seconds() {
    let tree = Tree::new();
    let pipe = fifo(&tree.path("fifo"));
    let start = || Logger::start(&tree, pipe.try_clone().expect("a descriptor"), "log", &["--timestamps", "none"]);
    let mut logger = start();
    eventually("the log", || tree.path("log/current").exists());
    logger.signal(Signal::TERM);
    assert!(logger.ended().success());
    let mut logger = start();
    (&pipe).write_all(b"half").expect("written");
    eventually("the beginning", || text(&tree.path("log/current")) == "half");
    logger.signal(Signal::TERM);
    assert!(logger.ended().success());
    // The next one goes on with it.
    let mut logger = start();
    (&pipe).write_all(b" a line\n").expect("written");
    eventually("the end", || text(&tree.path("log/current")) == "half a line\n");
    logger.signal(Signal::TERM);
    assert!(logger.ended().success());
}

#[test]
fn on_alrm_it_begins_another_file_behind_the_line() {
    let tree = Tree::new();
    let log = tree.path("log");
    let pipe = fifo(&tree.path("fifo"));
    let input = pipe.try_clone().expect("a descriptor");
    let logger = Logger::start(&tree, input, "log", &["--timestamps", "none"]);
    (&pipe).write_all(b"one\n").expect("written");
    eventually("the line", || text(&log.join("current")) == "one\n");
    logger.signal(Signal::ALARM);
    eventually("another file", || rotated(&log).len() == 1 && text(&log.join("current")).is_empty());
    (&pipe).write_all(b"two, ").expect("written");
    eventually("the beginning", || text(&log.join("current")) == "two, ");
    logger.signal(Signal::ALARM);
    logger.signal(Signal::HUP);
    (&pipe).write_all(b"three\nfour\n").expect("written");
    eventually("a third file", || rotated(&log).len() == 2 && text(&log.join("current")) == "four\n");
    assert_eq!(text(&rotated(&log)[1]), "two, three\n");
}

/// Writes all of it while loggers are started and ended; returns what was logged.
fn logged_by_many(input: &[u8], signal: Signal, count: usize) -> Vec<u8> {
    let tree = Tree::new();
    let pipe = fifo(&tree.path("fifo"));
    let other = pipe.try_clone().expect("a descriptor");
    let options = ["--timestamps", "none", "--max-size", "64KiB", "--keep", "10000"];
    let start = || Logger::start(&tree, other.try_clone().expect("a descriptor"), "log", &options);
    let written = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for part in input.chunks(1000) {
                (&pipe).write_all(part).expect("written");
                written.fetch_add(part.len(), Ordering::Relaxed);
            }
        });
        for turn in 1..=count {
            let mut logger = start();
            let until = input.len() / (count + 1) * turn;
            eventually("the next part", || written.load(Ordering::Relaxed) >= until);
            logger.signal(signal);
            logger.ended();
        }
        let _last = start();
        eventually("all of it", || text_size(&tree.path("log")) >= input.len() as u64);
    });
    logged(&tree.path("log"))
}

fn text_size(log: &Path) -> u64 {
    let files = rotated(log).into_iter().chain([log.join("current")]);
    files.filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum()
}

fn numbered(count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| format!("this is line {number}\n").into_bytes()).collect()
}

#[test]
fn two_hundred_thousand_lines_arrive_once_and_in_order_while_the_logger_is_killed_twenty_times() {
    let input = numbered(200_000);
    assert!(logged_by_many(&input, Signal::KILL, 20) == input);
}

#[test]
fn two_hundred_thousand_lines_arrive_once_and_in_order_while_the_logger_is_ended_twenty_times() {
    let input = numbered(200_000);
    assert!(logged_by_many(&input, Signal::TERM, 20) == input);
}

#[test]
fn lines_that_are_all_the_same_are_neither_lost_nor_doubled_when_the_logger_is_killed() {
    let input = b"\n".repeat(500_000);
    assert_eq!(logged_by_many(&input, Signal::KILL, 20).len(), input.len());
    let input = b"y\n".repeat(500_000);
    assert!(logged_by_many(&input, Signal::KILL, 20) == input);
}

#[test]
fn a_second_logger_in_one_directory_is_refused() {
    let tree = Tree::new();
    let pipe = fifo(&tree.path("fifo"));
    let first = Logger::start(&tree, pipe.try_clone().expect("a descriptor"), "log", &[]);
    eventually("the log", || tree.path("log/current").exists());
    let line = ran(tree.command([SVTREE, "log", "log"]).stdin(Stdio::null())).failed(111);
    assert!(line.contains("log/lock: held by pid ") && line.contains(&first.pid().to_string()), "{line}");
}

#[test]
fn wrong_usage_of_log_is_said() {
    let tree = Tree::new();
    for words in [&["log"][..], &["log", "d", "--max-size", "1"], &["log", "d", "--timestamps", "utc"]] {
        tree.svtree(words.iter().copied()).failed(100);
    }
}

#[test]
fn a_full_disk_holds_the_lines_up_and_none_is_lost_or_doubled() {
    let Some(disk) = Disk::new() else { return };
    let tree = Tree::new();
    disk.stands_for(&tree, "logs");
    let pipe = fifo(&tree.path("fifo"));
    let current = tree.path("logs/current");
    let input = pipe.try_clone().expect("a descriptor");
    let mut logger = Logger::start(&tree, input, "logs", &["--timestamps", "none"]);
    (&pipe).write_all(b"first\n").expect("written");
    eventually("the log", || text(&current) == "first\n");
    disk.fill();
    let input = numbered(5000);
    thread::scope(|scope| {
        scope.spawn(|| (&pipe).write_all(&input).expect("written"));
        eventually("a full disk", || tree.stderr().contains("No space left on device"));
        stays(Duration::from_secs(1), "it goes on trying", || alive(logger.pid()));
        disk.free();
        eventually("all lines", || text_size(&tree.path("logs")) >= input.len() as u64 + 6);
    });
    assert!(logged(&tree.path("logs")) == [b"first\n", &input[..]].concat());
    eventually("it is told", || tree.stderr().contains("it works again"));
    logger.signal(Signal::TERM);
    assert!(logger.ended().success());
}

#[test]
fn a_logger_that_is_killed_on_a_full_disk_loses_and_doubles_nothing() {
    let Some(disk) = Disk::new() else { return };
    let tree = Tree::new();
    disk.stands_for(&tree, "logs");
    let pipe = fifo(&tree.path("fifo"));
    let other = pipe.try_clone().expect("a descriptor");
    let start = || Logger::start(&tree, other.try_clone().expect("a descriptor"), "logs", &["--timestamps", "none"]);
    let logger = start();
    let current = tree.path("logs/current");
    eventually("the log", || current.exists());
    disk.fill();
    let input = numbered(5000);
    thread::scope(|scope| {
        scope.spawn(|| (&pipe).write_all(&input).expect("written"));
        eventually("a full disk", || tree.stderr().contains("No space left on device"));
        drop(logger);
        let second = start();
        drop(second);
        disk.free();
        let _third = start();
        eventually("all lines", || text_size(&tree.path("logs")) >= input.len() as u64);
        assert!(logged(&tree.path("logs")) == input);
    });
}

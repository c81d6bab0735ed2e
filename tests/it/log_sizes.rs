//! How much room the files of a log take, whatever happens to its logger, and when they are on the disk.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::harness::{
    Freezer, Logger, Tree, eventually, fifo, logged, logged_lines, logged_size, program, ran, replace, rotated, text,
};

/// Starts a logger that writes this and ends.
fn log(tree: &Tree, input: &str, options: &[&str]) {
    fs::write(tree.path("input"), input).expect("written");
    let input = fs::File::open(tree.path("input")).expect("opened");
    assert!(Logger::start(tree, input, "log", options).ended().success());
}

fn numbers(count: usize) -> String {
    (1..=count).map(|number| number.to_string() + "\n").collect()
}

/// Whether there is the end of so many numbers, with nothing missing in it, in files that are no longer than this.
fn is_the_end(log: &Path, count: usize, longest: u64) -> bool {
    let files = rotated(log).into_iter().chain([log.join("current")]);
    let lines = logged_lines(log);
    let Some(first) = (count + 1).checked_sub(lines.len()) else { return false };
    !lines.is_empty()
        && files.into_iter().all(|file| fs::metadata(file).is_ok_and(|file| file.len() <= longest))
        && lines.iter().enumerate().all(|(index, line)| {
            let line = line.rsplit(' ').next().unwrap_or_default();
            line == (first + index).to_string()
        })
}

#[test]
fn a_smaller_size_holds_at_once_and_the_end_of_what_was_logged_is_kept() {
    let tree = Tree::new();
    let (log_dir, count) = (tree.path("log"), 20_000);
    log(&tree, &numbers(count), &["--timestamps", "none", "--max-size", "64KiB", "--keep", "5"]);
    assert!(rotated(&log_dir).len() == 2 && is_the_end(&log_dir, count, 64 << 10));
    log(&tree, "", &["--timestamps", "none", "--max-size", "8KiB", "--keep", "5"]);
    assert!(logged_size(&log_dir) <= 6 * 8 * 1024, "{}", logged_size(&log_dir));
    // Of each file the end is kept: the newest is as long as one may be.
    let newest = rotated(&log_dir).pop().expect("one");
    let size = fs::metadata(&newest).expect("it is there").len();
    assert!((8185..=8192).contains(&size) && text(&newest).ends_with("\n20000\n"), "{size}");
    assert!(text(&newest).lines().all(|line| line.len() == 5), "it begins with a line");
    log(&tree, "more\n", &["--timestamps", "none", "--max-size", "4KiB", "--keep", "0"]);
    assert_eq!(logged(&log_dir), b"more\n");
}

#[test]
fn a_smaller_size_in_service_toml_holds_from_the_next_start_on() {
    let tree = Tree::new().options(["--log", "file"]);
    tree.start();
    let run = "#!/bin/sh\nseq 20000\nexec sleep 1000\n";
    let dir = tree.service("web").run(run).toml("[log]\nmax_size = \"256KiB\"\n").moved_in();
    let log = tree.path("logs/web");
    eventually("its lines", || logged_lines(&log).len() == 20_000);
    let pid = tree.up("web");
    assert!(logged_size(&log) > 400_000);
    replace(&dir.join("service.toml"), "[log]\nmax_size = \"16KiB\"\nkeep = 2\n", 0o644);
    eventually("it is seen", || tree.state("web")["changed"] == true);
    tree.letter("web", "k");
    tree.up_again("web", pid);
    eventually("the end of what it says, and no more than is allowed", || {
        logged_size(&log) <= 3 * 16 * 1024 && is_the_end(&log, 20_000, 16 << 10)
    });
}

#[test]
fn the_files_of_a_log_are_never_more_than_was_allowed_also_while_its_loggers_are_killed() {
    let tree = Tree::new();
    let log = tree.path("log");
    let pipe = fifo(&tree.path("fifo"));
    let options = ["--timestamps", "none", "--max-size", "8KiB", "--keep", "2"];
    let start = || Logger::start(&tree, pipe.try_clone().expect("a descriptor"), "log", &options);
    let is_over = AtomicBool::new(false);
    let bound = || assert!(logged_size(&log) <= 3 * 8 * 1024, "{}", logged_size(&log));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let numbers = (1_usize..).take_while(|_| !is_over.load(Ordering::Relaxed));
            numbers.inspect(|number| writeln!(&pipe, "{number}").expect("written")).count()
        });
        for _ in 0..40 {
            let mut logger = start();
            let before = rotated(&log);
            eventually("it has begun another file", || {
                bound();
                rotated(&log) != before
            });
            logger.signal(Signal::KILL);
            logger.ended();
        }
        let _last = start();
        is_over.store(true, Ordering::Relaxed);
        let count = writer.join().expect("written");
        eventually("the last line", || logged(&log).ends_with(format!("\n{count}\n").as_bytes()));
        bound();
        assert!(is_the_end(&log, count, 8 << 10));
    });
}

#[test]
fn a_file_that_has_ended_is_put_on_the_disk() {
    let tree = Tree::new();
    // A file system that says what it has not written yet.
    let (Some(disk), Some(_)) = (Freezer::new(&tree, "log"), program("filefrag")) else { return };
    let pipe = fifo(&tree.path("fifo"));
    let mut logger = Logger::start(&tree, pipe.try_clone().expect("a descriptor"), "log", &["--max-size", "64KiB"]);
    (&pipe).write_all(numbers(10_000).as_bytes()).expect("written");
    let log = tree.path("log");
    eventually("files that have ended", || rotated(&log).len() > 2);
    let waits = |file: &Path| ran(Command::new("filefrag").arg("-v").arg(file)).out.contains("delalloc");
    // The kernel by itself would let them wait for half a minute.
    eventually("they are on the disk", || rotated(&log).iter().all(|file| !waits(file)));
    logger.signal(Signal::TERM);
    assert!(logger.ended().success());
    drop(disk);
}

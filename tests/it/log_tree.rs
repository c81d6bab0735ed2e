//! The tree's own logger: what modules say, in files or shown, while anything else is killed or replaced.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    Disk, Freezer, Tree, alive, eventually, has_open, logged, logged_lines, logged_size, process_field, rotated,
    signal_pid, stays, text, wait_for,
};

/// A tree whose modules are logged to files.
fn tree() -> Tree {
    Tree::new().options(["--log", "file"])
}

/// The pid of the tree's logger.
fn logger(tree: &Tree) -> i32 {
    tree.up(".logger")
}

/// What a module has said, without stamps.
fn said(tree: &Tree, name: &str) -> Vec<String> {
    let lines = logged_lines(&tree.path("logs").join(name));
    lines.iter().map(|line| line.split_once(' ').map_or("", |(_, line)| line).to_owned()).collect()
}

/// A program that says so many numbers and then sleeps.
fn counting(count: usize) -> String {
    format!("#!/bin/sh\nseq {count}\nexec sleep 1000\n")
}

#[test]
fn what_a_module_says_on_both_of_its_outputs_is_in_its_log() {
    let tree = tree();
    tree.start();
    tree.service("web").run("#!/bin/sh\necho out\necho err >&2\nexec sleep 1000\n").moved_in();
    eventually("both lines", || said(&tree, "web") == ["out", "err"]);
    assert_eq!(fs::metadata(tree.path("logs/web")).map(|dir| mode(&dir)).ok(), Some(0o750));
}

fn mode(metadata: &fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o777
}

#[test]
fn without_a_terminal_files_are_the_default_and_there_is_one_logger_for_all() {
    let tree = Tree::new().options([] as [&str; 0]);
    tree.start();
    for name in ["one", "two", "three"] {
        tree.service(name).run(&counting(3)).moved_in();
    }
    for name in ["one", "two", "three"] {
        eventually("its lines", || said(&tree, name) == ["1", "2", "3"]);
    }
    let logger = logger(&tree);
    assert_eq!(process_field(logger, "PPid"), tree.pid_of_svtree().to_string());
    // It is no module that anybody has to know of.
    assert!(!tree.svtree(["status"]).ok().contains(".logger"));
    assert_eq!(tree.called("svstat", ["status/.logger"]).ok().split(' ').nth(1), Some("up"));
}

#[test]
fn a_tree_without_logs_has_no_logger() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    assert!(!tree.home(".logger").exists());
}

#[test]
fn the_keys_of_log_hold() {
    let tree = tree();
    tree.start();
    let toml = "[log]\ndirectory = \"log\"\nmax_size = \"8KiB\"\nkeep = 2\ntimestamps = \"none\"\n";
    let dir = tree.service("web").run(&counting(20_000)).toml(toml).moved_in();
    let log = dir.join("log");
    eventually("the last line", || text(&log.join("current")).ends_with("20000\n"));
    assert_eq!(rotated(&log).len(), 2);
    assert!(logged_size(&log) <= 3 * 8 * 1024);
    tree.service("quiet").run("#!/bin/sh\necho x\nexec sleep 1000\n").toml("[log]\nto = \"none\"\n").moved_in();
    tree.up("quiet");
    assert!(!tree.path("logs/quiet").exists() && !tree.home("quiet").join("output").exists());
}

#[test]
fn the_last_line_that_is_said_in_a_handler_of_term_is_in_the_log_and_the_log_stays() {
    let tree = tree();
    tree.start();
    let run = "#!/bin/sh\ntrap 'echo bye; exit 0' TERM\necho ready\nwhile :; do sleep 0.1; done\n";
    tree.service("web").run(run).moved_in();
    eventually("it is ready", || said(&tree, "web") == ["ready"]);
    tree.move_out("web");
    tree.goes("web");
    eventually("its last line", || said(&tree, "web") == ["ready", "bye"]);

    tree.service("two").run(run).moved_in();
    eventually("it is ready", || said(&tree, "two") == ["ready"]);
    assert!(tree.stop().success());
    assert_eq!(said(&tree, "two"), ["ready", "bye"]);
    assert!(!tree.home(".logger").exists() && !tree.home(".spools").exists());
}

#[test]
fn the_end_of_the_logger_costs_nobody_a_line_or_a_signal() {
    let tree = tree();
    tree.start();
    tree.service("web")
        .run("#!/bin/sh\ni=0\nwhile read -r _; do i=$((i+1)); echo $i; done <../../notes/go\n")
        .moved_in();
    crate::harness::fifo(&tree.path("notes/go"));
    let mut go = fs::OpenOptions::new().read(true).write(true).open(tree.path("notes/go")).expect("opened");
    let pid = tree.up("web");
    for turn in 1..=20 {
        let before = logger(&tree);
        std::io::Write::write_all(&mut go, &b"go\n".repeat(50)).expect("written");
        signal_pid(before, Signal::KILL);
        std::io::Write::write_all(&mut go, &b"go\n".repeat(50)).expect("written");
        let expected: Vec<String> = (1..=turn * 100).map(|number| number.to_string()).collect();
        eventually("all lines so far", || said(&tree, "web") == expected);
        tree.up_again(".logger", before);
    }
    assert_eq!(tree.pid("web"), Some(pid));
}

#[test]
fn two_hundred_thousand_lines_arrive_once_and_in_order_while_the_loggers_of_a_tree_are_killed() {
    let tree = tree();
    tree.start();
    let toml = "[log]\nmax_size = \"64KiB\"\nkeep = 10000\ntimestamps = \"none\"\n";
    tree.service("web").run(&counting(200_000)).toml(toml).moved_in();
    let log = tree.path("logs/web");
    let expected: Vec<u8> = (1..=200_000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    let mut kills = 0;
    let mut before = 0;
    while kills < 20 && text_size(&log) < expected.len() as u64 {
        before = tree.up_again(".logger", before);
        signal_pid(before, Signal::KILL);
        kills += 1;
    }
    eventually("all of it", || text_size(&log) >= expected.len() as u64);
    assert!(logged(&log) == expected, "after {kills} kills");
}

#[test]
fn two_hundred_thousand_lines_arrive_once_and_in_order_while_svscan_is_killed_twenty_times() {
    let tree = tree();
    tree.start();
    let toml = "[log]\nmax_size = \"64KiB\"\nkeep = 10000\ntimestamps = \"none\"\n";
    let run = "#!/bin/sh\nseq 100000\nread -r _ <../../notes/go\nseq 100001 200000\nexec sleep 1000\n";
    crate::harness::fifo(&tree.path("notes/go"));
    tree.service("web").run(run).toml(toml).moved_in();
    let log = tree.path("logs/web");
    let pid = tree.up("web");
    for turn in 0..20 {
        let other = logger(&tree);
        tree.kill_svtree();
        // Of every other death the logger has its part.
        if turn % 2 == 1 {
            signal_pid(other, Signal::KILL);
        }
        if turn == 10 {
            fs::write(tree.path("notes/go"), "go\n").expect("written");
        }
        tree.start();
        tree.up("web");
    }
    let expected: Vec<u8> = (1..=200_000).flat_map(|number| format!("{number}\n").into_bytes()).collect();
    eventually("all of it", || text_size(&log) >= expected.len() as u64);
    assert!(logged(&log) == expected);
    assert_eq!(tree.pid("web"), Some(pid));
    assert!(tree.stop().success());
}

fn text_size(log: &Path) -> u64 {
    let files = rotated(log).into_iter().chain([log.join("current")]);
    files.filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum()
}

#[test]
fn lines_flow_on_while_svscan_is_stopped_dead_or_upgraded() {
    let tree = tree();
    tree.start();
    crate::harness::fifo(&tree.path("notes/go"));
    tree.service("web").run("#!/bin/sh\nexec cat <../../notes/go\n").moved_in();
    let mut go = fs::OpenOptions::new().read(true).write(true).open(tree.path("notes/go")).expect("opened");
    let mut say = |word: &str| std::io::Write::write_all(&mut go, format!("{word}\n").as_bytes()).expect("written");
    let pid = tree.up("web");
    let other = logger(&tree);
    say("one");
    eventually("it is logged", || said(&tree, "web") == ["one"]);
    tree.signal_svtree(Signal::STOP);
    say("two");
    eventually("it is logged", || said(&tree, "web") == ["one", "two"]);
    tree.signal_svtree(Signal::CONT);
    tree.svtree(["upgrade"]).ok();
    say("three");
    eventually("it is logged", || said(&tree, "web") == ["one", "two", "three"]);
    assert_eq!((tree.up("web"), tree.up(".logger")), (pid, other));
    tree.kill_svtree();
    say("four");
    eventually("it is logged", || said(&tree, "web") == ["one", "two", "three", "four"]);
    tree.start();
    assert_eq!((tree.up("web"), tree.up(".logger")), (pid, other));
    // Another process of the module has another pipe to say it through, or the same.
    tree.letter("web", "k");
    tree.up_again("web", pid);
    say("five");
    eventually("it is logged", || said(&tree, "web") == ["one", "two", "three", "four", "five"]);
}

#[test]
fn a_full_disk_holds_up_only_the_module_that_it_belongs_to() {
    let Some(disk) = Disk::new() else { return };
    let tree = tree();
    fs::create_dir(tree.path("logs/web")).expect("made");
    disk.stands_for(&tree, "logs/web");
    tree.start();
    tree.service("web").run(&counting(1000)).moved_in();
    eventually("its lines", || said(&tree, "web").len() == 1000);
    disk.fill();
    tree.letter("web", "k");
    eventually("it is told", || tree.stderr().contains("logging web: writing"));
    tree.service("other").run(&counting(3)).moved_in();
    eventually("the lines of the other", || said(&tree, "other") == ["1", "2", "3"]);
    assert!(tree.stderr().contains("No space left on device"));
    disk.free();
    let expected: Vec<String> = (1..=1000).chain(1..=1000).map(|number| number.to_string()).collect();
    eventually("nothing is lost", || said(&tree, "web") == expected);
}

#[test]
fn a_disk_that_does_not_answer_holds_up_only_the_modules_that_log_there() {
    let tree = tree();
    let Some(disk) = Freezer::new(&tree, "logs/slow") else { return };
    tree.start();
    let run = "#!/bin/sh\ni=0\nwhile :; do i=$((i+1)); echo $i; sleep 0.02; done\n";
    for name in ["slow", "fast"] {
        tree.service(name).run(run).moved_in();
        eventually("its lines", || said(&tree, name).len() > 3);
    }
    disk.freeze();
    let before = said(&tree, "fast").len();
    eventually("the other one to go on", || said(&tree, "fast").len() > before + 50);
    let slow = said(&tree, "slow").len();
    tree.service("later").run(&counting(3)).moved_in();
    eventually("another one to begin", || said(&tree, "later") == ["1", "2", "3"]);
    disk.thaw();
    eventually("it to go on as well", || said(&tree, "slow").len() > slow + 50);
    let lines = said(&tree, "slow");
    assert!(lines.iter().enumerate().all(|(index, line)| *line == (index + 1).to_string()), "none is lost");
    assert!(tree.stop().success());
    drop(disk);
}

#[test]
fn at_a_hurried_end_all_that_was_said_is_written() {
    let tree = tree();
    tree.start();
    tree.service("web").run(&counting(20_000)).moved_in();
    tree.up("web");
    eventually("it has begun", || !said(&tree, "web").is_empty());
    tree.signal_svtree(Signal::QUIT);
    assert!(tree.ended().success());
    // What it had no time to say was not said; of what was, nothing is missing.
    let lines = said(&tree, "web");
    assert!(lines.iter().enumerate().all(|(index, line)| *line == (index + 1).to_string()), "{}", lines.len());
}

#[test]
fn with_full_drop_lines_are_dropped_and_counted_and_the_program_does_not_wait() {
    let Some(disk) = Disk::new() else { return };
    let tree = tree();
    fs::create_dir(tree.path("logs/web")).expect("made");
    let lines = || logged_lines(&tree.path("logs/web"));
    disk.stands_for(&tree, "logs/web");
    tree.start();
    // More than a pipe holds, and less than the disk.
    let run = "#!/bin/sh\necho first\nread -r _ <../../notes/go\nseq 60000\necho done >../../notes/done\n\
               until read -r _ <../../notes/go; do :; done\necho last\nexec sleep 1000\n";
    crate::harness::fifo(&tree.path("notes/go"));
    tree.service("web").run(run).toml("[log]\nfull = 'drop'\ntimestamps = 'none'\n").moved_in();
    eventually("the first line", || lines() == ["first"]);
    disk.fill();
    let go = || fs::write(tree.path("notes/go"), "go\n").expect("written");
    go();
    eventually("it does not wait", || tree.path("notes/done").exists());
    disk.free();
    // No line has to come for that.
    let counted = || {
        let lines = lines();
        let numbers =
            lines.iter().filter_map(|line| line.strip_prefix("svtree: ")?.split(' ').next()?.parse::<usize>().ok());
        let whole = lines.iter().filter(|line| line.parse::<usize>().is_ok()).count();
        (whole, numbers.sum::<usize>())
    };
    eventually("what was dropped", || matches!(counted(), (whole, dropped @ 1..) if whole + dropped >= 60_000));
    let (whole, dropped) = counted();
    // A line of which a part was dropped may count twice.
    assert!(whole + dropped <= 60_001, "{whole} and {dropped}");
    go();
    eventually("the last line", || lines().last().is_some_and(|line| line == "last"));
}

#[test]
fn what_was_dropped_of_a_module_that_is_gone_is_told_as_well() {
    let Some(disk) = Disk::new() else { return };
    let tree = tree();
    fs::create_dir(tree.path("logs/web")).expect("made");
    disk.stands_for(&tree, "logs/web");
    tree.start();
    let run = "#!/bin/sh\necho first\nread -r _ <../../notes/go\nseq 60000\n: >../../notes/done\nexec sleep 1000\n";
    crate::harness::fifo(&tree.path("notes/go"));
    let entry = tree.service("web").run(run).toml("[log]\nfull = 'drop'\ntimestamps = 'none'\n").moved_in();
    let lines = || logged_lines(&tree.path("logs/web"));
    eventually("the first line", || lines() == ["first"]);
    disk.fill();
    fs::write(tree.path("notes/go"), "go\n").expect("written");
    eventually("it does not wait", || tree.path("notes/done").exists());
    crate::harness::remove(&entry);
    tree.goes("web");
    let ticks = || crate::harness::ticks(logger(&tree));
    let before = ticks();
    stays(Duration::from_secs(1), "it waits for the disk", || lines().iter().all(|line| !line.contains("dropped")));
    assert!(ticks() <= before + 10, "{} ticks", ticks() - before);
    disk.free();
    eventually("what was dropped", || lines().iter().any(|line| line.contains("lines were dropped")));
}

#[test]
fn a_module_that_is_replaced_on_a_full_disk_drops_lines_as_the_one_before_it_did() {
    let Some(disk) = Disk::new() else { return };
    let tree = tree();
    fs::create_dir(tree.path("logs/web")).expect("made");
    disk.stands_for(&tree, "logs/web");
    tree.start();
    let service = |number: u32| {
        let run = format!(
            "#!/bin/sh\necho {number}\nread -r _ <../../notes/go\nseq 100001 160000\n: >../../notes/done{number}\nexec sleep 1000\n"
        );
        tree.service("web").run(&run).toml("[log]\nfull = 'drop'\ntimestamps = 'none'\n").moved_in()
    };
    let go = || fs::write(tree.path("notes/go"), "go\n").expect("written");
    crate::harness::fifo(&tree.path("notes/go"));
    let lines = || logged_lines(&tree.path("logs/web"));
    let entry = service(1);
    eventually("the first line", || lines() == ["1"]);
    disk.fill();
    for number in 1..=3 {
        go();
        eventually(format!("{number} not to wait"), || tree.path(format!("notes/done{number}")).exists());
        crate::harness::remove(&entry);
        tree.goes("web");
        service(number + 1);
    }
    disk.free();
    let counted = || {
        let lines = lines();
        let told =
            lines.iter().filter_map(|line| line.strip_prefix("svtree: ")?.split(' ').next()?.parse::<usize>().ok());
        let whole = lines.iter().filter(|line| line.parse::<usize>().is_ok()).count();
        whole + told.sum::<usize>()
    };
    // Of each of three a line may count twice, of which a part was dropped.
    let all = 3 * 60_000 + 4;
    eventually("all to be there or counted", || (all..=all + 3).contains(&counted()));
}

#[test]
fn what_several_programs_say_one_after_the_other_while_the_disk_is_full_comes_in_that_order() {
    let Some(disk) = Disk::new() else { return };
    let tree = tree();
    fs::create_dir(tree.path("logs/web")).expect("made");
    disk.stands_for(&tree, "logs/web");
    tree.start();
    let said = |number: u32| (number * 1000 + 1..=number * 1000 + 500).map(|line| line.to_string());
    let service = |number: u32| {
        let (first, last) = (number * 1000 + 1, number * 1000 + 500);
        let run = format!("#!/bin/sh\nseq {first} {last}\n: >../../notes/done{number}\nexec sleep 1000\n");
        tree.service("web").run(&run).toml("[log]\ntimestamps = 'none'\n").moved_in()
    };
    let lines = || logged_lines(&tree.path("logs/web"));
    let entry = service(1);
    eventually("the first lines", || lines().iter().cloned().eq(said(1)));
    disk.fill();
    for number in 2..=4 {
        crate::harness::remove(&entry);
        tree.goes("web");
        service(number);
        eventually(format!("{number} to have said all"), || tree.path(format!("notes/done{number}")).exists());
    }
    disk.free();
    eventually("all lines", || lines().iter().cloned().eq((1..=4).flat_map(said)));
}

#[test]
fn whatever_svtree_is_called_its_logger_is_there_and_comes_back() {
    for name in ["svscan", "svtree"] {
        let words = if name == "svscan" { 2 } else { 1 };
        let script = format!("shift {words}; exec \"$PWD/bin/{name}\" \"$@\"");
        let tree = Tree::new().options(["--log", "file"]).through(["sh", "-c", &script, "sh"]);
        fs::create_dir(tree.path("bin")).expect("made");
        symlink(crate::harness::SVTREE, tree.path("bin").join(name)).expect("linked");
        tree.start();
        let lines = || logged_lines(&tree.path("logs/web")).len();
        let run = "#!/bin/sh\nwhile :; do echo line; sleep 0.01; done\n";
        tree.service("web").run(run).moved_in();
        eventually("its lines", || lines() > 3);
        let before = logger(&tree);
        assert_eq!(text(Path::new(&format!("/proc/{before}/comm"))).trim(), "svtree");
        // Something else stands at its place by now.
        fs::remove_file(tree.path("bin").join(name)).expect("removed");
        fs::write(tree.path("bin").join(name), "no program").expect("written");
        signal_pid(before, Signal::KILL);
        tree.up_again(".logger", before);
        let so_far = lines();
        eventually("more lines", || lines() > so_far + 3);
    }
}

#[test]
fn a_logger_that_dies_after_an_upgrade_comes_back() {
    for name in ["-first", "web"] {
        let tree = tree();
        tree.start();
        tree.service(name).run("#!/bin/sh\nwhile :; do echo line; sleep 0.01; done\n").moved_in();
        let lines = || logged_lines(&tree.path("logs").join(name)).len();
        eventually("its lines", || lines() > 3);
        for _ in 0..2 {
            tree.svtree(["upgrade"]).ok();
            let before = logger(&tree);
            signal_pid(before, Signal::KILL);
            tree.up_again(".logger", before);
            let so_far = lines();
            eventually("more lines", || lines() > so_far + 3);
        }
    }
}

#[test]
fn a_directory_of_a_log_that_is_removed_is_made_again_and_lines_flow_on() {
    const COUNTING: &str = "#!/bin/sh\ni=0\nwhile :; do i=$((i + 1)); echo $i; sleep 0.005; done\n";
    let tree = tree();
    tree.start();
    let own = format!("#!/bin/sh\nexec {} log --timestamps none ./main\n", crate::harness::SVTREE);
    tree.service("own").run(COUNTING).script("log/run", &own).moved_in();
    tree.service("web").run(COUNTING).toml("[log]\ntimestamps = 'none'\n").moved_in();
    for directory in [tree.path("logs/web"), tree.entry("own").join("log/main")] {
        let numbers =
            || -> Vec<u32> { logged_lines(&directory).iter().map(|line| line.parse().expect("a number")).collect() };
        for _ in 0..3 {
            eventually("lines", || numbers().len() > 20);
            let last = *numbers().last().expect("a line");
            fs::remove_dir_all(&directory).expect("removed");
            eventually("lines after that", || numbers().len() > 20);
            let lines = numbers();
            assert!(lines[0] > last && lines.windows(2).all(|pair| pair[1] == pair[0] + 1), "{last}: {lines:?}");
        }
        // A logger that comes then goes on there.
        let before = if directory.ends_with("web") { logger(&tree) } else { tree.up("own/log") };
        let last = *numbers().last().expect("a line");
        signal_pid(before, Signal::KILL);
        eventually("more lines", || numbers().last().is_some_and(|line| *line > last + 200));
        assert!(numbers().windows(2).all(|pair| pair[1] == pair[0] + 1), "{:?}", numbers());
    }
}

/// A tree with a module that has said so many lines while the disk of its log was full.
fn stuck() -> Option<(Tree, Disk, Vec<String>)> {
    let disk = Disk::new()?;
    let tree = tree();
    fs::create_dir(tree.path("logs/web")).expect("made");
    disk.stands_for(&tree, "logs/web");
    tree.start();
    let run = "#!/bin/sh\necho first\nuntil [ -e ../../notes/go ]; do sleep 0.02; done\nseq 5000\n: >../../notes/said\nexec sleep 1000\n";
    tree.service("web").run(run).toml("[log]\ntimestamps = 'none'\n").moved_in();
    eventually("the first line", || logged_lines(&tree.path("logs/web")) == ["first"]);
    disk.fill();
    fs::write(tree.path("notes/go"), "").expect("written");
    eventually("it to have said all", || tree.path("notes/said").exists());
    let all = std::iter::once("first".to_owned()).chain((1..=5000).map(|line| line.to_string())).collect();
    Some((tree, disk, all))
}

#[test]
fn a_log_that_goes_elsewhere_since_the_disk_is_full_leaves_nothing_behind() {
    let Some((tree, disk, all)) = stuck() else { return };
    let toml = format!("[log]\ntimestamps = 'none'\ndirectory = '{}'\n", tree.path("elsewhere/log").display());
    fs::write(tree.entry("web").join("service.toml"), toml).expect("written");
    tree.svtree(["restart", "web"]).ok();
    eventually("what it says then", || logged_lines(&tree.path("elsewhere/log")) == all);
    disk.free();
    eventually("what it had said before", || logged_lines(&tree.path("logs/web")) == all);
}

#[test]
fn what_a_full_disk_has_not_taken_when_the_tree_ends_is_written_by_the_next_one() {
    let Some((tree, disk, all)) = stuck() else { return };
    assert_eq!(tree.stop().code(), Some(0));
    disk.free();
    tree.start();
    let twice = [all.clone(), all].concat();
    eventually("all of it", || logged_lines(&tree.path("logs/web")) == twice);
}

#[test]
fn shown_lines_are_whole_and_begin_with_the_name_of_their_module() {
    let tree = Tree::new().options(["--log", "inherit"]);
    tree.start();
    for name in ["one", "two"] {
        let run =
            "#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8 9; do printf 'this is '; echo \"line $i\"; done\nexec sleep 1000\n";
        tree.service(name).run(run).moved_in();
    }
    let lines = || tree.stdout().lines().map(str::to_owned).collect::<Vec<_>>();
    eventually("all lines", || lines().len() == 18);
    for name in ["one", "two"] {
        let expected: Vec<String> = (1..=9).map(|number| format!("{name}: this is line {number}")).collect();
        assert_eq!(lines().into_iter().filter(|line| line.starts_with(name)).collect::<Vec<_>>(), expected);
    }
    // A module may say otherwise.
    tree.service("filed").run(&counting(2)).toml("[log]\nto = \"file\"\n").moved_in();
    eventually("its lines", || said(&tree, "filed") == ["1", "2"]);
    assert_eq!(lines().len(), 18);
}

#[test]
fn a_program_that_closes_its_outputs_costs_nothing() {
    let tree = tree();
    tree.start();
    tree.service("web").run("#!/bin/sh\necho one\nexec sleep 1000 >&- 2>&-\n").moved_in();
    eventually("its line", || said(&tree, "web") == ["one"]);
    let ticks = || [tree.pid_of_svtree(), logger(&tree)].map(crate::harness::ticks).iter().sum::<u64>();
    let before = ticks();
    stays(Duration::from_secs(1), "nothing is done", || true);
    assert!(ticks() <= before + 3, "{} ticks", ticks() - before);
}

#[test]
fn a_program_has_no_descriptor_but_its_streams_and_can_open_its_output_anew() {
    let tree = tree();
    tree.start();
    let dir = tree.service("web").run("#!/bin/sh\necho anew >/dev/stdout\nexec sleep 1000\n").moved_in();
    eventually("its line", || said(&tree, "web") == ["anew"]);
    let pid = tree.up("web");
    has_open(pid, &[0, 1, 2]);
    drop(dir);
}

#[test]
fn other_keys_hold_from_the_next_start_on_and_no_line_is_lost_between() {
    let tree = tree();
    tree.start();
    let dir = tree.service("web").run(&counting(100)).toml("").moved_in();
    eventually("its lines", || said(&tree, "web").len() == 100);
    let pid = tree.up("web");
    crate::harness::replace(&dir.join("service.toml"), "[log]\ntimestamps = \"none\"\n", 0o644);
    eventually("it is seen", || tree.state("web")["changed"] == true);
    tree.letter("web", "k");
    tree.up_again("web", pid);
    eventually("all lines", || logged_lines(&tree.path("logs/web")).len() == 200);
    let lines = logged_lines(&tree.path("logs/web"));
    assert!(lines[99].ends_with("Z 100") && lines[100] == "1", "{:?}", &lines[98..102]);
}

#[test]
fn a_module_that_is_replaced_while_its_logger_is_stopped_loses_nothing() {
    let tree = tree();
    tree.start();
    tree.service("web").run("#!/bin/sh\necho old\nexec sleep 1000\n").moved_in();
    eventually("its line", || said(&tree, "web") == ["old"]);
    let other = logger(&tree);
    signal_pid(other, Signal::STOP);
    let pid = tree.up("web");
    tree.letter("web", "k");
    let again = tree.up_again("web", pid);
    tree.service("web").run("#!/bin/sh\necho new\nexec sleep 1000\n").moved_in();
    tree.up_again("web", again);
    signal_pid(other, Signal::CONT);
    eventually("all lines", || said(&tree, "web") == ["old", "old", "new"]);
}

#[test]
fn what_an_old_process_holds_open_does_not_hold_up_the_next_program() {
    let tree = tree();
    tree.start();
    let run = "#!/bin/sh\nsetsid sleep 1000 &\necho started\nexec sleep 1000\n";
    tree.service("web").run(run).moved_in();
    eventually("its line", || said(&tree, "web") == ["started"]);
    let pid = tree.up("web");
    // The next program has another FIFO, and that process the old one.
    fs::remove_file(tree.home("web").join(".said")).expect("removed");
    eventually("it is made again", || tree.home("web").join(".said").exists());
    tree.letter("web", "k");
    tree.up_again("web", pid);
    eventually("both lines", || said(&tree, "web") == ["started", "started"]);
}

#[test]
fn two_hundred_modules_that_write_at_once_all_get_on_with_one_logger() {
    let tree = tree();
    for number in 0..200 {
        tree.service(format!("m{number}")).run(&counting(2000)).moved_in();
    }
    tree.start();
    for number in 0..200 {
        eventually("its lines", || said(&tree, &format!("m{number}")).len() == 2000);
    }
    assert!(alive(logger(&tree)));
    let pss = wait_for("its memory", || {
        let rollup = text(Path::new(&format!("/proc/{}/smaps_rollup", logger(&tree))));
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().to_owned();
        line.split(' ').next()?.parse::<u64>().ok()
    });
    // Two hundred processes of s6-log have four times as much and more.
    assert!(pss < 20_000, "{pss} KiB");
}

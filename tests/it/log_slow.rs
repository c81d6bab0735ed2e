//! Disks of logs that do not answer at all, what is dropped then, and the disk of the status root when it is full.

use std::fs;

use crate::harness::{Disk, Freezer, Tree, eventually, fifo, logged_lines};

/// What a module has said, without stamps.
fn said(tree: &Tree, name: &str) -> Vec<String> {
    let lines = logged_lines(&tree.path("logs").join(name));
    lines.iter().map(|line| line.split_once(' ').map_or("", |(_, line)| line).to_owned()).collect()
}

/// Says a line, then as often as it is told to so many numbers, and tells when it has.
fn numbers(name: &str, count: usize) -> String {
    // Who has said "go" may not have let go of the FIFO yet when it is read again, and the next word be its end.
    format!(
        "#!/bin/sh\necho first\nwhile :; do read -r _ <../../notes/{name} || continue; seq {count}; \
         echo done >>../../notes/{name}.done; done\n"
    )
}

/// How many of the lines are numbers, and how many are said to have been dropped.
fn counted(lines: &[String]) -> (usize, usize) {
    let dropped = |line: &String| line.strip_prefix("svtree: ")?.split(' ').next()?.parse::<usize>().ok();
    (lines.iter().filter(|line| line.parse::<usize>().is_ok()).count(), lines.iter().filter_map(dropped).sum())
}

#[test]
fn with_full_drop_a_disk_that_does_not_answer_holds_up_no_program_and_what_was_dropped_is_counted() {
    let tree = Tree::new().options(["--log", "file"]);
    let Some(disk) = Freezer::new(&tree, "logs") else { return };
    tree.start();
    let go = |name: &str| fs::write(tree.path("notes").join(name), "go\n").expect("written");
    let has_said = |name: &str, times: usize| {
        let file = tree.path("notes").join(format!("{name}.done"));
        fs::read_to_string(file).is_ok_and(|done| done.lines().count() == times)
    };
    let drops = |name: &str| {
        fifo(&tree.path("notes").join(name));
        tree.service(name).run(&numbers(name, 100_000)).toml("[log]\nfull = \"drop\"\n").moved_in();
    };
    drops("web");
    eventually("the first line", || said(&tree, "web") == ["first"]);
    disk.freeze();
    for times in 1..=2 {
        go("web");
        eventually("it does not wait", || has_said("web", times));
    }
    // Also one that comes now, and one that logs elsewhere is logged.
    drops("late");
    let elsewhere = tree.path("elsewhere/other");
    let toml = format!("[log]\ndirectory = \"{}\"\n", elsewhere.display());
    tree.service("other").run("#!/bin/sh\necho here\nexec sleep 1000\n").toml(&toml).moved_in();
    eventually("the other one", || logged_lines(&elsewhere).len() == 1);
    go("late");
    eventually("it does not wait", || has_said("late", 1));
    disk.thaw();
    for (name, all) in [("web", 200_000), ("late", 100_000)] {
        go(name);
        let all = all + 100_000;
        eventually("every line is there or counted", || {
            let (whole, dropped) = counted(&said(&tree, name));
            // The beginning of a line may be there, and the line counted all the same; so may the first line be.
            dropped > 0 && (all..=all + 3).contains(&(whole + dropped))
        });
    }
    assert!(tree.stop().success());
    drop(disk);
}

#[test]
fn with_full_drop_a_log_that_cannot_be_opened_holds_up_no_program() {
    let tree = Tree::new().options(["--log", "file"]);
    tree.start();
    // What stands there is no directory.
    fs::write(tree.path("logs/web"), "").expect("written");
    fifo(&tree.path("notes/web"));
    tree.service("web").run(&numbers("web", 100_000)).toml("[log]\nfull = \"drop\"\n").moved_in();
    fs::write(tree.path("notes/web"), "go\n").expect("written");
    eventually("it does not wait", || tree.path("notes/web.done").exists());
    fs::remove_file(tree.path("logs/web")).expect("removed");
    eventually("what was not dropped, and how much was", || {
        let (whole, dropped) = counted(&said(&tree, "web"));
        dropped > 0 && (100_000..=100_003).contains(&(whole + dropped))
    });
}

#[test]
fn with_the_disk_of_status_full_lines_are_logged_and_those_of_a_module_that_comes_are_once_there_is_room() {
    let Some(disk) = Disk::new() else { return };
    let tree = Tree::new().options(["--log", "file"]);
    disk.stands_for(&tree, "status");
    tree.start();
    fifo(&tree.path("notes/web"));
    tree.service("web").run(&numbers("web", 100_000)).moved_in();
    eventually("the first line", || said(&tree, "web") == ["first"]);
    disk.fill();
    fs::write(tree.path("notes/web"), "go\n").expect("written");
    eventually("all that it says", || said(&tree, "web").len() == 100_001);
    tree.service("late").run("#!/bin/sh\nseq 20000\nexec sleep 1000\n").moved_in();
    eventually("the late one to be named", || tree.stderr().contains("late: "));
    disk.free();
    eventually("the lines of the late one", || said(&tree, "late").len() == 20_000);
    fs::write(tree.path("notes/web"), "go\n").expect("written");
    let all: Vec<String> = (1..=100_000).chain(1..=100_000).map(|number| number.to_string()).collect();
    eventually("nothing is lost", || said(&tree, "web")[1..] == all);
}

#[test]
fn a_module_that_was_started_while_the_disk_of_status_was_full_is_logged_once_there_is_room() {
    let Some(disk) = Disk::new() else { return };
    let tree = Tree::new().options(["--log", "none"]);
    disk.stands_for(&tree, "status");
    tree.start();
    let run = "#!/bin/sh\nseq 20000\nexec sleep 1000\n";
    let dir = tree.service("web").run(run).toml("").moved_in();
    let pid = tree.up("web");
    // The tree has no logger yet, and its next start needs one.
    crate::harness::replace(&dir.join("service.toml"), "[log]\nto = \"file\"\n", 0o644);
    eventually("it is seen", || tree.state("web")["changed"] == true);
    disk.fill();
    // A FIFO has room, and what is to be said of it has none.
    (0..20).for_each(|number| fs::remove_file(tree.path("status").join(format!(".fill{number}"))).expect("removed"));
    tree.letter("web", "k");
    eventually("it is told", || tree.stderr().contains("No space left on device"));
    eventually("it is there", || tree.path("status/web/.said").exists());
    disk.free();
    eventually("its lines", || said(&tree, "web").len() == 20_000);
    assert_ne!(tree.up("web"), pid);
}

//! Section: the control group of version 2 that svtree itself is in, beside those of its modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{SLEEPER, Tree, alive, eventually, is_root, signal_pid, skip, sleeping, stays, text, walk, write};
use crate::keeper::{svscan, svscan_after};

/// A control group of version 2, for a tree that is started in it; what is in it is ended with it.
struct Group(PathBuf);

impl Group {
    /// One with controllers.
    fn new() -> Option<Group> {
        let mount = Path::new("/sys/fs/cgroup");
        let there = text(&mount.join("cgroup.controllers"));
        if !is_root() || !["memory", "pids", "cpu"].iter().all(|it| there.split_whitespace().any(|name| name == *it)) {
            skip("a group with controllers of its own needs root, and version 2 with memory, pids and cpu");
            return None;
        }
        fs::write(mount.join("cgroup.subtree_control"), "+memory +pids +cpu").expect("the controllers");
        Some(Group::on(mount))
    }

    /// One that need not have controllers.
    fn bare() -> Option<Group> {
        let mounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
        let mount = mounts.into_iter().find(|mount| mount.join("cgroup.controllers").exists()).filter(|_| is_root());
        if mount.is_none() {
            skip("a group of its own needs root, and version 2");
        }
        mount.map(Group::on)
    }

    fn on(mount: &Path) -> Group {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let group = mount.join(format!("svtree-it-{}-{number}", process::id()));
        fs::create_dir(&group).expect("a group");
        Group(group)
    }

    /// A tree that runs in it, and logs nothing in a process of its own.
    fn tree(&self) -> Tree {
        self.tree_with(&["--log", "inherit"])
    }

    fn tree_with(&self, options: &[&str]) -> Tree {
        let join = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", self.0.display());
        let tree = Tree::new().options(options.iter().copied()).through(["sh", "-c", &join, "sh"]);
        tree.start();
        tree
    }

    /// Somebody else in a group: this one, or one in it.
    fn stranger(&self, group: &str) -> Child {
        let group = self.0.join(group);
        let _ = fs::create_dir(&group);
        let join = format!("echo $$ > {}/cgroup.procs; exec sleep 1000", group.display());
        let stranger = Command::new("sh").args(["-c", &join]).spawn().expect("a stranger");
        let pid = stranger.id();
        eventually("it to be there", || text(&group.join("cgroup.procs")).lines().any(|it| it == pid.to_string()));
        stranger
    }

    fn enabled(&self) -> String {
        text(&self.0.join("cgroup.subtree_control")).trim().to_owned()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let is_gone = || {
            let below = walk(&self.0).into_iter().rev().filter(|path| path.is_dir());
            below.for_each(|group| _ = fs::remove_dir(group));
            !self.0.exists()
        };
        if !thread::panicking() {
            eventually("the group to go", is_gone);
        }
    }
}

/// Which group of version 2 a process is in.
fn group_of(pid: i32) -> String {
    let groups = text(Path::new(&format!("/proc/{pid}/cgroup")));
    groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned()
}

#[test]
fn the_group_that_a_tree_has_to_itself_is_afterwards_as_it_was() {
    for (key, controller) in [("memory = '64MiB'", "memory"), ("tasks = 10", "pids"), ("cpu = 1.0", "cpu")] {
        let Some(group) = Group::new() else { return };
        let tree = group.tree();
        tree.service("web").run(SLEEPER).toml(&format!("[limits]\n{key}\n")).moved_in();
        let pid = sleeping(&tree, "web");
        assert!(group_of(pid).contains("/svtree-it-"));
        assert_eq!(group.enabled(), controller);
        // With others as well, and who asks for none is in a group of its own all the same.
        tree.service("all").run(SLEEPER).toml("[limits]\nmemory = '64MiB'\ntasks = 10\ncpu = 1.0").moved_in();
        tree.sleeper("plain");
        let plain = sleeping(&tree, "plain");
        tree.up("all");
        assert!(
            group_of(plain).rsplit('/').nth(1).is_some_and(|tree| tree.starts_with("svtree-")),
            "{}",
            group_of(plain)
        );
        assert_eq!(tree.stop().code(), Some(0));
        assert_eq!(group.enabled(), "");
        fs::remove_dir(&group.0).expect("nothing is in it");
    }
}

#[test]
fn who_is_killed_with_limits_in_a_group_of_its_own_has_a_successor_there() {
    let Some(group) = Group::new() else { return };
    let mut tree = group.tree();
    tree.service("web").run(SLEEPER).toml("[limits]\nmemory = '64MiB'").moved_in();
    let pid = sleeping(&tree, "web");
    tree.kill_svtree();
    // Nobody can be put into it; but from outside it is taken over, and cleared.
    let from_outside = Tree::start;
    tree = tree.through(["env"]);
    from_outside(&tree);
    assert_eq!(tree.up("web"), pid);
    tree.letter("web", "k");
    tree.up_again("web", pid);
    assert_eq!(tree.stop().code(), Some(0));
    assert_eq!(group.enabled(), "");
    fs::remove_dir(&group.0).expect("nothing is in it");
}

#[test]
fn a_keeper_starts_another_svscan_beside_the_groups_with_limits() {
    let Some(group) = Group::new() else { return };
    let tree = group.tree_with(&["--log", "none", "--keep"]);
    let limited = |name: &str| tree.service(name).run(SLEEPER).toml("[limits]\nmemory = '64MiB'").moved_in();
    limited("web");
    let pid = sleeping(&tree, "web");
    let before = svscan(tree.pid_of_svtree());
    signal_pid(before, Signal::KILL);
    svscan_after(tree.pid_of_svtree(), before);
    assert_eq!(tree.up("web"), pid);
    limited("more");
    tree.up("more");
    assert_eq!(tree.stop().code(), Some(0));
    assert_eq!(group.enabled(), "");
    fs::remove_dir(&group.0).expect("nothing is in it");
}

#[test]
fn nothing_is_limited_beside_others_until_they_are_gone() {
    let Some(group) = Group::new() else { return };
    let tree = group.tree();
    let mut stranger = group.stranger("");
    for key in ["memory = '64MiB'", "tasks = 10"] {
        tree.service("web").run(SLEEPER).toml(&format!("[limits]\n{key}\n[restart]\ndelay = '50ms'\n")).moved_in();
        eventually("the reason", || {
            tree.state("web")["reason"].as_str().is_some_and(|why| why.contains("holds others"))
        });
        assert_eq!(group.enabled(), "");
        tree.move_out("web");
        tree.goes("web");
    }
    tree.service("web").run(SLEEPER).toml("[limits]\ntasks = 10\n[restart]\ndelay = '50ms'\n").moved_in();
    eventually("the reason", || tree.state("web")["reason"].is_string());
    stranger.kill().and_then(|()| stranger.wait()).expect("ended");
    tree.up("web");
}

#[test]
fn what_svtree_itself_has_started_is_not_in_the_way_of_limits() {
    let Some(group) = Group::new() else { return };
    let tree = group.tree();
    let alarm = "[restart]\ndelay = '20ms'\n[alarm]\ncommand = [\"sh\", \"-c\", \"echo > $SVTREE_IT/notes/told; until [ -e $SVTREE_IT/notes/heard ]; do sleep 0.1; done\"]\n";
    tree.service("noisy").run("#!/bin/sh\nexit 1\n").toml(alarm).moved_in();
    eventually("an alarm to be told", || tree.path("notes/told").exists());
    tree.service("web").run(SLEEPER).toml("[limits]\nmemory = '64MiB'").moved_in();
    tree.up("web");
    write(&tree.path("notes/heard"), "", 0o644);
}

#[test]
fn groups_that_others_make_meanwhile_keep_what_they_have() {
    let Some(group) = Group::new() else { return };
    let tree = group.tree();
    tree.service("web").run(SLEEPER).toml("[limits]\nmemory = '64MiB'").moved_in();
    tree.up("web");
    let mut stranger = group.stranger("other");
    fs::write(group.0.join("other/memory.max"), "52428800").expect("limited");
    assert_eq!(tree.stop().code(), Some(0));
    assert_eq!(text(&group.0.join("other/memory.max")).trim(), "52428800");
    stranger.kill().and_then(|()| stranger.wait()).expect("ended");
}

#[test]
fn a_program_that_made_groups_of_its_own_is_started_again() {
    let Some(group) = Group::new() else { return };
    let tree = group.tree();
    // As a supervisor does that limits what it supervises.
    let run = "#!/bin/sh\nown=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)\nmkdir $own/self $own/inner\n\
               echo $$ > $own/self/cgroup.procs\necho +memory > $own/cgroup.subtree_control\n\
               setsid sh -c \"echo \\$\\$ > $own/inner/cgroup.procs; exec sleep 1000\" &\nexec sleep 1000\n";
    for limits in ["memory = '640MiB'", "oom_score_adj = 5"] {
        tree.service("web").run(run).toml(&format!("[limits]\n{limits}\n[restart]\ndelay = '50ms'\n")).moved_in();
        let mut pid = sleeping(&tree, "web");
        let of_module = group_of(pid).trim_end_matches("/self").to_owned();
        for _ in 0..3 {
            tree.letter("web", "k");
            tree.up_again("web", pid);
            pid = sleeping(&tree, "web");
            assert!(group_of(pid).starts_with(&of_module), "{} and {of_module}", group_of(pid));
        }
        // With all that it left, wherever that has gone.
        tree.letter("web", "d");
        tree.becomes("web", "down");
        let members = || walk(Path::new(&format!("/sys/fs/cgroup{of_module}")));
        let is_empty = |dir: &PathBuf| text(&dir.join("cgroup.procs")).is_empty();
        eventually("nothing of it to be left", || members().iter().filter(|path| path.is_dir()).all(is_empty));
        tree.letter("web", "u");
        tree.up_again("web", pid);
        tree.move_out("web");
        tree.goes("web");
        assert!(!Path::new(&format!("/sys/fs/cgroup{of_module}")).exists());
    }
}

#[test]
fn what_was_taken_over_from_another_group_is_found_there_though_checks_run_meanwhile() {
    let Some(group) = Group::bare() else { return };
    let mut tree = group.tree();
    // What it starts leaves its session, and its name.
    let run = "#!/bin/sh\nenv -i setsid sleep 1234 &\n\
               echo $! >> \"$SVTREE_IT/notes/escaped\"\nexec sleep 1000\n";
    let toml = "[health]\ncheck = ['./check.sh']\ninterval = '50ms'\n";
    let check = "#!/bin/sh\necho >> \"$SVTREE_IT/notes/asked\"\n";
    tree.service("web").run(run).script("check.sh", check).script("control/2", check).toml(toml).moved_in();
    let pid = sleeping(&tree, "web");
    let escaped: i32 = tree.notes("escaped")[0].parse().expect("a pid");
    // A successor in another group knows of this one by the record alone.
    eventually("its record", || tree.state("web")["record"]["cgroup"].is_string());
    tree.kill_svtree();
    tree = tree.through(["env"]);
    tree.start();
    let asked = tree.notes("asked").len();
    eventually("checks to run", || tree.notes("asked").len() > asked + 3);
    assert_eq!(tree.up("web"), pid);
    tree.letter("web", "2");
    stays(Duration::from_millis(300), "nobody ends it", || alive(pid) && alive(escaped));
    tree.svtree(["down", "--wait", "10", "web"]).ok();
    assert!(!alive(pid) && !alive(escaped), "{} and {}", alive(pid), alive(escaped));
}

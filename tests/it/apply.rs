//! `svtree apply DIR`: a prepared tree is put in place; what is the same is not touched, and no data is lost.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Child;

use rustix::process::Signal;

use crate::harness::{
    NOTING, Ran, SLEEPER, SVTREE, Tree, alive, eventually, is_root, remove, signal_pid, spawn, text, walk, write,
};

/// A prepared tree with nothing in it.
fn next(tree: &Tree) -> PathBuf {
    let dir = tree.path("next");
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

fn module(dir: &Path, name: &str, run: &str) {
    write(&dir.join(name).join("run"), run, 0o755);
}

fn apply(tree: &Tree, dir: &Path) -> Ran {
    tree.svtree(["apply".as_ref(), dir.as_os_str()])
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).ino()
}

/// Every path below a directory with what it is and holds, but what svtree has to itself.
fn contents(dir: &Path) -> Vec<(String, u32, String)> {
    let own = |path: &str| path.starts_with('.') || path.split('/').any(|part| part == "supervise");
    let mut all: Vec<_> = walk(dir)
        .iter()
        .filter_map(|path| {
            let name = path.strip_prefix(dir).expect("below").to_str().expect("UTF-8").to_owned();
            if name.is_empty() || own(&name) {
                return None;
            }
            let found = fs::symlink_metadata(path).expect("there");
            let holds = match fs::read_link(path) {
                Ok(target) => target.display().to_string(),
                Err(_) if found.is_file() => text(path),
                Err(_) => String::new(),
            };
            Some((name, found.permissions().mode(), holds))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_tree_is_put_into_an_empty_directory_and_runs() {
    let tree = Tree::running();
    let dir = next(&tree);
    module(&dir, "web", SLEEPER);
    write(&dir.join("web/conf/secret"), "x", 0o640);
    symlink("conf/secret", dir.join("web/link")).expect("a link");
    write(&dir.join("shop/group.toml"), "", 0o644);
    module(&dir, "shop/db", SLEEPER);
    module(&dir, "shop/db/log", "#!/bin/sh\nexec cat > /dev/null\n");
    write(&dir.join("README"), "of the tree", 0o644);
    write(&dir.join(".git/config"), "of nobody's business", 0o644);
    let far = tree.service("far").run(SLEEPER).dir();
    symlink(&far, dir.join("far")).expect("a link");
    let ran = apply(&tree, &dir);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    assert_eq!(ran.out.lines().count(), 4, "{}", ran.out);
    for name in ["web", "shop/db", "shop/db/log", "far"] {
        tree.up(name);
        assert!(ran.out.contains(&format!("start    {name} ")), "{name}: {}", ran.out);
    }
    let mut wanted = contents(&dir);
    wanted.retain(|(name, ..)| !name.starts_with(".git"));
    assert_eq!(contents(&tree.path("services")), wanted);
    assert!(!tree.entry(".git").exists());
    assert_eq!(apply(&tree, &dir).ok(), "nothing to do\n");
    assert_eq!(tree.svtree(["plan".as_ref(), dir.as_os_str()]).ok(), "nothing to do\n");
}

#[test]
fn what_is_the_same_is_not_touched_what_is_edited_runs_on_and_what_goes_is_kept_aside() {
    let tree = Tree::running();
    let dir = next(&tree);
    for name in ["same", "edited", "goes"] {
        module(&dir, name, SLEEPER);
    }
    write(&dir.join("edited/old.conf"), "old", 0o644);
    apply(&tree, &dir);
    let pids = ["same", "edited", "goes"].map(|name| tree.up(name));
    for name in ["same", "edited", "goes"] {
        write(&tree.entry(name).join("data/db"), "of the program", 0o600);
    }
    let inodes = ["same", "same/run", "edited", "edited/data/db"].map(|name| inode(&tree.entry(name)));
    remove(&dir.join("goes"));
    write(&dir.join("edited/run"), "#!/bin/sh\nexec sleep 999\n", 0o755);
    fs::remove_file(dir.join("edited/old.conf")).expect("removed");
    write(&dir.join("edited/new/conf"), "new", 0o644);
    module(&dir, "new", SLEEPER);
    let ran = apply(&tree, &dir);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let lines: Vec<_> = ran.out.lines().collect();
    assert!(lines[0].starts_with("stop     goes") && lines[1].starts_with("change   edited"), "{}", ran.out);
    assert!(lines[1].contains("new, new/conf, old.conf, run: ") && lines[2].starts_with("start    new"), "{}", ran.out);
    assert!(lines[3].starts_with("what was there before is in ") && lines[3].ends_with("services/.removed/1"));
    eventually("it to end", || !alive(pids[2]));
    tree.goes("goes");
    tree.up("new");
    eventually("edited to be changed", || tree.state("edited")["changed"] == true);
    assert_eq!(["same", "edited"].map(|name| tree.up(name)), [pids[0], pids[1]]);
    assert_eq!(tree.state("same")["changed"], false);
    assert_eq!(["same", "same/run", "edited", "edited/data/db"].map(|name| inode(&tree.entry(name))), inodes);
    assert!(!tree.entry("edited/old.conf").exists() && tree.entry("edited/new/conf").exists());
    assert_eq!(text(&tree.entry("same/data/db")), "of the program");
    assert_eq!(text(&tree.entry(".removed/1/goes/data/db")), "of the program");
}

#[test]
fn with_restart_what_was_changed_and_runs_is_restarted_and_nothing_else() {
    let tree = Tree::running();
    let dir = next(&tree);
    for name in ["same", "edited", "down"] {
        module(&dir, name, NOTING);
    }
    apply(&tree, &dir);
    let (same, edited) = (tree.up("same"), tree.up("edited"));
    tree.up("down");
    tree.svtree(["down", "down", "--wait", "10"]).ok();
    for name in ["edited", "down"] {
        write(&dir.join(name).join("conf"), "new", 0o644);
    }
    let ran = tree.svtree(["apply".as_ref(), dir.as_os_str(), "--restart".as_ref(), "--wait".as_ref(), "10".as_ref()]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    assert_ne!(tree.up("edited"), edited);
    assert_eq!(tree.up("same"), same);
    assert_eq!(tree.notes("down").len(), 1);
    assert!(tree.pid("down").is_none());
}

#[test]
fn one_mistake_and_nothing_is_touched() {
    let tree = Tree::running();
    let dir = next(&tree);
    module(&dir, "web", SLEEPER);
    apply(&tree, &dir);
    let pid = tree.up("web");
    let before = contents(&tree.path("services"));
    module(&dir, "new", SLEEPER);
    write(&dir.join("web/run"), "#!/bin/sh\nexec sleep 1\n", 0o755);
    for (name, wrong) in [("service.toml", "nosuch = 1\n"), ("run", "#!/nosuch/interpreter\n")] {
        module(&dir, "bad", SLEEPER);
        write(&dir.join("bad").join(name), wrong, 0o755);
        let ran = apply(&tree, &dir);
        assert_eq!((ran.code, ran.err.as_str()), (Some(111), ""));
        assert!(ran.out.starts_with("reject   bad") && ran.out.lines().count() == 1, "{}", ran.out);
        assert_eq!(contents(&tree.path("services")), before);
        remove(&dir.join("bad"));
    }
    fs::remove_file(dir.join("web/run")).expect("removed");
    symlink("../nowhere-else", dir.join("relative")).expect("a link");
    write(&tree.path("nowhere-else/run"), SLEEPER, 0o755);
    let ran = tree.ran(["mkfifo".into(), dir.join("new/fifo").into_os_string()]);
    assert_eq!(ran.code, Some(0));
    let ran = apply(&tree, &dir);
    assert!(ran.out.contains("new/fifo: no file, directory or link"), "{}", ran.out);
    assert_eq!(contents(&tree.path("services")), before);
    assert_eq!(tree.up("web"), pid);
}

#[test]
fn a_relative_link_that_would_lead_elsewhere_is_rejected() {
    let tree = Tree::new();
    let dir = tree.path("deep/next");
    write(&tree.path("deep/sv/web/run"), SLEEPER, 0o755);
    fs::create_dir_all(&dir).expect("a directory");
    symlink("../sv/web", dir.join("web")).expect("a link");
    let ran = apply(&tree, &dir);
    assert_eq!(ran.code, Some(111));
    assert!(ran.out.contains("a relative link that leads elsewhere from there; make it absolute"), "{}", ran.out);
    write(&tree.path("sv/web/run"), SLEEPER, 0o755);
    assert_eq!(apply(&tree, &dir).code, Some(111), "another one of that name");
    fs::remove_file(dir.join("web")).expect("removed");
    symlink(tree.path("deep/sv/web"), dir.join("web")).expect("a link");
    assert_eq!(apply(&tree, &dir).code, Some(0));
    assert_eq!(fs::read_link(tree.entry("web")).expect("a link"), tree.path("deep/sv/web"));
}

#[test]
fn a_directory_in_the_place_of_a_link_is_another_module_and_never_two_run() {
    let tree = Tree::running();
    let dir = next(&tree);
    let far = tree.service("web").run(NOTING).linked_in();
    let pid = tree.up("web");
    module(&dir, "web", NOTING);
    let ran = apply(&tree, &dir);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.starts_with("restart  web"), "{}", ran.out);
    let other = tree.up_again("web", pid);
    assert!(!alive(pid) && tree.entry("web").symlink_metadata().expect("there").is_dir());
    assert!(far.join("run").exists(), "what the link led to stays");
    // And back; the directory is kept aside.
    write(&tree.entry("web/data"), "kept", 0o644);
    remove(&dir.join("web"));
    symlink(&far, dir.join("web")).expect("a link");
    apply(&tree, &dir);
    tree.up_again("web", other);
    assert_eq!(text(&tree.entry(".removed/1/web/data")), "kept");
}

#[test]
fn files_that_mean_something_to_svtree_go_and_what_disable_made_stays() {
    let tree = Tree::new();
    let dir = next(&tree);
    // Not by apply.
    tree.service("web")
        .run(SLEEPER)
        .toml("umask = \"022\"\n")
        .script("finish", SLEEPER)
        .script("log/run", SLEEPER)
        .script("control/d", SLEEPER)
        .file("log/main/current", "said")
        .file("data", "x")
        .moved_in();
    tree.svtree(["disable", "web"]).ok();
    module(&dir, "web", SLEEPER);
    apply(&tree, &dir);
    let left: Vec<String> = contents(&tree.entry("web")).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(left, ["control", "data", "down", "log", "log/main", "log/main/current", "run"]);
    write(&dir.join("web/down"), "", 0o644);
    apply(&tree, &dir);
    fs::remove_file(dir.join("web/down")).expect("removed");
    apply(&tree, &dir);
    assert!(!tree.entry("web/down").exists(), "what an apply has put there goes with the next one");
}

#[test]
fn modes_owners_and_kinds_are_those_of_the_prepared_tree() {
    let tree = Tree::new();
    let dir = next(&tree);
    module(&dir, "web", SLEEPER);
    write(&dir.join("web/set"), "", 0o755);
    write(&dir.join("web/was-file"), "file", 0o644);
    write(&dir.join("web/was-dir/in"), "in", 0o644);
    write(&dir.join("web/read-only/in"), "in", 0o444);
    apply(&tree, &dir);
    fs::set_permissions(dir.join("web/set"), PermissionsExt::from_mode(0o2750)).expect("changed");
    fs::set_permissions(dir.join("web"), PermissionsExt::from_mode(0o750)).expect("changed");
    fs::set_permissions(dir.join("web/read-only"), PermissionsExt::from_mode(0o555)).expect("changed");
    if is_root() {
        std::os::unix::fs::chown(dir.join("web/set"), Some(1), Some(1)).expect("given");
        fs::set_permissions(dir.join("web/set"), PermissionsExt::from_mode(0o2750)).expect("changed");
    }
    fs::remove_file(dir.join("web/was-file")).expect("removed");
    write(&dir.join("web/was-file/in"), "in", 0o644);
    write(&tree.entry("web/was-dir/data"), "of the program", 0o644);
    remove(&dir.join("web/was-dir"));
    write(&dir.join("web/was-dir"), "file", 0o644);
    assert_eq!(apply(&tree, &dir).code, Some(0));
    assert_eq!(contents(&tree.path("services")), contents(&dir));
    let (one, other) = (fs::metadata(dir.join("web/set")), fs::metadata(tree.entry("web/set")));
    assert_eq!(one.map(|found| (found.uid(), found.gid())).ok(), other.map(|found| (found.uid(), found.gid())).ok());
    assert_eq!(text(&tree.entry(".removed/1/web/was-dir/data")), "of the program");
    assert_eq!(apply(&tree, &dir).ok(), "nothing to do\n");
    for dir in [dir.join("web/read-only"), tree.entry("web/read-only")] {
        fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).expect("changed");
    }
}

#[test]
fn a_services_directory_that_is_a_link_is_followed() {
    let tree = Tree::new();
    fs::rename(tree.path("services"), tree.path("real")).expect("moved");
    symlink("real", tree.path("services")).expect("a link");
    tree.start();
    let dir = next(&tree);
    module(&dir, "web", SLEEPER);
    assert_eq!(apply(&tree, &dir).code, Some(0));
    tree.up("web");
    assert!(tree.path("services").symlink_metadata().expect("there").is_symlink());
    assert!(tree.path("real/web/run").exists());
}

#[test]
fn wrong_places_and_two_at_once_are_refused() {
    let tree = Tree::new();
    let dir = next(&tree);
    let line = |dir: &Path| apply(&tree, dir).failed(111);
    assert!(line(&tree.path("services")).contains("it is the services directory, or is in it, or holds it"));
    assert!(line(&tree.path("")).contains("or holds it"));
    assert!(line(&tree.path("nosuch")).contains("nosuch: No such file or directory"));
    write(&tree.entry(".applied"), "not ours", 0o644);
    assert!(line(&dir).contains(".applied: "));
    fs::remove_file(tree.entry(".applied")).expect("removed");
    let held = fs::File::open(tree.path("services")).expect("opened");
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).expect("held");
    assert!(line(&dir).contains("another apply is at work there"));
    tree.svtree(["apply"]).failed(100);
}

#[test]
fn a_program_that_dies_all_the_time_is_never_started_with_half_of_a_change() {
    let tree = Tree::running();
    let dir = next(&tree);
    let version = |version: usize| {
        // One that was started before may well see what is new beside it; none that is new sees what is old.
        let run = format!(
            "#!/bin/sh\necho {version} >> \"$SVTREE_IT/notes/ran\"\n[ \"$(cat sub/version)\" -ge {version} ] || echo half \
             >> \"$SVTREE_IT/notes/half\"\nexec sleep 0.01\n"
        );
        module(&dir, "web", &run);
        write(&dir.join("web/service.toml"), &format!("umask = \"02{version}\"\n[restart]\ndelay = \"5ms\"\n"), 0o644);
        write(&dir.join("web/sub/version"), &version.to_string(), 0o644);
        assert_eq!(apply(&tree, &dir).code, Some(0));
        eventually(format!("version {version} to run"), || tree.notes("ran").contains(&version.to_string()));
    };
    (0..8).for_each(version);
    assert!(tree.notes("half").is_empty(), "{:?}", tree.notes("half"));
}

/// `svtree apply` in the background.
fn applying(tree: &Tree, dir: &Path) -> Child {
    let mut command = tree.command([SVTREE.as_ref(), "apply".as_ref(), dir.as_os_str()]);
    spawn(command.stdout(std::process::Stdio::null())).expect("it starts")
}

#[test]
fn killed_at_any_moment_no_half_of_it_runs_and_a_second_one_finishes_it() {
    let tree = Tree::running();
    let dir = next(&tree);
    // Each version runs only with its own file beside it.
    let run = |version: usize| {
        format!(
            "#!/bin/sh\n[ \"$(cat version)\" = {version} ] || echo half >> \"$SVTREE_IT/notes/half\"\nexec sleep 1000\n"
        )
    };
    for round in 0..12 {
        for number in 0..6 {
            let name = format!("m{}", (number + round) % 9);
            module(&dir, &name, &run(round));
            write(&dir.join(&name).join("version"), &round.to_string(), 0o644);
            write(&dir.join(&name).join(format!("extra{round}")), &"x".repeat(10_000), 0o644);
        }
        remove(&dir.join(format!("m{}", (round + 7) % 9)));
        let mut child = applying(&tree, &dir);
        // At another moment each time: after so many files were put.
        let put = || walk(&tree.path("services")).len();
        let target = put() + round;
        eventually("it to be under way or over", || put() > target || child.try_wait().expect("wait").is_some());
        signal_pid(child.id().cast_signed(), Signal::KILL);
        child.wait().expect("wait");
        let ran = apply(&tree, &dir);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
        assert_eq!(contents(&tree.path("services")), contents(&dir), "round {round}");
        let names = walk(&tree.path("services"));
        let staged = names.iter().find(|path| {
            !path.starts_with(tree.entry(".removed")) && path.to_string_lossy().contains(".svtree-apply.")
        });
        assert_eq!(staged, None);
    }
    for entry in fs::read_dir(&dir).expect("a directory") {
        tree.up(entry.expect("an entry").file_name());
    }
    assert!(tree.notes("half").is_empty(), "{:?}", tree.notes("half"));
}

//! Section: `[sandbox]`: what a program is kept from, seen by programs that try to get out.

use std::fs;
use std::path::Path;

use crate::harness::{
    NOTING, SLEEPER, Tree, chmod, eventually, is_root, process_field, program, skip, sleeping, stays, text,
};

/// A tree of root's that may mount, and that anybody may look into; outside of `/tmp`, which a program may have its own of.
fn tree_of_root() -> Option<Tree> {
    if !is_root() {
        skip("capabilities to give away, and mounts, need root");
        return None;
    }
    let tree = Tree::running();
    chmod(&tree.path(""), 0o755);
    if program("unshare").is_none() || tree.ran(["unshare", "-m", "true"]).code != Some(0) {
        skip("there are no mount namespaces here");
        return None;
    }
    Some(tree)
}

/// The lines that a module has said, on svtree's own output.
fn said(tree: &Tree, name: &str) -> Vec<String> {
    let name = format!("{name}: ");
    tree.stdout().lines().filter_map(|line| line.strip_prefix(&name)).map(str::to_owned).collect()
}

fn has_mounts_of_its_own(tree: &Tree, pid: i32) -> bool {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).expect("its mounts");
    namespace(pid) != namespace(tree.pid_of_svtree())
}

#[test]
fn with_no_new_privileges_no_program_gives_it_any() {
    let tree = Tree::running();
    chmod(&tree.path(""), 0o755);
    chmod(&tree.path("notes"), 0o777);
    for (name, toml, expected) in [("with", "[sandbox]\nno_new_privileges = true", "1"), ("without", "", "0")] {
        tree.service(name).run(SLEEPER).toml(toml).moved_in();
        assert_eq!(process_field(sleeping(&tree, name), "NoNewPrivs"), expected);
    }
    if !is_root() {
        return skip("a program with privileges to give needs root");
    }
    // A copy of `id` that belongs to root and is executed as it.
    let Some(id) = program("id") else { return };
    let mine = tree.path("elsewhere/id");
    fs::copy(id, &mine).expect("copied");
    chmod(&mine, 0o4755);
    let run = format!("#!/bin/sh\n{} -u > \"$SVTREE_IT/notes/$SVTREE_MODULE\"\nexec sleep 1000\n", mine.display());
    for (name, sandbox, expected) in [("kept", "[sandbox]\nno_new_privileges = true", "65534"), ("given", "", "0")] {
        tree.service(name).run(&run).toml(&format!("user = 'nobody'\n{sandbox}")).moved_in();
        eventually("what id says", || !tree.notes(name).is_empty());
        assert_eq!(tree.notes(name), [expected], "{name}");
    }
}

#[test]
fn capabilities_are_those_and_no_others_for_any_user() {
    let Some(tree) = tree_of_root() else { return };
    let sandbox = "[sandbox]\ncapabilities = ['net_bind_service', 'CAP_CHOWN']";
    let cases =
        [("plain", "user = 'nobody'\n", sandbox), ("root", "", sandbox), ("none", "", "[sandbox]\ncapabilities = []")];
    for (name, user, sandbox) in cases {
        tree.service(name).run(SLEEPER).toml(&format!("{user}{sandbox}")).moved_in();
        let pid = sleeping(&tree, name);
        let expected = if name == "none" { "0000000000000000" } else { "0000000000000401" };
        for set in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(process_field(pid, set), expected, "{name}: {set}");
        }
    }
}

#[test]
fn what_has_one_capability_can_do_what_that_is_for_and_nothing_else() {
    let Some(tree) = tree_of_root() else { return };
    chmod(&tree.path("notes"), 0o777);
    let file = tree.path("elsewhere/of-root");
    fs::write(&file, "").expect("written");
    let run = format!(
        "#!/bin/sh\nif chown 7 {0}; then echo chown; fi; if cat /etc/shadow; then echo read; fi
        echo done\nexec sleep 1000\n",
        file.display()
    );
    let toml = "user = 'nobody'\n[sandbox]\ncapabilities = ['chown']";
    let run = run.replace("#!/bin/sh\n", "#!/bin/sh\nexec > \"$SVTREE_IT/notes/$SVTREE_MODULE\"\n");
    tree.service("web").run(&run).toml(toml).moved_in();
    eventually("it to be done", || tree.notes("web").contains(&"done".to_owned()));
    assert_eq!(tree.notes("web"), ["chown", "done"]);
}

/// Tries to get out of a root by every way that is known, and says what it reached.
const ESCAPES: &str = r#"#define _GNU_SOURCE
    #include <errno.h>
    #include <fcntl.h>
    #include <sched.h>
    #include <stdio.h>
    #include <string.h>
    #include <sys/mount.h>
    #include <sys/stat.h>
    #include <unistd.h>
    static int outside(const char *way) {
        struct stat found;
        if (stat("/outside-was-here", &found) == 0 || stat("outside-was-here", &found) == 0) { printf("%s\n", way); return 1; }
        return 0;
    }
    int main(int argc, char **argv) {
        int out = outside("at once");
        int root = open("/", O_RDONLY | O_DIRECTORY);
        for (int up = 0; up < 64; up++) { if (chdir("..") != 0) break; out |= outside("by .."); }
        mkdir("/within", 0755);
        if (chroot("/within") == 0) {
            if (fchdir(root) == 0)
                for (int up = 0; up < 64; up++) { if (chdir("..") != 0) break; out |= outside("by chroot"); }
            if (chroot(".") == 0) out |= outside("by a second chroot");
        }
        for (int fd = 3; fd < 1024; fd++)
            if (fchdir(fd) == 0)
                for (int up = 0; up < 64; up++) { if (chdir("..") != 0) break; if (fd != root) out |= outside("by a descriptor"); }
        if (umount2("/", MNT_DETACH) == 0) out |= outside("by umount");
        if (mount("none", "/", "tmpfs", 0, "") == 0) printf("mounted\n");
        if (unshare(CLONE_NEWNS) == 0) printf("unshared\n");
        printf("%s\n", out ? "out" : "kept in");
        fflush(stdout);
        for (;;) pause();
    }"#;

#[test]
fn out_of_its_root_there_is_no_way_also_for_root() {
    if !is_root() {
        return skip("a root of its own needs root");
    }
    let tree = Tree::new().options(["--log", "inherit"]);
    chmod(&tree.path(""), 0o755);
    let source = tree.path("elsewhere/escape.c");
    crate::harness::write(&source, ESCAPES, 0o644);
    if program("cc").is_none() {
        return;
    }
    let entry = tree.service("web").toml("command = '/escape'\n[sandbox]\nroot = 'jail'").file("jail/file", "x").dir();
    let jail = entry.join("jail/escape");
    let words = ["cc".as_ref(), "-static".as_ref(), "-o".as_ref(), jail.as_os_str(), source.as_os_str()];
    if tree.ran(words).code != Some(0) {
        return skip("nothing static can be linked here");
    }
    // What could be reached by going up from the jail: the service directory, and what is above.
    crate::harness::write(&entry.join("outside-was-here"), "", 0o644);
    crate::harness::write(&tree.path("services/outside-was-here"), "", 0o644);
    fs::rename(&entry, tree.entry("web")).expect("moved in");
    tree.start();
    eventually("what it reached", || {
        ["kept in", "out"].iter().any(|end| said(&tree, "web").contains(&(*end).to_owned()))
    });
    assert_eq!(said(&tree, "web"), ["kept in"]);
    let pid = tree.up("web");
    assert!(has_mounts_of_its_own(&tree, pid));
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("its directory"), Path::new("/"));
}

#[test]
fn a_root_takes_a_command_that_is_in_it() {
    let Some(tree) = tree_of_root() else { return };
    tree.service("run").run(NOTING).toml("[sandbox]\nroot = 'jail'").file("jail/file", "").moved_in();
    tree.becomes("run", "rejected");
    let says = "root: takes a `command`, since `run` is outside of it";
    assert!(tree.state("run")["reason"].as_str().is_some_and(|why| why.contains(says)));
    tree.service("gone").toml("command = '/bin/true'\n[sandbox]\nroot = 'jail'").moved_in();
    eventually("the reason", || tree.told("gone").contains("entering its root jail: No such file"));
    let checked = tree.svtree(["check", "services/gone"]);
    assert!(checked.err.contains("root: jail: there is no such directory"), "{checked:?}");
}

#[test]
fn a_private_tmp_is_empty_writable_and_its_own() {
    let Some(tree) = tree_of_root() else { return };
    let theirs = tempfile::Builder::new().prefix("svtree-it-theirs-").tempdir_in("/tmp").expect("in /tmp");
    let run = "#!/bin/sh\nset -e\nls -A /tmp /var/tmp > /tmp/seen\necho mine > /tmp/svtree-it-mine\necho mine > /var/tmp/svtree-it-mine\n\
               cp /tmp/seen seen.new\nmv seen.new seen\nexec sleep 1000\n";
    let entry = tree.service("web").run(run).toml("user = 'root'\n[sandbox]\nprivate_tmp = true").moved_in();
    eventually("it to have looked", || entry.join("seen").exists());
    let seen = text(&entry.join("seen"));
    assert!(!seen.contains("svtree-it-theirs-"), "{seen}");
    assert!(theirs.path().exists() && !Path::new("/tmp/svtree-it-mine").exists());
    assert!(!Path::new("/var/tmp/svtree-it-mine").exists());
    let pid = sleeping(&tree, "web");
    let mode = fs::metadata(format!("/proc/{pid}/root/tmp")).expect("its /tmp");
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&mode) & 0o7777, 0o1777);
    // Another one is another one's, and so is the next one.
    tree.letter("web", "k");
    tree.up_again("web", pid);
    let next = sleeping(&tree, "web");
    assert!(has_mounts_of_its_own(&tree, next));
    fs::remove_file(entry.join("seen")).expect("removed");
    tree.letter("web", "k");
    eventually("the next one to have looked", || entry.join("seen").exists());
    assert!(!text(&entry.join("seen")).contains("svtree-it-mine"));
}

/// Tries to write at a few places, and then to undo what forbids it; says what worked.
const WRITES: &str = "#!/bin/sh
try() { if \"$@\" 2> /dev/null; then echo \"worked: $*\"; fi; }
{
    try touch file; try touch \"$1/file\"; try touch /svtree-it-file; try touch \"$PWD/file\"
    try mount -o remount,rw,bind /; try mount -o remount,rw /; try mount -o remount,rw \"$1\"; try umount -l \"$1\"
    try nsenter -t 1 -m touch \"$1/file\"; try nsenter -t $PPID -m touch \"$1/file\"
    try touch \"/proc/$PPID/root/$1/file\"; try touch \"/proc/1/root/$1/file\"
    try touch file; try touch \"$1/file\"
    echo done
}
exec sleep 1000
";

#[test]
fn what_is_read_only_stays_so_also_for_root() {
    if !is_root() {
        return skip("mounts need root");
    }
    let tree = Tree::new().options(["--log", "inherit"]);
    chmod(&tree.path(""), 0o755);
    let place = tree.path("elsewhere/place");
    fs::create_dir(&place).expect("made");
    chmod(&place, 0o777);
    // The whole; and a place that is no mount of its own, with the module standing in it.
    let whole = format!("command = ['./write', '{}']\n[sandbox]\nread_only = ['/']", place.display());
    tree.service("whole").toml(&whole).script("write", WRITES).moved_in();
    tree.start();
    eventually("it to be done", || said(&tree, "whole").contains(&"done".to_owned()));
    assert_eq!(said(&tree, "whole"), ["done"]);
    let part = format!(
        "command = ['./write', '{}']\n[sandbox]\nread_only = ['{}', '{}']",
        place.display(),
        tree.path("services").display(),
        place.display()
    );
    tree.service("part").toml(&part).script("write", WRITES).moved_in();
    eventually("it to be done", || said(&tree, "part").contains(&"done".to_owned()));
    assert_eq!(said(&tree, "part"), ["worked: touch /svtree-it-file", "done"], "what is not said stays as it was");
    fs::remove_file("/svtree-it-file").expect("removed");
    assert!(!place.join("file").exists());
    fs::write(place.join("ours"), "").expect("svtree and all others write as before");
}

#[test]
fn a_module_with_mounts_of_its_own_changes_nobody_elses() {
    let Some(tree) = tree_of_root() else { return };
    let mounts = || text(Path::new(&format!("/proc/{}/mountinfo", tree.pid_of_svtree())));
    let before = mounts();
    let toml = "command = 'sleep 1000'\n[sandbox]\nprivate_tmp = true\nread_only = ['/usr']";
    for number in 0..20 {
        tree.service(format!("m{number}")).toml(toml).moved_in();
    }
    tree.sleeper("other");
    for number in 0..20 {
        let pid = sleeping(&tree, &format!("m{number}"));
        assert!(has_mounts_of_its_own(&tree, pid));
    }
    assert!(!has_mounts_of_its_own(&tree, sleeping(&tree, "other")));
    assert_eq!(mounts(), before);
    assert_eq!(tree.stop().code(), Some(0));
}

#[test]
fn a_plain_user_is_told_what_a_sandbox_would_need() {
    let Some(tree) = Tree::new().for_nobody() else { return };
    tree.start();
    for (name, key, needs) in [
        (
            "caps",
            "capabilities = []",
            "bounding the capabilities of ./run: Operation not permitted; it takes root, or CAP_SETPCAP",
        ),
        ("tmp", "private_tmp = true", "Operation not permitted; it takes root, or CAP_SYS_ADMIN"),
        ("ro", "read_only = ['/']", "Operation not permitted; it takes root, or CAP_SYS_ADMIN"),
    ] {
        tree.service(name).run(NOTING).toml(&format!("[sandbox]\n{key}")).moved_in();
        eventually("the reason", || tree.state(name)["reason"].as_str().is_some_and(|why| why.ends_with(needs)));
        stays(std::time::Duration::from_millis(200), "it does not run", || tree.notes(name).is_empty());
    }
}

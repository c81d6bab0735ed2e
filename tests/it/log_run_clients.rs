//! Section: every client knows a logger as the module `NAME/log`, ours and those of the family.

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{SLEEPER, SVTREE, Tree, alive, eventually, executable, program, ran};

const READER: &str = "#!/bin/sh\nexec cat > /dev/null\n";

fn running() -> (Tree, i32, i32) {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).script("log/run", READER).moved_in();
    let pids = (tree.up("web"), tree.up("web/log"));
    (tree, pids.0, pids.1)
}

/// A line of `svstat` or `sv` without its seconds.
fn plain(line: &str) -> String {
    let time = |word: &str| {
        let rest = word.trim_start_matches(|letter: char| letter.is_ascii_digit());
        if rest.len() < word.len() && ["", "s", "s;"].contains(&rest) {
            format!("S{}", &rest[rest.len().min(1)..])
        } else {
            word.to_owned()
        }
    };
    line.trim_end().split(' ').map(time).collect::<Vec<_>>().join(" ")
}

#[test]
fn svstat_takes_its_name_and_both_its_paths() {
    let (tree, _, log) = running();
    for name in ["web/log", "services/web/log", "status/web/log"] {
        let said = tree.called("svstat", [name]).ok();
        assert_eq!(plain(&said), format!("{name}: up (pid {log}) S seconds"));
    }
    let all = tree.called("svstat", [""; 0]).ok();
    let names: Vec<_> = all.lines().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(names, ["web", "web/log"]);
}

#[test]
fn the_dot_and_log_are_looked_for_in_the_current_directory() {
    let (tree, web, log) = running();
    let svstat = tree.link("svstat");
    let here = |directory: PathBuf, name: &str| {
        let mut command = tree.command([svstat.as_os_str(), OsString::from(name).as_os_str()]);
        command.env("SVTREE_STATUS", tree.path("status")).env("SVTREE_SERVICES", tree.path("services"));
        plain(&ran(command.current_dir(directory)).ok())
    };
    assert_eq!(here(tree.entry("web"), "log"), format!("log: up (pid {log}) S seconds"));
    assert_eq!(here(tree.entry("web"), "."), format!(".: up (pid {web}) S seconds"));
    assert_eq!(here(tree.entry("web/log"), "."), format!(".: up (pid {log}) S seconds"));
    assert_eq!(here(tree.entry("web/log"), ".."), format!("..: up (pid {web}) S seconds"));
}

#[test]
fn svc_svok_and_the_verbs_act_on_it_alone() {
    let (tree, web, log) = running();
    tree.called("svc", ["-d", "web/log"]).ok();
    tree.becomes("web/log", "down");
    assert!(!alive(log));
    assert_eq!(tree.called("svok", ["web/log"]).code, Some(0));
    tree.svtree(["up", "web/log", "--wait", "15"]).ok();
    let log = tree.up("web/log");
    tree.svtree(["restart", "*/log", "--wait", "15"]).ok();
    assert_ne!(tree.up("web/log"), log);
    assert_eq!(tree.up("web"), web);
    tree.called("svc", ["-dx", "services/web/log"]).ok();
    eventually("it to leave", || tree.called("svok", ["web/log"]).code == Some(100));
    assert_eq!(tree.up("web"), web);
    tree.svtree(["rescan"]).ok();
    tree.up("web/log");
}

#[test]
fn status_shows_it_below_its_module() {
    let (tree, _, log) = running();
    tree.sleeper("web-a");
    tree.up("web-a");
    let table = tree.svtree(["status"]).ok();
    let names: Vec<_> = table.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["web", "web/log", "web-a"]);
    let all: Value = serde_json::from_str(&tree.svtree(["status", "--json", "web/log"]).ok()).expect("JSON");
    assert_eq!((&all[0]["name"], &all[0]["pid"]), (&"web/log".into(), &log.into()));
}

#[test]
fn runits_sv_says_both_in_one_line() {
    let given = std::env::var_os("SVTREE_RUNIT_BIN").map(|dir| PathBuf::from(dir).join("sv"));
    let Some(sv) = given.filter(|path| executable(path)).or_else(|| program("sv")) else { return };
    let (tree, web, log) = running();
    let expected = format!("run: web: (pid {web}) S; run: log: (pid {log}) S");
    eventually("the line", || {
        let said =
            ran(tree.command([sv.as_os_str(), "status".as_ref(), "web".as_ref()]).env("SVDIR", tree.path("services")));
        plain(&said.out) == expected
    });
}

#[test]
fn daemontools_own_clients_know_it() {
    let Some(svstat) = program("svstat").filter(|path| !path.ends_with("svtree")) else { return };
    let (tree, _, log) = running();
    let said = || ran(&mut tree.command([svstat.as_os_str(), "services/web/log".as_ref()])).out;
    eventually("the line", || plain(&said()) == format!("services/web/log: up (pid {log}) S seconds"));
}

#[test]
fn check_reports_the_mistakes_of_a_logger() {
    let tree = Tree::new();
    let service = tree.service("web").run(SLEEPER).file("log/run", "#!/bin/sh\n").file("log/service.toml", "[stpo]\n");
    let dir = service.dir();
    let mistakes = || {
        let said = ran(&mut tree.command([SVTREE.as_ref(), "check".as_ref(), dir.as_os_str()]));
        (said.code, said.err)
    };
    let (code, said) = mistakes();
    assert_eq!(code, Some(111));
    assert!(said.contains("/log: service.toml: line 1") && said.contains("did you mean `stop`?"), "{said}");
    std::fs::remove_file(dir.join("log/service.toml")).expect("removed");
    let (code, said) = mistakes();
    assert_eq!(code, Some(111));
    assert!(said.contains("/log: run is not executable"), "{said}");
    crate::harness::write(&dir.join("log/run"), "#!/nowhere/sh\n", 0o755);
    assert!(mistakes().1.contains("/log: run: its interpreter /nowhere/sh is not there"));
    crate::harness::write(&dir.join("log/run"), READER, 0o755);
    assert_eq!(mistakes(), (Some(0), String::new()));
    // A directory that is merely called so is none.
    std::fs::remove_file(dir.join("log/run")).expect("removed");
    assert_eq!(mistakes(), (Some(0), String::new()));
}

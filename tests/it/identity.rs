//! Section: whose rights a program has, and who may command it: `user`, `group`, `groups`, `control_group`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::harness::{
    AS_NOBODY, NOTING, Ran, SLEEPER, Tree, arguments, chmod, environment, eventually, is_root, process_field, program,
    replace, skip, sleeping, stays, text, wait_for, write,
};

/// A tree of root's that anybody may look into, and write notes in.
fn tree_of_root() -> Option<Tree> {
    if !is_root() {
        skip("another user to run as needs root");
        return None;
    }
    let tree = Tree::running();
    chmod(&tree.path(""), 0o755);
    chmod(&tree.path("notes"), 0o777);
    Some(tree)
}

/// What the system's own database says of a user.
fn entry(tree: &Tree, user: &str) -> Option<Vec<String>> {
    program("getent")?;
    let said = tree.ran(["getent", "passwd", user]);
    (said.code == Some(0)).then(|| said.out.trim().split(':').map(str::to_owned).collect())
}

/// Writes what `id` says, then sleeps.
const ID: &str = "#!/bin/sh\nid > \"$SVTREE_IT/notes/$SVTREE_MODULE\"\nexec sleep 1000\n";

#[test]
fn a_user_is_who_su_would_make_it() {
    let Some(tree) = tree_of_root() else { return };
    for user in ["nobody", "daemon", "www-data"] {
        let Some(entry) = entry(&tree, user) else { continue };
        for (name, written) in [("name", format!("'{user}'")), ("number", entry[2].clone())] {
            let name = format!("{user}-{name}");
            tree.service(&name).run(ID).toml(&format!("user = {written}")).moved_in();
            eventually("what id says", || !tree.notes(&name).is_empty());
            if program("su").is_some() {
                assert_eq!(
                    tree.notes(&name).join("\n"),
                    tree.ran(["su", "-s", "/bin/sh", user, "-c", "id"]).ok().trim()
                );
            }
            let pid = sleeping(&tree, &name);
            let expected = [&entry[2]; 4].map(String::as_str).join("\t");
            assert_eq!(process_field(pid, "Uid"), expected, "real, effective, saved and of files");
            for kind in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                assert_eq!(process_field(pid, kind), "0000000000000000", "{kind}");
            }
        }
    }
    let svtree = tree.pid_of_svtree();
    for thread in fs::read_dir(format!("/proc/{svtree}/task")).expect("its threads").flatten() {
        let status = text(&thread.path().join("status"));
        assert!(status.contains("Uid:\t0\t0\t0\t0\n"), "svtree's own threads stay who they were: {status}");
    }
}

#[test]
fn the_groups_of_a_user_are_those_of_the_database() {
    let Some(tree) = tree_of_root() else { return };
    let group = text(std::path::Path::new("/etc/group"));
    let with_groups = group.lines().find_map(|line| {
        let member = line.rsplit(':').next()?.split(',').next()?;
        (!member.is_empty() && member != "root").then(|| member.to_owned())
    });
    let Some(user) = with_groups else { return skip("no user of this machine is in another group than its own") };
    tree.service("web").run(ID).toml(&format!("user = '{user}'")).moved_in();
    eventually("what id says", || !tree.notes("web").is_empty());
    assert_eq!(tree.notes("web").join("\n"), tree.ran(["su", "-s", "/bin/sh", &user, "-c", "id"]).ok().trim());
}

#[test]
fn group_and_groups_win_over_the_users_own() {
    let Some(tree) = tree_of_root() else { return };
    let cases = [
        ("group", "user = 'nobody'\ngroup = 'daemon'", "65534", "1", "1"),
        ("groups", "user = 'nobody'\ngroups = ['daemon', 4242]", "65534", "65534", "1 4242"),
        ("none", "user = 'nobody'\ngroups = []", "65534", "65534", ""),
        ("both", "user = 'nobody'\ngroup = 1\ngroups = ['sys']", "65534", "1", "3"),
        ("number", "user = 4242\ngroup = 4343", "4242", "4343", ""),
        ("alone", "group = 'daemon'\ngroups = []", "0", "1", ""),
    ];
    for (name, toml, uid, gid, groups) in cases {
        tree.service(name).run(SLEEPER).toml(toml).moved_in();
        let pid = sleeping(&tree, name);
        assert_eq!(process_field(pid, "Uid"), [uid; 4].join("\t"), "{toml}");
        assert_eq!(process_field(pid, "Gid"), [gid; 4].join("\t"), "{toml}");
        let mut found: Vec<String> = process_field(pid, "Groups").split_whitespace().map(str::to_owned).collect();
        found.dedup();
        assert_eq!(found.join(" "), groups, "{toml}");
    }
}

#[test]
fn there_is_no_way_back_to_root() {
    let Some(tree) = tree_of_root() else { return };
    let back = r#"#define _GNU_SOURCE
        #include <stdio.h>
        #include <unistd.h>
        #include <grp.h>
        #include <sys/types.h>
        int main(void) {
            gid_t none = 0;
            int back = 0;
            back |= setuid(0) == 0;
            back |= seteuid(0) == 0;
            back |= setreuid(0, 0) == 0;
            back |= setresuid(-1, -1, 0) == 0;
            back |= setgid(0) == 0;
            back |= setegid(0) == 0;
            back |= setgroups(1, &none) == 0;
            printf("%s %d %d\n", back ? "back" : "kept out", (int)getuid(), (int)geteuid());
            fflush(stdout);
            pause();
        }"#;
    let Some(back) = tree.compiled("back", back) else { return };
    let script = format!("#!/bin/sh\nexec {} > \"$SVTREE_IT/notes/$SVTREE_MODULE\"\n", back.display());
    tree.service("web").run(&script).toml("user = 'nobody'").moved_in();
    eventually("what it found", || !tree.notes("web").is_empty());
    assert_eq!(tree.notes("web"), ["kept out 65534 65534"]);
}

#[test]
fn a_user_or_a_group_that_is_gone_refuses_the_start_and_never_runs_as_another() {
    let tree = Tree::running();
    for (name, toml, said) in [
        ("user", "user = 'no-such-user'", "user no-such-user: there is no such user"),
        ("group", "group = 'no-such-group'", "group no-such-group: there is no such group"),
        ("groups", "groups = ['no-such-group']", "groups: no-such-group: there is no such group"),
        ("number", "user = 3999999999", "user 3999999999: there is no such user, so its group must be said as well"),
    ] {
        let entry = tree.service(name).run(NOTING).toml(toml).moved_in();
        eventually("the reason", || tree.state(name)["reason"] == said);
        assert_eq!(tree.state(name)["state"], "waiting");
        eventually("its line", || text(&tree.home(name).join("supervise.log.wf")).contains(said));
        stays(Duration::from_millis(300), "it does not run", || tree.notes(name).is_empty());
        let checked = tree.svtree(["check", &format!("services/{name}")]);
        assert!(checked.code == Some(111) && checked.err.contains(said), "{checked:?}");
        replace(&entry.join("service.toml"), "", 0o644);
        eventually("it to start once it is mended", || tree.notes(name).len() == 1);
    }
}

#[test]
fn its_environment_says_who_it_is_unless_the_module_says_otherwise() {
    let Some(tree) = tree_of_root() else { return };
    let Some(entry) = entry(&tree, "nobody") else { return };
    tree.service("web").toml("command = 'sleep 1000'\nuser = 'nobody'").moved_in();
    tree.service("own").toml("command = 'sleep 1000'\nuser = 'nobody'\nenvironment = { HOME = '/data' }").moved_in();
    tree.service("number").toml("command = 'sleep 1000'\nuser = 4242\ngroup = 4242").moved_in();
    let has = |name: &str, variable: String| environment(sleeping(&tree, name)).contains(&variable);
    for variable in
        [format!("HOME={}", entry[5]), format!("SHELL={}", entry[6]), "USER=nobody".into(), "LOGNAME=nobody".into()]
    {
        assert!(has("web", variable.clone()), "{variable}");
    }
    assert!(has("own", "HOME=/data".to_owned()) && has("own", "USER=nobody".to_owned()));
    let of_number = environment(sleeping(&tree, "number"));
    let told = ["HOME=", "USER=", "LOGNAME=", "SHELL="];
    assert!(!of_number.iter().any(|pair| told.iter().any(|name| pair.starts_with(name))), "{of_number:?}");
}

#[test]
fn what_the_user_may_not_enter_or_execute_is_a_reason() {
    let Some(tree) = tree_of_root() else { return };
    let entry = tree.service("web").run(NOTING).toml("user = 'nobody'\ndirectory = 'secret'").dir();
    fs::create_dir(entry.join("secret")).expect("made");
    chmod(&entry.join("secret"), 0o700);
    fs::rename(&entry, tree.entry("web")).expect("moved in");
    eventually("the reason", || tree.told("web").contains("entering its directory secret: Permission denied"));
    chmod(&tree.entry("web/secret"), 0o755);
    eventually("it to start", || tree.notes("web").len() == 1);
    chmod(&tree.entry("web/run"), 0o744);
    tree.letter("web", "k");
    eventually("the reason", || tree.told("web").contains("executing ./run: Permission denied"));
}

#[test]
fn finish_and_control_scripts_run_as_svtree_itself() {
    let Some(tree) = tree_of_root() else { return };
    let noting = |name: &str| format!("#!/bin/sh\nid -u >> \"$SVTREE_IT/notes/{name}\"\nexit 1\n");
    tree.service("web")
        .run(NOTING)
        .toml("user = 'nobody'")
        .script("finish", &noting("finish"))
        .script("control/t", &noting("control"))
        .moved_in();
    eventually("it to run", || tree.notes("web").len() == 1);
    tree.letter("web", "td");
    eventually("both to run", || !tree.notes("finish").is_empty() && !tree.notes("control").is_empty());
    assert_eq!((tree.notes("finish")[0].as_str(), tree.notes("control")[0].as_str()), ("0", "0"));
}

#[test]
fn a_plain_user_may_say_that_it_is_itself_and_nobody_else() {
    let Some(tree) = Tree::new().options(["--log", "file"]).for_nobody() else { return };
    tree.start();
    let status = text(std::path::Path::new(&format!("/proc/{}/status", tree.pid_of_svtree())));
    let own = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        line.split_whitespace().next().unwrap_or_default().to_owned()
    };
    let toml = format!("user = {}\ngroup = {}", own("Uid:"), own("Gid:"));
    tree.service("self").run(NOTING).toml(&toml).moved_in();
    eventually("it to run", || tree.notes("self").len() == 1);
    tree.service("root").run(NOTING).toml("user = 'root'").moved_in();
    let says = "; it takes root, or CAP_SETGID";
    eventually("the reason", || tree.state("root")["reason"].as_str().is_some_and(|why| why.ends_with(says)));
    assert!(tree.notes("root").is_empty());
    tree.service("delegated").run(NOTING).toml("control_group = 0").moved_in();
    eventually("it to run", || tree.notes("delegated").len() == 1);
    let says = "control_group: Operation not permitted; it takes root, CAP_CHOWN, or to be in that group; \
        only svtree's own user may write svcontrol";
    eventually("a warning", || tree.told("delegated").contains(says));
}

#[test]
fn a_running_program_keeps_its_user_until_its_next_start() {
    let Some(tree) = tree_of_root() else { return };
    let entry = tree.service("web").run(SLEEPER).toml("user = 'nobody'").moved_in();
    let pid = sleeping(&tree, "web");
    write(&entry.join("service.toml"), "user = 'daemon'", 0o644);
    eventually("changed", || tree.state("web")["changed"] == true);
    assert!(process_field(pid, "Uid").starts_with("65534"));
    tree.letter("web", "k");
    eventually("the next one", || tree.pid("web").is_some_and(|pid| process_field(pid, "Uid").starts_with("1\t")));
}

/// What a user says who is in the group `daemon` and in no other one.
fn as_operator(tree: &Tree, script: &str) -> Ran {
    let mut words = AS_NOBODY.to_vec();
    words.retain(|word| !word.starts_with("--clear"));
    words.extend(["--groups=1", "timeout", "5", "sh", "-c", script]);
    tree.ran(words)
}

#[test]
fn control_group_may_write_letters_and_nothing_else() {
    let Some(tree) = tree_of_root() else { return };
    if program("setpriv").is_none() {
        return;
    }
    for (name, toml) in [("up", ""), ("down", "enabled = false\n")] {
        tree.service(name).run(NOTING).toml(&format!("{toml}control_group = 'daemon'")).moved_in();
        for fifo in ["status/NAME/svcontrol", "services/NAME/supervise/control"].map(|path| path.replace("NAME", name))
        {
            eventually(format!("{fifo} to be the group's"), || {
                tree.path(&fifo).metadata().is_ok_and(|found| found.mode() & 0o7777 == 0o620 && found.gid() == 1)
            });
            assert_ne!(as_operator(&tree, &format!("exec 9< {fifo}")).code, Some(0), "nobody takes letters away");
        }
    }
    let said = as_operator(&tree, "echo k > status/up/svcontrol; echo u > services/down/supervise/control");
    assert_eq!(said.code, Some(0), "{said:?}");
    eventually("both to obey", || tree.notes("up").len() == 2 && tree.notes("down").len() == 1);
    // It is put right with the rest, and it goes with the key.
    fs::remove_file(tree.home("up").join("svcontrol")).expect("removed");
    let mode = || tree.home("up").join("svcontrol").metadata().map(|found| (found.mode() & 0o777, found.gid()));
    eventually("it to be there again", || mode().is_ok_and(|found| found == (0o620, 1)));
    write(&tree.entry("up").join("service.toml"), "", 0o644);
    tree.letter("up", "k");
    eventually("nobody but root to command it", || mode().is_ok_and(|(mode, _)| mode == 0o600));
    assert_ne!(as_operator(&tree, "echo d > status/up/svcontrol").code, Some(0));
}

#[test]
fn a_control_group_that_is_gone_delegates_nothing_and_stops_nothing() {
    let tree = Tree::running();
    tree.service("web").run(NOTING).toml("control_group = 'no-such-group'").moved_in();
    eventually("it to run", || tree.notes("web").len() == 1);
    let said = "control_group no-such-group: there is no such group; only svtree's own user may write svcontrol";
    eventually("a warning", || text(&tree.home("web").join("supervise.log.wf")).contains(said));
    assert_eq!(tree.home("web").join("svcontrol").metadata().expect("it is there").mode() & 0o777, 0o600);
}

/// A tree of root's whose users are in the files and in a source of its own, which does this when it is asked for a name.
fn tree_with_a_source(does: &str) -> Option<Tree> {
    if !is_root() || program("unshare").is_none() {
        skip("a source of users of its own needs root and unshare");
        return None;
    }
    let tree = Tree::new();
    let source = format!(
        "#include <pwd.h>\n#include <stdlib.h>\n#include <unistd.h>\n#include <nss.h>\n
        enum nss_status _nss_ours_getpwnam_r(const char *name, struct passwd *to, char *at, size_t size, int *error) {{
            {does}
        }}
        int main(void) {{ return 0; }}"
    );
    let compiled = tree.compiled("ours", &source)?;
    let library = tree.path("elsewhere/libnss_ours.so.2");
    let words = ["cc", "-shared", "-fPIC", "-o"].map(Into::into);
    let files = [library.into_os_string(), compiled.with_extension("c").into_os_string()];
    tree.ran(words.into_iter().chain(files)).ok();
    write(&tree.path("elsewhere/nsswitch.conf"), "passwd: files ours\ngroup: files\n", 0o644);
    let mount = "mount --make-rprivate / && mount --bind elsewhere/nsswitch.conf /etc/nsswitch.conf && exec \"$@\"";
    if tree.ran(["unshare", "-m", "sh", "-c", mount, "sh", "true"]).code != Some(0) {
        skip("nsswitch.conf cannot be hidden: that takes the right to mount");
        return None;
    }
    let libraries = tree.path("elsewhere").display().to_string();
    let tree = tree.env("LD_LIBRARY_PATH", &libraries).through(["unshare", "-m", "sh", "-c", mount, "sh"]);
    chmod(&tree.path(""), 0o755);
    chmod(&tree.path("notes"), 0o777);
    tree.start();
    Some(tree)
}

#[test]
fn a_user_of_another_source_than_the_files_is_found() {
    let does = "if (name[0] != 'o') return NSS_STATUS_NOTFOUND;
        to->pw_name = \"ours\"; to->pw_passwd = to->pw_gecos = \"\"; to->pw_uid = 4711; to->pw_gid = 4712;
        to->pw_dir = \"/ours\"; to->pw_shell = \"\"; return NSS_STATUS_SUCCESS;";
    let Some(tree) = tree_with_a_source(does) else { return };
    for (name, user, uid) in [("ours", "ours", "4711"), ("files", "nobody", "65534")] {
        tree.service(name).toml(&format!("command = 'sleep 1000'\nuser = '{user}'")).moved_in();
        let pid = sleeping(&tree, name);
        assert_eq!(process_field(pid, "Uid"), [uid; 4].join("\t"));
    }
    let environment = environment(sleeping(&tree, "ours"));
    for variable in ["HOME=/ours", "USER=ours", "SHELL=/bin/sh"] {
        assert!(environment.contains(&variable.to_owned()), "{variable} in {environment:?}");
    }
    tree.service("gone").toml("command = 'sleep 1000'\nuser = 'gone'").moved_in();
    eventually("the reason", || tree.state("gone")["reason"] == "user gone: there is no such user");
}

#[test]
fn a_source_of_users_that_never_answers_holds_up_nobody() {
    let Some(tree) = tree_with_a_source("for (;;) pause();") else { return };
    tree.service("web").run(NOTING).toml("user = 'ours'").moved_in();
    tree.becomes("web", "waiting");
    // Its own thread obeys, and others run; whose names are in the files are asked for in the same way, and found.
    tree.letter("web", "d");
    tree.becomes("web", "down");
    tree.letter("web", "u");
    tree.becomes("web", "waiting");
    tree.sleeper("other");
    tree.up("other");
    let says = "looking it up: it does not answer within 10 s";
    eventually("the reason", || tree.state("web")["reason"] == says);
    assert!(tree.notes("web").is_empty());
}

#[test]
fn a_change_to_a_user_that_nobody_answers_for_is_rejected_and_holds_up_nobody() {
    let Some(tree) = tree_with_a_source("for (;;) pause();") else { return };
    let entry = tree.service("web").toml("command = 'sleep 1000'").moved_in();
    let pid = sleeping(&tree, "web");
    replace(&entry.join("service.toml"), "command = 'sleep 600'\nuser = 'ours'", 0o644);
    let rejected = || tree.state("web")["rejected"].as_str().map(str::to_owned);
    stays(Duration::from_secs(1), "not in force before it is known", || tree.pid("web") == Some(pid));
    tree.sleeper("other");
    tree.up("other");
    // What follows an `r` waits for what is read, but not for ever.
    tree.letter("web", "rk");
    let pid = tree.up_again("web", pid);
    assert_eq!(arguments(sleeping(&tree, "web")), ["sleep", "1000"]);
    assert_eq!(wait_for("it to be rejected", rejected), "whether all that it names is there is not known after 5 s");
    eventually("the answer", || rejected().is_some_and(|why| why == "looking it up: it does not answer within 10 s"));
    replace(&entry.join("service.toml"), "command = 'sleep 600'\nuser = 'nobody'", 0o644);
    eventually("it to be accepted", || tree.state("web")["changed"] == true && rejected().is_none());
    assert_eq!(tree.pid("web"), Some(pid));
}

#[test]
fn a_source_of_users_that_crashes_costs_svtree_nothing() {
    let Some(tree) = tree_with_a_source("abort();") else { return };
    tree.service("web").run(NOTING).toml("user = 'ours'").moved_in();
    eventually("the reason", || {
        tree.state("web")["reason"].as_str().is_some_and(|why| why.starts_with("looking it up: killed by SIGABRT"))
    });
    tree.sleeper("other");
    tree.up("other");
    assert!(tree.is_running() && tree.notes("web").is_empty());
}

#[test]
fn whose_a_program_is_and_who_commands_it_goes_over_to_the_next_svtree() {
    let Some(tree) = tree_of_root() else { return };
    let toml = "user = 'nobody'\ncontrol_group = 'daemon'\n[limits]\ncore = 0\n[sandbox]\nprivate_tmp = true";
    tree.service("web").run(SLEEPER).toml(toml).moved_in();
    let pid = sleeping(&tree, "web");
    let fifo = tree.home("web").join("svcontrol");
    let is_delegated = || fifo.metadata().is_ok_and(|found| found.mode() & 0o777 == 0o620 && found.gid() == 1);
    eventually("the FIFO to be the group's", is_delegated);
    let holds = |how: &str| {
        assert_eq!(tree.pid("web"), Some(pid), "{how}");
        assert!(process_field(pid, "Uid").starts_with("65534\t"), "{how}");
        assert_eq!(tree.state("web")["changed"], false, "{how}");
        eventually(format!("the FIFO to be the group's {how}"), is_delegated);
    };
    tree.svtree(["upgrade"]).ok();
    holds("after an upgrade");
    // What is made anew then is the group's as well.
    fs::remove_file(&fifo).expect("removed");
    eventually("the FIFO to be there again", is_delegated);
    tree.kill_svtree();
    tree.start();
    eventually("it to be taken over", || tree.state("web")["adopted"] == true);
    holds("after a death");
    tree.letter("web", "k");
    tree.up_again("web", pid);
    assert!(process_field(sleeping(&tree, "web"), "Uid").starts_with("65534\t"));
}

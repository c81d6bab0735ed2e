//! Real daemons that put themselves in the background: followed, answering, restarted, retired, with one copy at a time.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::{
    Bystander, Tree, alive, arguments, descendants, eventually, is_root, process_field, program, ran, runs, signal_pid,
    skip, text, wait_for,
};
use crate::programs::{answers, free_port, nginx_conf};

/// How often each daemon is restarted in each way.
const ROUNDS: usize = 5;

/// A daemon in a tree, and how it shows that it is there.
struct Daemon<'a> {
    tree: &'a Tree,
    name: &'a str,
    executable: PathBuf,
    port: u16,
    request: &'a str,
    expected: &'a str,
}

impl Daemon<'_> {
    fn answering(&self) -> bool {
        answers(self.port, self.request, self.expected).is_some()
    }

    /// The copies there are below svtree: processes that run the executable and are no children of one that does.
    fn copies(&self) -> Vec<i32> {
        let of_it: Vec<i32> = descendants(self.tree.pid_of_svtree())
            .into_iter()
            .filter(|pid| runs(*pid).as_ref() == Some(&self.executable))
            .collect();
        let parent = |pid: i32| process_field(pid, "PPid").parse().unwrap_or(0);
        of_it.iter().copied().filter(|pid| !of_it.contains(&parent(*pid))).collect()
    }

    /// Waits until it is followed and answers, as another process than before, and returns its pid.
    #[track_caller]
    fn followed(&self, before: i32) -> i32 {
        let pid = wait_for(format!("{} to be followed", self.name), || {
            let pid = self.tree.pid(self.name).filter(|pid| *pid != before)?;
            let state = self.tree.state(self.name);
            (state["followed"] == true && state["pid"] == pid && alive(pid)).then_some(pid)
        });
        eventually(format!("{} to answer", self.name), || self.answering());
        // One that was taken over has another parent.
        let adopted = self.tree.state(self.name)["adopted"] == true;
        let own = if adopted { Vec::new() } else { vec![pid] };
        assert_eq!(self.copies(), own, "one copy, and it is the program");
        pid
    }

    /// Retired, nothing of it is left.
    #[track_caller]
    fn goes(&self) {
        self.tree.move_out(self.name);
        self.tree.goes(self.name);
        assert!(!self.answering());
        assert_eq!(descendants(self.tree.pid_of_svtree()), [0; 0], "no process of it is left");
    }

    /// Dropped in and followed; killed, restarted by letters and by `d` and `u`, retired: over and over. Each start is
    /// counted, so one that found the port taken would be seen.
    #[track_caller]
    fn lives(&self) {
        let mut pid = self.followed(0);
        for _ in 0..ROUNDS {
            for letters in ["k", "t", "d"] {
                self.tree.letter(self.name, letters);
                if letters == "d" {
                    self.tree.becomes(self.name, "down");
                    assert!(!alive(pid) && !self.answering() && self.copies().is_empty());
                    self.tree.letter(self.name, "u");
                }
                pid = self.followed(pid);
            }
        }
        signal_pid(pid, Signal::KILL);
        pid = self.followed(pid);
        self.tree.kill_svtree();
        assert!(alive(pid) && self.answering());
        self.tree.start();
        eventually("it to be taken over", || self.tree.state(self.name)["adopted"] == true);
        assert_eq!(self.followed(0), pid);
        let state = self.tree.state(self.name);
        assert_eq!(state["restarts"], 3 * ROUNDS + 1, "no start was in vain: {state}");
        self.goes();
    }
}

const SOON: &str = "[restart]\ndelay = '10ms'\n";

/// The tree that svtree runs in: with cgroups where there are any, and without.
fn trees() -> impl Iterator<Item = Tree> {
    [Some(Tree::new()), Tree::new().without_cgroups()].into_iter().flatten().inspect(Tree::start)
}

fn canonical(program: &Path) -> PathBuf {
    program.canonicalize().expect("the executable")
}

#[test]
fn memcached_in_the_background_lives_in_the_tree() {
    let Some(memcached) = program("memcached") else { return };
    for tree in trees() {
        let port = free_port();
        let user = if is_root() { "-u nobody" } else { "" };
        let run = format!("#!/bin/sh\nexec {} -d {user} -l 127.0.0.1 -U 0 -p {port}\n", memcached.display());
        tree.service("memcached").run(&run).toml(SOON).moved_in();
        let request = "set greeting 0 0 5\r\nhello\r\nget greeting\r\n";
        let expected = "VALUE greeting 0 5\r\nhello\r\nEND";
        let executable = canonical(&memcached);
        Daemon { tree: &tree, name: "memcached", executable, port, request, expected }.lives();
    }
}

#[test]
fn redis_in_the_background_lives_in_the_tree() {
    let Some(redis) = program("redis-server") else { return };
    for tree in trees() {
        let port = free_port();
        let run = format!(
            "#!/bin/sh\nexec {} --daemonize yes --port {port} --bind 127.0.0.1 --save '' --appendonly no \
             --pidfile \"$PWD/pid\"\n",
            redis.display()
        );
        tree.service("redis").run(&run).toml(SOON).moved_in();
        let (request, expected) = ("SET greeting hello\r\nGET greeting\r\n", "+OK\r\n$5\r\nhello\r\n");
        let executable = canonical(&redis);
        Daemon { tree: &tree, name: "redis", executable, port, request, expected }.lives();
    }
}

/// nginx with `daemon on`, dropped in.
fn nginx(tree: &Tree) -> Option<Daemon<'_>> {
    let nginx = program("nginx")?;
    let port = free_port();
    let conf = nginx_conf("daemon on; error_log error.log;", port);
    let run = format!("#!/bin/sh\nexec {} -e error.log -p \"$PWD\" -c nginx.conf\n", nginx.display());
    tree.service("nginx").run(&run).file("nginx.conf", &conf).toml(SOON).moved_in();
    let (request, expected) = ("GET / HTTP/1.0\r\n\r\n", "hello from the tree");
    Some(Daemon { tree, name: "nginx", executable: canonical(&nginx), port, request, expected })
}

/// Its workers, once both are there.
fn workers(daemon: &Daemon<'_>, master: i32) -> Vec<i32> {
    let is_worker = |pid: &i32| arguments(*pid).iter().any(|argument| argument.starts_with("nginx: worker"));
    wait_for("both workers", || {
        let workers: Vec<i32> = descendants(master).into_iter().filter(is_worker).collect();
        (workers.len() == 2 && daemon.answering()).then_some(workers)
    })
}

#[test]
fn nginx_in_the_background_lives_in_the_tree() {
    for tree in trees() {
        let Some(daemon) = nginx(&tree) else { return };
        daemon.lives();
    }
}

#[test]
fn workers_of_nginx_that_are_killed_are_its_own_affair() {
    let tree = Tree::running();
    let Some(daemon) = nginx(&tree) else { return };
    let master = daemon.followed(0);
    for _ in 0..ROUNDS {
        let before = workers(&daemon, master);
        before.iter().for_each(|pid| signal_pid(*pid, Signal::KILL));
        eventually("others in their place", || !workers(&daemon, master).iter().any(|pid| before.contains(pid)));
        assert_eq!(daemon.followed(0), master);
    }
    assert_eq!(tree.state("nginx")["restarts"], 0);
}

#[test]
fn the_workers_of_a_master_that_was_killed_end_before_it_is_started_again() {
    for tree in trees() {
        let Some(daemon) = nginx(&tree) else { return };
        let mut master = daemon.followed(0);
        for _ in 0..ROUNDS {
            let before = workers(&daemon, master);
            signal_pid(master, Signal::KILL);
            master = daemon.followed(master);
            assert!(!before.into_iter().any(alive), "no worker of the old one is left");
        }
        assert_eq!(tree.state("nginx")["restarts"], ROUNDS, "no start found the port taken");
        daemon.goes();
    }
}

#[test]
fn nginx_that_replaces_itself_is_followed_and_no_restart_is_counted() {
    for tree in trees() {
        let Some(daemon) = nginx(&tree) else { return };
        let mut master = daemon.followed(0);
        for round in 0..ROUNDS {
            workers(&daemon, master);
            // The new master is started by the old one, which stays until it is told to go: as its manual says.
            let letter = round % 2 == 0;
            if letter {
                tree.letter("nginx", "2");
            } else {
                signal_pid(master, Signal::USR2);
            }
            let entry = tree.entry("nginx");
            let new: i32 = wait_for("the new master", || {
                let pid = text(&entry.join("nginx.pid")).trim().parse().ok()?;
                (pid != master && entry.join("nginx.pid.oldbin").exists() && alive(pid)).then_some(pid)
            });
            workers(&daemon, new);
            signal_pid(master, Signal::QUIT);
            assert_eq!(daemon.followed(master), new);
            eventually("the old one to be gone", || !alive(master));
            master = new;
        }
        let state = tree.state("nginx");
        assert!(state["restarts"] == 0 && state["exits"] == serde_json::json!([]), "{state}");
        daemon.goes();
    }
}

/// sshd with a host key of its own, dropped in; and a key that it lets in.
fn sshd<'a>(tree: &'a Tree, toml: &str) -> Option<Daemon<'a>> {
    let (sshd, keygen) = (program("sshd")?, program("ssh-keygen")?);
    let port = free_port();
    let service = tree.service("sshd");
    for key in ["host", "user"] {
        let key = tree.path(key);
        ran(tree.command([&keygen]).args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key)).ok();
    }
    let root = tree.path("").display().to_string();
    let conf = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {root}/host\nPidFile none\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nPermitRootLogin prohibit-password\nAuthorizedKeysFile {root}/user.pub\n"
    );
    // As root it wants this directory, which its package makes at boot: here it is in a `/run` of its own.
    let run = match is_root() {
        true => format!(
            "#!/bin/sh\nexec unshare -m sh -c 'mount -t tmpfs -o mode=755 tmpfs /run && mkdir -m 755 /run/sshd && \
             exec {} -f \"$PWD/sshd_config\" -E \"$PWD/log\"'\n",
            sshd.display()
        ),
        false => format!("#!/bin/sh\nexec {} -f \"$PWD/sshd_config\" -E \"$PWD/log\"\n", sshd.display()),
    };
    if is_root() && ran(&mut tree.command(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/run"])).code != Some(0) {
        skip("sshd as root wants /run/sshd, and nothing can be mounted here");
        return None;
    }
    service.run(&run).file("sshd_config", &conf).toml(toml).moved_in();
    Some(Daemon { tree, name: "sshd", executable: canonical(&sshd), port, request: "", expected: "SSH-2.0-" })
}

#[test]
fn sshd_in_the_background_lives_in_the_tree() {
    for tree in trees() {
        let Some(daemon) = sshd(&tree, SOON) else { return };
        daemon.lives();
    }
}

/// A login that stays open; `None`, with a line that says why, where none can be had. The pid is of its shell.
fn login(daemon: &Daemon<'_>) -> Option<(Bystander, i32)> {
    let ssh = program("ssh")?;
    let tree = daemon.tree;
    let port = daemon.port.to_string();
    let to_run = |said: &str| {
        let mut command = tree.command([&ssh]);
        command.args(["-q", "-F", "none", "-p", &port, "-i"]).arg(tree.path("user"));
        for option in
            ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes"]
        {
            command.args(["-o", option]);
        }
        command.args(["127.0.0.1", said]);
        command
    };
    if ran(&mut to_run("true")).code != Some(0) {
        skip("nobody can log in here by a key");
        return None;
    }
    let note = tree.path("notes/login");
    let said = format!("echo $$ > '{}'; exec sleep 60", note.display());
    let client = Bystander::start(&mut to_run(&said));
    let shell = wait_for("the login", || text(&note).trim().parse().ok());
    Some((client, shell))
}

#[test]
fn with_scope_main_a_restart_of_sshd_keeps_open_logins() {
    let tree = Tree::running();
    let Some(daemon) = sshd(&tree, "[restart]\ndelay = '10ms'\n[stop]\nscope = 'main'\n") else { return };
    let pid = daemon.followed(0);
    let Some((mut client, shell)) = login(&daemon) else { return };
    for letters in ["k", "t", "du"] {
        let before = tree.pid("sshd").unwrap_or(pid);
        tree.letter("sshd", letters);
        wait_for("another sshd", || {
            let state = tree.state("sshd");
            // Of one moment: a letter to the one that starts it would leave the one that it starts.
            tree.pid("sshd").filter(|pid| *pid != before && state["pid"] == *pid && state["followed"] == true)
        });
        eventually("it to answer", || daemon.answering());
        assert!(alive(shell) && client.lives(), "{letters} leaves the login alone");
    }
    // It has no terminal, and so does not hear that its client has gone.
    signal_pid(shell, Signal::KILL);
    eventually("the login to end", || !alive(shell));
}

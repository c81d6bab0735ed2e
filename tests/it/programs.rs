//! Real programs: dropped in, answering on their ports, killed, restarted by `k`, retired, with no process left.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Service, Tree, eventually, is_root, program, signal_pid};

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Sends a request and returns what is answered, up to the expected text; `None` if that does not come.
pub(crate) fn answers(port: u16, request: &str, expected: &str) -> Option<String> {
    let limit = Duration::from_secs(2);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    loop {
        let count = stream.read(&mut part).ok().filter(|count| *count > 0)?;
        answer.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&answer);
        if text.contains(expected) {
            return Some(text.into_owned());
        }
    }
}

/// The whole life of a real program.
fn lives(name: &str, tree: &Tree, service: Service<'_>, port: u16, request: &str, expected: &str) {
    let answering = || answers(port, request, expected).is_some();
    service.moved_in();
    eventually(format!("{name} to answer"), answering);
    let pid = tree.up(name);
    signal_pid(pid, Signal::KILL);
    let pid = tree.up_again(name, pid);
    eventually(format!("{name} to answer after it was killed"), answering);
    tree.letter(name, "k");
    let pid = tree.up_again(name, pid);
    eventually(format!("{name} to answer after k"), answering);
    tree.svtree(["restart", name, "--wait", "15"]).ok();
    tree.up_again(name, pid);
    eventually(format!("{name} to answer after a restart"), answering);
    assert_eq!(tree.state(name)["restarts"], 3);
    tree.move_out(name);
    tree.goes(name);
    assert!(!answering());
    let svtree = tree.pid_of_svtree();
    assert_eq!(tree.processes(), [svtree], "no process of it is left");
}

#[test]
fn redis_lives_in_the_tree() {
    let Some(redis) = program("redis-server") else { return };
    let tree = Tree::running();
    let port = free_port();
    let redis = redis.display();
    let run = format!("#!/bin/sh\nexec {redis} --port {port} --bind 127.0.0.1 --save '' --appendonly no\n");
    let service = tree.service("redis").run(&run);
    lives("redis", &tree, service, port, "SET greeting hello\r\nGET greeting\r\n", "+OK\r\n$5\r\nhello\r\n");
}

#[test]
fn memcached_lives_in_the_tree() {
    let Some(memcached) = program("memcached") else { return };
    let tree = Tree::running();
    let port = free_port();
    let user = if is_root() { "'-u', 'nobody', " } else { "" };
    let toml = format!(
        "command = ['{}', {user}'-l', '127.0.0.1', '-U', '0', '-p', '{port}']\n[restart]\ndelay = '500ms'",
        memcached.display()
    );
    let service = tree.service("memcached").toml(&toml);
    lives(
        "memcached",
        &tree,
        service,
        port,
        "set greeting 0 0 5\r\nhello\r\nget greeting\r\n",
        "VALUE greeting 0 5\r\nhello\r\nEND",
    );
}

/// An nginx that keeps all its files in its service directory, and answers at a port.
pub(crate) fn nginx_conf(more: &str, port: u16) -> String {
    let user = if is_root() { "user root;" } else { "" };
    format!(
        "{more} {user} worker_processes 2; pid nginx.pid;
        events {{ worker_connections 64; }}
        http {{
            access_log off;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            server {{ listen 127.0.0.1:{port}; location / {{ return 200 'hello from the tree'; }} }}
        }}
        "
    )
}

#[test]
fn nginx_lives_in_the_tree_and_its_workers_with_it() {
    let Some(nginx) = program("nginx") else { return };
    let tree = Tree::running();
    let port = free_port();
    let conf = nginx_conf("daemon off; error_log stderr;", port);
    let run = format!("#!/bin/sh\nexec {} -e stderr -p \"$PWD\" -c nginx.conf\n", nginx.display());
    let service = tree.service("nginx").run(&run).file("nginx.conf", &conf);
    lives("nginx", &tree, service, port, "GET / HTTP/1.0\r\n\r\n", "hello from the tree");
}

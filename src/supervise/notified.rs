//! What a module's processes say by the protocol of `sd_notify(3)`: who may say it, and what is made of it.
//!
//! Must never heed a stranger, and never give one module more than its share of time, however much it says.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::{Child, Supervise};
use crate::pure::config::ReadyBy;
use crate::pure::exit::Pid;
use crate::pure::machine::{Event, Phase};
use crate::pure::sd_notify::{LONGEST, Said, parse};
use crate::pure::time::Moment;
use crate::pure::vitals::Heard;
use crate::unix::home::Level;
use crate::unix::notify::{Received, Socket, is_held};
use crate::unix::{clock, pidfd, raw, remains, report};

/// So many datagrams are heard at a turn,
const AT_A_TURN: usize = 64;
/// and so many in
const MOST: u32 = 500;
/// this time; the rest waits where it is.
const WINDOW: Duration = Duration::from_secs(1);

/// So many different complaints about one program are written down.
const MOST_TOLD: usize = 16;

/// The socket of a module that asks for one.
#[derive(Debug)]
pub(super) struct Notify {
    socket: Socket,
    /// When the count began, and
    since: Moment,
    /// how many were heard since.
    heard: u32,
    /// Nothing is heard before that.
    deaf_until: Option<Moment>,
    /// What was said of this program's words.
    told: Vec<String>,
}

impl Notify {
    fn new(socket: Socket) -> Notify {
        Notify { socket, since: clock::moment(), heard: 0, deaf_until: None, told: Vec::new() }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Readable while there is something to hear.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.deaf_until.is_none().then(|| self.socket.as_fd())
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        self.deaf_until
    }

    /// Whether one more may be heard now.
    fn hears(&mut self, now: Moment) -> bool {
        if self.deaf_until.is_some_and(|until| now < until) {
            return false;
        }
        self.deaf_until = None;
        if now.since(self.since) >= WINDOW {
            (self.since, self.heard) = (now, 0);
        }
        if self.heard >= MOST {
            self.deaf_until = Some(self.since.plus(WINDOW));
        }
        self.deaf_until.is_none()
    }
}

impl Supervise {
    /// Whether the program that is to be started has a socket to speak on; it is made if there is none.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn prepare_notify(&mut self) -> std::io::Result<()> {
        let asked = self.task.loaded.policy.ready.by == Some(ReadyBy::Notify);
        let hidden = self.is_hidden();
        match &mut self.notify {
            Some(notify) if asked && (!hidden || notify.socket.address().starts_with('@')) => notify.told.clear(),
            _ if asked => {
                let socket = Socket::bind(self.home.directory(), hidden)?;
                self.notify = Some(Box::new(Notify::new(socket)));
            }
            Some(_) => {
                self.notify = None;
                self.home.remove_socket();
            }
            None => {}
        }
        Ok(())
    }

    /// Whether the program may not see the status directory.
    fn is_hidden(&self) -> bool {
        let sandbox = &self.task.loaded.policy.sandbox;
        sandbox.root.is_some() || sandbox.private_tmp
    }

    /// As a predecessor handed it down, or as it left it to be made again.
    pub(super) fn recall_notify(&mut self, socket: Option<OwnedFd>) {
        if self.started_with().policy.ready.by != Some(ReadyBy::Notify) {
            return;
        }
        let home = self.home.directory();
        let bind = || Socket::bind(home, self.is_hidden());
        let socket = socket.map_or_else(bind, |socket| Socket::handed_down(home, socket));
        match socket {
            Ok(socket) => self.notify = Some(Box::new(Notify::new(socket))),
            Err(error) => self.lines.push((Level::Warning, format!("making its socket: {}", report::plain(&error)))),
        }
    }

    /// Makes the socket again if somebody removed it.
    pub(super) fn heal_notify(&mut self) {
        let home = self.home.directory();
        if let Some(notify) = &mut self.notify
            && !notify.socket.stands(home)
            && let Ok(socket) = Socket::bind(home, false)
        {
            notify.socket = socket;
        }
    }

    /// Hears what was said.
    #[inline(never)]
    pub(super) fn hear_notify(&mut self) {
        let mut buffer = Box::new([0; LONGEST]);
        let before = self.care.as_ref().map(|care| care.vitals.words.clone());
        for _ in 0..AT_A_TURN {
            let now = clock::moment();
            let Some(notify) = &mut self.notify else { return };
            if !notify.hears(now) {
                self.tell_once("it says more than svtree hears: some of it waits".to_owned());
                break;
            }
            let Some(received) = notify.socket.receive(&mut buffer) else { break };
            notify.heard += 1;
            // Every descriptor that came with it is closed at the end of this turn: for `BARRIER=1` that is the answer.
            self.heed(now, &received, &buffer[..received.length]);
        }
        if self.care.as_ref().map(|care| &care.vitals.words) != before.as_ref() {
            // The record says something new.
            self.feed(Event::Heal);
        }
    }

    fn heed(&mut self, now: Moment, received: &Received, datagram: &[u8]) {
        if !received.is_whole {
            return self.tell_once(format!("what it said was longer than {LONGEST} bytes, and is passed over"));
        }
        if !self.is_sender_ours(received) {
            let text = match received.pidfd.as_ref().map(AsFd::as_fd) {
                Some(pidfd) if !is_held(pidfd) => "who spoke on its socket had ended before it was heard: passed over",
                Some(_) | None => "who spoke on its socket is none of its processes: passed over",
            };
            return self.tell_once(text.to_owned());
        }
        let Some(said) = parse(datagram) else {
            return self.tell_once("what it said has a NUL in it, and is passed over".to_owned());
        };
        for said in said {
            match said {
                Said::Wrong(key) => self.tell_once(format!("it said {key} with a value that is none: passed over")),
                Said::Store => self.tell_once("it said FDSTORE=1: descriptors are not kept, and closed".to_owned()),
                said => {
                    let heard = self.care.as_mut().and_then(|care| care.vitals.hear(now, said));
                    if let Some(heard) = heard {
                        self.conclude(heard);
                    }
                }
            }
        }
    }

    fn conclude(&mut self, heard: Heard) {
        match heard {
            Heard::Ready => self.is_ready(),
            Heard::Unwell(why) => self.is_unwell(why),
            Heard::Stopping => {
                self.lines.push((Level::Notice, "it says that it stops".to_owned()));
                self.feed(Event::Stopping);
            }
            Heard::Extend(time) => self.feed(Event::Extend(time)),
            Heard::MainPid(pid) => self.main_pid(pid),
        }
    }

    /// Only the module's own processes are heard.
    fn is_sender_ours(&self, received: &Received) -> bool {
        let Some(pid) = received.pid else { return false };
        let pidfd = received.pidfd.as_ref().map(AsFd::as_fd);
        // What the kernel says of the sender itself is true also of one that has ended since.
        if let Some(cgroup) = self.cgroup.as_ref().filter(|_| self.grouped)
            && let Some(number) = pidfd.and_then(raw::cgroup_of)
        {
            return cgroup.is_number(number);
        }
        // Looked at once more: what was seen under that pid was the sender, unless it has been collected meanwhile.
        self.is_ours(pid) && pidfd.is_none_or(is_held)
    }

    /// Another process is the program: one of the module's, and none of svtree's own.
    fn main_pid(&mut self, pid: Pid) {
        let Phase::Up { pid: own, .. } = *self.machine.phase() else { return };
        if pid == own {
            return;
        }
        let known =
            self.scripts.iter().map(super::scripts::Script::pid).chain(self.checks.iter().map(super::Check::pid));
        let is_known = known.into_iter().any(|known| known == pid);
        let held = if is_known { None } else { remains::one(pid, || self.is_ours(pid)) };
        match held.and_then(|held| self.hold_candidate(held)) {
            Some(_) => self.feed(Event::MainPid(pid)),
            None => self.tell_once(format!("it said MAINPID={pid}, which is none of its processes: passed over")),
        }
        self.drop_candidate();
    }

    /// Programs that said that another process is the program, and have ended.
    pub(super) fn look_at_formers(&mut self) {
        self.formers.retain(|former: &Child| match pidfd::peek(former.pid) {
            Ok(None) => true,
            Ok(Some(_)) => {
                pidfd::reap(former.pid);
                false
            }
            // Of a predecessor: its own parent collects it.
            Err(_) => !remains::has_ended(former.pid, former.pidfd.as_ref().map(AsFd::as_fd)),
        });
    }

    /// Complains of what the program says, once for each kind.
    fn tell_once(&mut self, text: String) {
        if let Some(notify) = &mut self.notify
            && notify.told.len() < MOST_TOLD
            && !notify.told.contains(&text)
        {
            notify.told.push(text.clone());
            self.lines.push((Level::Warning, text));
        }
    }
}

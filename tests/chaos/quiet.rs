//! The strict look: nothing is being done any more, so after a while everything must be as the model says.
//!
//! Must never forgive what lasts; what may still be under way is looked at again until the time is up.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::load::has_reader;
use super::model::{Entry, Kind, Seen};
use super::natures::Nature;
use super::processes::{self, Process};
use super::records::{self, Record, Want};
use super::world::{SVTREE, World};

/// By then all that was under way has ended: a stop, a pause before a restart, a `finish`, what is put right, one after
/// the other and on a busy machine.
const DEADLINE: Duration = Duration::from_secs(25);
/// In this time one that is at rest does not change.
const STILL: Duration = Duration::from_millis(700);
/// What an idle module holds at most,
const DESCRIPTORS: usize = 8;
/// and svscan itself.
const DESCRIPTORS_OF_SVSCAN: usize = 40;

/// Looks at every name, and at all together; the model goes on from what was seen.
pub fn look(world: &World, threads: usize) {
    let Some(mut seen) = look_at_each(world) else { return };
    // Letters may still be under way to one of which nothing is known: what was seen must be seen again.
    let lasts = world.poll(DEADLINE, || {
        world.pause(STILL);
        let again = look_at_each(world)?;
        let same = again.iter().zip(&seen).enumerate().all(|(at, (now, before))| {
            let changes = world.entry(at).dir.as_ref().is_some_and(|dir| !dir.nature.stays());
            changes || now == before
        });
        seen = again;
        same.then_some(())
    });
    if lasts.is_none() {
        return world.violation(None, "in quiet: there is always one that changes");
    }
    for (at, seen) in seen.iter().enumerate() {
        world.entry(at).seen(seen);
    }
    let checks: [&dyn Fn() -> Result<(), String>; 4] =
        [&|| status_root(world, &seen), &|| held(world, &seen, threads), &|| client(world, &seen), &|| {
            if world.svscan_lives() { Ok(()) } else { Err("svscan has ended".to_owned()) }
        }];
    for check in checks {
        let mut why = String::new();
        if world.poll(DEADLINE, || check().map_err(|what| why = what).ok()).is_none() {
            world.violation(None, &format!("in quiet: {why}"));
        }
    }
    // There is always one that has just ended: only those that were there at first count.
    let mut stray = strays(world);
    let gone = world.poll(DEADLINE, || {
        let now = strays(world);
        stray.retain(|(process, _)| now.iter().any(|(other, _)| same(process, other)));
        stray.is_empty().then_some(())
    });
    if gone.is_none() {
        world.violation(None, &format!("in quiet: {stray:#?}"));
    }
}

/// Each name as it is once it is as expected; `None` after a violation.
fn look_at_each(world: &World) -> Option<Vec<Seen>> {
    let look = |at| {
        let entry = world.entry(at);
        let mut why = String::new();
        let found = world.poll(DEADLINE, || check(world, at, &entry).map_err(|what| why = what).ok());
        if found.is_none() {
            world.violation(Some(at), &format!("in quiet: {why}; expected {:?}", *entry));
        }
        found
    };
    (0..world.names.len()).map(look).collect()
}

fn same(process: &Process, other: &Process) -> bool {
    (process.pid, process.started) == (other.pid, other.started)
}

fn check(world: &World, at: usize, entry: &Entry) -> Result<Seen, String> {
    let home = world.home(at);
    let state = records::state(&home.join("state.json"))?;
    match entry.kind {
        Kind::Absent if home.exists() => Err("nothing stands there, and it has a status directory".to_owned()),
        Kind::Absent => Ok(Seen::Nothing),
        Kind::Either if state.as_ref().is_some_and(|state| state["state"] != "rejected") => module(world, at, entry),
        Kind::Incomplete => no_module(&home, state.as_ref(), Kind::Incomplete, "incomplete"),
        Kind::Rejected | Kind::Either => no_module(&home, state.as_ref(), Kind::Rejected, "rejected"),
        Kind::Module => module(world, at, entry),
    }
}

fn no_module(home: &Path, state: Option<&Value>, kind: Kind, word: &str) -> Result<Seen, String> {
    let files: Vec<_> = fs::read_dir(home).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    if files != ["state.json"] {
        return Err(format!("{word}, and its status directory holds {files:?}"));
    }
    match state {
        Some(state) if state["state"] == word => Ok(Seen::NoModule(kind)),
        other => Err(format!("{word}, and state.json says {other:?}")),
    }
}

fn module(world: &World, at: usize, entry: &Entry) -> Result<Seen, String> {
    let home = world.home(at);
    let status = || records::status(&home.join("status"));
    if !has_reader(&home.join("svcontrol")) {
        return left(entry, status()?.as_ref());
    }
    let record = status()?.ok_or("supervised, and there is no status")?;
    let state = records::state(&home.join("state.json"))?.ok_or("supervised, and there is no state.json")?;
    let nature = entry.dir.as_ref().ok_or("it has no directory")?.nature;
    files_stand(world, at)?;
    if entry.want.is_some_and(|want| want != record.want) {
        return Err(format!("wants {:?}", record.want));
    }
    if entry.alarms.is_some_and(|alarms| alarms != record.alarms) {
        return Err(format!("alarms on: {}", record.alarms));
    }
    if entry.must_leave && record.pid == 0 {
        return Err("told x, down, and still supervised".to_owned());
    }
    agree(&record, &state)?;
    if nature.has_view() {
        view(&world.service(at).join("supervise"), &record)?;
    }
    outcome(world, at, nature, &record, &state)?;
    if status()?.is_none_or(|again| again.bytes != record.bytes) {
        return Err("it changed meanwhile".to_owned());
    }
    let word = state["state"].as_str().unwrap_or_default().to_owned();
    Ok(Seen::Supervised { want: record.want, alarms: record.alarms, pid: record.pid, state: word })
}

/// It is not supervised: only after `x`, and then nothing of it runs.
fn left(entry: &Entry, record: Option<&Record>) -> Result<Seen, String> {
    match record {
        Some(_) | None if !entry.leaving => Err("nobody listens at svcontrol".to_owned()),
        Some(record) if record.pid != 0 => Err(format!("it left, and status names {}", record.pid)),
        None if !entry.damaged && !entry.left => Err("it left, and its status is gone".to_owned()),
        Some(_) | None => Ok(Seen::Left),
    }
}

/// The FIFOs and locks, and who holds these.
fn files_stand(world: &World, at: usize) -> Result<(), String> {
    let home = world.home(at);
    let inode = |name: &str| fs::metadata(home.join(name)).map_err(|error| format!("{name}: {error}"));
    let fifo = inode("svcontrol")?;
    if !fifo.file_type().is_fifo() || fifo.mode() & 0o7777 != 0o600 {
        return Err(format!("svcontrol is {:?} {:o}", fifo.file_type(), fifo.mode()));
    }
    for name in ["control", "ok"] {
        if inode(name)?.ino() != fifo.ino() {
            return Err(format!("{name} is not svcontrol"));
        }
    }
    let mode = fs::metadata(&home).map_err(|error| error.to_string())?.mode() & 0o7777;
    if mode != 0o755 {
        return Err(format!("the status directory is {mode:o}"));
    }
    if !processes::locks(world.svscan()).contains(&inode("lock")?.ino()) {
        return Err("svscan does not hold the lock".to_owned());
    }
    Ok(())
}

fn agree(record: &Record, state: &Value) -> Result<(), String> {
    let pid = state["pid"].as_i64().unwrap_or_default();
    let finishing = state["state"] == "finishing";
    let same = state["want"] == record.want.word()
        && state["paused"] == record.paused
        && state["alarms"] == record.alarms
        && (finishing || pid == i64::from(record.pid));
    if same { Ok(()) } else { Err(format!("status {record:?} and state.json differ: {state}")) }
}

fn view(dir: &Path, record: &Record) -> Result<(), String> {
    let view = records::view(&dir.join("status"))?.ok_or("there is no supervise/status")?;
    let same = view.pid == record.pid
        && view.want == record.want
        && view.paused == record.paused
        && view.bytes[..12] == record.bytes[..12];
    if !same {
        return Err(format!("status {record:?} and supervise/status {view:?} differ"));
    }
    let pid = if record.pid == 0 { String::new() } else { format!("{}\n", record.pid) };
    let stat = ["down\n", "run\n", "finish\n"][usize::from(view.state)];
    for (name, text) in [("pid", pid.as_str()), ("stat", stat)] {
        let found = records::read(&dir.join(name))?.unwrap_or_default();
        if found != text.as_bytes() {
            return Err(format!("supervise/{name} says {:?} of {view:?}", String::from_utf8_lossy(&found)));
        }
    }
    for name in ["control", "ok"] {
        if !has_reader(&dir.join(name)) {
            return Err(format!("nobody reads supervise/{name}"));
        }
    }
    Ok(())
}

/// Whether it is as it was asked to be.
fn outcome(world: &World, at: usize, nature: Nature, record: &Record, state: &Value) -> Result<(), String> {
    let word = state["state"].as_str().unwrap_or_default();
    let gives_up = nature == Nature::Hopeless;
    let right = match (record.want, nature.stays()) {
        (Want::Down, _) => word == "down",
        (Want::Up, true) => word == "up",
        (Want::Up, false) => {
            ["up", "waiting", "stopping", "finishing"].contains(&word) || (gives_up && word == "failed")
        }
        // What ended after `o` stays down; what could not be started is failed.
        (Want::Once, _) => ["up", "down", "failed"].contains(&word),
    };
    if !right {
        return Err(format!("{nature:?} wants {:?} and is {word}", record.want));
    }
    if (record.pid != 0) != ["up", "stopping", "finishing"].contains(&word) {
        return Err(format!("{word} with pid {}", record.pid));
    }
    if record.pid != 0 && nature.stays() {
        let process = Process::of(record.pid).ok_or("its program is gone")?;
        let name = Some(&world.names[at]);
        if process.parent != world.svscan() || !process.is_alive() || process.module().as_ref() != name {
            return Err(format!("not its program: {}", process.describe()));
        }
    }
    Ok(())
}

/// What svscan has and is to have no more of than this.
fn held(world: &World, seen: &[Seen], threads: usize) -> Result<(), String> {
    let supervised = seen.iter().filter(|seen| matches!(seen, Seen::Supervised { .. })).count();
    let descriptors = processes::count(world.svscan(), "fd");
    if descriptors > DESCRIPTORS * supervised + DESCRIPTORS_OF_SVSCAN {
        return Err(format!("{descriptors} descriptors for {supervised} modules"));
    }
    let now = processes::count(world.svscan(), "task");
    if now != threads + supervised {
        return Err(format!("{now} threads for {supervised} modules; {threads} without any"));
    }
    Ok(())
}

/// Zombies, and processes that are not in the session of a program that is recorded.
fn strays(world: &World) -> Vec<(Process, String)> {
    let zombies = processes::children(world.svscan()).into_iter().filter(|process| process.state == 'Z');
    let mut found: Vec<_> = zombies.map(|zombie| (zombie, "a zombie".to_owned())).collect();
    for process in world.processes() {
        let at = process.module().and_then(|module| world.names.iter().position(|name| *name == module));
        let record = at.and_then(|at| records::status(&world.home(at).join("status")).ok().flatten());
        if record.is_none_or(|record| record.pid != process.session) {
            let of = at.map(|at| &world.names[at]);
            let what = format!("left over, {of:?}: {}", process.describe());
            found.push((process, what));
        }
    }
    found
}

fn status_root(world: &World, seen: &[Seen]) -> Result<(), String> {
    let there = seen.iter().zip(&world.names).filter(|(seen, _)| **seen != Seen::Nothing);
    let known: BTreeSet<&str> = there.flat_map(|(_, name)| [Some(name.as_str()), outer(name)]).flatten().collect();
    let root = world.dir.join("status");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(&root).map_err(|error| error.to_string())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if world.names.iter().any(|other| outer(other) == Some(&name)) {
            let members = fs::read_dir(entry.path()).into_iter().flatten().flatten();
            found.extend(members.map(|member| format!("{name}/{}", member.file_name().to_string_lossy())));
        }
        if !name.starts_with('.') {
            found.insert(name);
        }
    }
    let extra: Vec<&String> = found.iter().filter(|name| !known.contains(name.as_str())).collect();
    if extra.is_empty() { Ok(()) } else { Err(format!("the status root holds {extra:?}")) }
}

fn outer(name: &str) -> Option<&str> {
    name.split_once('/').map(|(outer, _)| outer)
}

/// `svtree status --json` says the same.
fn client(world: &World, seen: &[Seen]) -> Result<(), String> {
    let output = world.command(SVTREE).args(["status", "--json"]).output().map_err(|error| error.to_string())?;
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).map_err(|error| format!("status --json: {error}"))?;
    for (at, name) in world.names.iter().enumerate() {
        let mut of_it = all.iter().filter(|value| value["name"] == **name);
        let (one, more) = (of_it.next(), of_it.next());
        let entry = world.entry(at);
        let stays = entry.dir.as_ref().is_some_and(|dir| dir.nature.stays());
        let right = more.is_none()
            && match (&seen[at], one) {
                (Seen::Nothing, one) => one.is_none(),
                (Seen::NoModule(Kind::Incomplete), Some(one)) => one["state"] == "incomplete",
                (Seen::NoModule(_), Some(one)) => one["state"] == "rejected",
                (Seen::Left, Some(one)) => one["pid"].is_null(),
                // A directory that was damaged after it had left.
                (Seen::Left, None) => true,
                (Seen::Supervised { want, pid, state, .. }, Some(one)) if stays => {
                    one["state"] == **state
                        && one["want"] == want.word()
                        && one["pid"].as_i64().unwrap_or_default() == i64::from(*pid)
                }
                (Seen::Supervised { .. }, one) => one.is_some(),
                (Seen::NoModule(_), None) => false,
            };
        if !right {
            return Err(format!("status --json says {one:?} {more:?} of {name}, and was seen as {:?}", seen[at]));
        }
    }
    Ok(())
}

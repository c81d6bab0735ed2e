//! What is done to the tree, at random; each action tells the model what it was.
//!
//! Must never signal what it does not hold, and never touch anything outside the tree.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::damage;
use super::model::{Dir, Entry, Kind};
use super::natures::{self, NATURES};
use super::processes;
use super::random::Random;
use super::records;
use super::world::{SVTREE, World, lock};

/// The ways of letters.
const BY_STATUS: usize = 0;
const BY_VIEW: usize = 1;
const BY_PATH: usize = 2;

/// Letters, the more frequent ones more than once.
const LETTERS: &[u8] = b"uuuuuudddoktktthaiq12ppcccsnr";
/// Bytes that are no letters.
const GARBAGE: &[u8] = b" \n\t3456789ABCDEFXYZ\x00\x7f\xff\xc3\xa4\x1b";
const SIGNALS: [Signal; 8] =
    [Signal::KILL, Signal::KILL, Signal::TERM, Signal::STOP, Signal::CONT, Signal::CONT, Signal::HUP, Signal::SEGV];
const VERBS: [(&str, &[u8]); 12] = [
    ("up", b"u"),
    ("up", b"u"),
    ("down", b"d"),
    ("once", b"o"),
    ("restart", b"du"),
    ("restart", b"du"),
    ("kill", b"k"),
    ("term", b"t"),
    ("silence", b"s"),
    ("alarms", b"n"),
    ("cont", b"c"),
    ("reload", b"r"),
];
const MISTAKES: [&str; 4] =
    ["[stop]\ntimeout = \"soon\"\n", "command = [\n", "comand = \"x\"\n", "[restart]\ndelay = -1\nnonsense\n"];

/// Service directories that stand beside the tree.
pub type Pool = Mutex<Vec<(PathBuf, Dir)>>;

/// One that does things, until it is told to stop.
pub struct Load<'a> {
    pub world: &'a World,
    pub pool: &'a Pool,
    pub random: Random,
    pub actions: &'a AtomicU64,
}

impl Load<'_> {
    /// Does things until then.
    pub fn run(&mut self, end: Instant, gap: Duration) {
        while Instant::now() < end && self.world.wrong().is_none() {
            self.act();
            self.actions.fetch_add(1, Ordering::Relaxed);
            let pause = self.random.below(2 * gap.as_micros() as u64);
            self.world.pause(Duration::from_micros(pause));
        }
    }

    /// Fills most of the tree.
    pub fn fill(&mut self) {
        for at in 0..self.world.names.len() {
            if !self.random.one_in(8) {
                let mut entry = self.world.entry(at);
                self.drop_in(at, &mut entry);
            }
        }
    }

    fn act(&mut self) {
        let at = self.random.below(self.world.names.len() as u64) as usize;
        let what = self.random.below(1000);
        if what < 3 {
            return self.rescan();
        }
        if what < 45 {
            return self.rename(at);
        }
        let mut entry = self.world.entry(at);
        match entry.kind {
            Kind::Absent => self.drop_in(at, &mut entry),
            Kind::Incomplete => self.refill(at, &mut entry),
            Kind::Rejected | Kind::Either if what < 400 => self.mend(at, &mut entry),
            Kind::Rejected | Kind::Either | Kind::Module => match what {
                0..420 => self.letters(at, &mut entry),
                420..500 => self.client(at, &mut entry),
                500..700 => self.signal(at),
                700..740 => self.remove(at, &mut entry),
                740..790 => self.replace(at, &mut entry),
                790..805 => self.round_trip(at, &mut entry),
                805..920 => self.edit(at, &mut entry),
                920..930 => self.gut(at, &mut entry),
                _ if entry.is_module() && !entry.leaving => damage::act(self.world, &mut self.random, at, &mut entry),
                _ => {}
            },
        }
    }

    fn letters(&mut self, at: usize, entry: &mut Entry) {
        let (file, way) = match self.random.below(4) {
            0 => (self.world.home(at).join("control"), BY_STATUS),
            1 => (self.world.service(at).join("supervise/control"), BY_VIEW),
            _ => (self.world.home(at).join("svcontrol"), BY_STATUS),
        };
        let count = if self.random.one_in(6) { self.random.below(150) } else { 1 };
        let bytes: Vec<u8> = match self.random.below(40) {
            0..3 => (0..=count).map(|_| *self.random.pick(GARBAGE)).collect(),
            3 => vec![b'x'],
            4 => b"dx".to_vec(),
            _ => (0..count).map(|_| *self.random.pick(LETTERS)).collect(),
        };
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let sent = write_fifo(&file, &bytes);
        self.world.note(at, format!("{shown:?} into {}: {sent:?}", file.display()));
        match sent {
            Ok(true) => entry.told(way, &bytes),
            Ok(false) => entry.may_have_been_told(),
            Err(_) => {}
        }
    }

    fn client(&mut self, at: usize, entry: &mut Entry) {
        let name = &self.world.names[at];
        let (verb, letters) = *self.random.pick(&VERBS);
        let svc = self.world.dir.join("links/svc");
        let option = format!("-{}", String::from_utf8_lossy(letters));
        let (mut command, way) = match self.random.below(3) {
            0 => (self.world.command(svc), BY_PATH),
            1 => (self.world.command(svc), BY_STATUS),
            _ => (self.world.command(SVTREE), BY_STATUS),
        };
        let path = if way == BY_PATH { self.world.service(at) } else { self.world.home(at) };
        if command.get_program() == SVTREE {
            command.args([verb, name]);
        } else {
            command.arg(option).arg(path);
        }
        let output = command.output().expect("a client starts");
        let done = output.status.success() && output.stderr.is_empty();
        self.world.note(at, format!("{command:?}: {} {}", output.status, String::from_utf8_lossy(&output.stderr)));
        if done {
            entry.told(way, letters);
        } else {
            entry.may_have_been_told();
        }
    }

    fn signal(&mut self, at: usize) {
        let Ok(Some(record)) = records::status(&self.world.home(at).join("status")) else { return };
        let signal = *self.random.pick(&SIGNALS);
        let sent = record.pid != 0 && processes::signal(record.pid, &self.world.names[at], signal);
        self.world.note(at, format!("{signal:?} to {}: {sent}", record.pid));
    }

    fn rescan(&mut self) {
        let mut entries: Vec<_> = (0..self.world.names.len()).map(|at| self.world.entry(at)).collect();
        self.world.note(0, "HUP to svscan".to_owned());
        self.world.signal_svscan(Signal::HUP);
        entries.iter_mut().filter(|entry| entry.kind != Kind::Absent).for_each(|entry| entry.rescanned());
    }

    fn drop_in(&mut self, at: usize, entry: &mut Entry) {
        if self.random.one_in(4) {
            let dir = self.new_dir();
            self.world.note(at, format!("copied in slowly: {dir:?}"));
            self.copy_slowly(at, &dir).expect("copied");
            return entry.arrives(dir);
        }
        let (path, dir) = self.prepared();
        self.put(at, &path, dir, entry);
    }

    /// Moves or links a prepared directory in.
    fn put(&mut self, at: usize, path: &Path, mut dir: Dir, entry: &mut Entry) {
        dir.target = self.random.one_in(4).then(|| path.to_path_buf());
        self.world.note(at, format!("put there from {}: {dir:?}", path.display()));
        match &dir.target {
            Some(target) => symlink(target, self.world.service(at)).expect("linked in"),
            None => fs::rename(path, self.world.service(at)).expect("moved in"),
        }
        entry.arrives(dir);
    }

    /// A directory from the pool, which may still be in use under another name, or a new one.
    fn prepared(&mut self) -> (PathBuf, Dir) {
        if self.random.one_in(2)
            && let Some(reused) = lock(self.pool).pop()
        {
            return reused;
        }
        let dir = self.new_dir();
        let path = self.world.elsewhere();
        fs::create_dir(&path).expect("a service directory");
        dir.nature.fill(&path, dir.down).expect("filled");
        (path, dir)
    }

    fn new_dir(&mut self) -> Dir {
        let nature = *self.random.pick(&NATURES);
        Dir { nature, down: self.random.one_in(8), broken: false, target: None }
    }

    fn copy_slowly(&mut self, at: usize, dir: &Dir) -> io::Result<()> {
        let path = self.world.service(at);
        fs::create_dir(&path)?;
        if dir.down {
            natures::write(&path.join("down"), "", 0o644)?;
        }
        let files = [("service.toml", dir.nature.toml(), 0o644), ("run", dir.nature.run(), 0o755)];
        for (name, text, mode) in files.into_iter().filter_map(|(name, text, mode)| Some((name, text?, mode))) {
            self.world.pause(Duration::from_millis(self.random.below(40)));
            natures::write(&path.join(name), &text[..text.len() / 2], 0o644)?;
            self.world.pause(Duration::from_millis(self.random.below(40)));
            natures::write(&path.join(name), text, 0o644)?;
            self.world.pause(Duration::from_millis(self.random.below(150)));
            fs::set_permissions(path.join(name), fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// Takes the entry away, into the pool.
    fn take(&mut self, at: usize, entry: &mut Entry) -> (PathBuf, Dir) {
        let mut dir = entry.goes();
        let path = match dir.target.take() {
            Some(target) => {
                fs::remove_file(self.world.service(at)).expect("the link is removed");
                target
            }
            None => {
                let path = self.world.elsewhere();
                fs::rename(self.world.service(at), &path).expect("moved away");
                path
            }
        };
        (path, dir)
    }

    fn remove(&mut self, at: usize, entry: &mut Entry) {
        if self.random.one_in(2) || entry.dir.as_ref().is_some_and(|dir| dir.target.is_some()) {
            self.world.note(at, "taken away".to_owned());
            let taken = self.take(at, entry);
            let mut pool = lock(self.pool);
            pool.insert(0, taken);
            if pool.len() > 12
                && let Some((path, _)) = pool.pop()
            {
                drop(pool);
                self.remove_all(at, &path);
            }
            return;
        }
        self.world.note(at, "rm -rf".to_owned());
        let path = self.world.service(at);
        entry.goes();
        self.remove_all(at, &path);
    }

    /// svtree may be writing its view there: so it is tried until it is gone.
    fn remove_all(&self, at: usize, path: &Path) {
        let gone = || (fs::remove_dir_all(path).is_ok() || !path.exists()).then_some(());
        if self.world.poll(Duration::from_secs(10), gone).is_none() && self.world.wrong().is_none() {
            self.world.violation(Some(at), &format!("{} cannot be removed", path.display()));
        }
    }

    fn replace(&mut self, at: usize, entry: &mut Entry) {
        let (path, dir) = self.prepared();
        self.world.note(at, "replaced".to_owned());
        let taken = self.take(at, entry);
        self.put(at, &path, dir, entry);
        lock(self.pool).insert(0, taken);
    }

    /// Away and back again: svtree may have seen it or not.
    fn round_trip(&mut self, at: usize, entry: &mut Entry) {
        self.world.note(at, "moved away and back".to_owned());
        let away = self.world.elsewhere();
        fs::rename(self.world.service(at), &away).expect("moved away");
        if self.random.one_in(2) {
            self.world.pause(Duration::from_millis(self.random.below(30)));
        }
        fs::rename(&away, self.world.service(at)).expect("moved back");
        if entry.left && entry.dir.as_ref().is_some_and(|dir| !dir.broken) {
            entry.begins_anew();
        } else if entry.is_module() {
            entry.may_begin_anew();
        }
    }

    fn rename(&mut self, from: usize) {
        let to = self.random.below(self.world.names.len() as u64) as usize;
        if from == to {
            return;
        }
        // Always in this order, or two that rename would wait for each other.
        let (mut low, mut high) = (self.world.entry(from.min(to)), self.world.entry(from.max(to)));
        let (source, target) = if from < to { (&mut *low, &mut *high) } else { (&mut *high, &mut *low) };
        if source.dir.is_none() || source.kind == Kind::Incomplete || target.kind != Kind::Absent {
            return;
        }
        self.world.note(from, format!("renamed to {}", self.world.names[to]));
        self.world.note(to, format!("renamed from {}", self.world.names[from]));
        fs::rename(self.world.service(from), self.world.service(to)).expect("renamed");
        target.arrives(source.goes());
    }

    fn edit(&mut self, at: usize, entry: &mut Entry) {
        let path = self.world.service(at);
        let settled = entry.is_module() && !entry.fresh && !entry.leaving;
        let Some(dir) = &mut entry.dir else { return };
        match self.random.below(5) {
            0 => {
                let Some(run) = dir.nature.run() else { return };
                let in_place = self.random.one_in(2);
                let text = format!("{run}# {}\n", self.random.below(1000));
                self.world.note(at, format!("run rewritten, in place: {in_place}"));
                let write = if in_place { natures::write } else { natures::replace };
                write(&path.join("run"), &text, 0o755).expect("an edit");
            }
            1 if dir.broken => self.mend(at, entry),
            1 | 2 if settled && !dir.broken => {
                dir.broken = true;
                let mistake = *self.random.pick(&MISTAKES);
                self.world.note(at, format!("service.toml broken: {mistake:?}"));
                let write = if self.random.one_in(2) { natures::write } else { natures::replace };
                write(&path.join("service.toml"), mistake, 0o644).expect("an edit");
            }
            3 if settled => {
                dir.down = !dir.down;
                self.world.note(at, format!("file down: {}", dir.down));
                if dir.down {
                    natures::write(&path.join("down"), "", 0o644).expect("an edit");
                } else {
                    fs::remove_file(path.join("down")).expect("an edit");
                }
            }
            4 => {
                self.world.note(at, "finish".to_owned());
                if fs::remove_file(path.join("finish")).is_err() {
                    natures::replace(&path.join("finish"), natures::FINISH, 0o755).expect("an edit");
                }
            }
            _ => {}
        }
    }

    fn mend(&mut self, at: usize, entry: &mut Entry) {
        let Some(dir) = entry.dir.as_mut().filter(|dir| dir.broken) else { return };
        self.world.note(at, "service.toml mended".to_owned());
        let file = self.world.service(at).join("service.toml");
        dir.broken = false;
        match dir.nature.toml() {
            Some(toml) => natures::replace(&file, toml, 0o644),
            None => fs::remove_file(&file),
        }
        .expect("an edit");
        match entry.kind {
            Kind::Rejected => entry.begins_anew(),
            Kind::Either => {
                entry.kind = Kind::Module;
                entry.may_begin_anew();
            }
            Kind::Module | Kind::Incomplete | Kind::Absent => {}
        }
    }

    /// What makes it a module is removed. Not of one that has left, or is about to: it may stay out, since what is put back
    /// at once was never gone.
    fn gut(&mut self, at: usize, entry: &mut Entry) {
        let is_in = !entry.leaving && !entry.must_leave && !entry.left;
        let Some(dir) = entry.dir.as_mut().filter(|_| entry.kind == Kind::Module && is_in) else { return };
        self.world.note(at, "gutted".to_owned());
        dir.broken = false;
        for file in ["run", "service.toml"] {
            let removed = fs::remove_file(self.world.service(at).join(file));
            assert!(removed.is_ok() || !self.world.service(at).join(file).exists(), "gutting {at}");
        }
        (entry.kind, entry.fresh) = (Kind::Incomplete, true);
        (entry.want, entry.alarms) = (None, None);
    }

    fn refill(&mut self, at: usize, entry: &mut Entry) {
        let Some(dir) = &entry.dir else { return };
        self.world.note(at, "filled again".to_owned());
        dir.nature.fill(&self.world.service(at), false).expect("filled");
        let seen = !entry.fresh;
        entry.begins_anew();
        if !seen {
            entry.may_begin_anew();
        }
    }
}

/// Writes into a FIFO: whether all of it went into one; an error when nobody reads there.
fn write_fifo(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let mut file =
        OpenOptions::new().write(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    if !file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other("no FIFO"));
    }
    Ok(file.write(bytes).is_ok_and(|count| count == bytes.len()))
}

/// Whether somebody reads a FIFO.
pub fn has_reader(path: &Path) -> bool {
    write_fifo(path, b"").is_ok()
}

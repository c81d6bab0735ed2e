//! The programs that modules run, and the service directories that they stand in.
//!
//! Must never write into the services directory: what is made here is moved, copied or linked in by the load.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What a program does with its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// Runs for ever.
    Steady,
    /// The same, by `service.toml` alone.
    Command,
    /// Runs for ever, and so do processes that it starts in its session.
    Family,
    /// Runs for ever and does not listen.
    Deaf,
    /// Runs for ever; a `finish` follows it.
    Finisher,
    /// Exits at once.
    Crasher,
    /// Exits after some time, sometimes well.
    Flaky,
    /// Exits at once, and is given up.
    Hopeless,
}

use Nature::{Command, Crasher, Deaf, Family, Finisher, Flaky, Hopeless, Steady};

/// All of them, those that run for ever more than once: they show most.
pub const NATURES: [Nature; 13] =
    [Steady, Steady, Steady, Command, Command, Family, Family, Deaf, Finisher, Finisher, Crasher, Flaky, Hopeless];

/// A `finish` for anybody.
pub const FINISH: &str = "#!/bin/sh\nsleep 0.05\nexit 3\n";
/// One that takes its time.
const LONG_FINISH: &str = "#!/bin/sh\nsleep 0.3\nexit 0\n";

impl Nature {
    /// Whether it stays up once it is.
    pub fn stays(self) -> bool {
        match self {
            Steady | Command | Family | Deaf | Finisher => true,
            Crasher | Flaky | Hopeless => false,
        }
    }

    /// Whether it has a `supervise/` for clients of daemontools.
    pub fn has_view(self) -> bool {
        self.run().is_some()
    }

    /// Its `run`.
    pub fn run(self) -> Option<&'static str> {
        match self {
            Steady | Finisher => Some("#!/bin/sh\nexec sleep 100000\n"),
            Command => None,
            Family => Some("#!/bin/sh\nsleep 100000 &\nsleep 100000 | cat &\nwait\n"),
            Deaf => Some("#!/bin/sh\ntrap '' TERM HUP INT QUIT ALRM USR1 USR2\nwhile :; do sleep 100000; done\n"),
            Crasher | Hopeless => Some("#!/bin/sh\nexit 1\n"),
            Flaky => {
                Some("#!/bin/sh\nn=$(od -An -N1 -tu1 /dev/urandom)\nsleep $((n / 100)).$((n % 10))\nexit $((n % 3))\n")
            }
        }
    }

    /// Its `service.toml`, with nothing wrong in it.
    pub fn toml(self) -> Option<&'static str> {
        match self {
            Steady | Crasher => None,
            Command => Some("command = [\"sleep\", \"100000\"]\n"),
            Family | Finisher => Some("[stop]\ntimeout = \"1s\"\n"),
            Deaf | Flaky => Some("[stop]\ntimeout = \"500ms\"\n"),
            Hopeless => Some("[restart]\nmax_tries = 3\ninterval = \"60s\"\n"),
        }
    }

    /// Fills a directory, `run` last.
    pub fn fill(self, dir: &Path, down: bool) -> io::Result<()> {
        if down {
            write(&dir.join("down"), "", 0o644)?;
        }
        if let Some(toml) = self.toml() {
            write(&dir.join("service.toml"), toml, 0o644)?;
        }
        if self == Finisher {
            write(&dir.join("finish"), LONG_FINISH, 0o755)?;
        }
        match self.run() {
            Some(run) => write(&dir.join("run"), run, 0o755),
            None => Ok(()),
        }
    }
}

/// A new file.
pub fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    use std::io::Write;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode).open(path)?.write_all(text.as_bytes())
}

/// A file in the place of another, in one rename.
pub fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let new = path.with_extension("replacing");
    write(&new, text, mode)?;
    fs::rename(&new, path)
}

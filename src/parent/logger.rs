//! svtree's own logger: a module without a service directory, wanted as soon as a module has something to say to it.
//!
//! It is supervised as any other: started again, taken over, handed down, and stopped when all others are gone. Must never
//! read what it logs.

use std::fs::DirBuilder;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::time::Duration;

use super::Parent;
use crate::pure::config::{Policy, Program, Restart};
use crate::pure::log::{TREE_LOGGER, To};
use crate::pure::name::ModuleName;
use crate::pure::reconcile::Id;
use crate::supervise::Loaded;
use crate::unix::home::file;
use crate::unix::prints::Prints;
use crate::unix::report::{self, plain};
use crate::unix::{clock, scan};

/// Between two starts of it: what programs say waits in pipes meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

impl Parent {
    /// Wants it if this module needs it.
    pub(super) fn want_logger_for(&mut self, loaded: &Loaded) {
        let to = loaded.policy.log.to.unwrap_or(self.options.log);
        if to != To::None && !loaded.logged && !self.wanted.has(&ModuleName::own_logger()) {
            self.want_logger();
        }
    }

    /// Wants it if a dead svtree left one: programs may write to it.
    pub(super) fn inherit_logger(&mut self) {
        let home = self.status.join(ModuleName::own_logger().as_os_str());
        if home.join(file::STATE).exists() && !self.wanted.has(&ModuleName::own_logger()) {
            self.want_logger();
        }
    }

    #[inline(never)]
    pub(super) fn want_logger(&mut self) {
        // It needs a directory to start in, and has one for what it has not written yet.
        let path = self.status.join(file::SPOOLS);
        let made = match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => std::fs::metadata(&path),
        };
        let id = match made {
            Ok(found) => Id::of(found.dev(), found.ino()),
            Err(error) => return report::line(&format!("making {}: {}", path.display(), plain(&error))),
        };
        let words = [TREE_LOGGER.as_bytes(), b"--status", self.status.as_os_str().as_bytes()].map(<[u8]>::to_vec);
        let prints = scan::open(&path, id).map(|directory| Prints::read(directory.as_fd())).unwrap_or_default();
        let restart = Restart { delay: PAUSE, max_delay: Some(Duration::from_secs(1)), ..Restart::default() };
        let policy = Policy { program: Program::Own(words.to_vec()), restart, ..Policy::default() };
        self.wanted.want_logger(
            path,
            id,
            Loaded { policy: policy.into(), prints, ..Loaded::default() },
            clock::moment(),
        );
    }
}

//! Where `svc`, `svstat` and `svok` look for what they were given: any directory, as daemontools' own take.
//!
//! Must never say anything; the three have their own words.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::names::{self, Tree};
use crate::pure::status::{BadStatus, LENGTH, Status};
use crate::unix::client;
use crate::unix::home::file;

/// The state directory of what was typed.
#[derive(Debug)]
pub struct Place {
    /// The directory that holds the FIFOs and the status; for daemontools, `supervise`.
    pub directory: PathBuf,
    /// Which family's.
    pub layout: Layout,
    /// Whether anybody reads its FIFO.
    pub supervised: io::Result<bool>,
}

/// Who wrote a state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// svtree: a status directory.
    Original,
    /// daemontools, runit or svtree: the `supervise` of this service directory.
    Supervise {
        /// The service directory.
        service: PathBuf,
    },
}

impl Place {
    /// Finds it.
    ///
    /// # Errors
    /// Those of a `chdir` to it.
    pub fn find(tree: &Tree<'_>, typed: &OsStr) -> io::Result<Place> {
        let path = Path::new(typed);
        // Where there is no tree, as in a directory of services, only what stands there can be meant.
        if !tree.is_there()
            && let Some(place) = supervise(path)
        {
            return Ok(place);
        }
        let by_name = || names::name(typed).and_then(|name| home(tree.home(&name)));
        let by_entry = || tree.entry(path).and_then(|name| home(tree.home(&name)));
        let by_place = || tree.at(path).and_then(|name| home(tree.home(&name)));
        // A module comes before a path. But where no group makes `services/web` a module's name too, the entry is asked
        // first: of a thousand names in one command each is then found at once.
        let through = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let found = match through {
            Some(parent) if !tree.has_group(parent) => by_entry(),
            Some(_) | None => by_name(),
        };
        // A service directory of the tree says the same as its status directory, so that is looked for before
        // `supervise`.
        if let Some(place) = found.or_else(|| home(path.to_owned())).or_else(by_place) {
            return Ok(place);
        }
        if !fs::metadata(path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let directory = path.join(file::SUPERVISE);
        let supervised = client::listens(&directory.join(file::OK));
        Ok(Place { directory, layout: Layout::Supervise { service: path.to_owned() }, supervised })
    }

    /// What its file says; the error of daemontools' own where the file is not one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn status(&self) -> io::Result<Result<Status, BadStatus>> {
        // One byte more than there should be, so that a longer file is seen to be wrong.
        let mut buffer = [0; LENGTH + 1];
        let bytes = client::read_into(&self.directory.join(file::STATUS), &mut buffer)?;
        Ok(match self.layout {
            Layout::Original => Status::from_original(bytes),
            Layout::Supervise { .. } => Status::from_runit(bytes),
        })
    }

    /// The FIFO that takes letters.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.directory.join(match &self.layout {
            Layout::Original => file::SVCONTROL,
            Layout::Supervise { .. } => file::CONTROL,
        })
    }
}

/// The `supervise` of a service directory, if it has one.
fn supervise(service: &Path) -> Option<Place> {
    let directory = service.join(file::SUPERVISE);
    let supervised = client::listens(&directory.join(file::OK));
    let there = !supervised.as_ref().is_err_and(is_missing);
    there.then(|| Place { directory, layout: Layout::Supervise { service: service.to_owned() }, supervised })
}

/// A status directory, if it is one.
fn home(directory: PathBuf) -> Option<Place> {
    let mut supervised = client::listens(&directory.join(file::OK));
    if supervised.as_ref().is_err_and(is_missing) {
        if !client::is_home(&directory) {
            return None;
        }
        // The original had no `ok`, and ours may be gone for moments.
        supervised = client::listens(&directory.join(file::SVCONTROL));
    }
    Some(Place { directory, layout: Layout::Original, supervised })
}

/// Whether an error says that a file, or the directory it should be in, is not there.
#[must_use]
pub fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput)
}

/// What a failed call says, in the words of daemontools, which scripts match on.
#[must_use]
pub fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "file does not exist".to_owned(),
        // EPERM has this kind too, and its own words.
        io::ErrorKind::PermissionDenied if error.raw_os_error() != Some(1) => "access denied".to_owned(),
        io::ErrorKind::NotADirectory => "not a directory".to_owned(),
        _ => super::out::cause(error).to_lowercase(),
    }
}

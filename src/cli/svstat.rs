//! `svstat [NAME…]`: one line for each, in the words of daemontools, which scripts match on.
//!
//! Must never fail: whatever is wrong with a name stands in its line.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::names::Tree;
use super::out;
use super::place::{Layout, Place, is_missing, words};
use super::roots::Roots;
use super::verbs::NOBODY;
use crate::pure::name::{ModuleName, unescaped};
use crate::pure::state::State;
use crate::pure::time::Wall;
use crate::unix::home::file;
use crate::unix::share::shared;
use crate::unix::{client, clock};

/// Prints the lines of the names, or of all modules if there are none, in one write.
#[must_use]
pub fn svstat(arguments: &[OsString], roots: &Roots) -> u8 {
    let mut names = Cow::Borrowed(arguments);
    if arguments.is_empty() {
        names = Tree::new(roots).all().names.iter().map(ModuleName::to_os_string).collect();
    }
    let now = clock::wall();
    out::print("svstat", &shared(&names, |names| lines(names, roots, now)).concat())
}

fn lines(names: &[OsString], roots: &Roots, now: Wall) -> Vec<u8> {
    let look = Look { tree: &Tree::new(roots), now, same_tree: OnceCell::new() };
    let mut lines = Vec::with_capacity(64 * names.len());
    for name in names {
        lines.extend_from_slice(name.as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(look.sentence(name).as_bytes());
        lines.push(b'\n');
    }
    lines
}

/// One look at many modules.
struct Look<'a> {
    tree: &'a Tree<'a>,
    now: Wall,
    /// Whether the services root is the one that the status root belongs to, as far as the first module tells.
    same_tree: OnceCell<bool>,
}

impl Look<'_> {
    fn sentence(&self, name: &OsStr) -> String {
        let place = match Place::find(self.tree, name) {
            Ok(place) => place,
            Err(error) => return format!("unable to chdir: {}", words(&error)),
        };
        match &place.supervised {
            Ok(true) => {}
            Ok(false) => return NOBODY.to_owned(),
            Err(error) if is_missing(error) => return NOBODY.to_owned(),
            Err(error) => return format!("unable to open {}: {}", file::OK, words(error)),
        }
        let status = match place.status() {
            Ok(status) => status,
            Err(error) => return format!("unable to read {}: {}", file::STATUS, words(&error)),
        };
        match status {
            Ok(status) => status.sentence(self.now, self.normally_up(&place)),
            Err(error) => error.to_string(),
        }
    }

    /// Whether the module is started when svtree starts: no file `down` in its service directory, as it is now, and
    /// nothing to the contrary in its `service.toml`, as svtree read it last.
    fn normally_up(&self, place: &Place) -> bool {
        let service = match &place.layout {
            Layout::Supervise { service } => return !has(service, file::DOWN),
            Layout::Original => self.tree.service(&place.directory),
        };
        // A thousand `state.json` take their time. Where the services root can be trusted, a module without a
        // `service.toml` needs none: then only a file `down` matters.
        if let Some(service) = service
            && *self.same_tree.get_or_init(|| Service::read(place).is(&service))
        {
            if has(&service, file::DOWN) {
                return false;
            }
            if !has(&service, SERVICE_TOML) {
                return true;
            }
        }
        let Service { enabled, directory } = Service::read(place);
        // What svtree read last counts a file `down` in; when that has gone since, only a `service.toml` can be left as
        // the reason.
        match directory {
            Some(directory) => !has(&directory, file::DOWN) && (enabled || !has(&directory, SERVICE_TOML)),
            None => enabled,
        }
    }
}

fn has(directory: &Path, name: &str) -> bool {
    fs::symlink_metadata(directory.join(name)).is_ok()
}

const SERVICE_TOML: &str = "service.toml";

/// What `svstat` needs of a `state.json`.
struct Service {
    enabled: bool,
    directory: Option<PathBuf>,
}

impl Service {
    /// What the file says; up and nowhere if there is none, as with the status directory of another supervise.
    fn read(place: &Place) -> Service {
        let bytes = client::read(&place.directory.join(file::STATE)).ok();
        match bytes.and_then(|bytes| State::decode(&bytes).ok()) {
            Some(State { enabled, directory, .. }) => Service {
                enabled,
                directory: Some(directory)
                    .filter(|directory| !directory.is_empty())
                    .map(|directory| OsString::from_vec(unescaped(&directory)).into()),
            },
            None => Service { enabled: true, directory: None },
        }
    }

    /// Whether it is this very directory.
    fn is(&self, other: &Path) -> bool {
        let id = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
        self.directory.as_deref().and_then(id).is_some_and(|own| id(other) == Some(own))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pure::status::Status;

    proptest! {
        #[test]
        fn any_bytes_are_a_sentence_or_a_bad_status(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            for status in [Status::from_original(&bytes), Status::from_runit(&bytes)].into_iter().flatten() {
                prop_assert!(status.sentence(Wall::default(), true).contains(" seconds"));
            }
        }
    }

    #[test]
    fn a_state_without_these_fields_is_up_and_nowhere() {
        let home = tempfile::tempdir().expect("a directory");
        let place = || Place { directory: home.path().to_owned(), layout: Layout::Original, supervised: Ok(true) };
        assert!(Service::read(&place()).enabled);
        let text = r#"{"enabled":false,"directory":"/s/a\\xff"}"#;
        fs::write(home.path().join(file::STATE), text).expect("a file");
        let service = Service::read(&place());
        assert!(!service.enabled);
        assert_eq!(service.directory.map(PathBuf::into_os_string), Some(OsString::from_vec(b"/s/a\xff".to_vec())));
    }
}

//! The modules that a command line means: names, paths and patterns of this tree, and nothing outside of it.
//!
//! A path is only looked up, never opened; what is opened is always the status root joined with a checked name.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glob::{MatchOptions, Pattern};

use super::out;
use super::roots::Roots;
use crate::pure::name::{ModuleName, printable};
use crate::unix::client;

/// What was selected, each module once and in the order it was typed; and what was typed in vain, with the reason.
#[derive(Debug, Default)]
pub struct Selected {
    /// The modules.
    pub names: Vec<ModuleName>,
    /// Those that a group stands for, which are told in order.
    pub members: Vec<ModuleName>,
    /// What was typed, printable, and why it is none.
    pub wrong: Vec<(String, String)>,
}

/// One tree: its services root and its status root.
pub struct Tree<'a> {
    roots: &'a Roots,
    /// The roots without links and dots; none while one is missing.
    real: Vec<PathBuf>,
    /// The last answer of [`Tree::above`]: a shell that expands `services/*` asks the same a thousand times.
    above: RefCell<Option<Rc<Above>>>,
}

/// A directory that a path leads through.
#[derive(Debug)]
struct Above {
    typed: PathBuf,
    /// Where in a root it is, relative to that.
    below: Option<PathBuf>,
    /// Whether it is, by its name, also a group of the status root.
    is_group: bool,
}

/// Whether what was typed is a path by its looks, so that no module can be meant.
#[must_use]
pub fn is_path(typed: &OsStr) -> bool {
    let bytes = typed.as_bytes();
    matches!(bytes, b"." | b"log") || [&b"/"[..], b"./", b"../"].iter().any(|start| bytes.starts_with(start))
}

/// The module name that was typed, if it can be one; a `/` at its end is nothing.
#[must_use]
pub fn name(typed: &OsStr) -> Option<ModuleName> {
    let bytes = typed.as_bytes();
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    if is_path(typed) { None } else { ModuleName::new(&bytes[..end]).ok() }
}

impl<'a> Tree<'a> {
    /// The tree of these roots.
    #[must_use]
    pub fn new(roots: &'a Roots) -> Tree<'a> {
        let real = [&roots.status, &roots.services].into_iter().filter_map(|root| fs::canonicalize(root).ok());
        Tree { roots, real: real.collect(), above: RefCell::new(None) }
    }

    /// All modules, in the order of their names; and the directories that could not be looked into.
    #[must_use]
    pub fn all(&self) -> Selected {
        let (found, unread) = client::homes(&self.roots.status);
        Selected {
            names: found.iter().filter_map(|path| ModuleName::new(path.as_os_str().as_bytes()).ok()).collect(),
            wrong: unread
                .into_iter()
                .map(|(path, error)| (printable(path.as_os_str().as_bytes()), out::cause(&error)))
                .collect(),
            members: Vec::new(),
        }
    }

    /// The modules that these words mean.
    #[must_use]
    pub fn select(&self, typed: &[OsString]) -> Selected {
        let mut selected = Selected::default();
        let mut seen = BTreeSet::new();
        for word in typed {
            match self.meant(word) {
                Ok(names) => selected.names.extend(names.into_iter().filter(|name| seen.insert(name.clone()))),
                Err(_) if let Some(members) = self.members(word) => {
                    selected.members.extend(members.into_iter().filter(|name| seen.insert(name.clone())));
                }
                Err(why) => selected.wrong.push((printable(word.as_bytes()), why)),
            }
        }
        selected
    }

    /// All modules in a group but loggers, if a group is meant.
    fn members(&self, word: &OsStr) -> Option<Vec<ModuleName>> {
        let group = name(word).or_else(|| self.at(Path::new(word)))?;
        let all = self.all().names;
        let is_logger = |name: &ModuleName| name.logged().is_some_and(|module| all.contains(&module));
        let members: Vec<ModuleName> =
            all.iter().filter(|name| name.is_within(&group) && !is_logger(name)).cloned().collect();
        (!members.is_empty()).then_some(members)
    }

    fn meant(&self, word: &OsStr) -> Result<Vec<ModuleName>, String> {
        let meant = name(word).map_or_else(Vec::new, |name| self.modules(&name));
        if !meant.is_empty() {
            return Ok(meant);
        }
        if is_pattern(word) {
            return matching(word, self.all());
        }
        match self.at(Path::new(word)).map(|name| (self.modules(&name), name)) {
            Some((meant, _)) if !meant.is_empty() => Ok(meant),
            Some((_, name)) => Err(self.unknown(name.as_bytes())),
            None if is_path(word) || name(word).is_none() => {
                Err(format!("it is in neither {} nor {}", self.roots.status.display(), self.roots.services.display()))
            }
            None => Err(self.unknown(word.as_bytes())),
        }
    }

    /// The status directory of a module.
    #[must_use]
    pub fn home(&self, name: &ModuleName) -> PathBuf {
        self.roots.status.join(name.as_os_str())
    }

    /// The service directory that belongs to a status directory, by its name; it need not be there.
    #[must_use]
    pub fn service(&self, home: &Path) -> Option<PathBuf> {
        let name = home.strip_prefix(&self.roots.status).ok()?;
        Some(self.roots.services.join(name))
    }

    fn knows(&self, name: &ModuleName) -> bool {
        client::is_home(&self.home(name))
    }

    /// The modules that a name means: the one that is called so, else its instances, in the order of their numbers; also
    /// as the name of a logger.
    #[must_use]
    pub fn modules(&self, name: &ModuleName) -> Vec<ModuleName> {
        if self.knows(name) {
            return vec![name.clone()];
        }
        let mut instances = self.instances(name);
        if let (Some(module), true) = (name.logged(), instances.is_empty()) {
            let loggers = self.instances(&module).into_iter().map(|(number, instance)| (number, instance.logger()));
            instances = loggers.filter(|(_, logger)| self.knows(logger)).collect();
        }
        instances.sort();
        instances.into_iter().map(|(_, instance)| instance).collect()
    }

    fn instances(&self, of: &ModuleName) -> Vec<(u32, ModuleName)> {
        let group = of.parent();
        let directory = group.as_ref().map_or_else(|| self.roots.status.clone(), |group| self.home(group));
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| match &group {
            Some(group) => group.join(entry.file_name().as_bytes()).ok(),
            None => ModuleName::new(entry.file_name().as_bytes()).ok(),
        });
        names
            .filter_map(|name| {
                let (_, number) = name.instance_of().filter(|(module, _)| module == of)?;
                self.knows(&name).then_some((number, name))
            })
            .collect()
    }

    fn unknown(&self, bytes: &[u8]) -> String {
        let all = self.all().names;
        let rest = if all.is_empty() { ", which has none; does svtree run there?" } else { "" };
        unknown(&self.roots.status, bytes, &all) + rest
    }

    /// Whether any of the roots is there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !self.real.is_empty()
    }

    /// The module whose status directory or service directory a path is, by the looks of the path and of the services
    /// root; it need not be known.
    #[must_use]
    pub fn at(&self, path: &Path) -> Option<ModuleName> {
        // Where neither root is there, nothing can be in one.
        if self.real.is_empty() {
            return None;
        }
        if let Some(name) = self.entry(path) {
            return Some(name);
        }
        let real = fs::canonicalize(path).ok()?;
        if let Some(name) = self.entry(&real).or_else(|| self.linked(&real)) {
            return Some(name);
        }
        let (parent, last) = (real.parent()?, real.file_name()?);
        self.linked(parent).filter(|_| last == "log")?.join(b"log").ok()
    }

    /// The module that a path names as an entry of a root or of a group. The entry itself may be a link that leads out
    /// of the root, so only what stands before it is resolved.
    #[must_use]
    pub fn entry(&self, path: &Path) -> Option<ModuleName> {
        let (parent, last) = (path.parent()?, path.file_name()?);
        let name = self.above(parent).below.as_ref()?.join(last);
        ModuleName::new(name.as_os_str().as_bytes()).ok()
    }

    /// Whether the status root has a group of this name, so that a path through it means a module first.
    #[must_use]
    pub fn has_group(&self, directory: &Path) -> bool {
        self.above(directory).is_group
    }

    /// What a directory is that stands before the last `/` of what was typed.
    fn above(&self, typed: &Path) -> Rc<Above> {
        if let Some(above) = self.above.borrow().as_ref().filter(|above| above.typed == typed) {
            return above.clone();
        }
        let here = if typed.as_os_str().is_empty() { Path::new(".") } else { typed };
        let real = fs::canonicalize(here).ok();
        let below = |root: &PathBuf| real.as_ref()?.strip_prefix(root).ok().map(Path::to_owned);
        let above = Rc::new(Above {
            typed: typed.to_owned(),
            below: self.real.iter().find_map(below),
            is_group: name(typed.as_os_str()).is_some_and(|group| self.home(&group).is_dir()),
        });
        self.above.replace(Some(above.clone()));
        above
    }

    /// The entry of the services root, or of a group in it, that is a link to this directory.
    fn linked(&self, real: &Path) -> Option<ModuleName> {
        let wanted = fs::metadata(real).ok()?;
        let mut groups = vec![(self.roots.services.clone(), None)];
        while let Some((directory, group)) = groups.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let component = entry.file_name();
                let name = match &group {
                    None => ModuleName::new(component.as_bytes()),
                    Some(group) => ModuleName::join(group, component.as_bytes()),
                };
                let (Ok(name), Ok(found)) = (name, fs::metadata(entry.path())) else {
                    continue;
                };
                if (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()) {
                    return Some(name);
                }
                if entry.path().join("group.toml").exists() {
                    groups.push((entry.path(), Some(name)));
                }
            }
        }
        None
    }
}

/// What is said of a name that is none of these, which stand in `root`.
#[must_use]
pub fn unknown(root: &Path, typed: &[u8], names: &[ModuleName]) -> String {
    let typed = printable(typed);
    let near = names.iter().map(|name| (strsim::damerau_levenshtein(&name.to_string(), &typed), name)).min();
    let tip = match near {
        Some((distance, name)) if distance <= 2 => format!(", did you mean `{name}`?"),
        Some(_) | None => String::new(),
    };
    format!("no such module in {}{tip}", root.display())
}

/// Whether what was typed is to be matched with names.
#[must_use]
pub fn is_pattern(typed: &OsStr) -> bool {
    !is_path(typed) && typed.as_bytes().iter().any(|byte| b"*?[".contains(byte))
}

/// Those that a pattern matches.
///
/// # Errors
/// There is none, and perhaps why.
pub fn matching(word: &OsStr, all: Selected) -> Result<Vec<ModuleName>, String> {
    let pattern = Pattern::new(&text(word.as_bytes())).map_err(|error| format!("the pattern is wrong: {error}"))?;
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    let names: Vec<_> =
        all.names.into_iter().filter(|name| pattern.matches_with(&text(name.as_bytes()), options)).collect();
    match (names.is_empty(), all.wrong.into_iter().next()) {
        (false, _) => Ok(names),
        (true, Some((path, why))) => Err(format!("{path}: {why}")),
        (true, None) => Err("no module matches".to_owned()),
    }
}

/// Bytes as text for the matcher, such that different bytes are different text: those that are not UTF-8 become
/// characters that no name has.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().filter_map(|byte| char::from_u32(0x10_ff00 + u32::from(*byte))));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree with the modules `web`, `web-a`, `web/log`, `group/db` and `a\xff`, each with its service directory;
    /// `web` is a link out of the services root. Of `group/job` there are three, of which one has no logger (yet).
    fn tree() -> (tempfile::TempDir, Roots) {
        let temporary = tempfile::tempdir().expect("a directory");
        let base = temporary.path();
        let roots = Roots { services: base.join("services"), status: base.join("status"), logs: base.join("logs") };
        fs::create_dir_all(base.join("elsewhere/web/log")).expect("directories");
        fs::create_dir_all(roots.services.join("group/db")).expect("directories");
        fs::write(roots.services.join("group/group.toml"), "").expect("a file");
        symlink(base.join("elsewhere/web"), roots.services.join("web")).expect("a link");
        fs::create_dir_all(roots.services.join("group/job/log")).expect("directories");
        let jobs = ["group/job@1", "group/job@10", "group/job@2", "group/job@1/log", "group/job@10/log"];
        let others = [&b"web"[..], b"web-a", b"web/log", b"group/db", b"a\xff", b".hidden"];
        for name in others.into_iter().chain(jobs.iter().map(|job| job.as_bytes())) {
            let home = roots.status.join(OsStr::from_bytes(name));
            fs::create_dir_all(&home).expect("directories");
            fs::write(home.join("state.json"), "{}").expect("a file");
        }
        (temporary, roots)
    }

    fn select(roots: &Roots, word: &[u8]) -> Result<Vec<String>, String> {
        let mut selected = Tree::new(roots).select(&[OsStr::from_bytes(word).to_owned()]);
        match selected.wrong.pop() {
            Some((_, why)) => Err(why),
            None => Ok(selected.names.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn all_in_order() {
        let (_keep, roots) = tree();
        let names: Vec<_> = Tree::new(&roots).all().names.iter().map(ToString::to_string).collect();
        let jobs = ["group/job@1", "group/job@1/log", "group/job@2", "group/job@10", "group/job@10/log"];
        assert_eq!(names, [&["a\\xff", "group/db"], &jobs[..], &["web", "web/log", "web-a"]].concat());
    }

    #[test]
    fn names_and_paths_of_one_module() {
        let (keep, roots) = tree();
        let base = keep.path().to_str().expect("UTF-8").to_owned();
        let one = |name: &str| Ok(vec![name.to_owned()]);
        for (word, name) in [
            ("web", "web"),
            ("web/", "web"),
            ("group/db", "group/db"),
            (&format!("{base}/status/web"), "web"),
            (&format!("{base}/status/web/log"), "web/log"),
            (&format!("{base}/services/web"), "web"),
            (&format!("{base}/services/web/log/"), "web/log"),
            (&format!("{base}/elsewhere/web"), "web"),
            (&format!("{base}/elsewhere/web/log"), "web/log"),
            (&format!("{base}/status/group/../web"), "web"),
            (&format!("{base}/services/group/db"), "group/db"),
        ] {
            assert_eq!(select(&roots, word.as_bytes()), one(name), "{word}");
        }
        assert_eq!(select(&roots, b"a\xff"), one("a\\xff"));
    }

    #[test]
    fn patterns() {
        let (_keep, roots) = tree();
        let some = |names: &[&str]| Ok(names.iter().map(ToString::to_string).collect());
        assert_eq!(select(&roots, b"web*"), some(&["web", "web-a"]));
        assert_eq!(select(&roots, b"*/log"), some(&["web/log"]));
        assert_eq!(select(&roots, b"w?b"), some(&["web"]));
        assert_eq!(select(&roots, b"a\xff*"), some(&["a\\xff"]));
        assert_eq!(select(&roots, b"a\xfe*"), Err("no module matches".into()));
        assert!(select(&roots, b"[").is_err_and(|why| why.starts_with("the pattern is wrong")));
    }

    #[test]
    fn a_name_means_all_its_instances() {
        let (keep, roots) = tree();
        let base = keep.path().to_str().expect("UTF-8").to_owned();
        let all = Ok(["group/job@1", "group/job@2", "group/job@10"].map(str::to_owned).to_vec());
        for word in ["group/job", "group/job/", &format!("{base}/services/group/job")] {
            assert_eq!(select(&roots, word.as_bytes()), all, "{word}");
        }
        let loggers = Ok(["group/job@1/log", "group/job@10/log"].map(str::to_owned).to_vec());
        for word in ["group/job/log", &format!("{base}/services/group/job/log")] {
            assert_eq!(select(&roots, word.as_bytes()), loggers, "{word}");
        }
        assert_eq!(select(&roots, b"group/job@2"), Ok(vec!["group/job@2".to_owned()]));
        assert!(select(&roots, b"job").is_err() && select(&roots, b"group/job@3").is_err());
    }

    #[test]
    fn nothing_outside() {
        let (keep, roots) = tree();
        let base = keep.path().to_str().expect("UTF-8").to_owned();
        for word in ["../web", "/etc", "web/../../etc", "./nothing", &format!("{base}/elsewhere"), "", "..", "web/.."] {
            let why = select(&roots, word.as_bytes());
            assert!(why.as_ref().is_err_and(|why| why.starts_with("it is in neither")), "{word}: {why:?}");
        }
        let near = select(&roots, b"wbe");
        assert!(near.as_ref().is_err_and(|why| why.ends_with("did you mean `web`?")), "{near:?}");
        assert!(select(&roots, b"nowhere").is_err_and(|why| why.starts_with("no such module in")));
    }
}

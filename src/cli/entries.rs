//! The modules that stand in the services directory, by names, paths and patterns: whether svtree runs or not.
//!
//! What is returned was looked at in this very tree. Must never change anything.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::names::{self, Selected, Tree};
use super::out;
use super::roots::Roots;
use crate::pure::name::{ModuleName, printable};
use crate::unix::scan::{Found, Module};

/// All that one look at the services directory found.
pub struct Entries<'a> {
    roots: &'a Roots,
    found: Found,
}

impl<'a> Entries<'a> {
    /// Looks at it.
    ///
    /// # Errors
    /// It cannot be read; in one line.
    pub fn read(roots: &'a Roots) -> Result<Entries<'a>, String> {
        let (_, mut found) = Found::whole(&roots.services)
            .map_err(|error| format!("{}: {}", roots.services.display(), out::cause(&error)))?;
        found.modules.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        Ok(Entries { roots, found })
    }

    /// The modules that these words mean, each once; a group means all modules in it.
    #[must_use]
    pub fn select(&self, typed: &[OsString]) -> Selected {
        let tree = Tree::new(self.roots);
        let mut selected = Selected::default();
        for word in typed {
            match self.meant(word, &tree) {
                Ok(names) => {
                    let new: Vec<_> = names.into_iter().filter(|name| !selected.names.contains(name)).collect();
                    selected.names.extend(new);
                }
                Err(why) => selected.wrong.push((printable(word.as_bytes()), why)),
            }
        }
        selected
    }

    /// Where a module stands, and what it is.
    #[must_use]
    pub fn module(&self, name: &ModuleName) -> Option<(&Path, &Module)> {
        let found = self.found.modules.iter().find(|(other, ..)| other == name);
        found.map(|(_, path, module)| (path.as_path(), module))
    }

    fn meant(&self, word: &OsStr, tree: &Tree<'_>) -> Result<Vec<ModuleName>, String> {
        let by_name = names::name(word).filter(|name| self.knows(name));
        if by_name.is_none() && names::is_pattern(word) {
            let wrong = self.found.unknown.iter().map(|(name, why)| (name.to_string(), why.clone())).collect();
            return names::matching(word, Selected { names: self.all(), wrong, ..Selected::default() });
        }
        match by_name.or_else(|| tree.at(Path::new(word))) {
            Some(name) => self.modules(&name),
            None => Err(names::unknown(&self.roots.services, word.as_bytes(), &self.all())),
        }
    }

    fn all(&self) -> Vec<ModuleName> {
        self.found.modules.iter().map(|(name, ..)| name.clone()).collect()
    }

    fn knows(&self, name: &ModuleName) -> bool {
        let Found { modules, groups, others, unknown, .. } = &self.found;
        modules.iter().any(|(other, ..)| other == name)
            || groups.iter().any(|(other, ..)| other == name)
            || others.iter().any(|(other, ..)| other == name)
            || unknown.iter().any(|(other, _)| other == name)
    }

    /// The modules that a name means: itself, or all that are in it but their loggers, which follow them.
    fn modules(&self, name: &ModuleName) -> Result<Vec<ModuleName>, String> {
        let Found { modules, groups, others, unknown, .. } = &self.found;
        if modules.iter().any(|(other, ..)| other == name) {
            return Ok(vec![name.clone()]);
        }
        if let Some((_, why)) = unknown.iter().find(|(outer, _)| name.is_within(outer)) {
            return Err(why.clone());
        }
        if let Some((_, _, other)) = others.iter().find(|(other, ..)| other == name) {
            let state = if other.rejected { "rejected" } else { "incomplete" };
            return Err(format!("{state}: {}", other.why));
        }
        if !groups.iter().any(|(other, ..)| other == name) {
            return Err(names::unknown(&self.roots.services, name.as_bytes(), &self.all()));
        }
        let is_logger = |name: &ModuleName| name.logged().is_some_and(|module| self.module(&module).is_some());
        let members: Vec<_> =
            self.all().into_iter().filter(|member| member.is_within(name) && !is_logger(member)).collect();
        if members.is_empty() { Err("a group without a module".to_owned()) } else { Ok(members) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_groups_patterns_and_paths_without_a_status_directory() {
        let temporary = tempfile::tempdir().expect("a directory");
        let base = temporary.path();
        let roots = Roots { services: base.join("services"), status: base.join("status"), logs: base.join("logs") };
        for module in ["web", "web/log", "shop/db", "shop/db/log", "shop/deep/api", "odd"] {
            let directory = roots.services.join(module);
            fs::create_dir_all(&directory).expect("directories");
            if module != "odd" {
                fs::write(directory.join("run"), "#!/bin/sh\n").expect("a file");
                let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                fs::set_permissions(directory.join("run"), executable).expect("changed");
            }
        }
        for group in ["shop", "shop/deep"] {
            fs::write(roots.services.join(group).join("group.toml"), "").expect("a file");
        }
        let select = |word: &[u8]| {
            let mut selected = Entries::read(&roots).expect("read").select(&[OsStr::from_bytes(word).to_owned()]);
            match selected.wrong.pop() {
                Some((_, why)) => Err(why),
                None => Ok(selected.names.iter().map(ToString::to_string).collect::<Vec<_>>()),
            }
        };
        let some = |names: &[&str]| Ok(names.iter().map(ToString::to_string).collect());
        assert_eq!(select(b"web/"), some(&["web"]));
        assert_eq!(select(b"web/log"), some(&["web/log"]));
        assert_eq!(select(b"shop"), some(&["shop/db", "shop/deep/api"]));
        assert_eq!(select(b"shop/*"), some(&["shop/db"]));
        assert_eq!(select(base.join("services/shop/db").as_os_str().as_bytes()), some(&["shop/db"]));
        assert_eq!(select(b"odd"), Err("incomplete: it holds no run and no service.toml".to_owned()));
        assert!(select(b"wbe").is_err_and(|why| why.ends_with("did you mean `web`?")));
        for nothing in [&b"../web"[..], b"/etc", b"none*", b""] {
            assert!(select(nothing).is_err(), "{nothing:?}");
        }
    }
}

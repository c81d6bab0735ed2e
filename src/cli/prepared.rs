//! A tree of services as it stands in some directory: every module with what it asks for, and every mistake.
//!
//! Read by the code that the parent reads with. Must never change anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::out::cause;
use crate::pure::config::{self, GroupPolicy, Policy};
use crate::pure::instances::Instances;
use crate::pure::name::ModuleName;
use crate::pure::reconcile::Id;
use crate::pure::tree::graph::{Graph, On};
use crate::unix::accounts::Asked;
use crate::unix::prints::SERVICE;
use crate::unix::replica::{self, Kind};
use crate::unix::scan::{self, Found, Module};
use crate::unix::validate;

/// A tree, read.
pub struct Prepared {
    /// Where it stands, without links.
    pub root: PathBuf,
    /// What is in order, by the names of their directories.
    pub directories: BTreeMap<ModuleName, Read>,
    /// The modules that they are: each directory is one of its own name, or stands for several.
    instances: Instances,
    /// Who waits for whom.
    graph: Graph,
    /// What is not, with each mistake.
    pub rejected: Vec<(ModuleName, String)>,
}

/// A module that is in order.
pub struct Read {
    /// Its directory.
    pub path: PathBuf,
    /// Its files.
    pub module: Module,
    /// What it asks for.
    pub policy: Policy,
}

impl Prepared {
    /// Reads the services directory that this is, or could be.
    ///
    /// # Errors
    /// It is none; in one line.
    pub fn read(directory: &Path) -> Result<Prepared, String> {
        let failed = |error: &std::io::Error| format!("{}: {}", scan::shown(directory), cause(error));
        let root = fs::canonicalize(directory).map_err(|error| failed(&error))?;
        let (_, Found { mut modules, others, unknown, policies, .. }) =
            Found::whole(directory).map_err(|error| failed(&error))?;
        let mut prepared = Prepared {
            root,
            directories: BTreeMap::new(),
            instances: Instances::default(),
            graph: Graph::default(),
            rejected: Vec::new(),
        };
        for (name, path, other) in others {
            // One that is merely there is no mistake, unless it was meant to run.
            if other.rejected {
                prepared.reject(&name, &path, &other.why);
            } else if other.is_mistake {
                prepared.reject(&name, &path, &format!("incomplete: {}", other.why));
            }
        }
        for (name, why) in unknown {
            let path = directory.join(name.as_os_str());
            prepared.reject(&name, &path, &why);
        }
        modules.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        let mut taken: BTreeMap<Id, ModuleName> = BTreeMap::new();
        for (name, path, module) in modules {
            if let Some(other) = taken.get(&module.id) {
                let why = format!("its directory is that of {other} as well");
                prepared.reject(&name, &path, &why);
            } else {
                taken.insert(module.id, name.clone());
                prepared.module(name, path, module);
            }
        }
        prepared.number();
        prepared.hang_together(&policies.into_iter().collect());
        Ok(prepared)
    }

    fn module(&mut self, name: ModuleName, path: PathBuf, module: Module) {
        let mistakes = match scan::mistakes(&path, &module, Policy::default()) {
            Ok(policy) => {
                let wrong = validate::mistakes(&path, module.id, &policy, Asked::answer_here);
                if wrong.is_empty() {
                    self.directories.insert(name, Read { path, module, policy });
                    return;
                }
                wrong
            }
            Err(mistakes) => mistakes,
        };
        mistakes.iter().for_each(|mistake| self.reject(&name, &path, mistake));
    }

    /// Adds what cannot be put into this services directory as it is prepared: what is no file, directory or link, and a
    /// relative link that would lead elsewhere there.
    ///
    /// # Errors
    /// It cannot be read; in one line.
    pub fn check_for(&mut self, services: &Path) -> Result<(), String> {
        let mut todo = vec![PathBuf::new()];
        while let Some(below) = todo.pop() {
            let directory = self.root.join(&below);
            let items = replica::list(&directory, |_| false)
                .map_err(|(path, error)| format!("{}: {}", scan::shown(&path), cause(&error)))?;
            for (name, item) in items {
                let path = below.join(name);
                match item.kind {
                    // What svtree passes over is not put anywhere.
                    Kind::Directory if !path.as_os_str().as_encoded_bytes().starts_with(b".") => todo.push(path),
                    Kind::Directory | Kind::File(_) => {}
                    Kind::Link(target) => {
                        let module = ModuleName::new(path.as_os_str().as_encoded_bytes()).ok();
                        let is_entry = |name: &ModuleName| self.directories.keys().any(|other| other.is_within(name));
                        if let Some(module) = module.filter(is_entry)
                            && self.leads_elsewhere(&path, &target, services)
                        {
                            let mistake = "a relative link that leads elsewhere from there; make it absolute";
                            self.reject(&module, &self.root.join(path), mistake);
                        }
                    }
                    Kind::Other => {
                        let named = |above: &Path| ModuleName::new(above.as_os_str().as_encoded_bytes()).ok();
                        if let Some(name) = path.ancestors().find_map(named) {
                            self.reject(&name, &self.root.join(path), "no file, directory or link");
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn leads_elsewhere(&self, path: &Path, target: &Path, services: &Path) -> bool {
        let here = fs::canonicalize(self.root.join(path)).ok();
        let there = || fs::canonicalize(services.join(path).parent()?.join(target)).ok();
        target.is_relative() && !here.as_ref().is_some_and(|here| here.starts_with(&self.root)) && here != there()
    }

    /// Adds a mistake; `path` is the directory of what has it.
    pub fn reject(&mut self, name: &ModuleName, path: &Path, mistake: &str) {
        self.rejected.push((name.clone(), format!("{}: {mistake}", scan::shown(path))));
    }

    /// Numbers the instances, and rejects what is called as one of them.
    fn number(&mut self) {
        for (name, read) in &self.directories {
            if let Some(count) = read.policy.instances {
                self.instances.add(name, count, self.directories.contains_key(&name.logger()));
            }
        }
        let displaced: Vec<_> = self
            .directories
            .iter()
            .filter_map(|(name, read)| Some((name.clone(), read.path.clone(), self.instances.in_the_place_of(name)?)))
            .map(|(name, path, instance)| (name, path, format!("{instance} is an instance: give it another name")))
            .collect();
        for (name, path, why) in displaced {
            self.reject(&name, &path, &why);
        }
    }

    /// Finds who waits for whom, and rejects what waits for itself or for what is not there.
    fn hang_together(&mut self, groups: &BTreeMap<ModuleName, GroupPolicy>) {
        let broken = self.rejected.iter().map(|(name, _)| (name.clone(), "rejected".to_owned())).collect();
        let needs = |directory: &ModuleName| self.directories.get(directory)?.policy.needs.as_deref();
        let modules = self.modules().map(|(name, directory, _)| (name, needs(directory)));
        let graph = Graph::new(modules, groups, &broken);
        let mut wrong = Vec::new();
        for (name, directory, number) in self.modules().filter(|(_, _, number)| *number <= 1) {
            let missing = graph.waits(name).iter().filter(|wait| wait.needed && wait.on == On::Missing);
            let mut why: Vec<String> = missing.map(|wait| format!("needs: {}: no such module", wait.written)).collect();
            why.extend(graph.cycle(name).map(|path| format!("it waits for itself: {path}")));
            let path = self.directories.get(directory).map(|read| read.path.clone()).unwrap_or_default();
            let text = fs::read_to_string(path.join(SERVICE)).unwrap_or_default();
            let place = config::place(&text, "needs")
                .map(|(line, column)| format!("{SERVICE}: line {line}, column {column}: "));
            let place = place.unwrap_or_default();
            let name = if number == 0 { name } else { directory };
            wrong.extend(why.into_iter().map(|why| (name.clone(), path.clone(), format!("{place}{why}"))));
        }
        wrong.iter().for_each(|(name, path, why)| self.reject(name, path, why));
        self.graph = graph;
    }

    /// Every module, its directory, and its number, which is 0 for one that is no instance.
    pub fn modules(&self) -> impl Iterator<Item = (&ModuleName, &ModuleName, u32)> {
        let alone = self.directories.keys().filter(|name| self.instances.leave(name)).map(|name| (name, name, 0));
        alone.chain(self.instances.iter().map(|(name, of)| (name, &of.directory, of.number)))
    }

    /// The order of starts: each after what it waits for, and after its logger.
    #[must_use]
    pub fn order(&self) -> Vec<ModuleName> {
        let names: BTreeSet<&ModuleName> = self.modules().map(|(name, ..)| name).collect();
        let with_logger =
            |name: &ModuleName| [name.logger(), name.clone()].into_iter().filter(|name| names.contains(name));
        self.graph.order().flat_map(with_logger).collect()
    }
}

impl Read {
    /// Whether it is started when svtree starts.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.policy.enabled && self.module.normally_up
    }
}

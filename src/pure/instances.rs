//! Directories that stand for several modules: how these are called, and what each of them stands for.
//!
//! Must never know what runs.

use std::collections::{BTreeMap, BTreeSet};

use super::name::ModuleName;

/// One of several modules that have a directory together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The directory, as an entry of the tree.
    pub directory: ModuleName,
    /// Counted from 1.
    pub number: u32,
}

/// All instances in the tree, and their loggers.
#[derive(Debug, Default)]
pub struct Instances {
    by_name: BTreeMap<ModuleName, Instance>,
    directories: BTreeSet<ModuleName>,
}

impl Instances {
    /// Adds those of the directory that is called so, and loggers of theirs if it has one. Directories are added in the
    /// order of their names; one whose place an instance has taken stands for nothing.
    pub fn add(&mut self, directory: &ModuleName, count: u32, logged: bool) {
        if self.in_the_place_of(directory).is_some() {
            return;
        }
        // One that cannot be called so was refused when its file was read.
        for (name, number) in (1..=count).filter_map(|number| Some((directory.instance(number).ok()?, number))) {
            if logged {
                self.by_name.insert(name.logger(), Instance { directory: directory.logger(), number });
            }
            self.by_name.insert(name, Instance { directory: directory.clone(), number });
        }
        self.directories.extend(logged.then(|| directory.logger()));
        self.directories.insert(directory.clone());
    }

    /// What this name stands for, if it is that of an instance.
    #[must_use]
    pub fn get(&self, name: &ModuleName) -> Option<&Instance> {
        if self.by_name.is_empty() { None } else { self.by_name.get(name) }
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&ModuleName, &Instance)> {
        self.by_name.iter()
    }

    /// Those that a directory stands for.
    pub fn of(&self, directory: &ModuleName) -> impl Iterator<Item = &ModuleName> {
        self.by_name.iter().filter(move |(_, instance)| instance.directory == *directory).map(|(name, _)| name)
    }

    /// Whether a directory is a module by its own name: it stands for no others, and no instance is called as it is.
    #[must_use]
    pub fn leave(&self, directory: &ModuleName) -> bool {
        self.by_name.is_empty() || (!self.directories.contains(directory) && self.in_the_place_of(directory).is_none())
    }

    /// The instance that is called as a directory is, or as a group that it stands in.
    #[must_use]
    pub fn in_the_place_of(&self, directory: &ModuleName) -> Option<&ModuleName> {
        if self.by_name.is_empty() || !directory.as_bytes().contains(&b'@') {
            return None;
        }
        let mut outer = Some(directory.clone());
        while let Some(name) = outer {
            if let Some((instance, _)) = self.by_name.get_key_value(&name) {
                return Some(instance);
            }
            outer = name.parent();
        }
        None
    }
}

/// The directory that a name stands for if it is that of an instance, or of the logger of one, and its number.
#[must_use]
pub fn directory_of(name: &ModuleName) -> Option<Instance> {
    let of = |name: &ModuleName| name.instance_of();
    if let Some((directory, number)) = of(name) {
        return Some(Instance { directory, number });
    }
    let (directory, number) = of(&name.logged()?)?;
    Some(Instance { directory: directory.logger(), number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ModuleName {
        ModuleName::new(text.as_bytes()).expect("a good name")
    }

    fn names(instances: &Instances) -> Vec<String> {
        instances.iter().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn each_has_a_number_and_a_logger_of_its_own() {
        let mut instances = Instances::default();
        instances.add(&name("group/worker"), 2, true);
        let all = ["group/worker@1", "group/worker@1/log", "group/worker@2", "group/worker@2/log"];
        assert_eq!(names(&instances), all);
        for instance in all.map(name) {
            assert_eq!(instances.get(&instance), directory_of(&instance).as_ref());
        }
        let second = Instance { directory: name("group/worker/log"), number: 2 };
        assert_eq!(instances.get(&name("group/worker@2/log")), Some(&second));
        assert_eq!(instances.of(&name("group/worker")).count(), 2);
        assert!(!instances.leave(&name("group/worker")) && !instances.leave(&name("group/worker/log")));
        assert!(instances.leave(&name("worker")) && instances.leave(&name("group/worker@3")));
    }

    #[test]
    fn a_directory_that_is_called_as_an_instance_is_none_and_has_none() {
        let mut instances = Instances::default();
        instances.add(&name("worker"), 2, false);
        instances.add(&name("worker@1"), 2, false);
        instances.add(&name("worker@3"), 1, false);
        assert_eq!(names(&instances), ["worker@1", "worker@2", "worker@3@1"]);
        for taken in ["worker@1", "worker@2/db", "worker@1/log"] {
            assert!(!instances.leave(&name(taken)), "{taken}");
        }
        assert_eq!(instances.in_the_place_of(&name("worker@2/db")), Some(&name("worker@2")));
        assert!(instances.leave(&name("worker@4")) && !instances.leave(&name("worker@3")));
    }

    #[test]
    fn what_is_called_otherwise_stands_for_itself() {
        for none in ["worker", "worker/log", "worker@1/db", "worker@/log"] {
            assert_eq!(directory_of(&name(none)), None, "{none}");
        }
    }
}

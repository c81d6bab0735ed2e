//! Names and directories: which directory a module is read from, where one stands for several.
//!
//! Must never read one.

use super::Wanted;
use crate::parent::wish::Wish;
use crate::pure::instances::{Instance, Instances, directory_of};
use crate::pure::name::ModuleName;
use crate::pure::reconcile::Desired;
use crate::pure::time::Moment;

impl Wanted {
    /// The directory that a name stands for, what is asked for by it, and which of its instances is called so, or 0.
    pub(in crate::parent) fn place<'a: 'n, 'n>(
        &'a self,
        name: &'n ModuleName,
    ) -> Option<(&'n ModuleName, &'a Wish, u32)> {
        let (directory, number) = match self.instances.get(name) {
            Some(Instance { directory, number }) => (directory, *number),
            None if self.instances.leave(name) => (name, 0),
            None => return None,
        };
        Some((directory, self.modules.get(directory)?, number))
    }

    /// The directory that a name stands for, or will, should it be an instance once that directory has settled.
    pub(in crate::parent) fn directory(&self, name: &ModuleName) -> ModuleName {
        if let Some((directory, ..)) = self.place(name) {
            return directory.clone();
        }
        let of = directory_of(name).filter(|of| self.modules.contains_key(&of.directory));
        of.map_or_else(|| name.clone(), |of| of.directory)
    }

    /// The modules that a directory is.
    pub(in crate::parent) fn modules_of(&self, directory: ModuleName) -> Vec<ModuleName> {
        if self.instances.leave(&directory) {
            return vec![directory];
        }
        self.instances.of(&directory).cloned().collect()
    }

    /// What is asked for under a name that may be an instance's, as long as nobody knows how many there are.
    pub(in crate::parent) fn unnumbered(&self, name: &ModuleName) -> Option<Desired> {
        let Instance { directory, number } = directory_of(name)?;
        let wish = self.modules.get(&directory)?;
        let module = directory.logged().filter(|module| self.modules.contains_key(module)).unwrap_or(directory);
        let settles = self.modules.get(&module)?.loaded.is_none() && !self.others.contains_key(&module);
        settles.then(|| Desired { id: wish.id.instance(number), settled_at: Moment(u64::MAX), logged: wish.logged })
    }

    /// Numbers the instances of every directory that asks for some, after a look; says so of what is called as one of them.
    pub(in crate::parent) fn number(&mut self) {
        let mut instances = Instances::default();
        for (name, wish) in &self.modules {
            if let Some(count) = wish.loaded.as_ref().and_then(|loaded| loaded.policy.instances) {
                instances.add(name, count, self.modules.contains_key(&name.logger()));
            }
        }
        self.instances = instances;
        let (instances, modules) = (&self.instances, &self.modules);
        let has_logger = |of: &Instance| modules.get(&of.directory).is_some_and(|wish| wish.is_logged());
        self.unlogged.retain(|name| instances.get(name).is_some_and(|of| !has_logger(of)));
        self.displace();
    }

    fn displace(&mut self) {
        let path = |name: &ModuleName| {
            let module = self.modules.get(name).map(|wish| &wish.path);
            module.or_else(|| self.groups.get(name).map(|(path, _)| path))
        };
        self.displaced.retain(|name, trouble| {
            if self.instances.get(name).is_none()
                && let Some(path) = path(name)
            {
                trouble.worked(&format!("reading {}: it is in order again", path.display()));
            }
            self.instances.get(name).is_some() && path(name).is_some()
        });
        for (name, of) in self.instances.iter().filter(|(name, _)| name.instance_of().is_some()) {
            if let Some(path) = path(name) {
                let (path, directory) = (path.display(), &of.directory);
                let line =
                    format!("reading {path}: rejected: {name} is an instance of {directory}: give it another name");
                self.displaced.entry(name.clone()).or_default().failed(line);
            }
        }
    }
}

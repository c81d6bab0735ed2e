//! A tree of modules that hang together: what stands in it, and what its programs tell of themselves.
//!
//! Must never ask svtree for anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::natures;

/// Notes what it does in the order in which it happens, and is ready after its own time. A copy that finds another one of its
/// module says so; the kernel drops the lock with the program.
const PROGRAM: &str = "#!/bin/sh
say() { read -r up _ < /proc/uptime; echo \"$SVTREE_MODULE $1 $$ $up\" >> \"$SVTREE_CHAOS/notes\"; }
exec 9>> \"$SVTREE_CHAOS/locks/$(echo \"$SVTREE_MODULE\" | tr / .)\"
if command -v flock > /dev/null && ! flock -n 9; then say twice; fi
say starts
sleep \"$READY_AFTER\" 9>&-
say ready
echo >&3
exec 3>&-
sleep 100000 9>&- &
wait
";

/// The groups of a tree, what they ask for, and, where their members are started again together, these in order.
const GROUPS: &[(&str, &str, &[&str])] = &[
    ("base", "strategy = 'one_for_one'", &[]),
    (
        "data",
        "strategy = 'rest_for_one'\nintensity = 6\nperiod = '10s'\nneeds = ['base']\norder = ['db', 'cache']",
        &["db", "cache", "a-view"],
    ),
    (
        "shop",
        "strategy = 'one_for_all'\nintensity = 4\nperiod = '10s'\non_failure = 'restart'\nneeds = ['data/db']",
        &["a-queue", "line", "zed"],
    ),
    (
        "shop/line",
        "strategy = 'rest_for_one'\nintensity = 3\nperiod = '10s'\non_failure = 'restart'",
        &["w1", "w2", "w3"],
    ),
    ("pool", "strategy = 'rest_for_one'\nneeds = ['data/cache']", &["w@1", "w@2", "w@3"]),
    ("front", "strategy = 'one_for_one'\nintensity = 9\nperiod = '10s'", &[]),
    (
        "front/edge",
        "strategy = 'one_for_all'\nintensity = 3\nperiod = '10s'\non_failure = 'escalate'",
        &["proxy", "tls"],
    ),
    ("late", "", &[]),
];

/// The modules of a tree, what they write, and what they need by that and by their groups.
const MODULES: &[(&str, &str, &[&str])] = &[
    ("base/net", "", &[]),
    ("base/disk", "needs = ['net']", &["base/net"]),
    ("data/db", "", &["base/net", "base/disk"]),
    ("data/cache", "", &["base/net", "base/disk"]),
    ("data/a-view", "needs = ['db']", &["base/net", "base/disk", "data/db"]),
    ("shop/a-queue", "", &["data/db"]),
    ("shop/line/w1", "", &["data/db"]),
    ("shop/line/w2", "", &["data/db"]),
    ("shop/line/w3", "", &["data/db"]),
    ("shop/zed", "after = ['late/free']", &["data/db"]),
    ("pool/w@1", "instances = 3", &["data/cache"]),
    ("pool/w@2", "instances = 3", &["data/cache"]),
    ("pool/w@3", "instances = 3", &["data/cache"]),
    ("front/web", "needs = ['shop/a-queue', 'pool/w']", &["shop/a-queue", "pool/w@1", "pool/w@2", "pool/w@3"]),
    ("front/also", "needs = ['base/net']\nneeds_restart = 'restart'", &["base/net"]),
    ("front/edge/tls", "", &[]),
    ("front/edge/proxy", "", &[]),
    ("late/job", "after = ['front/web']\nneeds = ['front/edge']", &["front/edge/tls", "front/edge/proxy"]),
    ("late/free", "", &[]),
];

/// This one takes its time to be ready: who starts meanwhile is seen.
const SLOW: &str = "base/disk";

/// One module.
pub struct Module {
    pub name: String,
    /// Its directory: another name where that stands for several modules.
    pub directory: String,
    /// What has to be ready before it starts.
    pub needs: Vec<String>,
}

/// All of it.
pub struct Forest {
    pub modules: Vec<Module>,
    /// Groups whose members are started again together: all modules in each member, in order.
    pub together: BTreeMap<String, Vec<Vec<String>>>,
    /// The files, by their paths below the services directory, as they are unless somebody edits them.
    pub files: BTreeMap<String, String>,
}

impl Forest {
    /// So many trees beside each other, each of which needs something of the one before.
    pub fn grown(trees: usize) -> Forest {
        let mut forest = Forest { modules: Vec::new(), together: BTreeMap::new(), files: BTreeMap::new() };
        for number in 0..trees {
            forest.plant(number);
        }
        forest
    }

    fn plant(&mut self, number: usize) {
        let full = |name: &&str| format!("t{number}/{name}");
        self.files.insert(format!("t{number}/group.toml"), String::new());
        for (name, asks, needs) in MODULES {
            let directory = full(&name.split('@').next().unwrap_or(name));
            let (mut asks, mut needs): (_, Vec<String>) = ((*asks).to_owned(), needs.iter().map(full).collect());
            if *name == "base/net" && number > 0 {
                let other = format!("t{}/base/net", number - 1);
                asks = format!("needs = ['{other}']");
                needs.push(other);
            }
            for (group, ..) in GROUPS {
                asks = asks.replace(&format!("'{group}"), &format!("'{}", full(group)));
            }
            let after = if *name == SLOW { "4" } else { "0.1" };
            let up = "../".repeat(directory.matches('/').count() + 2);
            let environment = format!("environment = {{ READY_AFTER = '{after}' }}");
            let toml = format!("{asks}\ncommand = '{up}program'\n{environment}\nready.fd = 3\nstop.timeout = '5s'\n");
            self.files.insert(format!("{directory}/service.toml"), toml);
            self.modules.push(Module { name: full(name), directory, needs });
        }
        for (group, asks, order) in GROUPS {
            let group = full(group);
            self.files.insert(format!("{group}/group.toml"), (*asks).replace("data/db", &format!("t{number}/data/db")));
            if !order.is_empty() {
                let units = order.iter().map(|unit| self.within(&format!("{group}/{unit}"))).collect();
                self.together.insert(group, units);
            }
        }
    }

    /// The modules of this name, of this directory, or in this group.
    pub fn within(&self, name: &str) -> Vec<String> {
        let inner = format!("{name}/");
        let is_within =
            |module: &&Module| module.name == name || module.directory == name || module.name.starts_with(&inner);
        self.modules.iter().filter(is_within).map(|module| module.name.clone()).collect()
    }

    /// The names of all modules.
    pub fn names(&self) -> Vec<String> {
        self.modules.iter().map(|module| module.name.clone()).collect()
    }

    /// Writes all files that are not as they are to be; says whether any was not.
    pub fn write(&self, dir: &Path) -> bool {
        let mut wrote = false;
        for (path, text) in &self.files {
            let path = dir.join("services").join(path);
            if fs::read_to_string(&path).is_ok_and(|now| now == *text) {
                continue;
            }
            fs::create_dir_all(path.parent().expect("it is in a group")).expect("a service directory");
            natures::replace(&path, text, 0o644).expect("a file of the tree");
            wrote = true;
        }
        wrote
    }
}

/// The directories that programs need, and the program of all modules.
pub fn prepare(dir: &Path) {
    fs::create_dir(dir.join("locks")).expect("a directory for locks");
    natures::write(&dir.join("notes"), "", 0o644).expect("the notes");
    natures::write(&dir.join("program"), PROGRAM, 0o755).expect("the program");
}

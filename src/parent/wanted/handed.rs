//! What is asked for, as it is handed down to the next svtree.
//!
//! Must never look at a directory: a look follows.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde::{Deserialize, Serialize};

use super::Wanted;
use crate::parent::wish::Wish;
use crate::pure::name::{ModuleName, escaped, unescaped};
use crate::pure::reconcile::Id;
use crate::pure::supervise_conf::Settings;
use crate::pure::time::Moment;
use crate::supervise::Loaded;

/// A module that is asked for, as it is handed down to the next svtree: what is broken or cannot be read when that comes
/// stays in force there too.
#[derive(Debug, Serialize, Deserialize)]
pub struct HandedWish {
    name: String,
    path: String,
    id: Id,
    loaded: Loaded,
    asks_enabled: bool,
    #[serde(default)]
    settings: Option<Box<Settings>>,
}

impl Wanted {
    /// All that is complete, for the next svtree.
    pub fn handed(&self) -> Vec<HandedWish> {
        let complete = self.modules.iter().filter_map(|(name, wish)| Some((name, wish, wish.loaded.as_ref()?)));
        complete
            .map(|(name, wish, loaded)| HandedWish {
                name: escaped(name.as_bytes()),
                path: escaped(wish.path.as_os_str().as_bytes()),
                id: wish.id,
                loaded: (**loaded).clone(),
                asks_enabled: wish.asks_enabled,
                settings: wish.settings.clone(),
            })
            .collect()
    }

    /// Begins with what a predecessor knew; a look follows.
    pub fn inherit(&mut self, handed: Vec<HandedWish>, now: Moment) {
        handed.into_iter().for_each(|wish| self.inherit_one(wish, now));
        self.number();
    }

    fn inherit_one(&mut self, handed: HandedWish, now: Moment) {
        let HandedWish { name, path, id, loaded, asks_enabled, settings } = handed;
        let Ok(name) = ModuleName::new(&unescaped(&name)) else { return };
        let path = OsString::from_vec(unescaped(&path)).into();
        let mut wish = Wish::known(path, id, loaded, now);
        (wish.asks_enabled, wish.settings) = (asks_enabled, settings);
        self.modules.insert(name, Box::new(wish));
    }
}

//! A home that is handed down to the next svtree: its descriptors by number there, and the home again here.
//!
//! Must never open or lock anything: what is handed down is still open and locked.

use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, fstat};
use serde::{Deserialize, Serialize};

use super::view::View;
use super::{Channel, Home, file};
use crate::pure::name::{ModuleName, escaped, unescaped};
use crate::pure::status::LENGTH;
use crate::unix::raw::Descriptors;

/// The descriptors of a home.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Numbers {
    directory: RawFd,
    lock: RawFd,
    svcontrol: RawFd,
    service: RawFd,
    view: Option<ViewNumbers>,
    /// The FIFO to its logger, or from the module that it is the logger of.
    #[serde(default)]
    channel: Option<ChannelNumber>,
    /// The FIFO to the tree's logger.
    #[serde(default)]
    said: Option<RawFd>,
    /// What `status` says, so that it is written only when it says something else; as all the following.
    #[serde(default)]
    status: Option<[u8; LENGTH]>,
}

/// That of a FIFO, and whose output it carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ChannelNumber {
    module: String,
    held: RawFd,
    #[serde(default)]
    former: Option<RawFd>,
}

/// Those of a `supervise/` directory, and what its files say.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ViewNumbers {
    lock: Option<RawFd>,
    control: Option<RawFd>,
    #[serde(default)]
    stat: Option<String>,
    #[serde(default)]
    pid: Option<String>,
    #[serde(default)]
    status: Option<[u8; LENGTH]>,
}

impl Numbers {
    /// Every one of them.
    pub fn all(&self) -> impl Iterator<Item = RawFd> {
        let view = self.view.iter().flat_map(|view| view.lock.into_iter().chain(view.control));
        let channel = self.channel.iter().flat_map(|channel| [Some(channel.held), channel.former]).flatten();
        [self.directory, self.lock, self.svcontrol, self.service]
            .into_iter()
            .chain(view)
            .chain(channel)
            .chain(self.said)
    }

    /// Whose output its FIFO carries.
    #[must_use]
    pub fn carries(&self) -> Option<ModuleName> {
        ModuleName::new(&unescaped(&self.channel.as_ref()?.module)).ok()
    }
}

impl Home {
    /// Its descriptors, which stay its own.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        Numbers {
            directory: self.directory.as_raw_fd(),
            lock: self.lock.as_raw_fd(),
            svcontrol: self.svcontrol.as_raw_fd(),
            service: self.service.as_raw_fd(),
            view: self.view.as_ref().map(|view| ViewNumbers {
                lock: view.lock.as_ref().map(AsRawFd::as_raw_fd),
                control: view.control.as_ref().map(AsRawFd::as_raw_fd),
                stat: view.stat.map(str::to_owned),
                pid: view.pid.clone(),
                status: view.published,
            }),
            said: self.said.as_ref().map(|said| said.numbers().0),
            channel: self.channel.as_ref().map(|channel| {
                let (held, former) = channel.numbers();
                ChannelNumber { module: escaped(channel.module().as_bytes()), held, former }
            }),
            status: self.published,
        }
    }

    /// The home of a predecessor; `None` if a descriptor is missing. What `state.json` says counts as not known.
    pub fn handed_down(root: &Path, name: &ModuleName, numbers: &Numbers, from: &mut Descriptors) -> Option<Home> {
        let svcontrol = from.take(numbers.svcontrol)?;
        let group = fstat(&svcontrol).ok().filter(|stat| Mode::from_raw_mode(stat.st_mode).contains(Mode::WGRP));
        let said = match numbers.said {
            Some(said) => Some(Channel::of(root, name.clone(), file::SAID, from.take(said)?).ok()?),
            None => None,
        };
        let channel = match &numbers.channel {
            Some(channel) => {
                let (held, former) = (from.take(channel.held)?, from.take_any(channel.former)?);
                Some(Channel::handed_down(root, numbers.carries()?, held, former).ok()?)
            }
            None => None,
        };
        Some(Home {
            path: root.join(name.as_os_str()),
            directory: from.take(numbers.directory)?,
            lock: from.take(numbers.lock)?,
            svcontrol,
            is_new: false,
            delegated: group.map(|stat| Gid::from_raw(stat.st_gid)),
            service: from.take(numbers.service)?,
            view: match &numbers.view {
                Some(view) => Some(View {
                    lock: from.take_any(view.lock)?,
                    control: from.take_any(view.control)?,
                    stat: STATS.into_iter().find(|stat| view.stat.as_deref() == Some(stat)),
                    pid: view.pid.clone(),
                    published: view.status,
                }),
                None => None,
            },
            channel: channel.map(Box::new),
            said: said.map(Box::new),
            merged: false,
            published: numbers.status,
            published_state: None,
        })
    }
}

/// All that `stat` can say.
const STATS: [&str; 3] = ["run\n", "down\n", "finish\n"];

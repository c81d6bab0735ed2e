//! The `supervise.conf` of the tree, kept as it was read last.
//!
//! Read when it was changed and somebody asks: a module that comes, `r`, HUP. Must never decide whom a change concerns.

use std::path::PathBuf;

use crate::pure::name::ModuleName;
use crate::pure::supervise_conf::{Conf, Settings, Warning};
use crate::unix::prints::Print;
use crate::unix::report::{self, Repeated, plain};
use crate::unix::scan;

/// The file that `--supervise-conf` names.
#[derive(Debug)]
pub struct ConfFile {
    path: PathBuf,
    /// `None` until it could be read.
    conf: Option<Conf>,
    /// The file that it was read from.
    print: Option<Print>,
    trouble: Repeated,
    /// What was wrong with its lines.
    told: Vec<Warning>,
}

impl ConfFile {
    /// Reads the file at this path. One that is missing is a warning.
    #[must_use]
    pub fn read(path: PathBuf) -> ConfFile {
        let mut file = ConfFile { path, conf: None, print: None, trouble: Repeated::default(), told: Vec::new() };
        file.refresh();
        file
    }

    /// What the file asks of a module now. While it cannot be read, what was read last holds.
    pub fn settings(&mut self, module: &ModuleName) -> Settings {
        self.refresh();
        self.conf.as_ref().map(|conf| conf.settings(module.as_bytes())).unwrap_or_default()
    }

    fn refresh(&mut self) {
        let print = Print::at(&self.path);
        if print.is_some() && print == self.print {
            return;
        }
        let shown = scan::shown(&self.path);
        match scan::contents(rustix::fs::CWD, &self.path) {
            Ok(bytes) => {
                self.trouble.worked(&format!("reading {shown}: it is in order again"));
                let conf = Conf::read(&bytes);
                if self.told != conf.warnings {
                    self.told.clone_from(&conf.warnings);
                    self.told.iter().for_each(|warning| report::line(&format!("reading {shown}: {warning}")));
                }
                (self.conf, self.print) = (Some(conf), print);
            }
            Err(error) => {
                self.print = None;
                let rest = if self.conf.is_some() { "what was read of it before holds" } else { "nothing of it holds" };
                self.trouble.failed(format!("reading {shown}: {}; {rest}", plain(&error)));
            }
        }
    }
}

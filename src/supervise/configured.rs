//! What the files of a module ask for, when they were read again while it is supervised.
//!
//! Must never read one: the parent does.

use std::sync::Arc;

use super::program::Origin;
use super::{Loaded, Supervise};
use crate::pure::config::{Program, Rules};
use crate::pure::machine::{Configured, Event};
use crate::unix::home::Level;
use crate::unix::report;

impl Supervise {
    pub(super) fn configured(&mut self, loaded: Arc<Loaded>, at_once: bool) {
        if let Some(mistake) = &loaded.mistake
            && self.task.loaded.mistake.as_ref() != Some(mistake)
        {
            self.lines.push((Level::Warning, format!("{mistake}; the last good one stays in force")));
        }
        self.keep_good(&loaded);
        // What it waits for is no business of the machine's, and shown.
        let shows_more = self.task.loaded.policy.needs != loaded.policy.needs;
        self.task.loaded = loaded;
        let policy = &self.task.loaded.policy;
        // What a program that was taken over was started with is not known.
        let at_once = at_once || self.origin.is_none();
        if at_once && let Some(origin) = &mut self.origin {
            let Rules { forking, awaits, .. } = origin.rules();
            origin.adjusted = Some(Box::new(Rules { forking, awaits, ..policy.rules() }));
        }
        if at_once {
            self.change_health();
            self.take_alarms();
        }
        let policy = &self.task.loaded.policy;
        let event = Event::Configured(Configured {
            at_once: at_once.then(|| policy.rules()),
            changed: self.origin.as_ref().is_some_and(|origin| {
                origin.rules() != policy.rules()
                    || origin.loaded.logged != self.task.loaded.logged
                    || self.asks_for_other_alarms()
                    || !origin.loaded.policy.starts_as(policy)
                    || (policy.program == Program::Run && !self.runs_the_same_script(origin))
            }),
            enabled: policy.enabled,
            mistake: self.task.loaded.mistake.clone(),
        });
        self.feed(event);
        if shows_more {
            self.feed(Event::Heal);
        }
        self.let_logger_go();
    }

    /// Should svtree die while files are rejected, the next one goes on with what is in force.
    fn keep_good(&mut self, loaded: &Loaded) {
        let good = loaded.mistake.is_some() && !loaded.unknown;
        if !good && self.task.loaded.mistake.is_none() {
            return;
        }
        let policy = if good { serde_json::to_vec(&loaded.policy).ok() } else { None };
        if let Err(error) = self.home.keep_good(policy.as_deref()) {
            let text = format!("keeping what is in force: {}", report::plain(&error));
            self.lines.push((Level::Warning, text));
        }
    }

    /// Whether `run` is what the program was started from, be it another file.
    fn runs_the_same_script(&self, origin: &Origin) -> bool {
        let now = &self.task.loaded;
        let digest = origin.loaded.run.filter(|_| origin.run == origin.loaded.prints.run);
        origin.run == now.prints.run || now.is_run(digest)
    }
}

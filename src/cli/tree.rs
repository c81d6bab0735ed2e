//! `svtree tree`: the supervision tree drawn, or as JSON: groups with strategy and budget, modules with their state, and what
//! needs what.
//!
//! Must never ask svtree itself: all of it stands in files, also while it is stopped.

use std::io;

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use clap::Args;
use serde::Serialize;

use super::known::Known;
use super::names::Tree;
use super::note::{self, Now};
use super::out;
use super::roots::Roots;
use super::status::{self, Clocks};
use crate::pure::drawing::{self, Line, Node};
use crate::pure::group_record::GroupRecord;
use crate::pure::name::{ModuleName, escaped, printable, unescaped};
use crate::pure::state::{State, StateName, seconds};
use crate::pure::time::{Wall, human};
use crate::pure::tree::graph::On;
use crate::unix::holder::{Holder, NoHolder};

/// What `svtree tree` takes.
#[derive(Args)]
pub struct TreeArgs {
    /// One JSON object, for programs
    #[arg(long)]
    json: bool,
}

/// Draws it, and returns the exit code.
#[must_use]
pub fn run(args: &TreeArgs, roots: &Roots) -> u8 {
    if !roots.status.exists() {
        let status = roots.status.display();
        out::complain("svtree", format!("tree: {status}: no such directory: nothing runs from here, see --status"));
        return out::FAILED;
    }
    let homes = Tree::new(roots);
    let known = Known::read(&homes);
    for (name, why) in &known.wrong {
        out::complain("svtree", format!("tree: {name}: {why}"));
    }
    let code = if known.wrong.is_empty() { out::DONE } else { out::FAILED };
    let draw = Draw { homes: &homes, known: &known, clocks: Clocks::read() };
    let data = if args.json {
        // No map with keys other than strings, so serialisation cannot fail.
        serde_json::to_string_pretty(&draw.elements(None)).unwrap_or_default() + "\n"
    } else {
        let note = match Holder::find(&roots.status) {
            Ok(holder) => format!("svtree, pid {}", holder.pid),
            Err(NoHolder::Nobody) => "no svtree runs".to_owned(),
            Err(NoHolder::Unproven | NoHolder::Failed(_)) => String::new(),
        };
        let name = printable(roots.services.as_os_str().as_encoded_bytes());
        text(&Node { name, state: String::new(), note, below: draw.below(None) })
    };
    out::print("svtree", data.as_bytes()).max(code)
}

fn text(root: &Node) -> String {
    let coloured = anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never;
    let shown = |line: &Line| {
        let style = if coloured { style(&line.state) } else { Style::new() };
        let Line { name, state, gap, note } = line;
        format!("{name}{style}{state}{style:#}{gap}{note}").trim_end().to_owned() + "\n"
    };
    drawing::lines(root).iter().map(shown).collect()
}

/// A group is up, starting, stopping, down or failed, which are states of modules as well.
fn style(state: &str) -> Style {
    match state {
        "unsupervised" => AnsiColor::Red.on_default(),
        state => serde_json::from_value::<StateName>(state.into()).map(note::style).unwrap_or_default(),
    }
}

struct Draw<'a> {
    homes: &'a Tree<'a>,
    known: &'a Known,
    clocks: Clocks,
}

/// A group or a module, as JSON.
#[derive(Serialize)]
struct Element {
    kind: &'static str,
    name: String,
    state: String,
    reason: Option<String>,
    /// Of a module: the full names of what it needs and comes after; of a group the names as its file has them.
    needs: Vec<String>,
    after: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strategy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<Budget>,
    members: Vec<Element>,
}

/// How many restarts a group bears.
#[derive(Serialize)]
struct Budget {
    used: usize,
    intensity: u32,
    period: f64,
}

impl Draw<'_> {
    /// What stands in a group, or at the top: groups and modules in their order.
    fn members(&self, group: Option<&ModuleName>) -> Vec<ModuleName> {
        let is_logger = |name: &ModuleName| name.logged().is_some_and(|of| self.known.states.contains_key(&of));
        let modules = self.known.states.keys().filter(|name| !is_logger(name));
        let mut members: Vec<ModuleName> =
            modules.chain(self.known.groups.keys()).filter(|name| name.parent().as_ref() == group).cloned().collect();
        let record = group.and_then(|group| self.known.groups.get(group)?.as_ref());
        let place = |name: &ModuleName| {
            let last = name.components().next_back().unwrap_or_default();
            let order = record.map_or(&[][..], |record| &record.members);
            order.iter().position(|member| unescaped(member) == last).unwrap_or(order.len())
        };
        members.sort_by_cached_key(|name| {
            let (base, number) = name.instance_of().unwrap_or_else(|| (name.clone(), 0));
            (place(name), base, number)
        });
        members
    }

    fn below(&self, group: Option<&ModuleName>) -> Vec<Node> {
        self.members(group).iter().map(|name| self.node(name)).collect()
    }

    fn node(&self, name: &ModuleName) -> Node {
        let last = printable(name.components().next_back().unwrap_or_default());
        let Some(state) = self.known.states.get(name) else {
            let record = self.known.groups.get(name).and_then(Option::as_ref);
            let (state, note) =
                record.map_or_else(Default::default, |record| (record.state.clone(), self.budget_note(record)));
            return Node { name: last, state, note, below: self.below(Some(name)) };
        };
        let mut state = state.clone();
        state.uptime = Some(seconds(self.clocks.uptime(&state)));
        let supervised = status::is_supervised(self.homes, name, state.state);
        let row = note::row(name, &state, Now { wall: self.clocks.wall, supervised });
        let note: Vec<String> = [("needs", &state.needs, true), ("after", &state.after, false)]
            .into_iter()
            .filter_map(|(word, written, needed)| self.written(name, word, written, needed))
            .chain((!row.note.is_empty()).then_some(row.note))
            .collect();
        let logger = name.logger();
        let below = if self.known.states.contains_key(&logger) { vec![self.node(&logger)] } else { Vec::new() };
        Node { name: last, state: row.state.to_owned(), note: note.join(", "), below }
    }

    /// What a module itself waits for, as its file has it; and what of that cannot come.
    fn written(&self, name: &ModuleName, word: &str, written: &[String], needed: bool) -> Option<String> {
        let waits = self.known.graph.waits(name);
        let told = |written: &String| {
            let found = waits.iter().find(|wait| wait.needed == needed && wait.written == *written);
            let shown = printable(&unescaped(written));
            match found.map(|wait| &wait.on) {
                Some(On::Missing) => format!("{shown} (not there)"),
                Some(On::Broken(what)) => format!("{shown} ({what})"),
                Some(On::Modules(_)) | None => shown,
            }
        };
        let names: Vec<String> = written.iter().map(told).collect();
        (!names.is_empty()).then(|| format!("{word} {}", names.join(", ")))
    }

    /// The full names of what a module waits for, by its own words or its groups'.
    fn waits(&self, name: &ModuleName, needed: bool) -> Vec<String> {
        let mut names = Vec::new();
        for wait in self.known.graph.waits(name).iter().filter(|wait| wait.needed == needed) {
            if let On::Modules(modules) = &wait.on {
                let others = modules.iter().filter_map(|number| self.known.graph.name(*number));
                names.extend(others.map(|name| escaped(name.as_bytes())));
            } else {
                names.push(wait.written.clone());
            }
        }
        names.sort();
        names.dedup();
        names
    }

    fn used(&self, record: &GroupRecord) -> usize {
        let period = std::time::Duration::try_from_secs_f64(record.period).unwrap_or_default();
        let counts = |at: &&String| Wall::from_rfc3339(at).is_some_and(|at| self.clocks.wall.since(at) < period);
        record.restarts.iter().filter(counts).count()
    }

    /// Strategy, budget, and what else there is to say of a group.
    fn budget_note(&self, record: &GroupRecord) -> String {
        let mut parts = vec![record.strategy.clone()];
        if record.intensity > 0 {
            let period = std::time::Duration::try_from_secs_f64(record.period).unwrap_or_default();
            let used = self.used(record);
            parts.push(format!("{used} of {} restarts in {} used", record.intensity, human(period)));
            parts.push(format!("on failure {}", record.on_failure));
        }
        for (word, names) in [("needs", &record.needs), ("after", &record.after)] {
            let names: Vec<String> = names.iter().map(|name| printable(&unescaped(name))).collect();
            parts.extend((!names.is_empty()).then(|| format!("{word} {}", names.join(", "))));
        }
        parts.extend(record.reason.iter().map(|reason| printable(reason.as_bytes())));
        parts.join(", ")
    }

    fn elements(&self, group: Option<&ModuleName>) -> Vec<Element> {
        self.members(group).iter().map(|name| self.element(name)).collect()
    }

    fn element(&self, name: &ModuleName) -> Element {
        let shown = escaped(name.as_bytes());
        if let Some(State { state, reason, .. }) = self.known.states.get(name) {
            let logger = name.logger();
            let has_logger = self.known.states.contains_key(&logger);
            return Element {
                kind: "module",
                name: shown,
                state: state.name().to_owned(),
                reason: reason.clone(),
                needs: self.waits(name, true),
                after: self.waits(name, false),
                strategy: None,
                budget: None,
                members: if has_logger { vec![self.element(&logger)] } else { Vec::new() },
            };
        }
        let record = self.known.groups.get(name).and_then(Clone::clone);
        let budget = record.as_ref().filter(|record| record.intensity > 0).map(|record| Budget {
            used: self.used(record),
            intensity: record.intensity,
            period: record.period,
        });
        let members = self.elements(Some(name));
        let asks = record.is_some();
        let GroupRecord { state, reason, strategy, needs, after, .. } = record.unwrap_or_default();
        let strategy = asks.then_some(strategy);
        Element { kind: "group", name: shown, state, reason, needs, after, strategy, budget, members }
    }
}

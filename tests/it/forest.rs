//! Section: a tree of 300 modules in 20 groups, from its start to its end.
//!
//! What is asked of it is built and walked here a second time, by rules of this file's own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::harness::{Tree, text, within};

/// Each notes what it does, in the order in which it happens, with the time since boot; and is ready after a moment.
const PROGRAM: &str = "#!/bin/sh
say() { read -r up _ < /proc/uptime; echo \"$SVTREE_MODULE $1 $up\" >> \"$SVTREE_IT/notes/forest\"; }
trap 'say stops; exit 0' TERM
say starts
sleep 0.2
say ready
echo >&3
exec 3>&-
sleep 1000 &
wait
";

/// A module of the forest, and those that are ready before it starts and stop after it has ended.
struct Planted {
    name: String,
    toml: String,
    before: Vec<String>,
}

/// The members of a group of modules, and what they ask for: each waits for another one half as far from the first.
fn grown(group: &str, count: usize, first: &str) -> Vec<Planted> {
    let member = |number: usize| format!("m{number:02}");
    (0..count)
        .map(|number| {
            let needs = if number == 0 { first.to_owned() } else { member(number / 2) };
            let before = if number == 0 { first.to_owned() } else { format!("{group}/{needs}") };
            let asks = if needs.is_empty() { String::new() } else { format!("needs = ['{needs}']\n") };
            let toml = format!("{asks}[ready]\nfd = 3\n");
            let before = if before.is_empty() { Vec::new() } else { vec![before] };
            Planted { name: format!("{group}/{}", member(number)), toml, before }
        })
        .collect()
}

/// Every unit waits for the one before it.
fn in_order(units: &mut [Vec<Planted>]) {
    for at in 1..units.len() {
        let names: Vec<String> = units[at - 1].iter().map(|module| module.name.clone()).collect();
        units[at].iter_mut().for_each(|module| module.before.extend(names.iter().cloned()));
    }
}

/// Four groups at the top, each with 4 groups and 3 modules in it: 300 modules. What is planted, and the files of groups.
fn forest() -> (Vec<Planted>, BTreeMap<String, String>) {
    let mut all = Vec::new();
    let mut groups = BTreeMap::new();
    for (top, strategy) in [("a", ""), ("b", "one_for_one"), ("c", "rest_for_one"), ("d", "one_for_all")] {
        // Over the border, into the group before.
        let first = match top {
            "a" => String::new(),
            _ => format!("{}/g1/m02", char::from(top.as_bytes()[0] - 1)),
        };
        let mut units = Vec::new();
        for (inner, strategy) in [("g1", ""), ("g2", "one_for_one"), ("g3", "rest_for_one"), ("g4", "one_for_all")] {
            let group = format!("{top}/{inner}");
            let count = if ["g1", "g2"].contains(&inner) { 29 } else { 7 };
            let mut members: Vec<Vec<Planted>> =
                grown(&group, count, &first).into_iter().map(|member| vec![member]).collect();
            let mut policy = policy(strategy);
            if inner == "g4" {
                // The last one comes first, and needs nobody then.
                policy += "order = ['m06', 'm00']\n";
                let last = members.remove(6);
                members.insert(0, last);
                "[ready]\nfd = 3\n".clone_into(&mut members[0][0].toml);
                members[0][0].before.clear();
            }
            if ["g3", "g4"].contains(&inner) {
                in_order(&mut members);
            }
            units.push(members.into_iter().flatten().collect());
            groups.insert(group, policy);
        }
        units.extend(grown(top, 3, "").into_iter().map(|member| vec![member]));
        if ["c", "d"].contains(&top) {
            in_order(&mut units);
        }
        groups.insert(top.to_owned(), policy(strategy));
        all.extend(units.into_iter().flatten());
    }
    (all, groups)
}

fn policy(strategy: &str) -> String {
    let mut text = String::new();
    if !strategy.is_empty() {
        let _ = writeln!(text, "strategy = '{strategy}'\nintensity = 3");
    }
    text
}

/// A line of the notes: when it was written, and at which place it stands.
#[derive(Clone, Copy)]
struct Note {
    line: usize,
    at: f64,
}

/// What the programs noted, by what they did.
fn notes(tree: &Tree) -> BTreeMap<(String, String), Note> {
    let mut notes = BTreeMap::new();
    for (line, said) in tree.notes("forest").iter().enumerate() {
        let words: Vec<&str> = said.split(' ').collect();
        let [name, what, at] = words[..] else { panic!("a whole line: {said}") };
        let note = Note { line, at: at.parse().expect("a time") };
        let twice = notes.insert((what.to_owned(), name.to_owned()), note);
        assert!(twice.is_none(), "{name} {what} a second time");
    }
    notes
}

/// How long the longest way through the tree took, and how much of that its programs took: from the module that was ready
/// last, over what it waited for last, to one that waited for nobody.
fn slowest_chain<'a>(all: &'a [Planted], note: &dyn Fn(&str, &str) -> Note) -> (f64, f64, usize) {
    let by_name: BTreeMap<&str, &Planted> = all.iter().map(|module| (module.name.as_str(), module)).collect();
    let latest = |names: &mut dyn Iterator<Item = &'a str>| {
        names.max_by(|one, other| note("ready", one).at.total_cmp(&note("ready", other).at))
    };
    let mut here = latest(&mut all.iter().map(|module| module.name.as_str())).expect("a module");
    let end = note("ready", here).at;
    let (mut own, mut steps) = (0.0, 0);
    loop {
        own += note("ready", here).at - note("starts", here).at;
        steps += 1;
        match latest(&mut by_name[here].before.iter().map(String::as_str)) {
            Some(before) => here = before,
            None => return (end - note("starts", here).at, own, steps),
        }
    }
}

#[test]
fn three_hundred_modules_come_up_in_order_at_the_speed_of_their_slowest_chain_and_go_down_in_reverse() {
    let (all, groups) = forest();
    assert_eq!((all.len(), groups.len()), (300, 20));
    let tree = Tree::new().options(["--log", "none"]);
    for top in ["a", "b", "c", "d"] {
        let mut service = tree.service(top).script("program", PROGRAM);
        for (name, policy) in groups.iter().filter(|(name, _)| name.split('/').next() == Some(top)) {
            service = service.file(&within_top(name, "group.toml"), policy);
        }
        for module in all.iter().filter(|module| module.name.split('/').next() == Some(top)) {
            let up = "../".repeat(module.name.matches('/').count());
            let toml = format!("command = '{up}program'\n{}", module.toml);
            service = service.file(&within_top(&module.name, "service.toml"), &toml);
        }
        service.moved_in();
    }
    tree.start();
    within(Duration::from_secs(90), "all to be ready", || ready(&tree) == all.len());
    let up = notes(&tree);
    let note = |what: &str, name: &str| up[&(what.to_owned(), name.to_owned())];
    for module in &all {
        for before in &module.before {
            let (start, ready) = (note("starts", &module.name), note("ready", before));
            assert!(ready.line < start.line, "{} started before {before} was ready", module.name);
        }
    }
    // Whatever else the machine does slows down the programs as well as what starts them.
    let (took, own, steps) = slowest_chain(&all, &note);
    let sum: f64 = all.iter().map(|module| note("ready", &module.name).at - note("starts", &module.name).at).sum();
    assert!(took < 2.0 * own + 10.0, "{took:.2} s for a chain of {steps} that needs {own:.2} s of its own");
    assert!(took < sum / 2.0, "{took:.2} s where one after the other takes {sum:.2} s");

    assert!(tree.stop().success());
    let down = notes(&tree);
    let stop = |name: &str| down[&("stops".to_owned(), name.to_owned())].line;
    for module in &all {
        for before in &module.before {
            assert!(stop(&module.name) < stop(before), "{before} was stopped before {}", module.name);
        }
    }
}

/// So many have noted that they are ready.
fn ready(tree: &Tree) -> usize {
    text(&tree.path("notes/forest")).lines().filter(|line| line.contains(" ready ")).count()
}

/// The path of a file below the group at the top.
fn within_top(name: &str, file: &str) -> String {
    match name.split_once('/') {
        Some((_, rest)) => format!("{rest}/{file}"),
        None => file.to_owned(),
    }
}

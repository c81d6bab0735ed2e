//! Scenes of trees.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Order, Tree};
use crate::pure::config;
use crate::pure::name::ModuleName;
use crate::pure::standing::{Gate, Stand, Standing};
use crate::pure::time::Moment;

fn name(text: &str) -> ModuleName {
    ModuleName::new(text.as_bytes()).expect("a name")
}

/// A tree of these groups, and of modules that need nothing; all of them have had their first words.
fn planted(groups: &[(&str, &str)], modules: &[&str]) -> Tree {
    let policies: BTreeMap<_, _> =
        groups.iter().map(|(group, text)| (name(group), config::group(text).expect("a policy"))).collect();
    let names: Vec<ModuleName> = modules.iter().map(|module| name(module)).collect();
    let mut tree = Tree::new(false);
    tree.plant(names.iter().map(|name| (name, None)), &policies, &BTreeMap::new());
    names.iter().for_each(|name| drop(tree.first(name)));
    tree
}

/// A module that is wanted and has heard its last word says this.
fn says(tree: &mut Tree, module: &str, stand: Stand, deaths: u64) -> Vec<Order> {
    let number = tree.members.get(&name(module)).map_or(0, |member| member.number);
    let runs = matches!(stand, Stand::Ready | Stand::Coming | Stand::Ending);
    let standing = Standing { number, stand, wanted: true, runs, may: false, deaths, spawns: 1 };
    tree.heard(&name(module), standing, Moment::default().plus(Duration::from_secs(1)));
    tree.orders(|_| true)
}

#[test]
fn a_group_that_begins_anew_says_nothing_to_those_of_a_failed_one_in_it() {
    let mut tree =
        planted(&[("g", "intensity = 9"), ("g/in", "intensity = 1\non_failure = 'escalate'")], &["g/a", "g/in/b"]);
    says(&mut tree, "g/a", Stand::Ready, 0);
    says(&mut tree, "g/in/b", Stand::Ready, 0);
    let orders = says(&mut tree, "g/in/b", Stand::Waiting, 2);
    assert!(matches!(orders.as_slice(), [(_, Gate::Fail(_), _), (_, Gate::Fail(_), _)]), "{orders:?}");
    says(&mut tree, "g/a", Stand::Failed, 0);
    assert_eq!(says(&mut tree, "g/in/b", Stand::Failed, 2), []);
    // Both are told to come up. What is said to the second one before its letter is obeyed would undo that.
    let orders = says(&mut tree, "g/a", Stand::Waiting, 0);
    assert!(matches!(orders.as_slice(), [(first, Gate::Open, _)] if *first == name("g/a")), "{orders:?}");
    let orders = says(&mut tree, "g/in/b", Stand::Waiting, 2);
    assert!(matches!(orders.as_slice(), [(second, Gate::Open, _)] if *second == name("g/in/b")), "{orders:?}");
}

//! Long runs over trees as they come, shrunk to the shortest run over the smallest tree that shows a fault.
//!
//! Must never know what is a fault.

use std::collections::BTreeMap;
use std::fmt::Write;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use svtree::pure::config::{
    Awaits, Forking, GroupPolicy, Needs, NeedsRestart, OnFailure, Restart, Rules, Scope, Stop, Strategy as Way, When,
};

use crate::law::{Module, Scene, name};
use crate::walk::moves;
use crate::world::{Move, UNIT, World};

/// What one module or group asks for of others.
#[derive(Clone, Debug)]
struct Asks {
    needs: Vec<Index>,
    after: Vec<Index>,
    again: bool,
}

/// A tree: names by numbers, so that what is left out while it is shrunk leaves the rest as it was.
#[derive(Clone, Debug)]
struct Tree {
    /// Where each group stands, and each module.
    groups: Vec<Index>,
    modules: Vec<(Index, Rules, bool, bool)>,
}

/// What can be edited.
#[derive(Clone, Debug)]
struct Edition {
    modules: Vec<Asks>,
    groups: Vec<(GroupPolicy, Asks)>,
}

/// What kind of a move is made next.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Messages come, programs become ready, what was told to end ends.
    Goes,
    Dies,
    Letter,
    Time,
    /// Threads vanish, another svtree takes over, files are edited.
    Breaks,
    /// Nobody disturbs until nothing happens any more.
    Rest,
}

fn asks() -> impl Strategy<Value = Asks> {
    let few = || prop_oneof![3 => Just(Vec::new()), 2 => vec(any::<Index>(), 1..3)];
    (few(), few(), any::<bool>()).prop_map(|(needs, after, again)| Asks { needs, after, again })
}

fn group() -> impl Strategy<Value = (GroupPolicy, Asks)> {
    let way = prop_oneof![Just(Way::OneForOne), Just(Way::OneForAll), Just(Way::RestForOne)];
    let end = prop_oneof![Just(OnFailure::Stop), Just(OnFailure::Restart), Just(OnFailure::Escalate)];
    let order = option::weighted(0.3, Just(vec!["d".to_owned(), "q".to_owned(), "b".to_owned()]));
    let asks = prop_oneof![4 => Just(Asks { needs: vec![], after: vec![], again: false }), 1 => asks()];
    (way, option::of(1..3u32), end, order, 0..3u32, asks).prop_map(
        |(strategy, intensity, on_failure, order, period, asks)| {
            let policy =
                GroupPolicy { strategy, intensity, period: UNIT * period, on_failure, order, ..GroupPolicy::default() };
            (policy, asks)
        },
    )
}

fn rules() -> impl Strategy<Value = Rules> {
    let awaits = prop_oneof![2 => Just(Awaits::Nothing), 2 => Just(Awaits::Word), 1 => Just(Awaits::Exit)];
    let when = prop_oneof![3 => Just(When::Always), 1 => Just(When::Failure), 1 => Just(When::Never)];
    (awaits, when, 0..2u32, option::weighted(0.2, 1..3u32)).prop_map(|(awaits, when, delay, max_tries)| {
        let when = if awaits == Awaits::Exit { When::Never } else { when };
        let restart = Restart { when, delay: UNIT * delay, interval: UNIT * 2, max_tries, ..Restart::default() };
        let stop = Stop { timeout: None, scope: Scope::Main, ..Stop::default() };
        Rules { restart, stop, exits_kept: 0, forking: Forking::Ignore, awaits }
    })
}

fn tree() -> impl Strategy<Value = Tree> {
    let module = (any::<Index>(), rules(), prop::bool::weighted(0.9), prop::bool::weighted(0.2));
    (vec(any::<Index>(), 0..4), vec(module, 1..7)).prop_map(|(groups, modules)| Tree { groups, modules })
}

fn edition() -> impl Strategy<Value = Edition> {
    (vec(asks(), 6), vec(group(), 3)).prop_map(|(modules, groups)| Edition { modules, groups })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        60 => Just(Kind::Goes),
        12 => Just(Kind::Dies),
        8 => Just(Kind::Letter),
        4 => Just(Kind::Time),
        2 => Just(Kind::Breaks),
        2 => Just(Kind::Rest),
    ]
}

fn scene(tree: &Tree, edition: &Edition) -> Scene {
    let mut places = vec![String::new()];
    for (at, letter) in tree.groups.iter().zip("pqr".chars()) {
        places.push(format!("{}{letter}/", at.get(&places)));
    }
    let full: Vec<String> = tree
        .modules
        .iter()
        .zip("abcdef".chars())
        .map(|((at, ..), letter)| format!("{}{letter}", at.get(&places)))
        .collect();
    // A group without a module in it is named as well: it is not there.
    let all: Vec<String> =
        full.iter().cloned().chain(places[1..].iter().map(|place| place[..place.len() - 1].to_owned())).collect();
    let names = |indices: &[Index]| -> Vec<String> {
        let mut names: Vec<String> = indices.iter().map(|index| index.get(&all).clone()).collect();
        names.sort();
        names.dedup();
        names
    };
    let modules = tree.modules.iter().zip(&edition.modules).zip(&full);
    let modules = modules
        .map(|(((_, rules, enabled, finish), asks), full)| Module {
            name: name(full),
            needs: (!asks.needs.is_empty() || !asks.after.is_empty()).then(|| Needs {
                needs: names(&asks.needs),
                after: names(&asks.after),
                restart: if asks.again { NeedsRestart::Restart } else { NeedsRestart::Keep },
            }),
            rules: *rules,
            enabled: *enabled,
            finish: *finish,
        })
        .collect();
    let groups: BTreeMap<_, _> = places[1..]
        .iter()
        .zip(&edition.groups)
        .map(|(place, (policy, asks))| {
            let policy = GroupPolicy { needs: names(&asks.needs), after: names(&asks.after), ..policy.clone() };
            (name(&place[..place.len() - 1]), policy)
        })
        .collect();
    Scene { modules, groups }
}

fn is_of(step: Move, kind: Kind, world: &World) -> bool {
    match step {
        Move::Read(_) | Move::Hear(_) | Move::Steer | Move::Ready(_) | Move::FinishEnds(_) | Move::Begin(_) => {
            matches!(kind, Kind::Goes)
        }
        Move::Exit(number, _) if world.parts[number].told => matches!(kind, Kind::Goes),
        Move::Exit(..) | Move::Fails(_) => matches!(kind, Kind::Dies),
        Move::Letter(..) => matches!(kind, Kind::Letter),
        Move::Time => matches!(kind, Kind::Time),
        Move::Vanish(_) | Move::TakeOver | Move::Edit(_) => matches!(kind, Kind::Breaks),
    }
}

/// Makes all moves; with `prompt` whatever is told is heard at once.
fn run(scenes: &[Scene], steps: &[(Kind, Index)], prompt: bool, made: &mut Vec<Move>) -> Result<(), String> {
    let mut world = World::new(scenes[0].clone());
    for (kind, index) in steps {
        if matches!(kind, Kind::Rest) {
            rest(&mut world, made)?;
            continue;
        }
        let mut all = moves(&world, scenes.len());
        all.retain(|step| is_of(*step, *kind, &world));
        if !all.is_empty() {
            made.push(*index.get(&all));
            world.make(made[made.len() - 1], scenes)?;
        }
        while prompt && let Some(step @ (Move::Read(_) | Move::Hear(_) | Move::Steer)) = world.calm() {
            made.push(step);
            world.make(step, scenes)?;
        }
    }
    rest(&mut world, made)
}

/// Nobody disturbs until nothing happens any more.
fn rest(world: &mut World, made: &mut Vec<Move>) -> Result<(), String> {
    world.parts.iter_mut().for_each(|part| part.fails = false);
    for _ in 0..2000 {
        let Some(step) = world.calm() else { return world.check_quiet() };
        made.push(step);
        world.make(step, &[])?;
    }
    Err("it goes on for ever".to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_to_rest_whatever_happens(tree in tree(), editions in [edition(), edition()], prompt: bool,
                                               steps in vec((kind(), any::<Index>()), 1..200)) {
        let scenes = editions.map(|edition| scene(&tree, &edition));
        let mut made = Vec::new();
        if let Err(fault) = run(&scenes, &steps, prompt, &mut made) {
            made.drain(..made.len().saturating_sub(200));
            return Err(TestCaseError::fail(format!("{fault}\n  after: {made:?}\n  in: {}", told(&scenes))));
        }
    }
}

/// A scene for people.
fn told(scenes: &[Scene]) -> String {
    let mut text = String::new();
    for scene in scenes {
        for Module { name, needs, rules, enabled, finish } in &scene.modules {
            let _ = write!(
                text,
                "\n    {name}: {needs:?} {:?} {:?} {:?} {:?} enabled {enabled} finish {finish}",
                rules.awaits, rules.restart.when, rules.restart.delay, rules.restart.max_tries
            );
        }
        for (name, policy) in &scene.groups {
            let _ = write!(text, "\n    {name}/: {policy:?}");
        }
        text += "\n   or:";
    }
    text
}

//! Scenes of trees: each rule of `docs/groups.md`, told by what modules say and what the tree answers.

use std::collections::BTreeMap;

use super::{GroupState, Tree};
use crate::pure::config::{self, GroupPolicy, Needs};
use crate::pure::name::ModuleName;
use crate::pure::standing::{Gate, Stand, Standing};
use crate::pure::time::Moment;

/// A tree, what its modules have said last, and what it has said to them.
struct Scene {
    tree: Tree,
    standings: BTreeMap<String, Standing>,
    words: BTreeMap<String, (Gate, u64)>,
    now: u64,
}

fn name(text: &str) -> ModuleName {
    ModuleName::new(text.as_bytes()).expect("a good name")
}

impl Scene {
    /// Modules with their `service.toml`, and groups with their `group.toml`; all of them have begun, and wait.
    fn new(modules: &[(&str, &str)], groups: &[(&str, &str)]) -> Scene {
        let mut scene = Scene { tree: Tree::new(false), standings: BTreeMap::new(), words: BTreeMap::new(), now: 1000 };
        scene.plant(modules, groups);
        for (module, _) in modules {
            if let Some(word) = scene.tree.first(&name(module)) {
                scene.words.insert((*module).to_owned(), word);
            }
            let standing = Standing {
                number: 0,
                stand: Stand::Waiting,
                wanted: true,
                runs: false,
                may: true,
                deaths: 0,
                spawns: 0,
            };
            scene.standings.insert((*module).to_owned(), standing);
        }
        for (module, _) in modules {
            scene.says(module, Stand::Waiting);
        }
        scene
    }

    /// All of it is ready.
    fn up(modules: &[(&str, &str)], groups: &[(&str, &str)]) -> Scene {
        let mut scene = Scene::new(modules, groups);
        for _ in modules {
            for (module, _) in modules {
                if scene.standings[*module].stand == Stand::Waiting && scene.may_start(module) {
                    scene.starts(module);
                }
            }
        }
        scene
    }

    fn plant(&mut self, modules: &[(&str, &str)], groups: &[(&str, &str)]) {
        let modules: Vec<(ModuleName, Option<Box<Needs>>)> =
            modules.iter().map(|(module, text)| (name(module), config::service(text).expect("good").needs)).collect();
        let groups: BTreeMap<ModuleName, GroupPolicy> =
            groups.iter().map(|(group, text)| (name(group), config::group(text).expect("good"))).collect();
        let broken = BTreeMap::from([(name("broken"), "rejected".to_owned())]);
        self.tree.plant(modules.iter().map(|(name, needs)| (name, needs.as_deref())), &groups, &broken);
    }

    /// It says how it stands, having heard all that was said to it, and the tree says what follows. Those that do not run
    /// have nothing to end, and answer at once.
    fn tell(&mut self, module: &str, change: impl FnOnce(&mut Standing)) {
        change(self.standings.get_mut(module).expect("a module of the scene"));
        let mut answers = vec![module.to_owned()];
        let mut count = 0;
        while let Some(module) = answers.pop() {
            count += 1;
            assert!(count < 100, "it goes on for ever");
            let Some((_, number)) = self.words.get(&module) else { continue };
            let standing = self.standings.get_mut(&module).expect("a module of the scene");
            standing.number = *number;
            self.tree.heard(&name(&module), *standing, Moment(self.now * 1_000_000_000));
            let there = |name: &ModuleName| self.standings.contains_key(&super::said(name));
            for (module, gate, number) in self.tree.orders(there) {
                let module = String::from_utf8_lossy(module.as_bytes()).into_owned();
                let standing = self.standings.get_mut(&module).expect("a module of the scene");
                if !standing.runs {
                    standing.may = matches!(gate, Gate::Open | Gate::Once);
                    match (&gate, standing.stand) {
                        (Gate::Fail(_), Stand::Waiting) => standing.stand = Stand::Failed,
                        (Gate::Stop(_), Stand::Failed) => standing.stand = Stand::Waiting,
                        (Gate::Open | Gate::Once | Gate::Closed(_) | Gate::Stop(_) | Gate::Fail(_), _) => {}
                    }
                    answers.push(module.clone());
                }
                self.words.insert(module, (gate, number));
            }
        }
    }

    fn says(&mut self, module: &str, stand: Stand) {
        self.tell(module, |standing| {
            standing.stand = stand;
            standing.runs = matches!(stand, Stand::Coming | Stand::Ready | Stand::Ending);
        });
    }

    fn starts(&mut self, module: &str) {
        assert!(self.may_start(module), "{module}: {:?}", self.words.get(module));
        self.tell(module, |standing| {
            (standing.stand, standing.runs, standing.may) = (Stand::Ready, true, false);
            standing.spawns += 1;
        });
    }

    fn dies(&mut self, module: &str) {
        self.tell(module, |standing| {
            (standing.stand, standing.runs) = (Stand::Waiting, false);
            standing.deaths += 1;
        });
    }

    /// It ends since it was told to.
    fn ends(&mut self, module: &str) {
        let stand = match self.word(module) {
            Gate::Stop(_) => Stand::Waiting,
            Gate::Fail(_) => Stand::Failed,
            word @ (Gate::Open | Gate::Once | Gate::Closed(_)) => panic!("{module} was told {word:?}"),
        };
        self.says(module, stand);
    }

    fn down(&mut self, module: &str) {
        self.tell(module, |standing| {
            (standing.stand, standing.runs, standing.wanted) = (Stand::Down, false, false);
        });
    }

    fn word(&self, module: &str) -> &Gate {
        self.words.get(module).map_or(&Gate::Open, |(gate, _)| gate)
    }

    fn may_start(&self, module: &str) -> bool {
        matches!(self.word(module), Gate::Open | Gate::Once)
    }

    fn is_told_to_stop(&self, module: &str) -> bool {
        matches!(self.word(module), Gate::Stop(_) | Gate::Fail(_))
    }

    fn waits_for(&self, module: &str) -> &str {
        match self.word(module) {
            Gate::Closed(why) => why,
            word @ (Gate::Open | Gate::Once | Gate::Stop(_) | Gate::Fail(_)) => panic!("{module} was told {word:?}"),
        }
    }

    fn state(&self, group: &str) -> GroupState {
        self.tree.group(&name(group)).expect("a group").0
    }
}

const ABC: &[(&str, &str)] = &[("g/a", ""), ("g/b", ""), ("g/c", "")];

#[test]
fn a_module_may_start_once_what_it_needs_is_ready() {
    let mut scene = Scene::new(&[("db", ""), ("other", ""), ("web", "needs = ['db']")], &[]);
    assert!(scene.may_start("db") && scene.may_start("other"));
    assert_eq!(scene.waits_for("web"), "needs db, which is not up yet");
    scene.says("db", Stand::Coming);
    assert_eq!(scene.waits_for("web"), "needs db, which is not ready yet");
    scene.starts("db");
    scene.starts("web");
    scene.dies("db");
    assert!(!scene.is_told_to_stop("web"), "what runs is not touched");
    scene.dies("web");
    assert_eq!(scene.waits_for("web"), "needs db, which is not up yet");
}

#[test]
fn what_will_not_come_by_itself_is_said_by_name() {
    let mut scene = Scene::new(
        &[
            ("a", "needs = ['nothing']"),
            ("b", "needs = ['broken']"),
            ("c", "needs = ['d']"),
            ("d", "needs = ['c']"),
            ("e", "needs = ['c']"),
            ("f", "needs = ['z']"),
            ("z", ""),
        ],
        &[],
    );
    assert_eq!(scene.waits_for("a"), "needs nothing, which is not there");
    assert_eq!(scene.waits_for("b"), "needs broken, which is rejected");
    assert_eq!(scene.waits_for("c"), "waits for itself: c needs d, d needs c");
    assert_eq!(scene.waits_for("e"), "needs c, which waits for itself: c needs d, d needs c");
    scene.down("z");
    assert_eq!(scene.waits_for("f"), "needs z, which is down");
    scene.tell("z", |standing| (standing.wanted, standing.stand) = (true, Stand::Failed));
    assert_eq!(scene.waits_for("f"), "needs z, which has failed");
    scene.starts("z");
    assert!(scene.may_start("f"));
}

#[test]
fn after_waits_for_the_first_time_only() {
    let mut scene = Scene::new(&[("cache", ""), ("web", "after = ['cache', 'nothing']")], &[]);
    assert_eq!(scene.waits_for("web"), "comes after cache, which is not up yet");
    scene.dies("cache");
    assert!(scene.may_start("web"));
    // Who waits for itself is waited for by nobody, wherever it stands by its name.
    let scene = Scene::new(&[("a", "after = ['z']"), ("z", "after = ['z']")], &[]);
    assert!(scene.may_start("a"));
}

#[test]
fn with_one_for_all_the_others_are_stopped_the_last_one_first_and_all_start_in_order() {
    let mut scene = Scene::up(ABC, &[("g", "strategy = 'one_for_all'")]);
    assert_eq!(scene.state("g"), GroupState::Up);
    scene.dies("g/b");
    assert!(scene.is_told_to_stop("g/c") && !scene.is_told_to_stop("g/a"));
    assert_eq!(scene.state("g"), GroupState::Stopping);
    scene.ends("g/c");
    assert!(scene.is_told_to_stop("g/a"));
    scene.says("g/a", Stand::Ending);
    assert!(!scene.may_start("g/b"));
    scene.ends("g/a");
    assert!(!scene.may_start("g/b") && !scene.may_start("g/c"));
    scene.starts("g/a");
    assert!(!scene.may_start("g/c"));
    scene.starts("g/b");
    scene.starts("g/c");
    assert_eq!(scene.state("g"), GroupState::Up);
}

#[test]
fn with_rest_for_one_only_those_after_it_are_stopped_and_an_earlier_death_is_part_of_it() {
    let mut scene = Scene::up(ABC, &[("g", "strategy = 'rest_for_one'")]);
    scene.dies("g/b");
    scene.ends("g/c");
    assert!(!scene.is_told_to_stop("g/a"));
    scene.starts("g/b");
    scene.starts("g/c");
    scene.dies("g/b");
    scene.dies("g/a");
    scene.ends("g/c");
    scene.starts("g/a");
    assert!(scene.may_start("g/b"));
    assert!(!scene.may_start("g/c"), "{:?}", scene.word("g/c"));
}

#[test]
fn with_one_restart_more_than_is_borne_a_group_fails_and_is_stopped_the_last_one_first() {
    let policy = "strategy = 'one_for_one'\norder = []\nintensity = 1\nperiod = '10s'";
    let mut scene = Scene::up(ABC, &[("g", policy)]);
    scene.dies("g/a");
    scene.tell("g/a", |standing| (standing.stand, standing.runs) = (Stand::Ready, true));
    scene.now += 11;
    scene.dies("g/b");
    scene.tell("g/b", |standing| (standing.stand, standing.runs) = (Stand::Ready, true));
    assert_eq!(scene.state("g"), GroupState::Up, "the first was too long ago");
    scene.dies("g/a");
    assert!(scene.is_told_to_stop("g/c") && !scene.is_told_to_stop("g/b"));
    scene.ends("g/c");
    scene.ends("g/b");
    assert_eq!(scene.state("g"), GroupState::Failed);
    let why = "group g has failed: more than 1 restart within 10 s, the last of g/a";
    assert_eq!(scene.word("g/a"), &Gate::Fail(why.to_owned()));
    assert_eq!(scene.tree.failure().as_deref(), Some(why));
    // A letter begins it anew, and those who were not told stay.
    scene.says("g/b", Stand::Waiting);
    assert!(scene.may_start("g/b"));
    assert_eq!(scene.tree.group(&name("g")).expect("a group").2, []);
}

#[test]
fn what_follows_a_failure_is_up_to_the_group() {
    let modules = [("g/h/a", ""), ("g/z", "")];
    let inner = |on_failure: &str| format!("strategy = 'one_for_all'\nintensity = 1\non_failure = '{on_failure}'");
    let fails = |on_failure: &str| {
        let mut scene = Scene::up(&modules, &[("g", "strategy = 'one_for_all'"), ("g/h", &inner(on_failure))]);
        scene.dies("g/h/a");
        scene.starts("g/h/a");
        scene.dies("g/h/a");
        scene
    };
    let stopped = fails("stop");
    assert!(!stopped.is_told_to_stop("g/z"));
    let mut again = fails("restart");
    again.ends("g/z");
    again.starts("g/h/a");
    again.starts("g/z");
    let mut all = fails("escalate");
    assert_eq!((all.state("g"), all.state("g/h")), (GroupState::Stopping, GroupState::Stopping));
    all.ends("g/z");
    assert_eq!((all.state("g"), all.state("g/h")), (GroupState::Failed, GroupState::Failed));
}

#[test]
fn a_member_that_gives_up_fails_those_that_live_and_die_with_it() {
    let gives_up = |strategy: &str| {
        let mut scene = Scene::up(ABC, &[("g", strategy)]);
        scene.tell("g/b", |standing| {
            (standing.stand, standing.runs) = (Stand::Failed, false);
            standing.deaths += 1;
        });
        scene
    };
    assert!(gives_up("strategy = 'one_for_all'").is_told_to_stop("g/c"));
    let alone = gives_up("strategy = 'one_for_one'\nintensity = 9");
    assert!(!alone.is_told_to_stop("g/c"));
    assert_eq!(alone.state("g"), GroupState::Up, "the others are");
}

#[test]
fn one_that_is_started_again_with_what_it_needs_is_stopped_then() {
    let mut scene = Scene::up(&[("db", ""), ("web", "needs = ['db']\nneeds_restart = 'restart'")], &[]);
    scene.dies("db");
    assert!(!scene.is_told_to_stop("web"));
    scene.starts("db");
    scene.ends("web");
    scene.starts("web");
    assert!(!scene.is_told_to_stop("web"));
}

#[test]
fn a_thread_that_has_vanished_may_have_left_its_program() {
    let mut scene = Scene::up(ABC, &[("g", "strategy = 'one_for_all'")]);
    scene.tree.gone(&name("g/c"), false);
    scene.dies("g/a");
    assert!(!scene.is_told_to_stop("g/b"));
    let first = scene.tree.first(&name("g/c")).expect("it takes part");
    assert!(matches!(first.0, Gate::Stop(_)));
    scene.words.insert("g/c".to_owned(), first);
    scene.ends("g/c");
    assert!(scene.is_told_to_stop("g/b"));
}

#[test]
fn one_that_has_left_for_good_is_waited_for_by_nobody() {
    let mut scene = Scene::new(ABC, &[("g", "strategy = 'one_for_all'")]);
    scene.tree.gone(&name("g/a"), true);
    scene.standings.remove("g/a");
    scene.says("g/c", Stand::Waiting);
    assert!(scene.may_start("g/b"));
}

#[test]
fn what_died_before_it_was_part_of_a_group_is_past() {
    let mut scene = Scene::new(ABC, &[]);
    scene.plant(ABC, &[("g", "strategy = 'one_for_all'\nintensity = 1")]);
    let _ = scene.tree.orders(|_| true);
    scene.tell("g/a", |standing| standing.deaths = 7);
    assert_eq!(scene.state("g"), GroupState::Starting);
}

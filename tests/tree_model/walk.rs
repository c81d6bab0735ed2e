//! Every state of small scenes, breadth first: a fault is reported with the shortest way that leads to it.
//!
//! Must never know what is a fault.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use svtree::pure::command::Command;
use svtree::pure::config::{
    Awaits, Forking, GroupPolicy, Needs, NeedsRestart, OnFailure, Restart, Rules, Scope, Stop, Strategy,
};
use svtree::pure::exit::{How, Signal};
use svtree::pure::machine::{Phase, Readiness};
use svtree::pure::standing::Standing;
use svtree::pure::time::Moment;

use crate::law::{Module, Scene, name};
use crate::world::{Mail, Move, Part, Report, UNIT, World};

/// What the adversary may still do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Means {
    deaths: u8,
    letters: u8,
    fails: u8,
    vanishes: u8,
    take_overs: u8,
    time: u8,
}

impl Means {
    fn has(self, step: Move, world: &World) -> bool {
        match step {
            Move::Exit(number, _) if !world.parts[number].told => self.deaths > 0,
            Move::Fails(_) => self.fails > 0,
            Move::Letter(..) => self.letters > 0,
            Move::Vanish(_) => self.vanishes > 0,
            Move::TakeOver => self.take_overs > 0,
            Move::Time => self.time > 0 || world.calm() == Some(Move::Time),
            _ => true,
        }
    }

    fn less(mut self, step: Move, world: &World) -> Means {
        let means = match step {
            Move::Exit(number, _) if !world.parts[number].told => &mut self.deaths,
            Move::Fails(_) => &mut self.fails,
            Move::Letter(..) => &mut self.letters,
            Move::Vanish(_) => &mut self.vanishes,
            Move::TakeOver => &mut self.take_overs,
            Move::Time => &mut self.time,
            _ => return self,
        };
        *means = means.saturating_sub(1);
        self
    }
}

const LETTERS: [Command; 3] = [Command::Up, Command::Down, Command::Once];

/// All that can happen next.
pub fn moves(world: &World, scenes: usize) -> Vec<Move> {
    let mut moves = Vec::new();
    for (number, part) in world.parts.iter().enumerate() {
        let begun = part.lives && part.has_begun();
        if part.lives && !part.mail.is_empty() {
            moves.push(Move::Read(number));
        }
        if !part.reports.is_empty() {
            moves.push(Move::Hear(number));
        }
        if part.program.is_some() {
            moves.push(Move::Exit(number, How::Exited(1)));
            if !part.told && world.scene.modules[number].rules.restart.when != svtree::pure::config::When::Always {
                moves.push(Move::Exit(number, How::Exited(0)));
            }
        }
        if part.finish.is_some() {
            moves.push(Move::FinishEnds(number));
        }
        if begun {
            if part.is_up() && part.machine.readiness() == Readiness::Awaited {
                moves.push(Move::Ready(number));
            }
            moves.extend(LETTERS.map(|command| Move::Letter(number, command)));
            moves.push(Move::Letter(number, Command::Exit));
            if part.program.is_some() {
                moves.push(Move::Letter(number, Command::Signal(Signal::TERM)));
            }
            moves.push(Move::Vanish(number));
            if !part.fails {
                moves.push(Move::Fails(number));
            }
        }
        if !part.lives && !part.known && !part.away {
            moves.push(Move::Begin(number));
        }
    }
    if world.heard {
        moves.push(Move::Steer);
    }
    moves.extend([Move::Time, Move::TakeOver]);
    moves.extend((0..scenes).map(Move::Edit));
    moves
}

/// Everything that the future depends on: times from now on, numbers from what was said last.
fn digest(world: &World, means: Means) -> String {
    let mut text = String::with_capacity(512);
    let now = world.stamp().moment;
    let relative = |moment: Moment| (moment.since(now).as_secs(), now.since(moment).as_secs().min(3));
    let difference = |from: Option<Standing>, to: Standing, word: u64| {
        let (deaths, spawns) = from.map_or((0, 0), |from| (from.deaths, from.spawns));
        let grown = (to.deaths.wrapping_sub(deaths), to.spawns.wrapping_sub(spawns));
        (word.wrapping_sub(to.number), to.stand, to.wanted, to.runs, to.may, grown, to.deaths > 0)
    };
    let all = |slots: &[(usize, svtree::pure::exit::Pid)]| -> Vec<usize> {
        slots.iter().filter(|(other, pid)| world.parts[*other].program == Some(*pid)).map(|(other, _)| *other).collect()
    };
    for part in &world.parts {
        let word = part.word.as_ref().map_or(0, |(_, given)| *given);
        let phase = match part.machine.phase() {
            Phase::Waiting { until } => format!("w{:?}", relative(*until)),
            Phase::Stopping { kill_at, killed, .. } => format!("s{killed}{:?}", kill_at.map(relative)),
            Phase::Up { .. } => "u".to_owned(),
            other => format!("{other:?}"),
        };
        let Part { lives, known, away, unseen, told, finish, fails, .. } = part;
        let history = part.machine.history();
        let counted: Vec<_> = history.counted.iter().map(|(at, _)| relative(*at)).collect();
        let _ = write!(
            text,
            "{phase} {:?} {} {counted:?} {:?} {lives}{known}{away}{}{told}{}{fails} {:?} {:?} {:?}|",
            part.machine.want(),
            part.machine.intentions(),
            history.last_start.map(relative),
            unseen.is_some(),
            finish.is_some(),
            part.force,
            part.program.is_some(),
            part.heard.map(|heard| difference(Some(heard), heard, word)),
        );
        let mut before = part.heard;
        for report in &part.reports {
            match report {
                Report::Stands(standing) => {
                    let _ = write!(text, "{:?};", difference(before, *standing, word));
                    before = Some(*standing);
                }
                Report::Gone(left) => {
                    let _ = write!(text, "gone {left};");
                    before = None;
                }
            }
        }
        if let Some((given, told)) = &part.bond {
            let own = part.machine.standing(*given);
            let _ = write!(text, "{} {:?}", *told == Some(own), difference(before, own, word));
        }
        for mail in &part.mail {
            match mail {
                Mail::Begin => text.push_str(" begin"),
                Mail::Gate(gate, given) => {
                    let _ = write!(text, " {gate:?} {}", word - given);
                }
            }
        }
        let _ = writeln!(text, " {:?} {:?}", part.word.as_ref().map(|(gate, _)| gate), all(&part.before));
    }
    let counted: Vec<Vec<u64>> =
        world.counted.iter().map(|all| all.iter().map(|at| world.now - at).collect()).collect();
    let World { heard, failing, .. } = world;
    let _ = write!(
        text,
        "{heard} {failing:?} {means:?} {:?} {counted:?} {}",
        all(&world.doomed),
        world.tree.intentions(now)
    );
    text
}

/// Walks from a scene; returns how many states there are.
fn walk(scene: Scene, means: Means) -> usize {
    let mut first = World::new(scene);
    // All of it is begun.
    assert_eq!(first.settles(1000), Ok(true));
    let mut seen: HashMap<u128, usize> = HashMap::new();
    let mut worlds: Vec<Option<(World, Means)>> = vec![Some((first, means))];
    let mut parents: Vec<Option<(usize, Move)>> = vec![None];
    let mut calm: Vec<Option<usize>> = Vec::new();
    let path = |parents: &[Option<(usize, Move)>], mut here: usize| {
        let mut path = Vec::new();
        while let Some((before, step)) = parents[here] {
            path.push(format!("{step:?}"));
            here = before;
        }
        path.reverse();
        path.join(", ")
    };
    let mut at = 0;
    while at < worlds.len() {
        let (world, means) = worlds[at].take().expect("not yet walked");
        let rest = world.calm();
        if rest.is_none()
            && let Err(fault) = world.check_quiet()
        {
            panic!("{fault}\n  after: {}", path(&parents, at));
        }
        let mut next_calm = None;
        for step in moves(&world, 0) {
            if !means.has(step, &world) {
                continue;
            }
            let mut next = world.clone();
            if let Err(fault) = next.make(step, &[]) {
                panic!("{fault}\n  after: {}, {step:?}", path(&parents, at));
            }
            let less = means.less(step, &world);
            let key = hash(&digest(&next, less));
            let fresh = worlds.len();
            let number = *seen.entry(key).or_insert(fresh);
            if number == fresh {
                worlds.push(Some((next, less)));
                parents.push(Some((at, step)));
                assert!(fresh < 400_000, "the state space does not close");
            }
            let is_calm = match (rest, step) {
                (Some(Move::Exit(one, _)), Move::Exit(other, _)) => one == other,
                (rest, step) => rest == Some(step),
            };
            if is_calm {
                next_calm = Some(number);
            }
        }
        assert!(rest.is_none() || next_calm.is_some(), "{rest:?} is no move, after: {}", path(&parents, at));
        calm.push(next_calm);
        at += 1;
    }
    // Whoever goes on calmly comes to rest.
    let mut rests = vec![0u8; calm.len()];
    for start in 0..calm.len() {
        let mut way = Vec::new();
        let mut here = Some(start);
        while let Some(number) = here.filter(|number| rests[*number] == 0) {
            rests[number] = 1;
            way.push(number);
            here = calm[number];
        }
        if let Some(number) = here.filter(|number| rests[*number] == 1) {
            panic!("it goes on for ever\n  after: {}", path(&parents, number));
        }
        way.iter().for_each(|number| rests[*number] = 2);
    }
    calm.len()
}

fn hash(text: &str) -> u128 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        text.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

fn rules(awaits: Awaits, delay: Duration) -> Rules {
    let restart = Restart { delay, interval: UNIT, ..Restart::default() };
    let stop = Stop { timeout: None, scope: Scope::Main, ..Stop::default() };
    Rules { restart, stop, exits_kept: 0, forking: Forking::Ignore, awaits }
}

fn module(written: &str) -> Module {
    Module {
        name: name(written),
        needs: None,
        rules: rules(Awaits::Nothing, Duration::ZERO),
        enabled: true,
        finish: false,
    }
}

fn needs(written: &str, restart: NeedsRestart) -> Needs {
    Needs { needs: vec![written.to_owned()], after: Vec::new(), restart }
}

fn group(strategy: Strategy, intensity: Option<u32>, on_failure: OnFailure) -> GroupPolicy {
    GroupPolicy { strategy, intensity, period: UNIT, on_failure, ..GroupPolicy::default() }
}

fn scene(modules: &[Module], groups: &[(&str, GroupPolicy)]) -> Scene {
    let groups: BTreeMap<_, _> = groups.iter().map(|(written, policy)| (name(written), policy.clone())).collect();
    Scene { modules: modules.to_vec(), groups }
}

/// Two modules in a group.
fn pair(awaits: Awaits, policy: GroupPolicy) -> Scene {
    let modules = ["g/a", "g/b"].map(|name| Module { rules: rules(awaits, Duration::ZERO), ..module(name) });
    scene(&modules, &[("g", policy)])
}

/// One that needs another.
fn needy(restart: NeedsRestart) -> Scene {
    let slow = Module { rules: rules(Awaits::Word, Duration::ZERO), ..module("a") };
    scene(&[slow, Module { needs: Some(needs("a", restart)), ..module("b") }], &[])
}

/// A group that bears one restart, in another that bears one as well, beside a module.
fn nested(on_failure: OnFailure, outer: Strategy) -> Scene {
    let groups =
        [("g", group(outer, Some(1), OnFailure::Stop)), ("g/h", group(Strategy::OneForAll, Some(1), on_failure))];
    scene(&[module("g/h/a"), module("g/z")], &groups)
}

#[test]
fn one_for_all() {
    let quick = pair(Awaits::Nothing, group(Strategy::OneForAll, None, OnFailure::Stop));
    let slow = pair(Awaits::Word, group(Strategy::OneForAll, None, OnFailure::Stop));
    walk(quick.clone(), Means { deaths: 2, ..Means::default() });
    walk(quick, Means { deaths: 1, letters: 1, ..Means::default() });
    walk(slow, Means { deaths: 1, fails: 1, ..Means::default() });
}

#[test]
fn rest_for_one() {
    let slow = pair(Awaits::Word, group(Strategy::RestForOne, None, OnFailure::Stop));
    walk(slow, Means { deaths: 1, fails: 1, ..Means::default() });
    let three = ["g/a", "g/b", "g/c"].map(module);
    let policy = group(Strategy::RestForOne, None, OnFailure::Stop);
    walk(scene(&three, &[("g", policy)]), Means { deaths: 2, ..Means::default() });
}

#[test]
fn needs_are_kept() {
    walk(needy(NeedsRestart::Keep), Means { deaths: 1, letters: 1, ..Means::default() });
    walk(needy(NeedsRestart::Restart), Means { deaths: 2, ..Means::default() });
}

#[test]
fn groups_fail() {
    for on_failure in [OnFailure::Stop, OnFailure::Restart, OnFailure::Escalate] {
        walk(nested(on_failure, Strategy::OneForAll), Means { deaths: 2, ..Means::default() });
    }
    let one = pair(Awaits::Nothing, group(Strategy::OneForOne, Some(1), OnFailure::Restart));
    walk(one, Means { deaths: 2, time: 1, ..Means::default() });
}

#[test]
fn threads_and_trees_come_and_go() {
    let quick = pair(Awaits::Nothing, group(Strategy::OneForAll, None, OnFailure::Stop));
    walk(quick.clone(), Means { deaths: 1, vanishes: 1, ..Means::default() });
    walk(quick, Means { deaths: 1, take_overs: 1, ..Means::default() });
}

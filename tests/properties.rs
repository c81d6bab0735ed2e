//! Every encoding, there and back, for whatever values there are; and decoders that bear whatever bytes there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use svtree::pure::command::{Decoded, decode, encode};
use svtree::pure::config;
use svtree::pure::exit::{Exit, How, Pid, Signal};
use svtree::pure::instances::Instances;
use svtree::pure::name::{ModuleName, escaped, unescaped};
use svtree::pure::reconcile::{Actual, Desired, Id, Step, diff};
use svtree::pure::state::{ExitEntry, Record, State};
use svtree::pure::status::{Running, Status, Want};
use svtree::pure::supervise_conf::Conf;
use svtree::pure::time::{Moment, Wall};

fn wall() -> impl Strategy<Value = Wall> {
    (0i64..253_402_300_000, 0u32..1_000_000_000).prop_map(|(seconds, nanos)| Wall { seconds, nanos })
}

fn pid() -> impl Strategy<Value = Pid> {
    (1..i32::MAX).prop_filter_map("positive", Pid::new)
}

fn want() -> impl Strategy<Value = Want> {
    prop_oneof![Just(Want::Up), Just(Want::Down), Just(Want::Once)]
}

prop_compose! {
    fn status()(since in wall(), pid in proptest::option::of(pid()), finish: bool, paused: bool, want in want(), alarms: bool,
                term_sent: bool) -> Status {
        let running = match (pid, finish) {
            (None, _) => Running::Nothing,
            (Some(_), false) => Running::Program,
            (Some(_), true) => Running::Finish,
        };
        Status { since, pid, running, paused, want, alarms, term_sent }
    }
}

prop_compose! {
    /// The lines of a section of a `supervise.conf`.
    fn section()(interval in 0u32..200, tries in 0u32..9, cores in 0u32..9, mail in "[a-z@. ]{0,20}", gsm in "[0-9 ]{0,9}") -> String {
        format!(
            "alarm_interval : {interval}\nmax_tries : {tries}\nmax_tries_if_coredumped : {cores}\nalarm_mail : {mail}\nalarm_gsm : {gsm}\n"
        )
    }
}

proptest! {
    #[test]
    fn a_section_of_a_supervise_conf_adds_to_global_behind_it_and_stands_alone_before_it(own in section(), global in section(),
                                                                                        other in section()) {
        let read = |text: String| Conf::read(text.as_bytes()).settings(b"web");
        let alone = read(format!("[web]\n{own}"));
        prop_assert_eq!(&read(format!("[other]\n{other}[web]\n{own}[global]\n{global}")), &alone);
        let all = read(format!("[global]\n{global}"));
        let sum = read(format!("[global]\n{global}[other]\n{other}[web]\n{own}"));
        prop_assert_eq!(sum.max_tries, alone.max_tries.or(all.max_tries));
        prop_assert_eq!(sum.max_tries_if_coredumped, alone.max_tries_if_coredumped.or(all.max_tries_if_coredumped));
        let nonzero = alone.interval.filter(|interval| !interval.is_zero());
        prop_assert_eq!(sum.interval, nonzero.or(all.interval));
        prop_assert_eq!(sum.mail, [all.mail, alone.mail].concat());
        prop_assert_eq!(sum.gsm, [all.gsm, alone.gsm].concat());
    }

    #[test]
    fn a_status_is_read_as_it_was_written(status in status()) {
        let read = Status::from_original(&status.to_original()).expect("a status");
        let program = status.pid.filter(|_| status.running == Running::Program);
        prop_assert_eq!((read.since, read.pid), (status.since, program));
        prop_assert_eq!((read.paused, read.want, read.alarms), (status.paused, status.want, status.alarms));

        let read = Status::from_runit(&status.to_runit()).expect("a status");
        prop_assert_eq!(read, Status { alarms: true, ..status });
        let daemontools = Status::from_runit(&status.to_runit()[..18]).expect("a status");
        prop_assert_eq!((daemontools.since, daemontools.pid, daemontools.want), (status.since, status.pid, status.want));
    }

    #[test]
    fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        // What is accepted is written again as it was, so nothing is misread.
        if let Ok(status) = Status::from_original(&bytes) {
            prop_assert_eq!(status.to_original().to_vec(), bytes.clone());
        }
        let _ = Status::from_runit(&bytes);
        let _ = State::decode(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = config::service(&text);
        let _ = config::group(&text);
        let _ = config::parse_duration(&text);
        let _ = Signal::parse(&text);
        let _ = Wall::from_rfc3339(&text);
    }

    #[test]
    fn a_line_of_toml_is_borne(key in "[a-z_.]{1,12}", value in "[ -~]{0,24}") {
        let _ = config::service(&format!("{key} = {value}\n[restart]\n{key} = {value}\n"));
    }

    #[test]
    fn a_letter_is_its_command(byte: u8) {
        if let Decoded::Command(command) = decode(byte) {
            prop_assert_eq!(encode(command), Some(byte));
        }
    }

    #[test]
    fn a_name_is_escaped_and_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        prop_assert_eq!(unescaped(&escaped(&bytes)), bytes.clone());
        if let Ok(name) = ModuleName::new(&bytes) {
            prop_assert_eq!(name.as_bytes(), bytes.as_slice());
            prop_assert!(!name.components().any(|part| part.is_empty() || part.starts_with(b".")));
        }
    }

    #[test]
    fn a_time_is_written_to_the_millisecond(wall in wall()) {
        let read = Wall::from_rfc3339(&wall.rfc3339()).expect("a time");
        prop_assert_eq!(read, Wall { nanos: wall.nanos / 1_000_000 * 1_000_000, ..wall });
    }

    #[test]
    fn an_exit_is_read_as_it_was_written(at in wall(), pid in pid(), code in 0i32..256, signal in 1i32..65, core: bool, oom: bool,
                                         kind in 0..3, millis in 0u64..1_000_000_000) {
        let how = match kind {
            0 => How::Exited(code),
            1 => How::Killed { signal: Signal(signal), core },
            _ => How::Unknown,
        };
        let at = Wall { nanos: at.nanos / 1_000_000 * 1_000_000, ..at };
        let exit = Exit { at, pid, how, oom, uptime: Duration::from_millis(millis) };
        prop_assert_eq!(ExitEntry::new(&exit).exit(), Some(exit));
    }

    #[test]
    fn a_state_is_read_as_it_was_written(name: String, reason: Option<String>, pid in proptest::option::of(1i32..i32::MAX),
                                         counted in proptest::collection::vec((any::<u64>(), any::<bool>()), 0..4), since: u64) {
        let record = Record { pid, counted, since, ..Record::default() };
        let state = State { name, reason, pid, record: Some(record), ..State::default() };
        prop_assert_eq!(State::decode(&state.encode()), Ok(state));
    }
}

/// What two entries ask for that lead to one directory: each is nothing, one module, or so many.
fn asked(numbers: [Option<u32>; 2]) -> BTreeMap<ModuleName, Desired> {
    let wish = |instance| Desired { id: Id::of(1, 1).instance(instance), settled_at: Moment(0), logged: true };
    let mut wishes = BTreeMap::new();
    for (name, number) in [b"a", b"b"].into_iter().zip(numbers) {
        let name = ModuleName::new(name).expect("a name");
        let mut instances = Instances::default();
        match number {
            None => {}
            Some(0) => _ = wishes.insert(name, wish(0)),
            Some(number) => instances.add(&name, number, false),
        }
        wishes.extend(instances.iter().map(|(name, instance)| (name.clone(), wish(instance.number))));
    }
    wishes
}

/// Takes the steps until there is none; says what was refused last.
fn follow(wishes: &BTreeMap<ModuleName, Desired>, actual: &mut BTreeMap<ModuleName, Actual>) -> BTreeSet<ModuleName> {
    loop {
        let (mut acted, mut refused) = (false, BTreeSet::new());
        for step in diff(wishes, actual, Moment(1)).steps {
            acted |= !matches!(step, Step::Refuse(..));
            match step {
                Step::Start(name, id) => _ = actual.insert(name, Actual::Running(id)),
                Step::Retire(name) => {
                    if let Some(Actual::Running(id)) = actual.get(&name).copied() {
                        actual.insert(name, Actual::Retiring(id));
                    }
                }
                Step::Remove(name) => _ = actual.remove(&name),
                Step::Refuse(name, _) => _ = refused.insert(name),
            }
            let ids: Vec<Id> = actual
                .values()
                .filter_map(|actual| match actual {
                    Actual::Beginning(id) | Actual::Running(id) | Actual::Retiring(id) => Some(*id),
                    Actual::Left(_) | Actual::Refused(..) | Actual::Ended => None,
                })
                .collect();
            let different: BTreeSet<Id> = ids.iter().copied().collect();
            assert_eq!(different.len(), ids.len(), "one of them runs twice: {actual:?}");
            assert!(ids.len() < 2 || ids.iter().all(|id| id.instance > 0), "one module and several: {actual:?}");
        }
        if !acted {
            return refused;
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_asked_for_one_directory_it_is_one_module_or_several_and_each_once(
        turns in proptest::collection::vec((proptest::array::uniform2(proptest::option::of(0u32..4)), 0usize..9), 1..12)
    ) {
        let mut actual = BTreeMap::new();
        let mut wishes = BTreeMap::new();
        for (numbers, ended) in turns {
            wishes = asked(numbers);
            follow(&wishes, &mut actual);
            // Some of those that were told to end have ended, in any order.
            let going: Vec<_> = actual.iter().filter(|(_, actual)| matches!(actual, Actual::Retiring(_))).collect();
            let gone = going.get(ended).map(|(name, _)| (*name).clone());
            actual.extend(gone.map(|name| (name, Actual::Ended)));
            follow(&wishes, &mut actual);
        }
        actual.values_mut().filter(|actual| matches!(actual, Actual::Retiring(_))).for_each(|actual| *actual = Actual::Ended);
        let refused = follow(&wishes, &mut actual);
        for (name, wish) in &wishes {
            prop_assert!(actual.get(name) == Some(&Actual::Running(wish.id)) || refused.contains(name), "{name}: {actual:?}");
        }
        prop_assert!(actual.keys().all(|name| wishes.contains_key(name)), "{actual:?}");
    }
}

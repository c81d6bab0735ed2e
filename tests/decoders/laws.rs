//! What holds of every decoder, whatever the bytes: the bodies of the fuzz targets, which the suite replays.
//!
//! Must never need a file, a process or the time of day. A decoder that comes: a law here, a row in [`TARGETS`], a
//! target and a corpus in `fuzz/`.

use std::path::{Component, Path};
use std::time::Duration;

use svtree::pure::command::{self, Decoded, LETTERS};
use svtree::pure::config::{self, Health, HealthBy, Mistake, Policy, Program, Ready, ReadyBy};
use svtree::pure::exit::{Exit, Pid, Signal};
use svtree::pure::family;
use svtree::pure::http::{self, Address, Answer, Url};
use svtree::pure::name::{ModuleName, escaped, printable, unescaped};
use svtree::pure::sd_notify::{self, LONGEST as LONGEST_DATAGRAM, Said};
use svtree::pure::state::{ExitEntry, Record, State};
use svtree::pure::status::{LENGTH, LENGTH_DAEMONTOOLS, Running, Status, Want};
use svtree::pure::supervise_conf::{Conf, Settings};
use svtree::pure::time::Wall;
use svtree::unix::mark::{Mark, Marked};
use svtree::unix::remains;

/// Panics when the bytes break it.
pub type Law = fn(&[u8]);

/// Every law by its name, which is also that of its target and its corpus.
pub const TARGETS: [(&str, Law); 12] = [
    ("status", status),
    ("state", state),
    ("service", service),
    ("family", family),
    ("supervise_conf", supervise_conf),
    ("letters", letters),
    ("names", names),
    ("words", words),
    ("mark", mark),
    ("stat", stat),
    ("notify", notify),
    ("http", http),
];

/// `status` and `supervise/status`: what is read was written so, byte for byte; nothing else is read.
pub fn status(bytes: &[u8]) {
    if let Ok(status) = Status::from_original(bytes) {
        assert_eq!(status.to_original(), bytes);
        assert_eq!(status.pid.is_some(), status.running == Running::Program);
        sentences(&status);
    }
    if let Ok(status) = Status::from_runit(bytes) {
        assert!([LENGTH, LENGTH_DAEMONTOOLS].contains(&bytes.len()));
        assert!(status.to_runit().starts_with(bytes));
        assert_eq!(Status::from_runit(&status.to_runit()), Ok(status));
        sentences(&status);
    }
}

/// Whatever the time and the status, it is one line that scripts can read.
fn sentences(status: &Status) {
    for seconds in [i64::MIN, 0, i64::MAX] {
        for normally_up in [false, true] {
            let line = status.sentence(Wall { seconds, nanos: 0 }, normally_up);
            let start = status.pid.map_or("down ".to_owned(), |pid| format!("up (pid {pid}) "));
            let seconds = line.strip_prefix(&start).and_then(|rest| rest.split(' ').next());
            assert!(seconds.is_some_and(|number| number.parse::<u64>().is_ok()), "{line}");
            one_line(&line);
        }
    }
}

/// `state.json`: what is read is written as one line that reads as the same record, and no process in it is nobody's.
pub fn state(bytes: &[u8]) {
    let state = match State::decode(bytes) {
        Ok(state) => state,
        Err(said) => return one_line(&said),
    };
    let written = state.encode();
    assert_eq!(written.iter().position(|byte| *byte == b'\n'), Some(written.len() - 1));
    let read = State::decode(&written).expect("what was written is read");
    // Only a foreign hand writes more digits than a double holds, and the last of them may get lost.
    assert!(state.exits.iter().zip(&read.exits).all(|(before, after)| nearly(before.uptime, after.uptime)));
    assert_eq!(without_uptimes(read), without_uptimes(state.clone()));

    // Inside a string its quotes would be escaped, so this is the field.
    let word = format!("\"state\":\"{}\"", state.state.name());
    assert!(str::from_utf8(&written).is_ok_and(|text| text.contains(&word)));
    if Want::from_name(&state.want).is_none() {
        assert_eq!(state.want(), Want::Up);
    }
    if let Some(pid) = state.record.as_ref().and_then(Record::process) {
        assert!(pid.get() > 1);
    }
    for exit in state.exits.iter().filter_map(ExitEntry::exit) {
        assert!((-1..=255).contains(&exit.how.finish_code()) && (0..=0x80 + 64).contains(&exit.how.finish_status()));
        let again = ExitEntry::new(&exit).exit().expect("an exit that was written is read");
        assert!(exit.uptime.abs_diff(again.uptime) <= Duration::from_millis(1).max(exit.uptime / 1_000_000_000));
        assert_eq!(again, Exit { at: to_the_millisecond(exit.at), uptime: again.uptime, ..exit });
    }
}

fn nearly(one: f64, other: f64) -> bool {
    (one - other).abs() <= one.abs() * 4.0 * f64::EPSILON
}

fn without_uptimes(mut state: State) -> State {
    state.uptime = state.uptime.map(|_| 0.0);
    state.exits.iter_mut().for_each(|exit| exit.uptime = 0.0);
    state
}

/// `service.toml` and `group.toml`: a policy can be carried out as it is, and a mistake stands where it says.
pub fn service(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match config::service(text) {
        Ok(policy) => {
            can_be_carried_out(&policy);
            let mut again = policy.clone();
            assert_eq!(config::service_over(text, &mut again), Ok(()));
            assert_eq!(again, policy);
        }
        Err(mistakes) => are_mistakes_of(text, &mistakes),
    }
    if let Err(mistakes) = config::group(text) {
        are_mistakes_of(text, &mistakes);
    }
}

fn can_be_carried_out(policy: &Policy) {
    if let Program::Argv(words) = &policy.program {
        assert!(words.first().is_some_and(|program| !program.is_empty()));
        assert!(!words.iter().any(|word| word.contains('\0')));
    }
    assert!(!policy.directory.iter().chain(&policy.environment_dir).any(|path| path.contains('\0')));
    assert!(policy.environment.is_sorted_by(|(one, _), (other, _)| one < other));
    for (name, value) in &policy.environment {
        assert!(!name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'));
    }
    assert!(policy.umask.is_none_or(|mask| mask <= 0o777));
    assert!(policy.nice.is_none_or(|nice| (-20..=19).contains(&nice)));
    assert!(policy.ready == Ready::default() || (!policy.ready.of_file && is_way(&policy.ready)));
    let Health { by, interval, timeout, failures } = &policy.health;
    assert!(!interval.is_zero() && !timeout.is_zero() && *failures > 0);
    if let Some(HealthBy::Check(words)) = by {
        assert!(words.first().is_some_and(|program| !program.is_empty()));
    }
    assert!(policy.sandbox.read_only.iter().all(|path| path.starts_with('/') && !path.contains('\0')));
    let restart = &policy.restart;
    assert!(restart.max_tries != Some(0) && restart.max_tries_if_coredumped != Some(0));
    let times =
        [Some(restart.delay), restart.max_delay, Some(restart.interval), policy.stop.timeout, policy.ready.limit()];
    assert!(times.into_iter().flatten().all(|time| time <= TEN_YEARS));
    is_signal(policy.stop.signal);
}

const TEN_YEARS: Duration = Duration::from_hours(10 * 366 * 24);

fn is_signal(signal: Signal) {
    assert!((1..=64).contains(&signal.0));
    assert_eq!(Signal::parse(&signal.0.to_string()), Some(signal));
}

fn are_mistakes_of(text: &str, mistakes: &[Mistake]) {
    assert!(!mistakes.is_empty());
    assert!(mistakes.is_sorted_by_key(|mistake| (mistake.line, mistake.column)));
    for mistake in mistakes {
        let line = mistake.line.checked_sub(1).and_then(|before| text.split('\n').nth(before));
        let length = line.expect("a line of the text").chars().count();
        assert!((1..=length + 1).contains(&mistake.column), "{mistake}");
        one_line(&mistake.to_string());
    }
}

/// It can be known that the program is ready.
fn is_way(ready: &Ready) -> bool {
    ready.by.as_ref().is_some_and(|by| match by {
        ReadyBy::Descriptor(number) => (1..1024).contains(number),
        ReadyBy::Check(words) => words.first().is_some_and(|program| !program.is_empty()),
        ReadyBy::Notify | ReadyBy::Exit => true,
    })
}

/// The small files of the family, and those of an `environment_dir`: each says its own thing or says what is wrong.
pub fn family(bytes: &[u8]) {
    for file in &family::FILES {
        let mut policy = Policy::default();
        match file.read(bytes, &mut policy) {
            Ok(()) => {
                is_signal(policy.stop.signal);
                assert!(policy.exits_kept <= family::MOST_EXITS_KEPT);
                for limit in [policy.stop.timeout, policy.stop.finish_limit()].into_iter().flatten() {
                    assert!(!limit.is_zero() && limit <= Duration::from_millis(u32::MAX.into()));
                }
                assert!(policy.ready == Ready::default() || (policy.ready.of_file && is_way(&policy.ready)));
                let Policy { exits_kept, stop, ready, .. } = Policy::default();
                let rest = Policy { exits_kept, stop, ready, ..policy };
                assert_eq!(rest, Policy::default());
            }
            Err(said) => {
                assert_eq!(policy, Policy::default());
                assert!(said.starts_with(&format!("{}: expected ", file.name)), "{said}");
                one_line(&said);
            }
        }
    }
    let value = family::variable(bytes);
    assert_eq!(value.is_none(), bytes.is_empty());
    if let Some(value) = value {
        assert!(!value.contains(&0) && !value.ends_with(b" ") && !value.ends_with(b"\t"));
        let mut file: Vec<u8> = value.iter().map(|byte| if *byte == b'\n' { 0 } else { *byte }).collect();
        file.push(b'\n');
        assert_eq!(family::variable(&file), Some(value));
    }
}

/// `supervise.conf`: what cannot be read is told in one line with its number, a line for others changes nothing, and what is
/// asked for can be carried out and written down.
pub fn supervise_conf(bytes: &[u8]) {
    let conf = Conf::read(bytes);
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(conf.warnings.is_sorted_by_key(|warning| warning.line));
    for warning in &conf.warnings {
        assert!((1..=lines).contains(&warning.line), "{warning}");
        one_line(&warning.to_string());
    }
    let more = Conf::read(&[bytes, b"\n[another]\nmax_tries : 7\nalarm_mail : x\n"].concat());
    for name in [&b"web"[..], b"global", b"db"] {
        let settings = conf.settings(name);
        assert_eq!(more.settings(name), settings);
        assert!(settings.interval.is_none_or(|interval| interval.is_zero() || interval >= Duration::from_mins(1)));
        assert!(
            settings.max_tries != Some(0) && settings.max_tries_if_coredumped != Some(0) && settings.gsm.len() <= 10
        );
        for word in settings.mail.iter().chain(&settings.gsm) {
            assert!(!word.is_empty() && !word.contains(' '));
            one_line(word);
        }
        let again = Conf::read(written(&settings).as_bytes());
        assert_eq!((again.settings(b"web"), again.warnings), (settings.clone(), Vec::new()));
        let mut policy = Policy::default();
        settings.apply(&mut policy);
        can_be_carried_out(&policy);
    }
}

/// A `supervise.conf` that asks for just this of `web`.
fn written(settings: &Settings) -> String {
    let Settings { interval, mail, gsm, max_tries, max_tries_if_coredumped } = settings;
    let number = |number: Option<u64>| number.map_or(String::new(), |number| number.to_string());
    format!(
        "[web]\nalarm_interval : {}\nalarm_mail : {}\nalarm_gsm : {}\nmax_tries : {}\nmax_tries_if_coredumped : {}\n",
        number(interval.map(|interval| interval.as_secs())),
        mail.join(" "),
        gsm.join("\t"),
        number(max_tries.map(u64::from)),
        number(max_tries_if_coredumped.map(u64::from)),
    )
}

/// A control FIFO: every byte is a command, white space or unknown, and never two of them.
pub fn letters(bytes: &[u8]) {
    for byte in bytes {
        let rows: Vec<_> = LETTERS.iter().filter(|letter| letter.byte == *byte).collect();
        let white = byte.is_ascii_whitespace() || *byte == 0x0b;
        match (command::decode(*byte), rows.as_slice()) {
            (Decoded::Command(command), [row]) => {
                assert_eq!((row.command, command::encode(command), white), (command, Some(*byte), false));
                assert!(command::by_verb(row.verb).is_some_and(|found| found.byte == *byte));
            }
            (Decoded::Blank, []) => assert!(white),
            (Decoded::Unknown(same), []) => assert_eq!((same, white), (*byte, false)),
            (decoded, rows) => assert!(rows.is_empty(), "{decoded:?} of {byte} beside {rows:?}"),
        }
    }
}

/// Names: what is one stays below its root, and none loses a byte in a file, in a log line or on a terminal.
pub fn names(bytes: &[u8]) {
    for text in [escaped(bytes), printable(bytes)] {
        assert_eq!(unescaped(&text), bytes);
    }
    one_line(&printable(bytes));
    if let Ok(text) = str::from_utf8(bytes) {
        let escapes = |at: usize| match &bytes[at + 1..] {
            [b'\\', ..] => true,
            [b'x', digits @ ..] => digits.iter().take_while(|digit| digit.is_ascii_hexdigit()).count() >= 2,
            _ => false,
        };
        if !text.match_indices('\\').any(|(at, _)| escapes(at)) {
            assert_eq!(unescaped(text), bytes, "nothing in it was escaped");
        }
    }

    let parts: Vec<_> = bytes.split(|byte| *byte == b'/').collect();
    let good = |part: &&[u8]| !part.is_empty() && !part.starts_with(b".") && !part.contains(&0) && part.len() <= 255;
    let Ok(name) = ModuleName::new(bytes) else {
        return assert!(!parts.iter().all(good));
    };
    assert!(parts.iter().all(good));
    assert!(name.components().eq(parts.iter().copied()));
    let path: Vec<_> = Path::new(name.as_os_str()).components().collect();
    assert!(path.len() == parts.len() && path.iter().all(|part| matches!(part, Component::Normal(_))));
    assert_eq!(name.as_bytes(), bytes);
    assert_eq!(Some(&name.top_bytes()), parts.first());
    assert!(name.is_within(&name.top()));
    match name.parent() {
        Some(group) => {
            assert!(name.is_within(&group) && !group.is_within(&name));
            assert_eq!(group.join(parts.last().expect("more than one")), Ok(name));
        }
        None => assert_eq!(parts.len(), 1),
    }
}

/// The words inside files and on the command line: times, signals, points in time.
pub fn words(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match config::parse_duration(text) {
        Ok(duration) => assert!(duration <= TEN_YEARS),
        Err(expected) => one_line(&expected),
    }
    if let Some(signal) = Signal::parse(text) {
        is_signal(signal);
    }
    if let Some(wall) = Wall::from_rfc3339(text) {
        assert!(wall.nanos < 1_000_000_000);
        assert_eq!(Wall::from_rfc3339(&wall.rfc3339()), Some(to_the_millisecond(wall)));
    }
    assert!(Want::from_name(text).is_none_or(|want| want.name() == text));
}

/// The mark of a child: what is read was written so, byte for byte; an older one lacks the end.
pub fn mark(bytes: &[u8]) {
    if let Some(Marked { boot_id, pid, started: [before, after], id, want }) = Mark::read(bytes) {
        assert!(Pid::new(pid.get()).is_some());
        let mut mark = Mark::new(&boot_id, id, want);
        mark.set(pid.get(), before, after);
        assert!(mark.bytes().starts_with(bytes));
    }
}

/// `/proc/PID/stat`: whatever a program calls itself, the fields behind its name are the kernel's.
pub fn stat(bytes: &[u8]) {
    let _ = remains::parse(bytes);
    let line = [b"1 (", bytes, b") S 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 123 99\n"].concat();
    let stat = remains::parse(&line).expect("a name may hold any byte");
    assert_eq!(stat.command, String::from_utf8_lossy(bytes));
    assert_eq!((stat.state, stat.parent, stat.group, stat.session, stat.started), (b'S', 7, 8, 9, 123));
}

/// A datagram of `sd_notify(3)`: a text or nothing; which process it is about comes first, what is for people is one line, and a
/// line for others changes nothing.
pub fn notify(bytes: &[u8]) {
    let text = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let is_text = !text.contains(&0) && text.len() <= LONGEST_DATAGRAM;
    let Some(said) = sd_notify::parse(bytes) else { return assert!(!is_text) };
    assert!(is_text && said.len() <= text.split(|byte| *byte == b'\n').count());
    assert!(said.is_sorted_by_key(|said| !matches!(said, Said::MainPid(_))));
    for said in &said {
        match said {
            Said::Status(status) => one_line(status),
            Said::Errno(errno) => assert!((0..4096).contains(errno)),
            Said::WatchdogEvery(every) => assert!(*every < Duration::from_micros(u64::MAX)),
            Said::MainPid(pid) => assert!(pid.get() > 0),
            Said::Wrong(key) => assert!(String::from_utf8_lossy(text).contains(&format!("{key}="))),
            Said::Ready | Said::Reloading | Said::Stopping | Said::Extend(_) => {}
            Said::Watchdog | Said::Trigger | Said::Store => {}
        }
    }
    let more = [b"X_OWN=1\n", text].concat();
    if more.len() <= LONGEST_DATAGRAM {
        assert_eq!(sd_notify::parse(&more), Some(said));
    }
}

/// The answer of a server, in however many parts it comes; and where it is asked: what is an address is one when it is shown, and
/// no URL adds a line to the request.
pub fn http(bytes: &[u8]) {
    let whole = http::answer(bytes);
    if let Answer::Status(status) = whole {
        assert!(status == 101 || (200..600).contains(&status));
    }
    let parts = (0..bytes.len().min(LONGEST_PARTS)).map(|end| http::answer(&bytes[..end]));
    if let Some(first) = parts.into_iter().find(|answer| *answer != Answer::Unfinished) {
        assert!(first == whole || bytes.len() > http::LONGEST, "{first:?} and then {whole:?}");
    }
    let Ok(text) = str::from_utf8(bytes) else { return };
    match Address::parse(text, None) {
        Ok(address) => {
            assert!(address.port > 0 && !address.host.is_empty());
            assert_eq!(Address::parse(&address.to_string(), None), Ok(address));
        }
        Err(expected) => one_line(&expected),
    }
    match Url::parse(text) {
        Ok(url) => {
            assert_eq!(Url::parse(&url.to_string()), Ok(url.clone()));
            let request = url.request();
            let lines: Vec<_> = request.split("\r\n").collect();
            assert!(lines.len() == 7 && lines[1].starts_with("Host: ") && lines[0].split(' ').count() == 3);
            assert!(lines.iter().all(|line| line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())));
        }
        Err(expected) => one_line(&expected),
    }
}

/// So many parts are looked at: each is read from its beginning.
const LONGEST_PARTS: usize = 512;

/// What is said to people is one line, and does nothing to their terminal.
fn one_line(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

fn to_the_millisecond(wall: Wall) -> Wall {
    Wall { nanos: wall.nanos / 1_000_000 * 1_000_000, ..wall }
}

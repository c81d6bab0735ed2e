//! The text of `service.toml` and `group.toml` to a `Policy`; a mistake names line, column and the nearest key.
//!
//! One table of keys: what is not in it is unknown. Must never read a file.

mod alarm;
mod group;
mod health;
mod identity;
mod instances;
mod limits;
mod log;
mod needs;
mod policy;
mod ready;
mod sandbox;

use std::fmt;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use self::alarm::Alarms;
pub use self::group::{GroupPolicy, OnFailure, Strategy, group, group_keys};
pub use self::health::{Health, HealthBy};
pub use self::identity::{Account, Identity};
pub use self::limits::{Limits, Resource};
pub use self::needs::{Needs, NeedsRestart};
pub use self::policy::{
    Awaits, BeforeRestart, Finish, FinishTimeout, Forking, Limit, Policy, Program, Ready, ReadyBy, Restart, Rules,
    Scope, Stop, When,
};
pub use self::ready::parse_descriptor;
pub use self::sandbox::{Sandbox, UNDOING};
use super::exit::Signal;

/// One mistake in a file, with the place where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Counted from 1.
    pub line: usize,
    /// Counted in characters from 1.
    pub column: usize,
    /// What is wrong, and where it helps, what to write.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.text)
    }
}

/// Reads a `service.toml`.
///
/// # Errors
/// Every mistake in it, in the order of their places.
pub fn service(text: &str) -> Result<Policy, Vec<Mistake>> {
    let mut policy = Policy::default();
    service_over(text, &mut policy)?;
    Ok(policy)
}

/// As [`service`], over what other files asked for: what it says wins, the rest stays.
///
/// # Errors
/// As [`service`].
pub fn service_over(text: &str, policy: &mut Policy) -> Result<(), Vec<Mistake>> {
    let files = ready::lay_aside(policy);
    // No file asks for these: what stands there was read from this one before.
    policy.health = Health::default();
    policy.instances = None;
    let result = read(text, SERVICE, policy, |table, policy, wrong| {
        ready::whole(table, policy, &files, wrong);
        health::whole(table, policy, wrong);
        sandbox::whole(table, policy, wrong);
    });
    ready::take_up(policy, files);
    result
}

/// Where a `service.toml` says that its module is not to be started by itself, if it does so.
#[must_use]
pub fn disabled_at(text: &str) -> Option<Mistake> {
    let (table, _) = DeTable::parse_recoverable(text);
    let (_, value) = table.get_ref().iter().find(|(name, _)| name.get_ref() == "enabled")?;
    let says_so = value.get_ref().as_bool() == Some(false);
    says_so.then(|| mistake_at(text, value.span().start, "enabled = false".to_owned()))
}

/// One key of the file: the table it stands in, its name, and how its value is taken.
struct Key<T = Policy> {
    table: &'static str,
    name: &'static str,
    set: fn(&mut T, &DeValue<'_>) -> Result<(), String>,
}

/// Every key of a `service.toml`, by what it is about.
const SERVICE: &[&[Key]] =
    &[KEYS, health::KEYS, identity::KEYS, instances::KEYS, limits::KEYS, log::KEYS, needs::KEYS, sandbox::KEYS];

/// The names of every key of a `service.toml`, such as `command` and `restart.delay`.
pub fn keys() -> impl Iterator<Item = String> {
    all(SERVICE).map(|key| full(key.table, key.name))
}

fn all<'a, T>(keys: &'a [&'a [Key<T>]]) -> impl Iterator<Item = &'a Key<T>> {
    keys.iter().flat_map(|keys| keys.iter())
}

fn full(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

/// The line and the column, each from 1, of the value of a key such as `user` or `ready.check` in a file that was read.
#[must_use]
pub fn place(text: &str, key: &str) -> Option<(usize, usize)> {
    let table = DeTable::parse(text).ok()?;
    let value = match key.split_once('.') {
        Some((inside, key)) => match table.get_ref().get(inside)?.get_ref() {
            DeValue::Table(inner) => inner.get(key)?,
            _ => return None,
        },
        None => table.get_ref().get(key)?,
    };
    let Mistake { line, column, .. } = mistake_at(text, value.span().start, String::new());
    Some((line, column))
}

const KEYS: &[Key] = &[
    key("", "command", |policy, value| {
        policy.program = Program::Argv(command(value)?);
        Ok(())
    }),
    key("", "directory", |policy, value| {
        policy.directory = Some(text(value)?);
        Ok(())
    }),
    key("", "enabled", |policy, value| {
        policy.enabled = truth(value)?;
        Ok(())
    }),
    key("", "environment", |policy, value| {
        policy.environment = variables(value)?;
        Ok(())
    }),
    key("", "environment_dir", |policy, value| {
        let directory = text(value)?;
        if directory.is_empty() {
            return Err("no directory is named".to_owned());
        }
        policy.environment_dir = Some(directory);
        Ok(())
    }),
    key("", "umask", |policy, value| {
        policy.umask = Some(mask(value)?);
        Ok(())
    }),
    key("", "nice", |policy, value| {
        policy.nice = Some(nice(value)?);
        Ok(())
    }),
    key("", "forking", |policy, value| {
        policy.forking = one_of(value, &[("follow", Forking::Follow), ("ignore", Forking::Ignore)])?;
        Ok(())
    }),
    key("restart", "when", |policy, value| {
        policy.restart.when =
            one_of(value, &[("always", When::Always), ("failure", When::Failure), ("never", When::Never)])?;
        Ok(())
    }),
    key("restart", "delay", |policy, value| {
        policy.restart.delay = duration(value)?;
        Ok(())
    }),
    key("restart", "max_delay", |policy, value| {
        policy.restart.max_delay = Some(duration(value)?);
        Ok(())
    }),
    key("restart", "max_tries", |policy, value| {
        policy.restart.max_tries = limit(value)?;
        Ok(())
    }),
    key("restart", "max_tries_if_coredumped", |policy, value| {
        policy.restart.max_tries_if_coredumped = limit(value)?;
        Ok(())
    }),
    key("restart", "interval", |policy, value| {
        policy.restart.interval = duration(value)?;
        Ok(())
    }),
    key("stop", "signal", |policy, value| {
        policy.stop.signal = signal(value)?;
        Ok(())
    }),
    key("stop", "timeout", |policy, value| {
        policy.stop.timeout = match value.as_str() {
            Some("never") => None,
            _ => Some(duration(value)?),
        };
        Ok(())
    }),
    key("stop", "scope", |policy, value| {
        policy.stop.scope = one_of(value, &[("tree", Scope::Tree), ("main", Scope::Main)])?;
        Ok(())
    }),
    key("ready", "fd", ready::descriptor),
    key("ready", "notify", ready::notify),
    key("ready", "check", ready::check),
    key("ready", "on_exit", ready::on_exit),
    key("ready", "timeout", ready::timeout),
    key("ready", "watchdog", ready::watchdog),
    key("alarm", "command", alarm::command),
    key("alarm", "mail", alarm::mail),
    key("alarm", "on", alarm::on),
    key("alarm", "interval", alarm::interval),
];

const fn key<T>(
    table: &'static str,
    name: &'static str,
    set: fn(&mut T, &DeValue<'_>) -> Result<(), String>,
) -> Key<T> {
    Key { table, name, set }
}

fn read<T>(
    text: &str,
    keys: &[&[Key<T>]],
    policy: &mut T,
    whole: impl FnOnce(&DeTable<'_>, &T, &mut Vec<(usize, String)>),
) -> Result<(), Vec<Mistake>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut wrong: Vec<(usize, String)> = errors
        .iter()
        .map(|error| (error.span().map_or(0, |span| span.start), error.message().replace('\n', ", ")))
        .collect();
    // Values behind a syntax mistake are guesses of the parser: the keys are read only in what parsed whole.
    if wrong.is_empty() {
        walk(table.get_ref(), "", keys, policy, &mut wrong);
    }
    if wrong.is_empty() {
        whole(table.get_ref(), policy, &mut wrong);
    }
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.sort_by_key(|(offset, _)| *offset);
    Err(wrong.into_iter().map(|(offset, message)| mistake_at(text, offset, message)).collect())
}

fn walk<T>(table: &DeTable<'_>, inside: &str, keys: &[&[Key<T>]], policy: &mut T, wrong: &mut Vec<(usize, String)>) {
    for (name, value) in table {
        let found = all(keys).find(|key| key.table == inside && key.name == name.get_ref());
        if let Some(key) = found {
            if let Err(message) = (key.set)(policy, value.get_ref()) {
                wrong.push((value.span().start, format!("{}: {message}", name.get_ref())));
            }
        } else if inside.is_empty() && all(keys).any(|key| key.table == name.get_ref()) {
            match value.get_ref() {
                DeValue::Table(inner) => walk(inner, name.get_ref(), keys, policy, wrong),
                other => wrong
                    .push((value.span().start, format!("{}: expected a table, found {}", name.get_ref(), kind(other)))),
            }
        } else {
            wrong.push((name.span().start, unknown(name, inside, keys)));
        }
    }
}

/// The line for a key that is in no table, with the nearest one that is.
fn unknown<T>(name: &Spanned<std::borrow::Cow<'_, str>>, inside: &str, keys: &[&[Key<T>]]) -> String {
    let mine = full(inside, name.get_ref());
    let known = all(keys).map(|key| full(key.table, key.name));
    let tables = all(keys).map(|key| key.table.to_owned()).filter(|table| !table.is_empty());
    let nearest = known
        .chain(tables)
        .map(|key| {
            // The same name in another table is the likeliest slip of all.
            let bare = key.rsplit('.').next().unwrap_or(&key);
            let whole = strsim::damerau_levenshtein(&mine, &key);
            let near = whole.min(strsim::damerau_levenshtein(name.get_ref(), bare));
            (near, whole, key)
        })
        .min();
    let shown = mine.escape_debug();
    match nearest {
        Some((distance, _, key)) if distance <= mine.chars().count().div_ceil(3).max(2) => {
            format!("unknown key `{shown}`, did you mean `{key}`?")
        }
        _ => format!("unknown key `{shown}`"),
    }
}

fn mistake_at(text: &str, offset: usize, message: String) -> Mistake {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Mistake { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1, text: message }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn text(value: &DeValue<'_>) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| format!("expected a string, found {}", kind(value)))?;
    if text.contains('\0') {
        return Err("a NUL byte cannot stand here".to_owned());
    }
    Ok(text.to_owned())
}

fn truth(value: &DeValue<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("expected true or false, found {}", kind(value)))
}

fn command(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let words = match value {
        DeValue::String(line) => shlex::split(line).ok_or("a quote is not closed, or a backslash ends the string")?,
        DeValue::Array(items) => items.iter().map(|item| text(item.get_ref())).collect::<Result<Vec<_>, _>>()?,
        other => {
            return Err(format!("expected a string or an array of strings, found {}", kind(other)));
        }
    };
    match words.first() {
        None => Err("no program is named".to_owned()),
        Some(program) if program.is_empty() => Err("the program's name is empty".to_owned()),
        Some(_) if words.iter().any(|word| word.contains('\0')) => Err("a NUL byte cannot stand here".to_owned()),
        Some(_) => Ok(words),
    }
}

fn variables(value: &DeValue<'_>) -> Result<Vec<(String, String)>, String> {
    let DeValue::Table(table) = value else {
        return Err(format!("expected a table of strings, found {}", kind(value)));
    };
    let mut variables = Vec::with_capacity(table.len());
    for (name, value) in table {
        let name = name.get_ref();
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!("`{}` cannot be the name of a variable", name.escape_debug()));
        }
        let value = text(value.get_ref()).map_err(|why| format!("{}: {why}", name.escape_debug()))?;
        variables.push((name.to_string(), value));
    }
    Ok(variables)
}

fn one_of<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, String> {
    let found = value.as_str().and_then(|word| choices.iter().find(|(name, _)| *name == word));
    if let Some((_, choice)) = found {
        return Ok(*choice);
    }
    let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    Err(format!("expected {}", names.join(" or ")))
}

/// Longer times than this are mistakes; it keeps every sum of two far from overflow.
const LONGEST: Duration = Duration::from_hours(10 * 366 * 24);

/// A time such as `500ms`, `10s`, `5m`, as the configuration and the command line write it.
///
/// # Errors
/// Says what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a time such as \"500ms\", \"10s\" or \"5m\", found \"{}\"", text.escape_debug());
    let signed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    let duration = Duration::try_from(signed).map_err(|_| wrong())?;
    if duration > LONGEST {
        return Err(format!("\"{}\" is more than ten years", text.escape_debug()));
    }
    Ok(duration)
}

fn duration(value: &DeValue<'_>) -> Result<Duration, String> {
    match value {
        DeValue::String(text) => parse_duration(text),
        DeValue::Integer(number) => Err(format!("expected a time with its unit, such as \"{}s\"", number.as_str())),
        other => Err(format!("expected a time such as \"10s\", found {}", kind(other))),
    }
}

fn limit(value: &DeValue<'_>) -> Result<Option<u32>, String> {
    let number = value
        .as_integer()
        .and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok())
        .ok_or("expected a whole number from 0 (no limit) to 4294967295")?;
    Ok((number > 0).then_some(number))
}

/// In octal digits and a string: to TOML `022` is no number, and `22` another one.
fn mask(value: &DeValue<'_>) -> Result<u32, String> {
    let digits = value.as_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let mask = digits.and_then(|digits| u32::from_str_radix(digits, 8).ok()).filter(|mask| *mask <= 0o777);
    mask.ok_or_else(|| "expected octal digits in quotes from \"000\" to \"777\", such as \"022\"".to_owned())
}

fn nice(value: &DeValue<'_>) -> Result<i32, String> {
    let number = value.as_integer().and_then(|number| i32::from_str_radix(number.as_str(), number.radix()).ok());
    number.filter(|nice| (-20..=19).contains(nice)).ok_or_else(|| "expected a whole number from -20 to 19".to_owned())
}

fn signal(value: &DeValue<'_>) -> Result<Signal, String> {
    let found = match value {
        DeValue::String(text) => Signal::parse(text),
        DeValue::Integer(number) => Signal::parse(number.as_str()),
        _ => None,
    };
    found.ok_or_else(|| "expected a signal such as \"TERM\" or 15".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::log::Log;

    fn mistakes(text: &str) -> Vec<String> {
        service(text).expect_err("a mistake").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn empty_is_all_defaults() {
        assert_eq!(service(""), Ok(Policy::default()));
    }

    #[test]
    fn every_key() {
        let policy = service(
            r#"
            command = "bin/server --name 'two words'"
            directory = "data"
            enabled = false
            environment = { B = "2", A = "1" }
            environment_dir = "env"
            umask = "027"
            nice = -5
            forking = "ignore"
            [restart]
            when = "failure"
            delay = "500ms"
            max_delay = "5m"
            max_tries = 3
            max_tries_if_coredumped = 0
            interval = "10s"
            [stop]
            signal = "INT"
            timeout = "never"
            scope = "main"
            "#,
        )
        .expect("no mistake");
        assert_eq!(
            policy,
            Policy {
                program: Program::Argv(vec!["bin/server".into(), "--name".into(), "two words".into()]),
                directory: Some("data".into()),
                enabled: false,
                instances: None,
                environment: vec![("A".into(), "1".into()), ("B".into(), "2".into())],
                environment_dir: Some("env".into()),
                umask: Some(0o027),
                nice: Some(-5),
                identity: Identity::default(),
                control_group: None,
                limits: Limits::default(),
                sandbox: Sandbox::default(),
                forking: Forking::Ignore,
                exits_kept: 20,
                before_restart: None,
                needs: None,
                restart: Restart {
                    when: When::Failure,
                    delay: Duration::from_millis(500),
                    max_delay: Some(Duration::from_mins(5)),
                    max_tries: Some(3),
                    max_tries_if_coredumped: None,
                    interval: Duration::from_secs(10),
                },
                stop: Stop { signal: Signal::INT, timeout: None, scope: Scope::Main, ..Stop::default() },
                ready: Ready::default(),
                health: Health::default(),
                alarms: None,
                log: Log::default(),
            }
        );
    }

    #[test]
    fn mistakes_name_their_place_and_the_nearest_key() {
        assert_eq!(mistakes("comand = \"x\"\n"), ["line 1, column 1: unknown key `comand`, did you mean `command`?"]);
        assert_eq!(
            mistakes("\n[restart]\ndealy = \"1s\"\n"),
            ["line 3, column 1: unknown key `restart.dealy`, did you mean `restart.delay`?"]
        );
        assert_eq!(
            mistakes("delay = \"1s\""),
            ["line 1, column 1: unknown key `delay`, did you mean `restart.delay`?"]
        );
        assert_eq!(
            mistakes("[restart]\ndelay = 5\nmax_tries = -1\n"),
            [
                "line 2, column 9: delay: expected a time with its unit, such as \"5s\"",
                "line 3, column 13: max_tries: expected a whole number from 0 (no limit) to 4294967295",
            ]
        );
        assert_eq!(mistakes("[stop]\nscope = \"all\""), ["line 2, column 9: scope: expected \"tree\" or \"main\""]);
        assert!(mistakes("command = [\"a\"\n")[0].starts_with("line "));
        assert_eq!(
            mistakes("command = \"a 'b\""),
            ["line 1, column 11: command: a quote is not closed, or a backslash ends the string"]
        );
    }

    #[test]
    fn a_key_has_a_place() {
        let text = "user = 'www'\n[ready]\n  check = './ok'\n";
        assert_eq!(place(text, "user"), Some((1, 8)));
        assert_eq!(place(text, "ready.check"), Some((3, 11)));
        assert_eq!((place(text, "group"), place(text, "user.name"), place("user = ", "user")), (None, None, None));
    }

    #[test]
    fn masks_and_priorities() {
        for (text, mask) in [("umask = '022'", 0o022), ("umask = '0'", 0), ("umask = '0777'", 0o777)] {
            assert_eq!(service(text).expect("no mistake").umask, Some(mask), "{text}");
        }
        for text in ["umask = 18", "umask = '8'", "umask = '1000'", "umask = ''", "umask = '+22'"] {
            assert!(mistakes(text)[0].contains("umask: expected octal digits"), "{text}");
        }
        for nice in [-20, 0, 19] {
            assert_eq!(service(&format!("nice = {nice}")).expect("no mistake").nice, Some(nice));
        }
        for text in ["nice = 20", "nice = -21", "nice = '5'", "nice = 1.5"] {
            assert!(mistakes(text)[0].ends_with("nice: expected a whole number from -20 to 19"), "{text}");
        }
        assert!(mistakes("environment_dir = ''")[0].contains("no directory"));
    }

    #[test]
    fn a_file_wins_over_what_was_asked_for_before_it_where_it_says_something() {
        let mut policy = Policy { exits_kept: 3, ..Policy::default() };
        policy.stop.signal = Signal::INT;
        policy.stop.timeout = None;
        service_over("[stop]\ntimeout = '5s'", &mut policy).expect("no mistake");
        assert_eq!((policy.stop.signal, policy.exits_kept), (Signal::INT, 3));
        assert_eq!(policy.stop.timeout, Some(Duration::from_secs(5)));
    }

    #[test]
    fn times() {
        for (text, millis) in [("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("1h30m", 5_400_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "-1s", "1 fortnight", "99999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}

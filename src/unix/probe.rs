//! Asks an executable something, as whether it can take over: it has to answer in time, and to end well.
//!
//! Must never leave a process of it behind, and never believe more than the one line.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use super::client::poll_until;
use super::report::plain;
use super::{clock, pidfd, raw};
use crate::pure::exit::{How, Pid, Signal};
use crate::pure::handover;
use crate::pure::time::Moment;

/// The verb by which it is asked; the command line that it would run with follows.
pub const VERB: &str = "take-over-versions";

/// It has no longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// What it may say at most, in bytes.
const MOST: u64 = 64 << 10;

/// As long as whoever has asked has not let go of this, the answer is waited for.
#[derive(Debug)]
pub struct Interest {
    _open: OwnedFd,
}

/// Readable once there is no interest any more.
#[derive(Debug)]
pub struct Interested(OwnedFd);

/// Makes both ends.
///
/// # Errors
/// No descriptor can be had.
pub fn interest() -> io::Result<(Interest, Interested)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Interest { _open: writer }, Interested(reader)))
}

/// Asks; `Ok` if it can take over when it is executed with these arguments. Waits for it: not for a thread that has
/// anything else to do.
///
/// # Errors
/// Why it cannot.
pub fn ask(
    executable: &Path,
    arguments: impl IntoIterator<Item = OsString>,
    interested: &Interested,
) -> Result<(), String> {
    let mut command = Command::new(executable);
    command.arg(VERB).arg("--").args(arguments);
    let (said, how) = hear_out(command, PATIENCE, Some(interested))?;
    match how {
        how if !how.success() => Err(format!("asked whether it can take over: {how}")),
        _ if !handover::is_accepted(&said) => Err("it does not say that it can take over".to_owned()),
        _ => Ok(()),
    }
}

/// What an svtree says that is executed with these arguments, and how it ends. Waits for it; whatever it does, nothing of it
/// is left.
///
/// # Errors
/// It cannot be executed, or is not done in time.
pub fn hear_out(
    mut command: Command,
    patience: Duration,
    interested: Option<&Interested>,
) -> Result<(Vec<u8>, How), String> {
    let deadline = clock::moment().plus(patience);
    command.arg0("svtree").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    #[expect(clippy::disallowed_methods, reason = "it is not run, only asked, and ended by KILL if need be")]
    let mut child = command.spawn().map_err(|error| plain(&error))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::new);
    let answer = pid.map_or(Ok(None), |pid| hear(&mut child, pid, interested, deadline));
    // With all that it started; not collected yet, it still is the leader of its group.
    let _ = pid.map(|pid| raw::kill_group(pid, Signal::KILL));
    let _ = child.wait();
    let late = || format!("it does not answer within {} s", patience.as_secs());
    answer.map_err(|error| plain(&error))?.ok_or_else(late)
}

/// What it says until it ends, and how that is; `None` if it takes too long.
fn hear(
    child: &mut Child,
    pid: Pid,
    interested: Option<&Interested>,
    deadline: Moment,
) -> io::Result<Option<(Vec<u8>, How)>> {
    let is_ready = |end: BorrowedFd<'_>| {
        let mut ends = vec![PollFd::from_borrowed_fd(end, PollFlags::IN)];
        ends.extend(interested.map(|interested| PollFd::new(&interested.0, PollFlags::IN)));
        Ok::<_, io::Error>(
            poll_until(&mut ends, Some(deadline))? && ends[1..].iter().all(|end| end.revents().is_empty()),
        )
    };
    let mut said = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        loop {
            if !is_ready(stdout.as_fd())? {
                return Ok(None);
            }
            let mut bytes = [0; 512];
            let count = stdout.read(&mut bytes)?;
            said.extend(&bytes[..count]);
            // One that has more to say is no svtree.
            if count == 0 || said.len() as u64 > MOST {
                break;
            }
        }
    }
    if let Ok(process) = pidfd::open(pid)
        && !is_ready(process.as_fd())?
    {
        return Ok(None);
    }
    // Where there are no pidfds, one that has closed its output and runs on has not ended well.
    Ok(Some((said, pidfd::peek(pid)?.unwrap_or(How::Unknown))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn asked(script: &str) -> Result<(), String> {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("executable");
        std::fs::write(&path, script).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        let (_interest, interested) = interest().expect("a pipe");
        ask(&path, ["svtree", "run"].map(OsString::from), &interested)
    }

    #[test]
    fn only_the_line_and_a_good_end_count() {
        let says = format!("#!/bin/sh\nprintf '{}'\n", handover::offer().replace('\n', "\\n"));
        assert_eq!(asked(&says), Ok(()));
        let arguments = "[ \"$*\" = 'take-over-versions -- svtree run' ]\n";
        assert_eq!(asked(&(says.clone() + arguments)), Ok(()));
        for (script, part) in [
            (says.clone() + "exit 1\n", "over: exited 1"),
            (says + "kill -SEGV $$\n", "over: killed by"),
            ("#!/bin/sh\n".to_owned(), "does not say"),
            ("#!/bin/sh\nyes\n".to_owned(), "over: "),
            ("#!/nowhere/interpreter\n".to_owned(), "No such file"),
            ("garbage".to_owned(), "Exec format error"),
        ] {
            let why = asked(&script).expect_err(&script);
            assert!(why.contains(part), "{script:?}: {why}");
        }
    }

    #[test]
    fn one_that_is_not_there_says_nothing() {
        let (_interest, interested) = interest().expect("a pipe");
        assert!(ask(Path::new("/nowhere/svtree"), [], &interested).is_err());
    }

    #[test]
    fn without_interest_nothing_is_waited_for() {
        let (interest, interested) = interest().expect("a pipe");
        drop(interest);
        let begun = clock::moment();
        assert!(ask(Path::new("/bin/cat"), ["/dev/zero".into()], &interested).is_err());
        assert!(clock::moment().since(begun) < PATIENCE);
    }
}

//! Lines for standard error, written by a thread of their own: a reader that does not read, or a full disk, holds up
//! no module and not the parent. Must never end the process.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// Lines that wait to be written; more are counted and dropped.
const WAITING: usize = 4096;

enum Job {
    Line(String),
    /// Answered once everything before it has been written.
    Flush(Sender<()>),
}

static LINES: OnceLock<Sender<Job>> = OnceLock::new();
static PROGRAM: OnceLock<String> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Starts the writer. `program` begins every line.
///
/// # Errors
/// No thread can be had.
pub fn start(program: &str) -> std::io::Result<()> {
    let (sender, receiver) = bounded(WAITING);
    let _writer: JoinHandle<()> =
        Builder::new().name("report".to_owned()).stack_size(64 * 1024).spawn(move || write_lines(&receiver))?;
    let _ = PROGRAM.set(program.to_owned());
    let _ = LINES.set(sender);
    Ok(())
}

/// What an error of the system says, without Rust's `(os error N)`.
#[must_use]
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// One line: what was being done, on what, and what went wrong.
pub fn line(text: &str) {
    let program = PROGRAM.get().map_or("svtree", String::as_str);
    // Names and paths are others' to choose; they cannot make a line of their own.
    let line = format!("{program}: {}\n", text.replace(char::is_control, "?"));
    let Some(sender) = LINES.get() else {
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    };
    if let Err(TrySendError::Full(_)) = sender.try_send(Job::Line(line)) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until what was reported is written, at most for `limit`.
pub fn flush(limit: Duration) {
    let Some(sender) = LINES.get() else { return };
    let (done, answer) = bounded(1);
    if sender.send_timeout(Job::Flush(done), limit).is_ok() {
        let _ = answer.recv_timeout(limit);
    }
}

fn write_lines(jobs: &Receiver<Job>) {
    for job in jobs {
        // Locked for one line only, so that programs that inherit the descriptor come between lines.
        let mut stderr = std::io::stderr().lock();
        match job {
            Job::Line(line) => {
                // Nobody is left to be told when standard error itself fails.
                let _ = stderr.write_all(line.as_bytes());
                let dropped = DROPPED.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    let _ = writeln!(stderr, "svtree: {dropped} lines were dropped, nobody read them in time");
                }
            }
            Job::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

/// A failure that repeats: told when it begins, when its text changes, and when it ends.
#[derive(Debug, Default)]
pub struct Repeated {
    text: Option<String>,
}

impl Repeated {
    /// It failed: reported unless the same was reported last.
    pub fn failed(&mut self, text: String) {
        if self.text.as_deref() != Some(&text) {
            line(&text);
            self.text = Some(text);
        }
    }

    /// What was reported last, while it fails.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// One of which that was reported already.
    #[must_use]
    pub fn reported(text: String) -> Repeated {
        Repeated { text: Some(text) }
    }

    /// It worked: reported if it had failed.
    pub fn worked(&mut self, text: &str) {
        if self.text.take().is_some() {
            line(text);
        }
    }
}

//! Threads of which there may be thousands: what one that waits for days keeps resident is what a module costs.
//!
//! Must never run what the caller did not give.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SendError, Sender, channel};
use std::sync::{Mutex, PoisonError};

/// A thread without what the standard library gives to each of its own: a second stack for a handler of overflows,
/// which makes the C library set up a heap for the thread, and a record of its result. That is 2 KiB and two mappings
/// for each; an overflow ends the process on the guard page here, too.
#[derive(Debug)]
pub struct Thread {
    id: libc::pthread_t,
    joined: bool,
}

/// What it is to do; the pointer that it is started with has to be thin.
struct Start {
    name: CString,
    stack: usize,
    run: Box<dyn FnOnce() + Send>,
}

/// A thread that waits for something to do: to make one takes a tenth of what a program that is dropped in waits.
struct Spare {
    thread: Thread,
    stack: usize,
    give: Sender<Start>,
}

/// One is enough: those that come together wait for the processor, not for each other's threads.
static SPARE: Mutex<Option<Spare>> = Mutex::new(None);

impl Thread {
    /// Starts a thread with a stack of `stack` bytes, or has the spare one do it. `name` is what `ps -L` shows of it, cut to
    /// 15 bytes; after a panic it just ends.
    ///
    /// # Errors
    /// `EAGAIN`: no memory, or too many tasks.
    pub fn spawn(name: &[u8], stack: usize, run: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
        let name = CString::new(name.iter().copied().filter(|byte| *byte != 0).take(15).collect::<Vec<_>>())?;
        let run = move || {
            let _live = Live::one();
            run();
        };
        let start = Start { name, stack, run: Box::new(run) };
        let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).take_if(|spare| spare.stack == stack);
        let Some(Spare { thread, give, .. }) = spare else { return Thread::make(start) };
        match give.send(start) {
            Ok(()) => Ok(thread),
            Err(SendError(start)) => Thread::make(start),
        }
    }

    /// Has one at hand for the next [`Thread::spawn`] of this stack; without memory that one makes its own.
    pub fn keep_spare(stack: usize) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.is_some() {
            return;
        }
        let (give, take) = channel::<Start>();
        let wait = move || {
            warm_stack();
            if let Ok(Start { name, run, .. }) = take.recv() {
                drop(take);
                set_name(&name);
                run();
            }
        };
        let thread = Thread::make(Start { name: c"spare".to_owned(), stack, run: Box::new(wait) });
        *spare = thread.ok().map(|thread| Spare { thread, stack, give });
    }

    fn make(start: Start) -> io::Result<Thread> {
        let stack = start.stack;
        let start = Box::into_raw(Box::new(start));
        let mut id = MaybeUninit::uninit();
        // SAFETY: the attributes are initialised, used and destroyed here; `start` is a box that only the new thread
        // takes back, or this one if there is no new thread.
        unsafe {
            let mut attributes = MaybeUninit::uninit();
            let mut error = libc::pthread_attr_init(attributes.as_mut_ptr());
            if error == 0 {
                error = libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack);
                if error == 0 {
                    error = libc::pthread_create(id.as_mut_ptr(), attributes.as_ptr(), body, start.cast());
                }
                libc::pthread_attr_destroy(attributes.as_mut_ptr());
            }
            if error != 0 {
                drop(Box::from_raw(start));
                return Err(io::Error::from_raw_os_error(error));
            }
            Ok(Thread { id: id.assume_init(), joined: false })
        }
    }

    /// Waits until it has ended.
    pub fn join(mut self) {
        self.joined = true;
        if LAST.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: the thread is neither joined nor detached yet, as only `self` could have done either.
        unsafe {
            libc::pthread_join(self.id, ptr::null_mut());
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        if !self.joined {
            // SAFETY: as in `join`.
            unsafe {
                libc::pthread_detach(self.id);
            }
        }
    }
}

/// How many there are that have something to do.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// One of them, until it is dropped: as well after a panic.
struct Live;

impl Live {
    fn one() -> Live {
        LIVE.fetch_add(1, Ordering::Relaxed);
        Live
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether there are so few that what each keeps at hand does not count.
#[must_use]
pub fn are_few() -> bool {
    LIVE.load(Ordering::Relaxed) <= FEW
}

const FEW: usize = 64;

extern "C" fn body(argument: *mut c_void) -> *mut c_void {
    // SAFETY: `spawn` made this pointer of a box, and gave it to this thread alone.
    let Start { name, stack, run } = *unsafe { Box::from_raw(argument.cast::<Start>()) };
    set_name(&name);
    BELOW.set(lowest(stack));
    // The panic itself was reported by the hook.
    let _ = catch_unwind(AssertUnwindSafe(run));
    if LAST.load(Ordering::Relaxed) {
        // SAFETY: it ends this thread alone, as returning would but for its stack and what it has of its own: the process
        // gives that back.
        unsafe {
            libc::syscall(libc::SYS_exit, 0);
        }
    }
    ptr::null_mut()
}

/// Whether the process is about to end, and its threads before it.
static LAST: AtomicBool = AtomicBool::new(false);

/// From now on whatever thread ends leaves its stack to the end of the process, which is near: to give back a thousand of
/// them one by one takes longer than all at once.
pub fn leave_stacks() {
    LAST.store(true, Ordering::Relaxed);
}

fn set_name(name: &CStr) {
    // SAFETY: the kernel reads at most 16 bytes of a string that ends in NUL.
    let _: c_int = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// The page size that stacks are measured in; where pages are larger, addresses that are no multiple are refused.
const PAGE: usize = 4096;

/// What of a stack lies above the first frame, and the guard below the last one, with room to spare.
const MARGIN: usize = 16 * 1024;

thread_local! {
    /// An address near the lowest of this thread's stack, at a page; 0 where that is not known.
    static BELOW: Cell<usize> = const { Cell::new(0) };
}

/// To be called near the first frame of a stack of so many bytes.
#[inline(never)]
fn lowest(stack: usize) -> usize {
    let here = 0u8;
    ((&raw const here).expose_provenance() & !(PAGE - 1)).saturating_sub(stack.saturating_sub(MARGIN) & !(PAGE - 1))
}

/// Gives back the pages of this thread's stack that are not in use. A thread that has done something deep, and now
/// waits for days, would keep them; there is one for every module.
pub fn trim_stack() {
    let here = 0u8;
    // Whole pages below this frame, but for what the calls that follow here may reach.
    let end = ((&raw const here).addr().saturating_sub(1024)) & !(PAGE - 1);
    let start = BELOW.get();
    // Nothing but a few pages was ever touched, and the kernel passes over the rest.
    if start != 0 && start < end {
        // SAFETY: the range lies within this thread's own stack, below every frame that is in use: nothing in it is
        // read before it is written, and it reads as zeroes until then.
        unsafe {
            libc::madvise(ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED);
        }
    }
}

/// Has as much of this thread's stack at hand as a module takes to begin.
#[inline(never)]
fn warm_stack() {
    std::hint::black_box([0u8; 4 * PAGE]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deep(depth: usize) -> usize {
        let filled = std::hint::black_box([depth; 512]);
        if depth == 0 { 0 } else { filled[511] - depth + 1 + deep(depth - 1) }
    }

    #[test]
    fn a_thread_has_its_name_and_its_stack_and_a_panic_ends_it_alone() {
        let (send, receive) = channel();
        let thread = Thread::spawn(b"a name longer than fits", 256 * 1024, move || {
            let kept = std::hint::black_box([7u8; 3000]);
            for _ in 0..3 {
                assert_eq!(deep(8), 8);
                trim_stack();
            }
            let name = std::fs::read_to_string("/proc/thread-self/comm").expect("its name");
            send.send((name, kept.iter().all(|byte| *byte == 7))).expect("heard");
            drop(send);
            std::panic::resume_unwind(Box::new("a defect"));
        });
        thread.expect("a thread").join();
        assert_eq!(receive.recv(), Ok(("a name longer t\n".to_owned(), true)));
    }

    #[test]
    fn the_spare_one_is_taken_once_and_has_the_name_and_the_stack_of_its_task() {
        const OWN: usize = 320 * 1024;
        let (send, receive) = channel();
        Thread::keep_spare(OWN);
        Thread::keep_spare(OWN);
        for name in ["first", "second"] {
            let send = send.clone();
            let thread = Thread::spawn(name.as_bytes(), OWN, move || {
                let told = std::fs::read_to_string("/proc/thread-self/comm").expect("its name");
                assert_eq!(deep(16), 16);
                trim_stack();
                send.send(told).expect("heard");
            });
            thread.expect("a thread").join();
            assert_eq!(receive.recv(), Ok(format!("{name}\n")));
        }
    }

    #[test]
    fn without_memory_there_is_none() {
        let error = Thread::spawn(b"x", usize::MAX & !(PAGE - 1), || ()).expect_err("too large");
        assert!(matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINVAL | libc::ENOMEM)), "{error}");
    }
}

//! svtree, a supervision tree for Unix services.
//!
//! One executable of many names. As `svtree run` (or `svscan`) it is the parent: it watches a directory of services,
//! and runs one supervise thread per module. The rest are clients, which read files and write bytes.
//!
//! - [`pure`] decides: the machine of one module, the reconciler of all, every encoding.
//! - [`unix`] acts: each file wraps one facility of the kernel and holds no policy.
//! - `supervise` (one module) and `parent` (all of them) join the two.
//! - [`alone`] is one module in a process of its own.
//! - [`logger`] writes what programs say into files, in a process of its own.
//! - [`trial`] is one module tried in front, once.
//! - [`keeper`] stands in front of svscan, and [`init`] in front of any one program.
//! - [`cli`] is what people type.

pub mod alone;
pub mod cli;
pub mod init;
pub mod keeper;
pub mod logger;
pub mod parent;
pub mod pure;
pub mod supervise;
pub mod trial;
pub mod unix;

/// One heap without a cache for each thread: there is a thread for every module, and it rests.
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

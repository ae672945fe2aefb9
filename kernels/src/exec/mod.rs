//! Where operations run: a path and a pool of threads.
//!
//! Work is split over *outputs*. The terms of one output are never split into parts that are added: at most one thread continues the chain that
//! another stored (`Exec::in_turns`). So the number of threads cannot change a bit.

mod parallel;
mod pool;
mod turns;

pub(crate) use parallel::Rows;
use pool::Pool;
pub(crate) use turns::{PARTS_MAX, Turn};

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use crate::platform::{ParsePathError, Path};
use crate::selftest::{SelfTestError, self_test};

/// The most threads an [`Exec`] takes.
pub const THREADS_MAX: usize = 1024;

/// Why an [`Exec`] cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// This CPU lacks the instructions of the path.
    #[error("this CPU cannot run the {path} kernels; leave the choice to detection, or use portable")]
    PathUnavailable {
        /// The path that was asked for.
        path: Path,
    },
    /// Zero threads, or more than [`THREADS_MAX`].
    #[error("{threads} threads asked for; use 1 to {THREADS_MAX}")]
    ThreadCount {
        /// The number that was asked for.
        threads: usize,
    },
    /// `ESSAIM_KERNELS` holds something else than a path.
    #[error("environment variable ESSAIM_KERNELS: {0}")]
    Environment(#[from] ParsePathError),
    /// The threads could not be started.
    #[error("cannot start {threads} threads: {reason}")]
    Pool {
        /// How many were asked for.
        threads: usize,
        /// What the system said.
        reason: String,
    },
    /// A thread of this machine does not compute as `f32-exact/1` demands.
    #[error("thread {thread} fails the known-answer test of exact arithmetic: {source}")]
    SelfTest {
        /// 0 for the thread that called, else its index in the pool.
        thread: usize,
        /// What differed.
        source: SelfTestError,
    },
}

thread_local! {
    /// The path with which this thread last passed the known-answer test in [`Exec::install`].
    static PASSED: Cell<Option<Path>> = const { Cell::new(None) };
}

/// An execution context: which implementation, on how many threads. Cheap to share by reference, costly to make.
#[derive(Debug)]
pub struct Exec {
    path: Path,
    threads: usize,
    /// Absent when `threads` is 1: everything then runs on the calling thread.
    pool: Option<Pool>,
}

impl Exec {
    /// A context with its own pool: the calling thread and `threads - 1` others. All of them pass the known-answer test first.
    ///
    /// # Errors
    /// When the CPU cannot run `path`, the count is out of range, the threads don't start, or a known-answer test fails.
    pub fn new(path: Path, threads: usize) -> Result<Exec, ExecError> {
        if !path.is_available() {
            return Err(ExecError::PathUnavailable { path });
        }
        if threads == 0 || threads > THREADS_MAX {
            return Err(ExecError::ThreadCount { threads });
        }
        let pool = (threads > 1).then(|| Pool::new(threads)).transpose();
        let pool = pool.map_err(|error| ExecError::Pool { threads, reason: error.to_string() })?;
        test_each_worker(pool.as_ref(), path)?;
        Ok(Exec { path, threads, pool })
    }

    /// The calling thread alone, untested: what the known-answer test itself runs on.
    pub(crate) fn untested(path: Path) -> Exec {
        Exec { path, threads: 1, pool: None }
    }

    /// A context on the fastest path that this CPU can run.
    ///
    /// # Errors
    /// As [`Exec::new`].
    pub fn detect(threads: usize) -> Result<Exec, ExecError> {
        Exec::new(Path::detect(), threads)
    }

    /// A context on the path named by the environment variable `ESSAIM_KERNELS` (`scalar`, `portable`, `avx2`, `avx512` or `neon`), else as
    /// [`Exec::detect`].
    ///
    /// # Errors
    /// As [`Exec::new`], and when the variable holds something else.
    pub fn from_env(threads: usize) -> Result<Exec, ExecError> {
        match std::env::var_os("ESSAIM_KERNELS") {
            Some(name) => Exec::new(name.to_string_lossy().parse::<Path>()?, threads),
            None => Exec::detect(threads),
        }
    }

    /// The implementation in use.
    pub fn path(&self) -> Path {
        self.path
    }

    /// How many threads share the work.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `work` on this thread, after it passed the known-answer test: the caller of an operation is one of its workers, and
    /// [`Exec::new`] has tested only the thread that it ran on. Wrap a whole inner step in it, not a single operation.
    ///
    /// # Panics
    /// When this thread does not compute as `f32-exact/1` demands: nothing that it computes may be used.
    pub fn install<R>(&self, work: impl FnOnce() -> R) -> R {
        if !self.has_passed() {
            let verdict = self_test(self.path);
            assert!(verdict.is_ok(), "this thread fails the known-answer test of exact arithmetic: {verdict:?}");
            PASSED.set(Some(self.path));
        }
        work()
    }

    /// Whether [`Exec::install`] was called on this thread, last with this path: so it passed the known-answer test. For tests of
    /// those who compute.
    pub fn has_passed(&self) -> bool {
        PASSED.get() == Some(self.path)
    }
}

/// Runs the known-answer test on the calling thread and on every thread of the pool.
fn test_each_worker(pool: Option<&Pool>, path: Path) -> Result<(), ExecError> {
    let failure = Mutex::new(None);
    let test = |thread: usize| {
        if let Err(source) = self_test(path) {
            failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(ExecError::SelfTest { thread, source });
        }
    };
    match pool {
        Some(pool) => _ = pool.on_each_worker(&test),
        None => test(0),
    }
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

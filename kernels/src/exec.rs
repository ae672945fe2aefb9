//! Where operations run: a path and a pool of threads.
//!
//! Work is split over *outputs* only, never over the terms of one output, so the number of threads cannot change a bit.

use rayon::prelude::*;
use std::ops::Range;

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
        /// 0 for the thread that called, else one more than its index in the pool.
        thread: usize,
        /// What differed.
        source: SelfTestError,
    },
}

/// An execution context: which implementation, on how many threads. Cheap to share by reference, costly to make.
#[derive(Debug)]
pub struct Exec {
    path: Path,
    threads: usize,
    /// Absent when `threads` is 1: everything then runs on the calling thread.
    pool: Option<rayon::ThreadPool>,
}

impl Exec {
    /// A context with its own pool. The calling thread and every thread of the pool pass the known-answer test first.
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
        let pool = (threads > 1).then(|| {
            let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
            builder.thread_name(|index| format!("kernels-{index}")).build()
        });
        let pool = pool.transpose().map_err(|error| ExecError::Pool { threads, reason: error.to_string() })?;
        // The calling thread takes part too: small operations run on it even where there is a pool.
        let of_pool = pool.as_ref().map(|pool| pool.broadcast(|_| self_test(path)));
        let verdicts = std::iter::once(self_test(path)).chain(of_pool.into_iter().flatten());
        for (thread, verdict) in verdicts.enumerate() {
            verdict.map_err(|source| ExecError::SelfTest { thread, source })?;
        }
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

    /// Runs `work` on a thread of the pool. Operations called inside start without waking a thread of the pool from outside each
    /// time: wrap a whole inner step in it, not a single operation.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Calls `work(start, chunk)` for consecutive chunks of `chunk_len` elements of `data` (the last may be shorter), in parallel.
    /// `start` is the index of the chunk's first element.
    ///
    /// # Panics
    /// When `chunk_len` is zero.
    pub fn for_each_chunk<T: Send>(&self, data: &mut [T], chunk_len: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        assert!(chunk_len > 0, "chunks of zero elements");
        if self.pool.is_none() || data.len() <= chunk_len {
            for (index, chunk) in data.chunks_mut(chunk_len).enumerate() {
                work(index * chunk_len, chunk);
            }
            return;
        }
        self.install(|| {
            data.par_chunks_mut(chunk_len).enumerate().for_each(|(index, chunk)| work(index * chunk_len, chunk));
        });
    }

    /// As [`Exec::for_each_chunk`], over two slices of one length.
    ///
    /// # Panics
    /// When `chunk_len` is zero or the lengths differ.
    pub fn for_each_chunk2<T: Send>(
        &self,
        a: &mut [T],
        b: &mut [T],
        chunk_len: usize,
        work: impl Fn(usize, &mut [T], &mut [T]) + Sync,
    ) {
        self.for_each_rows((a, 1), (b, 1), chunk_len, work);
    }

    /// Calls `work(row, a_rows, b_rows)` for consecutive blocks of `rows` rows (the last may be shorter) of two tensors with as many rows, each given
    /// with its width, in parallel. `row` is the index of the block's first row.
    ///
    /// # Panics
    /// When `rows` or a width is zero, or the tensors have different numbers of rows.
    pub fn for_each_rows<T: Send>(
        &self,
        (a, a_width): (&mut [T], usize),
        (b, b_width): (&mut [T], usize),
        rows: usize,
        work: impl Fn(usize, &mut [T], &mut [T]) + Sync,
    ) {
        assert!(rows > 0 && a_width > 0 && b_width > 0, "blocks of zero elements");
        assert_eq!(a.len() * b_width, b.len() * a_width, "tensors with different numbers of rows");
        if self.pool.is_none() || a.len() <= rows * a_width {
            for (index, (a, b)) in a.chunks_mut(rows * a_width).zip(b.chunks_mut(rows * b_width)).enumerate() {
                work(index * rows, a, b);
            }
            return;
        }
        self.install(|| {
            let chunks = a.par_chunks_mut(rows * a_width).zip(b.par_chunks_mut(rows * b_width));
            chunks.enumerate().for_each(|(index, (a, b))| work(index * rows, a, b));
        });
    }

    /// As [`Exec::for_each_chunk`], over three slices of one length.
    ///
    /// # Panics
    /// When `chunk_len` is zero.
    pub fn for_each_chunk3<T: Send>(
        &self,
        a: &mut [T],
        b: &mut [T],
        c: &mut [T],
        chunk_len: usize,
        work: impl Fn(usize, &mut [T], &mut [T], &mut [T]) + Sync,
    ) {
        let len = a.len();
        assert!(chunk_len > 0 && b.len() == len && c.len() == len, "chunks of zero elements, or different lengths");
        if self.pool.is_none() || len <= chunk_len {
            let chunks = a.chunks_mut(chunk_len).zip(b.chunks_mut(chunk_len)).zip(c.chunks_mut(chunk_len));
            for (index, ((a, b), c)) in chunks.enumerate() {
                work(index * chunk_len, a, b, c);
            }
            return;
        }
        self.install(|| {
            let chunks = a.par_chunks_mut(chunk_len).zip(b.par_chunks_mut(chunk_len)).zip(c.par_chunks_mut(chunk_len));
            chunks.enumerate().for_each(|(index, ((a, b), c))| work(index * chunk_len, a, b, c));
        });
    }

    /// Calls `work(index)` for every index below `tasks`, in parallel.
    pub fn for_each_task(&self, tasks: usize, work: impl Fn(usize) + Sync) {
        if self.pool.is_none() || tasks <= 1 {
            (0..tasks).for_each(&work);
            return;
        }
        self.install(|| (0..tasks).into_par_iter().with_max_len(1).for_each(&work));
    }

    /// How many items go to one task, when `items` of `cost_flop` each are shared out: enough tasks to balance the threads, and none so
    /// small that starting it costs more than it saves.
    pub(crate) fn grain(&self, items: usize, cost: usize) -> usize {
        /// Elementary operations that are worth a task of their own: some tens of microseconds.
        const TASK_MIN: usize = 1 << 16;
        if self.threads == 1 {
            return items.max(1);
        }
        let balanced = items.div_ceil(self.threads * 4);
        balanced.max(TASK_MIN.div_ceil(cost.max(1))).max(1)
    }

    /// Calls `work` on ranges that cover `0..items`, in parallel; `cost` is that of one item in elementary operations.
    pub(crate) fn for_each_range(&self, items: usize, cost: usize, work: impl Fn(Range<usize>) + Sync) {
        let grain = self.grain(items, cost);
        self.for_each_task(items.div_ceil(grain), |task| {
            let start = task * grain;
            work(start..(start + grain).min(items));
        });
    }
}

//! A pool for regions of tens of microseconds.
//!
//! An inner step is some hundreds of operations, each shared out among the threads and awaited. What matters is therefore how fast a region
//! starts and ends. The caller is one of the workers; the others watch for the next region for a while before they sleep. Each
//! has its own range of tasks, the same one in every operation of as many tasks, so that what it wrote is still in its cache when
//! it reads it; whoever is done with its own range takes tasks of the others.
//!
//! (Rayon shares out work as finely, but its threads sleep after a few microseconds and any of them may get any range: with it an inner step of `8m`
//! on two threads took about a twentieth longer.)

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often an idle worker looks for work without giving way.
const SPINS: u32 = 2000;
/// How long it goes on looking, giving way to others each time, before it sleeps.
const WATCH: Duration = Duration::from_micros(150);

/// What a region runs: called once on each worker, with its index.
type Region<'a> = &'a (dyn Fn(usize) + Sync);

/// A cache line of its own.
#[repr(align(128))]
struct Line<T>(T);

struct State {
    /// Counts regions; a change is the signal to start.
    epoch: Line<AtomicUsize>,
    /// Helpers that are not done with the present region.
    pending: Line<AtomicUsize>,
    /// Where each worker's range of tasks goes on.
    next: Vec<Line<AtomicUsize>>,
    region: UnsafeCell<Option<Region<'static>>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleepers: Mutex<usize>,
    wake: Condvar,
    stop: AtomicBool,
}

// SAFETY: `region` is written by the one caller that holds the pool, before `epoch` changes, and read by helpers after they saw the
// change and before they count down `pending`, for which the caller waits. Everything else is atomic or locked.
unsafe impl Sync for State {}
// SAFETY: what a region refers to may be used from any thread: it is `Sync`.
unsafe impl Send for State {}

/// Threads that wait for regions to run.
pub(super) struct Pool {
    state: Arc<State>,
    /// Held while a region runs.
    busy: Mutex<()>,
    helpers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.state.next.len()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic runs under these locks but the regions themselves, whose panics are passed on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool of `threads` workers: the caller of a region and `threads - 1` helpers.
    pub(super) fn new(threads: usize) -> std::io::Result<Pool> {
        let state = Arc::new(State {
            epoch: Line(AtomicUsize::new(0)),
            pending: Line(AtomicUsize::new(0)),
            next: (0..threads).map(|_| Line(AtomicUsize::new(0))).collect(),
            region: UnsafeCell::new(None),
            panic: Mutex::new(None),
            sleepers: Mutex::new(0),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let mut pool = Pool { state, busy: Mutex::new(()), helpers: Vec::new() };
        for worker in 1..threads {
            let state = Arc::clone(&pool.state);
            let builder = std::thread::Builder::new().name(format!("kernels-{worker}"));
            // When one does not start, dropping the pool ends the others.
            pool.helpers.push(builder.spawn(move || help(&state, worker))?);
        }
        Ok(pool)
    }

    /// Calls `work(worker)` once on each worker, and returns when all are done. `false`, and nothing has happened, when the pool is in
    /// use: by another thread, or by a region around this call.
    ///
    /// # Panics
    /// When `work` does, on any worker.
    pub(super) fn on_each_worker(&self, work: Region<'_>) -> bool {
        let _busy = match self.busy.try_lock() {
            Ok(guard) => guard,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return false,
        };
        self.region(work);
        true
    }

    /// Calls `work(task)` for every task below `tasks`, shared out; `false` as [`Pool::on_each_worker`].
    pub(super) fn for_each(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) -> bool {
        let _busy = match self.busy.try_lock() {
            Ok(guard) => guard,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return false,
        };
        let next = &self.state.next;
        let threads = next.len();
        let start_of = |worker: usize| worker * tasks / threads;
        for (worker, next) in next.iter().enumerate() {
            next.0.store(start_of(worker), Ordering::Relaxed);
        }
        self.region(&|worker| {
            for victim in (worker..threads).chain(0..worker) {
                let end = start_of(victim + 1);
                // The check before spares a write to a line that others read.
                while next[victim].0.load(Ordering::Relaxed) < end {
                    let task = next[victim].0.fetch_add(1, Ordering::Relaxed);
                    if task < end {
                        work(task);
                    }
                }
            }
        });
        true
    }

    /// Runs a region; the pool must be held.
    fn region(&self, work: Region<'_>) {
        let state = &*self.state;
        // SAFETY: only the lifetime changes. Helpers use the reference only between the change of `epoch` and their counting down of `pending`, and
        // this function returns, or unwinds, only after all have counted down.
        let work_static = unsafe { std::mem::transmute::<Region<'_>, Region<'static>>(work) };
        // SAFETY: the pool is held and no helper is in a region: nobody else uses the cell now.
        unsafe { *state.region.get() = Some(work_static) };
        state.pending.0.store(self.helpers.len(), Ordering::Relaxed);
        state.epoch.0.fetch_add(1, Ordering::SeqCst);
        // Whoever goes to sleep counts itself first and then looks at `epoch` again, both under the lock.
        if *lock(&state.sleepers) > 0 {
            state.wake.notify_all();
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| work(0)));
        let mut spins = 0u32;
        while state.pending.0.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        let of_helper = lock(&state.panic).take();
        if let Some(payload) = outcome.err().or(of_helper) {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        self.state.epoch.0.fetch_add(1, Ordering::SeqCst);
        drop(lock(&self.state.sleepers));
        self.state.wake.notify_all();
        for helper in self.helpers.drain(..) {
            // A helper catches the panics of regions, and has none of its own.
            let _ = helper.join();
        }
    }
}

/// The life of a helper.
fn help(state: &State, worker: usize) {
    let mut seen = 0;
    loop {
        seen = next_epoch(state, seen);
        if state.stop.load(Ordering::SeqCst) {
            return;
        }
        // SAFETY: the epoch changed: the caller wrote the region before, and waits for this helper to count down.
        let region = unsafe { *state.region.get() };
        if let Some(region) = region
            && let Err(payload) = catch_unwind(AssertUnwindSafe(|| region(worker)))
        {
            lock(&state.panic).get_or_insert(payload);
        }
        state.pending.0.fetch_sub(1, Ordering::Release);
    }
}

/// Waits for an epoch other than `seen`.
fn next_epoch(state: &State, seen: usize) -> usize {
    let changed = || Some(state.epoch.0.load(Ordering::Acquire)).filter(|&epoch| epoch != seen);
    for _ in 0..SPINS {
        if let Some(epoch) = changed() {
            return epoch;
        }
        std::hint::spin_loop();
    }
    let start = Instant::now();
    while start.elapsed() < WATCH {
        if let Some(epoch) = changed() {
            return epoch;
        }
        std::thread::yield_now();
    }
    let mut sleepers = lock(&state.sleepers);
    *sleepers += 1;
    loop {
        if let Some(epoch) = changed() {
            *sleepers -= 1;
            return epoch;
        }
        sleepers = state.wake.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_takes_part_and_every_task_runs_once() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads).unwrap();
            for tasks in [0, 1, 2, 7, 100] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                assert!(pool.for_each(tasks, &|task| _ = counts[task].fetch_add(1, Ordering::Relaxed)));
                assert!(
                    counts.iter().all(|count| count.load(Ordering::Relaxed) == 1),
                    "{threads} threads, {tasks} tasks"
                );
            }
            let workers: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            assert!(pool.on_each_worker(&|worker| _ = workers[worker].fetch_add(1, Ordering::Relaxed)));
            assert!(workers.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn helpers_that_sleep_wake_up() {
        let pool = Pool::new(3).unwrap();
        for pause_us in [0, 10, 200, 400, 20_000] {
            for _ in 0..20 {
                std::thread::sleep(Duration::from_micros(pause_us));
                let sum = AtomicUsize::new(0);
                assert!(pool.for_each(10, &|task| _ = sum.fetch_add(task, Ordering::Relaxed)));
                assert_eq!(sum.into_inner(), 45);
            }
        }
    }

    #[test]
    fn a_pool_in_use_is_refused_and_stays_usable() {
        let pool = Pool::new(2).unwrap();
        let refused = AtomicUsize::new(0);
        assert!(
            pool.for_each(4, &|_| _ = refused.fetch_add(usize::from(!pool.for_each(4, &|_| ())), Ordering::Relaxed))
        );
        assert_eq!(refused.into_inner(), 4);
        assert!(pool.for_each(4, &|_| ()));
    }

    #[test]
    fn a_panic_on_any_worker_reaches_the_caller_after_all_are_done() {
        let pool = Pool::new(4).unwrap();
        for bad in 0..4 {
            let done = AtomicUsize::new(0);
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.on_each_worker(&|worker| {
                    assert_ne!(worker, bad, "this one fails");
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }));
            assert!(outcome.is_err());
            assert_eq!(done.into_inner(), 3);
            assert!(pool.for_each(4, &|_| ()));
        }
    }
}

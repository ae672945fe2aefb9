//! Runs the items of a stage: those of this task, in threads; those that were done before are taken as they are, and those of
//! other tasks are waited for.
//!
//! An item that is done leaves a marker, `done/STAGE/ITEM`: a fingerprint of all that decided it, and what it says of its
//! result. The marker is written after everything else of the item, whole or not at all. A build that is killed goes on where the
//! last markers are; one with other settings finds other fingerprints, and does the work again.

use crate::build::{BuildError, Progress};
use crate::bundle::{self, BUNDLE_TEXT_MAX, BUNDLE_TEXT_MIN};
use crate::store::{Store, StoreError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Tasks that share a build at most.
pub const TASKS_MAX: u32 = 1 << 16;

/// Which share of the items is done here: those whose number leaves `index` when divided by `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// This task, from 0.
    pub index: u32,
    /// All tasks.
    pub count: u32,
}

impl Default for Task {
    fn default() -> Self {
        Task { index: 0, count: 1 }
    }
}

impl std::str::FromStr for Task {
    type Err = String;

    /// `i/n`, from 0: `0/4` to `3/4`.
    fn from_str(text: &str) -> Result<Task, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if index < count && count <= TASKS_MAX => Ok(Task { index, count }),
            _ => Err(format!("expected i/n with i from 0 to n-1 and n at most {TASKS_MAX}, as in 0/4")),
        }
    }
}

/// A fingerprint of everything that decides an item's result.
pub type Fingerprint = [u8; 32];

/// A fingerprint of values, given as what serde makes of them.
pub fn fingerprint<T: Serialize>(label: &str, value: &T) -> Fingerprint {
    let mut hasher = blake3::Hasher::new_derive_key("essaim corpus 1: fingerprint of a stage");
    let bytes = bincode::serde::encode_to_vec((label, value), bincode::config::standard());
    match bytes {
        Ok(bytes) => *hasher.update(&bytes).finalize().as_bytes(),
        Err(error) => unreachable!("a value that is no bincode: {error}"),
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Marker<T> {
    fingerprint: Fingerprint,
    outcome: T,
}

/// What stages share.
pub struct Runner<'a> {
    /// Where they meet.
    pub store: Store,
    /// Which items are done here.
    pub task: Task,
    /// Threads that work on items.
    pub threads: usize,
    /// How long to wait for another task's next item.
    pub wait: Duration,
    /// What the threads may hold together, about, bytes: ranges of duplicates take all of it, bundles of documents follow from it. The same
    /// for all tasks of a build, as is the number of threads.
    pub memory: u64,
    /// Told how far each stage is.
    pub progress: &'a dyn Progress,
}

/// An item of a stage.
#[derive(Debug, Clone)]
pub struct Item {
    /// Names it within its stage.
    pub name: String,
    /// Its share of the stage's work, for progress.
    pub weight: u64,
    /// What decides it, beside what the whole stage depends on.
    pub fingerprint: Fingerprint,
}

impl Runner<'_> {
    /// Text after which a bundle ends: a stage holds a bundle for each thread, several times over. Within bounds, as every range of places or
    /// keys reads a piece of every bundle.
    pub fn bundle_text(&self) -> u64 {
        (self.memory / self.threads.max(1) as u64 / 16).clamp(BUNDLE_TEXT_MIN, BUNDLE_TEXT_MAX)
    }

    /// Runs a stage; gives what the items say of their results, in the order of the items. `advance` of the work tells progress in
    /// the unit of the items' weights.
    ///
    /// # Errors
    /// The first error of the work; no new item is begun after it. Waiting in vain for another task is an error, too.
    pub fn run<T: Serialize + DeserializeOwned + Send>(
        &self,
        stage: &str,
        shown: &str,
        items: &[Item],
        work: impl Fn(usize, &dyn Fn(u64)) -> Result<T, BuildError> + Sync,
    ) -> Result<Vec<T>, BuildError> {
        self.progress.stage(shown, Some(items.iter().map(|item| item.weight).sum()));
        let outcomes: Vec<Mutex<Option<T>>> = items.iter().map(|_| Mutex::new(None)).collect();
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let errors = Mutex::new(Vec::new());
        let worker = || {
            while !failed.load(Ordering::Relaxed) {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(i) else { return };
                match self.item(stage, i, item, &work) {
                    Ok(outcome) => put(&outcomes[i], outcome),
                    Err(error) => {
                        failed.store(true, Ordering::Relaxed);
                        if let Ok(mut errors) = errors.lock() {
                            errors.push((i, error));
                        }
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..self.threads.min(items.len())).map(|_| scope.spawn(worker)).collect();
            worker();
            others.into_iter().for_each(|other| drop(other.join()));
        });
        let mut errors = errors.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        errors.sort_by_key(|(i, _)| *i);
        if let Some((_, error)) = errors.into_iter().next() {
            return Err(error);
        }
        let mut done = Vec::with_capacity(items.len());
        for (outcome, item) in outcomes.into_iter().zip(items) {
            match outcome.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
                Some(outcome) => done.push(outcome),
                None => done.push(self.wait_for(stage, item)?),
            }
        }
        Ok(done)
    }

    /// An item's outcome: `None` when another task does it and has not yet.
    fn item<T: Serialize + DeserializeOwned>(
        &self,
        stage: &str,
        i: usize,
        item: &Item,
        work: &(impl Fn(usize, &dyn Fn(u64)) -> Result<T, BuildError> + Sync),
    ) -> Result<Option<T>, BuildError> {
        if let Some(outcome) = self.marker(stage, item)? {
            self.progress.advance(item.weight);
            return Ok(Some(outcome));
        }
        if i as u64 % u64::from(self.task.count) != u64::from(self.task.index) {
            return Ok(None);
        }
        // What the work tells of its progress is cut to the item's weight, and filled up to it at its end.
        let told = std::sync::atomic::AtomicU64::new(0);
        let advance = |done: u64| {
            let before = told.fetch_add(done, Ordering::Relaxed);
            self.progress.advance(done.min(item.weight.saturating_sub(before)));
        };
        let outcome = work(i, &advance)?;
        self.progress.advance(item.weight.saturating_sub(told.load(Ordering::Relaxed)));
        let marker = Marker { fingerprint: item.fingerprint, outcome };
        bundle::put(&self.store, &marker_name(stage, item), &marker)?;
        Ok(Some(marker.outcome))
    }

    fn marker<T: DeserializeOwned>(&self, stage: &str, item: &Item) -> Result<Option<T>, StoreError> {
        match self.store.get(&marker_name(stage, item)) {
            // A marker that does not read is one of another version: the work is done again.
            Ok(bytes) => Ok(bundle::unpack::<Marker<T>>(&bytes)
                .ok()
                .filter(|marker| marker.fingerprint == item.fingerprint)
                .map(|marker| marker.outcome)),
            Err(StoreError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn wait_for<T: DeserializeOwned>(&self, stage: &str, item: &Item) -> Result<T, BuildError> {
        let began = Instant::now();
        loop {
            if let Some(outcome) = self.marker(stage, item)? {
                self.progress.advance(item.weight);
                return Ok(outcome);
            }
            if began.elapsed() >= self.wait {
                let (stage, item) = (stage.to_owned(), item.name.clone());
                return Err(BuildError::Waited { stage, item, seconds: self.wait.as_secs(), tasks: self.task.count });
            }
            std::thread::sleep(Duration::from_millis(200).min(self.wait));
        }
    }
}

fn marker_name(stage: &str, item: &Item) -> String {
    format!("done/{stage}/{}", item.name)
}

fn put<T>(slot: &Mutex<Option<T>>, outcome: Option<T>) {
    if let Ok(mut slot) = slot.lock() {
        *slot = outcome;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    fn items(count: usize, salt: u8) -> Vec<Item> {
        let item = |i: usize| Item { name: format!("{i:03}"), weight: 1, fingerprint: fingerprint("t", &(i, salt)) };
        (0..count).map(item).collect()
    }

    fn runner(store: &Store, task: Task) -> Runner<'static> {
        Runner { store: store.clone(), task, threads: 3, wait: Duration::from_secs(20), memory: 1 << 30, progress: &() }
    }

    #[test]
    fn what_is_done_is_not_done_again_unless_settings_change() {
        let store = Store::in_memory().unwrap();
        let runner = runner(&store, Task::default());
        let worked = AtomicU32::new(0);
        let square = |i: usize, _: &dyn Fn(u64)| -> Result<u64, BuildError> {
            worked.fetch_add(1, Ordering::Relaxed);
            Ok((i * i) as u64)
        };
        let squares: Vec<u64> = (0..50).map(|i| i * i).collect();
        assert_eq!(runner.run("squares", "", &items(50, 0), square).unwrap(), squares);
        assert_eq!(runner.run("squares", "", &items(50, 0), square).unwrap(), squares);
        assert_eq!(worked.load(Ordering::Relaxed), 50);
        store.put("done/squares/007", vec![1, 2, 3]).unwrap();
        assert_eq!(runner.run("squares", "", &items(50, 0), square).unwrap(), squares);
        assert_eq!(worked.load(Ordering::Relaxed), 51);
        assert_eq!(runner.run("squares", "", &items(50, 1), square).unwrap(), squares);
        assert_eq!(worked.load(Ordering::Relaxed), 101);
    }

    #[test]
    fn an_error_stops_the_stage_and_the_next_run_goes_on() {
        let store = Store::in_memory().unwrap();
        let runner = Runner { threads: 1, ..runner(&store, Task::default()) };
        let fails = |i: usize, _: &dyn Fn(u64)| match i {
            20 => Err(BuildError::Store(store.damaged("x", "test"))),
            i => Ok(i as u64),
        };
        assert!(matches!(runner.run("s", "", &items(50, 0), fails), Err(BuildError::Store(_))));
        let rest = |i: usize, _: &dyn Fn(u64)| {
            assert!(i >= 20);
            Ok(i as u64)
        };
        assert_eq!(runner.run("s", "", &items(50, 0), rest).unwrap(), (0..50).collect::<Vec<u64>>());
    }

    #[test]
    fn tasks_share_the_items_and_wait_for_each_other() {
        let store = Store::in_memory().unwrap();
        let worked = AtomicU32::new(0);
        let run = |task: Task| {
            let work = |i: usize, _: &dyn Fn(u64)| {
                assert_eq!(i as u32 % 4, task.index);
                worked.fetch_add(1, Ordering::Relaxed);
                Ok(i as u64)
            };
            runner(&store, task).run("s", "", &items(30, 0), work).unwrap()
        };
        std::thread::scope(|scope| {
            let tasks: Vec<_> = (0..4).map(|index| scope.spawn(move || run(Task { index, count: 4 }))).collect();
            tasks.into_iter().for_each(|task| assert_eq!(task.join().unwrap(), (0..30).collect::<Vec<u64>>()));
        });
        assert_eq!(worked.load(Ordering::Relaxed), 30);
        let alone = Runner { wait: Duration::from_millis(300), ..runner(&store, Task { index: 1, count: 4 }) };
        let waited = alone.run("t", "", &items(3, 0), |i, _| Ok(i as u64)).unwrap_err().to_string();
        assert!(waited.starts_with("task 000 of stage t"), "{waited}");
    }

    #[test]
    fn a_task_is_written_as_a_fraction() {
        assert_eq!("3/4".parse::<Task>().unwrap(), Task { index: 3, count: 4 });
        for wrong in ["", "4/4", "1", "-1/4", "0/0", "1/99999"] {
            assert!(wrong.parse::<Task>().is_err(), "{wrong}");
        }
    }
}

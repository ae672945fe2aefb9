//! Chains that go on from one worker to the next.
//!
//! The gradient of a weight is one chain over all tokens. Splitting the weights among the workers makes every worker read every token; and what
//! another worker wrote comes slowly, most of all where their cores share no cache. Here each worker has a part of the tokens instead. It
//! continues all chains where the worker of the part before left them, block of weights by block, and does what depends on its own tokens alone in
//! the meantime. The order of every chain is that of the tokens, as ever.

use super::Exec;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most parts.
pub(crate) const PARTS_MAX: usize = 16;
/// How often a worker looks whether it is its turn without giving way.
const SPINS: u32 = 2000;

/// How far a part has come, on a cache line of its own; everything, once it is done.
#[repr(align(128))]
#[derive(Default)]
struct Progress(AtomicUsize);

/// Leaves a part's progress at its end, also when the part ends by a panic: else the next would wait for ever. Not before the part before is done,
/// though: the next must not go on where that still works.
struct Done<'a>(&'a Turn<'a>);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.wait(usize::MAX);
        self.0.own.0.store(usize::MAX, Ordering::Release);
    }
}

/// A part's place among the others.
pub(crate) struct Turn<'a> {
    /// Of the part before.
    before: Option<&'a Progress>,
    own: &'a Progress,
    parts: usize,
}

impl Turn<'_> {
    /// How many parts there are.
    pub(crate) fn parts(&self) -> usize {
        self.parts
    }

    /// Whether the part before has passed on anything.
    fn has_come(&self) -> bool {
        self.before.is_none_or(|before| before.0.load(Ordering::Acquire) > 0)
    }

    /// Runs `work` when the part before has passed on everything below `end`, and passes that on.
    pub(crate) fn take(&self, end: usize, work: impl FnOnce()) {
        self.wait(end);
        work();
        self.own.0.store(end, Ordering::Release);
    }

    fn wait(&self, end: usize) {
        let Some(before) = self.before else { return };
        let mut spins = 0u32;
        while before.0.load(Ordering::Acquire) < end {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

impl Exec {
    /// Into how many parts `items` of `cost` elementary operations each are cut, for chains through all of them.
    pub(crate) fn parts(&self, items: usize, cost: usize) -> usize {
        self.threads.min(PARTS_MAX).min(items.div_ceil(self.grain(items, cost))).max(1)
    }

    /// Calls `chain(part, turn)` once for each of `parts` parts, at the same time as far as turns allow; what it
    /// touches, it takes in turn. `rest(part, share)` is called for each share below `parts`: before the chain, as long as the part
    /// before has passed on nothing, and after it.
    ///
    /// # Panics
    /// When there are more than [`PARTS_MAX`] parts, or than threads.
    pub(crate) fn in_turns(
        &self,
        parts: usize,
        chain: impl Fn(usize, &Turn<'_>) + Sync,
        rest: impl Fn(usize, usize) + Sync,
    ) {
        let progress: [Progress; PARTS_MAX] = std::array::from_fn(|_| Progress::default());
        // With more, the parts that a panicking worker leaves undone could be those that others wait for.
        assert!(parts <= PARTS_MAX.min(self.threads), "{parts} parts on {} threads", self.threads);
        // A task waits for those before it only: they are begun before it or by another worker.
        self.for_each_task(parts, |part| {
            let turn =
                Turn { before: part.checked_sub(1).map(|before| &progress[before]), own: &progress[part], parts };
            let done = Done(&turn);
            let mut share = 0;
            while share < parts && !turn.has_come() {
                rest(part, share);
                share += 1;
            }
            chain(part, &turn);
            drop(done);
            (share..parts).for_each(|share| rest(part, share));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Path;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Mutex;

    #[test]
    fn chains_go_through_the_parts_in_order_and_the_rest_is_done_once() {
        for (threads, parts) in [(1, 1), (2, 1), (2, 2), (3, 3), (5, 4), (16, 16)] {
            let exec = Exec::new(Path::Portable, threads).unwrap();
            let blocks: Vec<Mutex<Vec<usize>>> = (0..4).map(|_| Mutex::default()).collect();
            let rest: Vec<Mutex<Vec<usize>>> = (0..parts).map(|_| Mutex::default()).collect();
            let chain = |part: usize, turn: &Turn<'_>| {
                assert_eq!(turn.parts(), parts);
                for (block, order) in blocks.iter().enumerate() {
                    turn.take(block + 1, || order.lock().unwrap().push(part));
                }
            };
            exec.in_turns(parts, chain, |part, share| rest[part].lock().unwrap().push(share));
            let all: Vec<usize> = (0..parts).collect();
            assert!(blocks.iter().all(|order| *order.lock().unwrap() == all), "{threads} threads, {parts} parts");
            assert!(rest.iter().all(|shares| *shares.lock().unwrap() == all), "{threads} threads, {parts} parts");
        }
    }

    #[test]
    fn a_panic_in_one_part_leaves_nobody_waiting() {
        let exec = Exec::new(Path::Portable, 3).unwrap();
        for bad in 0..3 {
            let chain = |part: usize, turn: &Turn<'_>| {
                turn.take(1, || assert_ne!(part, bad, "this one fails"));
            };
            assert!(catch_unwind(AssertUnwindSafe(|| exec.in_turns(3, chain, |_, _| ()))).is_err());
        }
    }
}

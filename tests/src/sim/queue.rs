//! The virtual clock: events in the order of their time; of two at one time, the one put in first.

use std::collections::BTreeMap;

/// Events that are to come.
#[derive(Debug)]
pub struct Queue<E> {
    now_ms: u64,
    count: u64,
    events: BTreeMap<(u64, u64), E>,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Queue { now_ms: 0, count: 0, events: BTreeMap::new() }
    }
}

impl<E> Queue<E> {
    /// The time of the event taken last.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Events put in so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Puts in an event, `after_ms` from now.
    pub fn push(&mut self, after_ms: u64, event: E) {
        self.push_at(self.now_ms + after_ms, event);
    }

    /// Puts in an event at a time, or now if that is over.
    pub fn push_at(&mut self, at_ms: u64, event: E) {
        self.count += 1;
        self.events.insert((at_ms.max(self.now_ms), self.count), event);
    }

    /// Takes the next event, and goes to its time.
    pub fn pop(&mut self) -> Option<E> {
        let ((at_ms, _), event) = self.events.pop_first()?;
        self.now_ms = at_ms;
        Some(event)
    }
}

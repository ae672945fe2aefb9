//! How the work of one operation is shared out.

use super::Exec;
use crate::cpu::Shared;
use std::ops::Range;

/// The rows of a tensor, for tasks that take different ones.
pub(crate) struct Rows<'a, T> {
    start: Shared<T>,
    len: usize,
    width: usize,
    borrowed: std::marker::PhantomData<&'a ()>,
}

impl<'a, T: Send> Rows<'a, T> {
    /// Rows of `width` elements; the last may be shorter.
    pub(crate) fn new(data: &'a mut [T], width: usize) -> Rows<'a, T> {
        Rows { start: Shared::new(data.as_mut_ptr()), len: data.len(), width, borrowed: std::marker::PhantomData }
    }

    /// `count` rows from `first` on, as far as there are any.
    ///
    /// # Safety
    /// No row may be asked for twice.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn take(&self, first: usize, count: usize) -> &mut [T] {
        let from = (first * self.width).min(self.len);
        let len = (count * self.width).min(self.len - from);
        // SAFETY: the rows lie within the slice, which is borrowed mutably as long as `self` lives, and no row is given twice.
        unsafe { std::slice::from_raw_parts_mut(self.start.get().add(from), len) }
    }
}

impl Exec {
    /// Calls `work(start, chunk)` for consecutive chunks of `chunk_len` elements of `data` (the last may be shorter), in parallel.
    /// `start` is the index of the chunk's first element.
    ///
    /// # Panics
    /// When `chunk_len` is zero.
    pub fn for_each_chunk<T: Send>(&self, data: &mut [T], chunk_len: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        self.for_each_chunks([data], chunk_len, |start, [chunk]| work(start, chunk));
    }

    /// As [`Exec::for_each_chunk`], over several slices of one length.
    ///
    /// # Panics
    /// When `chunk_len` is zero or the lengths differ.
    pub fn for_each_chunks<T: Send, const N: usize>(
        &self,
        slices: [&mut [T]; N],
        chunk_len: usize,
        work: impl Fn(usize, [&mut [T]; N]) + Sync,
    ) {
        self.for_each_rows(slices.map(|slice| (slice, 1)), chunk_len, work);
    }

    /// Calls `work(row, blocks)` for consecutive blocks of `rows` rows (the last may be shorter) of tensors with as many rows, each given
    /// with its width, in parallel. `row` is the index of the blocks' first row.
    ///
    /// # Panics
    /// When `rows` or a width is zero, or the tensors have different numbers of rows.
    pub fn for_each_rows<T: Send, const N: usize>(
        &self,
        tensors: [(&mut [T], usize); N],
        rows: usize,
        work: impl Fn(usize, [&mut [T]; N]) + Sync,
    ) {
        assert!(rows > 0 && tensors.iter().all(|(_, width)| *width > 0), "blocks of zero elements");
        let counts = tensors.each_ref().map(|(data, width)| data.len().div_ceil(*width));
        let count = counts.first().copied().unwrap_or(0);
        let whole = tensors.iter().all(|(data, width)| data.len() == count * width);
        assert!(whole, "tensors with different numbers of rows: {counts:?}");
        let tensors = tensors.map(|(data, width)| Rows::new(data, width));
        self.for_each_task(count.div_ceil(rows), |task| {
            let first = task * rows;
            // SAFETY: each task runs once.
            work(first, tensors.each_ref().map(|tensor| unsafe { tensor.take(first, rows) }));
        });
    }

    /// Calls `work(index)` for every index below `tasks`, in parallel: each worker the same range of them every time, as far as all are
    /// equally fast. Within a task, and while another thread uses this context, operations run on the calling thread alone.
    pub fn for_each_task(&self, tasks: usize, work: impl Fn(usize) + Sync) {
        let shared_out = tasks > 1 && self.pool.as_ref().is_some_and(|pool| pool.for_each(tasks, &work));
        if !shared_out {
            (0..tasks).for_each(&work);
        }
    }

    /// How many items go to one task, when `items` of `cost` elementary operations each are shared out: as many tasks for each thread,
    /// and none so small that starting it costs more than it saves.
    pub(crate) fn grain(&self, items: usize, cost: usize) -> usize {
        /// Elementary operations that are worth a task of their own: some tens of microseconds.
        const TASK_MIN: usize = 1 << 15;
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

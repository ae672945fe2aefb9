//! How the work of one operation is shared out.

use super::Exec;
use crate::cpu::Shared;
use std::ops::Range;

/// A slice in parts of one length (the last may be shorter), for tasks that take one part each.
struct Parts<'a, T> {
    start: Shared<T>,
    len: usize,
    part_len: usize,
    borrowed: std::marker::PhantomData<&'a ()>,
}

impl<'a, T: Send> Parts<'a, T> {
    fn new(data: &'a mut [T], part_len: usize) -> Parts<'a, T> {
        Parts { start: Shared::new(data.as_mut_ptr()), len: data.len(), part_len, borrowed: std::marker::PhantomData }
    }

    /// Part `index`.
    ///
    /// # Safety
    /// No part may be asked for twice.
    #[allow(clippy::mut_from_ref)]
    unsafe fn take(&self, index: usize) -> &mut [T] {
        let from = (index * self.part_len).min(self.len);
        let len = self.part_len.min(self.len - from);
        // SAFETY: the part lies within the slice, which is borrowed mutably as long as `self` lives, and parts don't overlap.
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
        assert!(chunk_len > 0, "chunks of zero elements");
        let tasks = data.len().div_ceil(chunk_len);
        let parts = Parts::new(data, chunk_len);
        // SAFETY: each task runs once.
        self.for_each_task(tasks, |task| work(task * chunk_len, unsafe { parts.take(task) }));
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
        let tasks = a.len().div_ceil(rows * a_width);
        let (a, b) = (Parts::new(a, rows * a_width), Parts::new(b, rows * b_width));
        // SAFETY: each task runs once.
        self.for_each_task(tasks, |task| unsafe { work(task * rows, a.take(task), b.take(task)) });
    }

    /// As [`Exec::for_each_chunk`], over three slices of one length.
    ///
    /// # Panics
    /// When `chunk_len` is zero or the lengths differ.
    pub fn for_each_chunk3<T: Send>(
        &self,
        a: &mut [T],
        b: &mut [T],
        c: &mut [T],
        chunk_len: usize,
        work: impl Fn(usize, &mut [T], &mut [T], &mut [T]) + Sync,
    ) {
        self.for_each_rows3([(a, 1), (b, 1), (c, 1)], chunk_len, work);
    }

    /// As [`Exec::for_each_rows`], over three tensors.
    ///
    /// # Panics
    /// When `rows` or a width is zero, or the tensors have different numbers of rows.
    pub fn for_each_rows3<T: Send>(
        &self,
        tensors: [(&mut [T], usize); 3],
        rows: usize,
        work: impl Fn(usize, &mut [T], &mut [T], &mut [T]) + Sync,
    ) {
        let [(a, a_width), (b, b_width), (c, c_width)] = tensors;
        assert!(rows > 0 && a_width > 0 && b_width > 0 && c_width > 0, "blocks of zero elements");
        assert!(
            a.len() * b_width == b.len() * a_width && a.len() * c_width == c.len() * a_width,
            "tensors with different numbers of rows"
        );
        let tasks = a.len().div_ceil(rows * a_width);
        let (a, b) = (Parts::new(a, rows * a_width), Parts::new(b, rows * b_width));
        let c = Parts::new(c, rows * c_width);
        // SAFETY: each task runs once.
        self.for_each_task(tasks, |task| unsafe { work(task * rows, a.take(task), b.take(task), c.take(task)) });
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

//! Buffers that live as long as their thread, so that operations allocate nothing once they are warm.

use super::ahead::LINE;
use std::cell::RefCell;

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// A buffer of float32 on a cache line boundary. Its contents are whatever was left there.
pub(crate) struct Scratch {
    lines: Vec<Line>,
    slot: Slot,
}

/// What a buffer is for; each purpose keeps one buffer for each thread.
#[derive(Clone, Copy)]
pub(crate) enum Slot {
    /// A packed right operand: of one product, shared by its threads, or of a thread's part of a layer's gradients.
    PackedB,
    /// A packed block of a left operand.
    PackedA,
    /// All that a head of an attention needs.
    Attention,
    /// Sums of blocks of a long row.
    Sums,
}

const SLOTS: usize = 4;

thread_local! {
    static BUFFERS: RefCell<[Vec<Line>; SLOTS]> = const { RefCell::new([const { Vec::new() }; SLOTS]) };
}

impl Scratch {
    /// A buffer of at least `len` elements: the thread's own, or a fresh one when that is in use.
    pub(crate) fn take(slot: Slot, len: usize) -> Scratch {
        let mut lines = BUFFERS.with(|buffers| std::mem::take(&mut buffers.borrow_mut()[slot as usize]));
        let needed = len.div_ceil(LINE);
        if lines.len() < needed {
            // Nothing in it is needed, so the old goes first; and no more is taken than asked for, as memory is counted.
            lines = Vec::new();
            lines.reserve_exact(needed);
            lines.resize(needed, Line([0.0; LINE]));
        }
        Scratch { lines, slot }
    }

    /// The buffer's first element.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.lines.as_mut_ptr().cast()
    }
}

/// Bytes that this thread keeps for products and attention: packed B, packed A, attention.
#[cfg(test)]
pub(crate) fn held() -> [u64; 3] {
    let bytes =
        |slot: Slot| BUFFERS.with(|buffers| (buffers.borrow()[slot as usize].capacity() * size_of::<Line>()) as u64);
    [Slot::PackedB, Slot::PackedA, Slot::Attention].map(bytes)
}

/// Runs `work` on `len` sums, all +0.
pub(crate) fn with_sums<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut scratch = Scratch::take(Slot::Sums, len);
    // SAFETY: the buffer has at least `len` elements, and is this scratch's own while it lives.
    let sums = unsafe { std::slice::from_raw_parts_mut(scratch.as_mut_ptr(), len) };
    sums.fill(0.0);
    work(sums)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // During a thread's end its buffers may be gone already; then this one simply goes too.
        let _ = BUFFERS.try_with(|buffers| buffers.borrow_mut()[self.slot as usize] = lines);
    }
}

/// A pointer that may be handed to the threads of one operation, which write disjoint parts.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(*mut T);

// SAFETY: whoever makes one promises that threads write disjoint parts only; the pointer itself is plain data.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// A pointer for the threads of one operation.
    pub(crate) fn new(pointer: *mut T) -> Shared<T> {
        Shared(pointer)
    }

    /// The pointer.
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

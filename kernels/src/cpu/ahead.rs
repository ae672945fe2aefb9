//! Fetching the next block of an operand into the cache while the present one is being multiplied.

use super::isa::Isa;

/// Elements of a cache line.
pub(crate) const LINE: usize = 16;

/// What a tile fetches while it is being computed, a few lines every [`Fetch::TERMS`] terms: as many at once as there are buffers for missing
/// lines do not keep the multiplications waiting.
pub(crate) trait Fetch {
    /// Terms from one share to the next.
    const TERMS: usize;

    /// Fetches the next share.
    fn fetch<I: Isa>(&mut self);
}

/// No tile to come is known.
pub(crate) struct Nothing;

impl Fetch for Nothing {
    const TERMS: usize = usize::MAX;

    #[inline(always)]
    fn fetch<I: Isa>(&mut self) {}
}

/// What a product fetches: its next operands and outputs.
pub(crate) struct Stream {
    pub(crate) a: Ahead,
    pub(crate) b: Ahead,
    pub(crate) c: Ahead,
}

impl Stream {
    /// How often a tile of so many terms fetches.
    #[inline(always)]
    pub(crate) fn calls(terms: usize) -> usize {
        terms.div_ceil(Self::TERMS)
    }
}

impl Fetch for Stream {
    const TERMS: usize = 16;

    #[inline(always)]
    fn fetch<I: Isa>(&mut self) {
        self.a.fetch::<I>();
        self.b.fetch::<I>();
        self.c.fetch::<I>();
    }
}

/// A block of rows to come, fetched a few lines at a time. It only hints: nothing is read, and any address is allowed.
pub(crate) struct Ahead {
    row: *const f32,
    stride: usize,
    lines_in_row: usize,
    line: usize,
    left: usize,
    /// Lines to fetch each time.
    share: usize,
}

impl Ahead {
    /// A block of `rows` × `cols` at distance `stride`, fetched evenly over `calls` calls.
    #[inline(always)]
    pub(crate) fn new(block: *const f32, stride: usize, rows: usize, cols: usize, calls: usize) -> Ahead {
        let lines_in_row = cols.div_ceil(LINE);
        let left = rows * lines_in_row;
        Ahead { row: block, stride, lines_in_row, line: 0, left, share: left.div_ceil(calls.max(1)) }
    }

    /// Nothing.
    #[inline(always)]
    pub(crate) fn none() -> Ahead {
        Ahead::new(std::ptr::null(), 0, 0, 0, 1)
    }

    /// Fetches the next share.
    #[inline(always)]
    pub(crate) fn fetch<I: Isa>(&mut self) {
        let lines = self.share.min(self.left);
        self.left -= lines;
        for _ in 0..lines {
            I::prefetch(self.row.wrapping_add(self.line * LINE));
            self.line += 1;
            if self.line == self.lines_in_row {
                self.line = 0;
                self.row = self.row.wrapping_add(self.stride);
            }
        }
    }
}

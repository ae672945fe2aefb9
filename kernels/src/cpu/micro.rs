//! The micro-kernel of every product: a tile of outputs, 6 × 16 or 14 × 32, held in registers while `k` runs.
//!
//! Each output is its own chain over increasing `k`, so the shape of the tile cannot be seen in the result. A triangular part at one end of
//! `k` serves causal attention, where each row of the tile has one term more than the row before.

use super::ahead::{Fetch, Nothing};
use super::isa::{Isa, MR_MAX, NR_MAX};

/// All rows have the same terms.
pub(crate) const FULL: u8 = 0;
/// After the common terms, row `r` has `r` more.
pub(crate) const TAIL: u8 = 1;
/// Row `r` has no term before the `r`-th.
pub(crate) const HEAD: u8 = 2;

/// The operands of one tile. `A` is read at `a + row * a_row + k * a_k`, `B` at `b + k * b_k`, `C` at `c + row * ldc`.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Terms of the first row.
    pub(crate) k: usize,
    pub(crate) a: *const f32,
    /// Distance of A's rows; 1 when `A_BY_K`.
    pub(crate) a_row: usize,
    /// Distance of A's terms; 1 unless `A_BY_K`.
    pub(crate) a_k: usize,
    pub(crate) b: *const f32,
    /// Distance of B's terms: `NR` when packed.
    pub(crate) b_k: usize,
    pub(crate) c: *mut f32,
    pub(crate) ldc: usize,
    /// Whether the chains continue from C, else from +0.
    pub(crate) load: bool,
}

impl Tile {
    /// The tile of the rows from `row` on.
    #[inline(always)]
    unsafe fn below<I: Isa, const A_BY_K: bool, const SHAPE: u8>(self, row: usize) -> Tile {
        let (a_row, a_k) = if A_BY_K { (1, self.a_k) } else { (self.a_row, 1) };
        let skipped = if SHAPE == HEAD { row } else { 0 };
        let more = if SHAPE == TAIL { row } else { 0 };
        // SAFETY: the caller has this row; in a triangle it begins, or ends, as many terms later.
        unsafe {
            Tile {
                k: self.k - skipped + more,
                a: self.a.add(row * a_row + skipped * a_k),
                b: self.b.add(skipped * self.b_k),
                c: self.c.add(row * self.ldc),
                ..self
            }
        }
    }
}

/// Computes a tile of `rows` ≤ `I::MR` and `cols` ≤ `I::NR`.
///
/// # Safety
/// The pointers must be valid for the `rows`, `cols` and terms that the tile and `SHAPE` name; B always has all columns.
#[inline(always)]
pub(crate) unsafe fn tile<I: Isa, const A_BY_K: bool, const SHAPE: u8>(
    rows: usize,
    cols: usize,
    t: Tile,
    ahead: &mut impl Fetch,
) {
    debug_assert!(rows <= I::MR && cols <= I::NR, "a tile of {rows} × {cols}");
    // SAFETY: the caller's promise; a narrow tile is computed in a buffer of full width.
    unsafe {
        if cols == I::NR {
            return tile_rows::<I, A_BY_K, SHAPE>(rows, t, ahead);
        }
        let mut wide = [0.0f32; MR_MAX * NR_MAX];
        if t.load {
            for row in 0..rows {
                std::ptr::copy_nonoverlapping(t.c.add(row * t.ldc), wide.as_mut_ptr().add(row * I::NR), cols);
            }
        }
        tile_rows::<I, A_BY_K, SHAPE>(rows, Tile { c: wide.as_mut_ptr(), ldc: I::NR, ..t }, ahead);
        for row in 0..rows {
            std::ptr::copy_nonoverlapping(wide.as_ptr().add(row * I::NR), t.c.add(row * t.ldc), cols);
        }
    }
}

/// Rows of a tile that go through together: all, or else powers of two.
#[inline(always)]
unsafe fn tile_rows<I: Isa, const A_BY_K: bool, const SHAPE: u8>(rows: usize, t: Tile, ahead: &mut impl Fetch) {
    // SAFETY: the caller's promise.
    unsafe {
        if !I::INLINE_TILES {
            return outlined::<I, A_BY_K, SHAPE>(rows, t);
        }
        let mut row = 0;
        while row < rows {
            let part = t.below::<I, A_BY_K, SHAPE>(row);
            row += match rows - row {
                left if left >= 14 && I::MR >= 14 => part.compute::<I, 14, A_BY_K, SHAPE>(ahead),
                left if left >= 8 && I::MR >= 8 => part.compute::<I, 8, A_BY_K, SHAPE>(ahead),
                left if left >= 6 && I::MR == 6 => part.compute::<I, 6, A_BY_K, SHAPE>(ahead),
                left if left >= 4 => part.compute::<I, 4, A_BY_K, SHAPE>(ahead),
                left if left >= 2 => part.compute::<I, 2, A_BY_K, SHAPE>(ahead),
                _ => part.compute::<I, 1, A_BY_K, SHAPE>(ahead),
            };
        }
    }
}

/// As [`tile_rows`] for code that needs no special instructions: compiled once, with the rows of an incomplete tile one at a time. Where a fused
/// multiply-add is a long sequence in software, holding many rows in registers gains nothing, and all rows go one at a time.
#[inline(never)]
unsafe fn outlined<I: Isa, const A_BY_K: bool, const SHAPE: u8>(rows: usize, t: Tile) {
    // SAFETY: the caller's promise; each row of a triangle has the terms that the whole would give it.
    unsafe {
        if rows == I::MR && I::TALL_TILES {
            t.compute::<I, 6, A_BY_K, SHAPE>(&mut Nothing);
            return;
        }
        for row in 0..rows {
            t.below::<I, A_BY_K, SHAPE>(row).compute::<I, 1, A_BY_K, FULL>(&mut Nothing);
        }
    }
}

#[inline(always)]
fn terms_between<F: Fetch>(_: &F) -> usize {
    F::TERMS
}

impl Tile {
    /// Computes a tile of `ROWS` rows and all columns; gives `ROWS`.
    #[inline(always)]
    unsafe fn compute<I: Isa, const ROWS: usize, const A_BY_K: bool, const SHAPE: u8>(
        self,
        ahead: &mut impl Fetch,
    ) -> usize {
        let t = self;
        let (a_row, a_k) = if A_BY_K { (1, t.a_k) } else { (t.a_row, 1) };
        let (mut a, mut b, mut k) = (t.a, t.b, t.k);
        let mut acc = [[I::splat(0.0); 2]; ROWS];
        // SAFETY: the caller promises that every element read and written below exists.
        unsafe {
            if t.load {
                for (row, sums) in acc.iter_mut().enumerate() {
                    *sums = [I::load(t.c.add(row * t.ldc)), I::load(t.c.add(row * t.ldc + I::LANES))];
                }
            }
            if SHAPE == HEAD {
                for term in 0..ROWS - 1 {
                    let wide = [I::load(b), I::load(b.add(I::LANES))];
                    for (row, sums) in acc.iter_mut().enumerate().take(term + 1) {
                        let x = I::splat(*a.add(row * a_row));
                        *sums = [I::vfma(x, wide[0], sums[0]), I::vfma(x, wide[1], sums[1])];
                    }
                    a = a.add(a_k);
                    b = b.add(t.b_k);
                }
                k -= ROWS - 1;
            }
            while k > 0 {
                ahead.fetch::<I>();
                let terms = k.min(terms_between(ahead));
                for _ in 0..terms {
                    let wide = [I::load(b), I::load(b.add(I::LANES))];
                    for (row, sums) in acc.iter_mut().enumerate() {
                        let x = I::splat(*a.add(row * a_row));
                        *sums = [I::vfma(x, wide[0], sums[0]), I::vfma(x, wide[1], sums[1])];
                    }
                    a = a.add(a_k);
                    b = b.add(t.b_k);
                }
                k -= terms;
            }
            if SHAPE == TAIL {
                for first in 1..ROWS {
                    let wide = [I::load(b), I::load(b.add(I::LANES))];
                    for (row, sums) in acc.iter_mut().enumerate().skip(first) {
                        let x = I::splat(*a.add(row * a_row));
                        *sums = [I::vfma(x, wide[0], sums[0]), I::vfma(x, wide[1], sums[1])];
                    }
                    a = a.add(a_k);
                    b = b.add(t.b_k);
                }
            }
            for (row, sums) in acc.iter().enumerate() {
                I::store(t.c.add(row * t.ldc), sums[0]);
                I::store(t.c.add(row * t.ldc + I::LANES), sums[1]);
            }
        }
        ROWS
    }
}

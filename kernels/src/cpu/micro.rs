//! The micro-kernel of every product: a tile of up to 6 × 16 outputs held in registers while `k` runs.
//!
//! Each output is its own chain over increasing `k`, so the shape of the tile cannot be seen in the result. A triangular part at one end of
//! `k` serves causal attention, where each row of the tile has one term more than the row before.

use super::isa::Isa;

/// Rows of a tile.
pub(crate) const MR: usize = 6;
/// Columns of a tile: two vectors of eight.
pub(crate) const NR: usize = 16;

/// All rows have the same terms.
pub(crate) const FULL: u8 = 0;
/// After the common terms, row `r` has `r` more.
pub(crate) const TAIL: u8 = 1;
/// Row `r` has no term before the `r`-th.
pub(crate) const HEAD: u8 = 2;

/// The operands of one tile. `A` is read at `a + row * a_row + k * a_k`, packed `B` at `b + k * NR`, `C` at `c + row * ldc`.
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
    pub(crate) c: *mut f32,
    pub(crate) ldc: usize,
    /// Whether the chains continue from C, else from +0.
    pub(crate) load: bool,
}

/// Computes a tile of `rows` ≤ 6 and `cols` ≤ 16.
///
/// # Safety
/// The pointers must be valid for the `rows`, `cols` and terms that the tile and `SHAPE` name; packed B always has 16 columns.
#[inline(always)]
pub(crate) unsafe fn tile<I: Isa, const A_BY_K: bool, const SHAPE: u8>(rows: usize, cols: usize, t: Tile) {
    // SAFETY: the caller's promise; a narrow tile is computed in a buffer of full width.
    unsafe {
        if cols == NR {
            return tile_rows::<I, A_BY_K, SHAPE>(rows, t);
        }
        let mut wide = [0.0f32; MR * NR];
        if t.load {
            for row in 0..rows {
                std::ptr::copy_nonoverlapping(t.c.add(row * t.ldc), wide.as_mut_ptr().add(row * NR), cols);
            }
        }
        tile_rows::<I, A_BY_K, SHAPE>(rows, Tile { c: wide.as_mut_ptr(), ldc: NR, ..t });
        for row in 0..rows {
            std::ptr::copy_nonoverlapping(wide.as_ptr().add(row * NR), t.c.add(row * t.ldc), cols);
        }
    }
}

#[inline(always)]
unsafe fn tile_rows<I: Isa, const A_BY_K: bool, const SHAPE: u8>(rows: usize, t: Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        if !I::INLINE_TILES {
            return outlined::<I, A_BY_K, SHAPE>(rows, t);
        }
        match rows {
            6 => tile_of::<I, 6, A_BY_K, SHAPE>(t),
            5 => tile_of::<I, 5, A_BY_K, SHAPE>(t),
            4 => tile_of::<I, 4, A_BY_K, SHAPE>(t),
            3 => tile_of::<I, 3, A_BY_K, SHAPE>(t),
            2 => tile_of::<I, 2, A_BY_K, SHAPE>(t),
            1 => tile_of::<I, 1, A_BY_K, SHAPE>(t),
            _ => unreachable!("a tile has 1 to 6 rows, not {rows}"),
        }
    }
}

/// As [`tile_rows`] for code that needs no special instructions: compiled once, with the rows of an incomplete tile one at a time. Where a fused
/// multiply-add is a long sequence in software, holding many rows in registers gains nothing, and all rows go one at a time.
#[inline(never)]
unsafe fn outlined<I: Isa, const A_BY_K: bool, const SHAPE: u8>(rows: usize, t: Tile) {
    // SAFETY: the caller's promise; each row of a triangle has the terms that the whole would give it.
    unsafe {
        if rows == MR && I::TALL_TILES {
            return tile_of::<I, MR, A_BY_K, SHAPE>(t);
        }
        let (a_row, a_k) = if A_BY_K { (1, t.a_k) } else { (t.a_row, 1) };
        for row in 0..rows {
            let (mut one, skipped) = (t, if SHAPE == HEAD { row } else { 0 });
            one.a = t.a.add(row * a_row + skipped * a_k);
            one.b = t.b.add(skipped * NR);
            one.c = t.c.add(row * t.ldc);
            one.k = t.k - skipped + if SHAPE == TAIL { row } else { 0 };
            tile_of::<I, 1, A_BY_K, FULL>(one);
        }
    }
}

#[inline(always)]
unsafe fn tile_of<I: Isa, const ROWS: usize, const A_BY_K: bool, const SHAPE: u8>(t: Tile) {
    let (a_row, a_k) = if A_BY_K { (1, t.a_k) } else { (t.a_row, 1) };
    let (mut a, mut b, mut k) = (t.a, t.b, t.k);
    let mut acc = [[I::splat(0.0); 2]; ROWS];
    // SAFETY: the caller promises that every element read and written below exists.
    unsafe {
        if t.load {
            for (row, sums) in acc.iter_mut().enumerate() {
                *sums = [I::load(t.c.add(row * t.ldc)), I::load(t.c.add(row * t.ldc + 8))];
            }
        }
        if SHAPE == HEAD {
            for term in 0..ROWS - 1 {
                let wide = [I::load(b), I::load(b.add(8))];
                for (row, sums) in acc.iter_mut().enumerate().take(term + 1) {
                    let x = I::splat(*a.add(row * a_row));
                    *sums = [I::vfma(x, wide[0], sums[0]), I::vfma(x, wide[1], sums[1])];
                }
                a = a.add(a_k);
                b = b.add(NR);
            }
            k -= ROWS - 1;
        }
        for _ in 0..k {
            let wide = [I::load(b), I::load(b.add(8))];
            for (row, sums) in acc.iter_mut().enumerate() {
                let x = I::splat(*a.add(row * a_row));
                *sums = [I::vfma(x, wide[0], sums[0]), I::vfma(x, wide[1], sums[1])];
            }
            a = a.add(a_k);
            b = b.add(NR);
        }
        if SHAPE == TAIL {
            for first in 1..ROWS {
                let wide = [I::load(b), I::load(b.add(8))];
                for (row, sums) in acc.iter_mut().enumerate().skip(first) {
                    let x = I::splat(*a.add(row * a_row));
                    *sums = [I::vfma(x, wide[0], sums[0]), I::vfma(x, wide[1], sums[1])];
                }
                a = a.add(a_k);
                b = b.add(NR);
            }
        }
        for (row, sums) in acc.iter().enumerate() {
            I::store(t.c.add(row * t.ldc), sums[0]);
            I::store(t.c.add(row * t.ldc + 8), sums[1]);
        }
    }
}

//! Operands copied into the order in which the micro-kernel reads them. Copies change no value.

use super::isa::Isa;
use super::micro::{MR, NR};

/// Sixteen columns of `B[k, n]` (row-major, `b` at the first of them) as `target[k][16]`; columns from `cols` on become zero.
///
/// # Safety
/// `b` must hold `k` rows of `cols` elements at stride `ldb`, `target` `k * 16`.
#[inline(always)]
pub(crate) unsafe fn pack_b_rows(b: *const f32, ldb: usize, k: usize, cols: usize, target: *mut f32) {
    for p in 0..k {
        // SAFETY: row `p` lies within what the caller promises.
        unsafe {
            let (source, target) = (b.add(p * ldb), target.add(p * NR));
            if cols == NR {
                std::ptr::copy_nonoverlapping(source, target, NR);
            } else {
                std::ptr::write_bytes(target, 0, NR);
                std::ptr::copy_nonoverlapping(source, target, cols);
            }
        }
    }
}

/// Sixteen columns of `Bᵀ`, that is up to sixteen rows of `B[n, k]` (`b` at the first of them), as `target[k][16]`; missing rows become zero.
///
/// # Safety
/// `b` must hold `cols` rows of `k` elements at stride `ldb`, `target` `k * 16`.
#[inline(always)]
pub(crate) unsafe fn pack_b_columns<I: Isa>(b: *const f32, ldb: usize, k: usize, cols: usize, target: *mut f32) {
    // SAFETY: every index below lies within what the caller promises.
    unsafe {
        let whole = if cols == NR { k / 8 * 8 } else { 0 };
        // Sixteen terms of eight rows at a time: whole cache lines, and no more rows than a set of the cache has ways.
        for start in (0..whole).step_by(16) {
            for half in [0, 8] {
                for p in (start..whole.min(start + 16)).step_by(8) {
                    let source = b.add(half * ldb + p);
                    let mut rows = [I::splat(0.0); 8];
                    for (row, v) in rows.iter_mut().enumerate() {
                        *v = I::load(source.add(row * ldb));
                    }
                    for (row, v) in I::transpose(rows).into_iter().enumerate() {
                        I::store(target.add((p + row) * NR + half), v);
                    }
                }
            }
        }
        for p in whole..k {
            for col in 0..NR {
                *target.add(p * NR + col) = if col < cols { *b.add(col * ldb + p) } else { 0.0 };
            }
        }
    }
}

/// Distance between rows of a row-major packed block of A with `k` terms: 16 more than needed, so that the rows of a tile don't fall
/// into one set of the cache.
pub(crate) fn a_row_stride(k: usize) -> usize {
    k.next_multiple_of(16) + 16
}

/// Distance between tiles of a block of A packed by `k`: six for each term, and room for the two that the last store writes too many.
pub(crate) fn a_tile_stride(k: usize) -> usize {
    (k * MR + 2).next_multiple_of(16)
}

/// Elements that a packed block of A of either kind takes.
pub(crate) fn a_block_len(rows: usize, k: usize) -> usize {
    (rows * a_row_stride(k)).max(rows.div_ceil(MR) * a_tile_stride(k))
}

/// `rows` rows of `A[m, k]` at stride [`a_row_stride`].
///
/// # Safety
/// `a` must hold `rows` rows of `k` elements at stride `lda`, `target` [`a_block_len`] elements.
#[inline(always)]
pub(crate) unsafe fn pack_a_rows(a: *const f32, lda: usize, rows: usize, k: usize, target: *mut f32) {
    let stride = a_row_stride(k);
    for row in 0..rows {
        // SAFETY: the row lies within what the caller promises.
        unsafe { std::ptr::copy_nonoverlapping(a.add(row * lda), target.add(row * stride), k) };
    }
}

/// `rows` columns of `A` stored `[k, m]`, as tiles `[k][6]` at stride [`a_tile_stride`].
///
/// # Safety
/// `a` must hold `k` rows of `rows` elements at stride `lda`, `target` [`a_block_len`] elements.
#[inline(always)]
pub(crate) unsafe fn pack_a_columns<I: Isa>(a: *const f32, lda: usize, rows: usize, k: usize, target: *mut f32) {
    let stride = a_tile_stride(k);
    // Tiles of which eight elements may be read: the two too many go where the next term, or the padding, is written later.
    let wide = if rows >= 8 { (rows - 8) / MR + 1 } else { 0 };
    for p in 0..k {
        // Rows lie in different pages, where the CPU does not look ahead by itself.
        for at in (0..rows).step_by(16) {
            I::prefetch(a.wrapping_add((p + 8) * lda + at));
        }
        // SAFETY: the reads stay within row `p`; the stores stay within their tile's stride.
        unsafe {
            let source = a.add(p * lda);
            for tile in 0..wide {
                I::store(target.add(tile * stride + p * MR), I::load(source.add(tile * MR)));
            }
            for row in wide * MR..rows {
                *target.add(row / MR * stride + p * MR + row % MR) = *source.add(row);
            }
        }
    }
}

//! Operands copied into the order in which the micro-kernel reads them. Copies change no value.

use super::isa::Isa;

/// A panel's columns of `B[k, n]` (row-major, `b` at the first of them) as `target[k][I::NR]`; columns from `cols` on become zero.
///
/// # Safety
/// `b` must hold `k` rows of `cols` elements at stride `ldb`, `target` `k * I::NR`.
#[inline(always)]
pub(crate) unsafe fn pack_b_rows<I: Isa>(b: *const f32, ldb: usize, k: usize, cols: usize, target: *mut f32) {
    for p in 0..k {
        // SAFETY: row `p` lies within what the caller promises.
        unsafe {
            let (source, target) = (b.add(p * ldb), target.add(p * I::NR));
            if cols == I::NR {
                std::ptr::copy_nonoverlapping(source, target, I::NR);
            } else {
                std::ptr::write_bytes(target, 0, I::NR);
                std::ptr::copy_nonoverlapping(source, target, cols);
            }
        }
    }
}

/// A panel's columns of `Bᵀ`, that is up to `I::NR` rows of `B[n, k]` (`b` at the first of them), as `target[k][I::NR]`; missing rows become zero.
///
/// # Safety
/// `b` must hold `cols` rows of `k` elements at stride `ldb`, `target` `k * I::NR`.
#[inline(always)]
pub(crate) unsafe fn pack_b_columns<I: Isa>(b: *const f32, ldb: usize, k: usize, cols: usize, target: *mut f32) {
    // SAFETY: every index below lies within what the caller promises.
    unsafe {
        let whole = if cols == I::NR { k / 8 * 8 } else { 0 };
        // Sixteen terms of eight rows at a time: whole cache lines, and no more rows than a set of the cache has ways.
        for start in (0..whole).step_by(16) {
            for left in (0..I::NR).step_by(8) {
                for p in (start..whole.min(start + 16)).step_by(8) {
                    I::transpose(b.add(left * ldb + p), ldb, target.add(p * I::NR + left), I::NR);
                }
            }
        }
        for p in whole..k {
            for col in 0..I::NR {
                *target.add(p * I::NR + col) = if col < cols { *b.add(col * ldb + p) } else { 0.0 };
            }
        }
    }
}

/// Distance between rows of a row-major packed block of A with `k` terms: 16 more than needed, so that the rows of a tile don't fall
/// into one set of the cache.
pub(crate) fn a_row_stride(k: usize) -> usize {
    k.next_multiple_of(16) + 16
}

/// Distance between tiles of a block of A packed by `k`: a tile's rows for each term, and room for the two that the last store writes too many.
pub(crate) fn a_tile_stride(tile_rows: usize, k: usize) -> usize {
    (k * tile_rows + 2).next_multiple_of(16)
}

/// Elements that a packed block of A of either kind takes.
pub(crate) fn a_block_len(tile_rows: usize, rows: usize, k: usize) -> usize {
    (rows * a_row_stride(k)).max(rows.div_ceil(tile_rows) * a_tile_stride(tile_rows, k))
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

/// `rows` columns of `A` stored `[k, m]`, as tiles `[k][I::MR]` at stride [`a_tile_stride`].
///
/// # Safety
/// `a` must hold `k` rows of `rows` elements at stride `lda`, `target` [`a_block_len`] elements.
#[inline(always)]
pub(crate) unsafe fn pack_a_columns<I: Isa>(a: *const f32, lda: usize, rows: usize, k: usize, target: *mut f32) {
    const { assert!(I::LANES == I::MR + 2, "a vector holds the rows of a tile and two more") };
    let stride = a_tile_stride(I::MR, k);
    // Tiles of which a vector may be read: the two too many go where the next term, or the padding, is written later.
    let wide = if rows >= I::LANES { (rows - I::LANES) / I::MR + 1 } else { 0 };
    for p in 0..k {
        // Rows lie in different pages, where the CPU does not look ahead by itself.
        for at in (0..rows).step_by(16) {
            I::prefetch(a.wrapping_add((p + 8) * lda + at));
        }
        // SAFETY: the reads stay within row `p`; the stores stay within their tile's stride.
        unsafe {
            let source = a.add(p * lda);
            for tile in 0..wide {
                I::store(target.add(tile * stride + p * I::MR), I::load(source.add(tile * I::MR)));
            }
            for row in wide * I::MR..rows {
                *target.add(row / I::MR * stride + p * I::MR + row % I::MR) = *source.add(row);
            }
        }
    }
}

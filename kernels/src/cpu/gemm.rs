//! The blocked matrix product.
//!
//! B is packed once, by all threads, and shared. Then tasks, each a block of rows times a block of columns of C, run through `k` in
//! blocks of 384: pack a block of A, multiply it with every panel of B, and carry C through memory to the next block. None of
//! this can be seen in the bits, since each output remains one chain over increasing `k`.

use std::ops::Range;

use super::ahead::{Ahead, LINE};
use super::isa::{Isa, simd_fn, tile_size};
use super::micro::{FULL, Tile, tile};
use super::pack::{a_block_len, a_row_stride, a_tile_stride, pack_a_columns, pack_a_rows, pack_b_columns, pack_b_rows};
use super::scratch::{Scratch, Shared, Slot};
use crate::exec::Exec;
use crate::gemm::{GemmShape, Layout};

/// Terms of a block: a panel of B stays in the first-level cache when it is 16 columns wide, else in the second. Others from 192 to
/// 512 were no faster.
const KC: usize = 384;
/// Rows of a block of A, at most: 252 × 400 elements take 400 KiB of the second-level cache.
const MC: usize = 252;
/// Elements of B packed at a time, at most: bounds the buffer to 64 MiB.
const PACKED_B_MAX: usize = 1 << 24;
/// Rows of B packed before the next panel's.
const PACK_ROWS: usize = 16;
/// Multiplications that are worth another thread.
const PART_MULTIPLICATIONS: usize = 1 << 19;

/// One task: rows `row..row + rows` times the packed columns `col..col + cols`.
#[derive(Clone, Copy)]
pub(crate) struct Task {
    shape: GemmShape,
    a: *const f32,
    /// The packed panel of column `col`.
    packed_b: *const f32,
    c: *mut f32,
    row: usize,
    rows: usize,
    col: usize,
    cols: usize,
    /// Terms of a block.
    kc: usize,
}

simd_fn! {
    fn run_task<I>(task: &Task, packed_a: *mut f32) {
        let (GemmShape { layout, k, lda, .. }, kc) = (task.shape, task.kc);
        let by_k = layout == Layout::TN;
        let tiles = task.rows.div_ceil(I::MR) * task.cols.div_ceil(I::NR);
        for start in (0..k).step_by(kc) {
            let terms = kc.min(k - start);
            // What will be packed next: the same rows, or else those below, which are likely this thread's next task.
            let (next_row, next_start) = match start + terms < k {
                true => (task.row, start + terms),
                false => (task.row + task.rows, 0),
            };
            let next_terms = kc.min(k - next_start);
            // SAFETY: `gemm` checked the slices against the shape; the task's rows, columns and terms lie within it, and `packed_a`
            // has room for a block of `rows` × `terms`. (The block ahead may lie outside: it is not read.)
            unsafe {
                if by_k {
                    pack_a_columns::<I>(task.a.add(start * lda + task.row), lda, task.rows, terms, packed_a);
                    let next = task.a.wrapping_add(next_start * lda + next_row);
                    multiply_block::<I, true>(task, start, terms, packed_a, Ahead::new(next, lda, next_terms, task.rows, tiles));
                } else {
                    pack_a_rows(task.a.add(task.row * lda + start), lda, task.rows, terms, packed_a);
                    let next = task.a.wrapping_add(next_row * lda + next_start);
                    multiply_block::<I, false>(task, start, terms, packed_a, Ahead::new(next, lda, task.rows, next_terms, tiles));
                }
            }
        }
    }
}

/// A packed block of A times every panel of the task, over the terms from `start` on.
///
/// # Safety
/// The task's pointers must be valid for its shape, and `packed_a` must hold its block.
#[inline(always)]
unsafe fn multiply_block<I: Isa, const BY_K: bool>(
    task: &Task,
    start: usize,
    terms: usize,
    packed_a: *const f32,
    mut ahead: Ahead,
) {
    let Task { shape, packed_b, c, row, rows, col, cols, .. } = *task;
    let GemmShape { k, ldc, accumulate, .. } = shape;
    for left in (0..cols).step_by(I::NR) {
        let width = I::NR.min(cols - left);
        for top in (0..rows).step_by(I::MR) {
            ahead.fetch::<I>();
            // SAFETY: the caller's promise.
            unsafe {
                let b = packed_b.add(left * k + start * I::NR);
                let c = c.add((row + top) * ldc + col + left);
                // The tile below of C will be needed soon. Its rows may share few sets of the first-level cache, which hold no tall tile.
                for next in I::MR..2 * I::MR {
                    for at in (0..I::NR).step_by(LINE) {
                        let line = c.wrapping_add(next * ldc + at);
                        if I::MR > 8 { I::prefetch_far(line) } else { I::prefetch(line) }
                    }
                }
                // So will a share of the next panel of B.
                let share = (terms * I::NR / LINE).div_ceil(rows.div_ceil(I::MR));
                let next_panel = b.wrapping_add(I::NR * k + top / I::MR * share * LINE);
                for line in 0..share {
                    let line = next_panel.wrapping_add(line * LINE);
                    if I::MR > 8 { I::prefetch_far(line) } else { I::prefetch(line) }
                }
                let a_row = if BY_K { 1 } else { a_row_stride(terms) };
                let a_k = if BY_K { I::MR } else { 1 };
                let a = packed_a.add(if BY_K { top / I::MR * a_tile_stride(I::MR, terms) } else { top * a_row });
                let operands = Tile { k: terms, a, a_row, a_k, b, c, ldc, load: accumulate || start > 0 };
                tile::<I, BY_K, FULL>(I::MR.min(rows - top), width, operands);
            }
        }
    }
}

simd_fn! {
    /// Packs `panels` of the chunk of op(B) that begins at column `left` and has `width` columns.
    fn pack_panels<I>(shape: &GemmShape, b: *const f32, left: usize, width: usize, panels: Range<usize>, packed: *mut f32) {
        let GemmShape { layout, k, ldb, .. } = *shape;
        // SAFETY: `gemm` checked `b` against the shape, in which the panels lie; `packed` has room for all panels of the chunk.
        unsafe {
            if layout == Layout::NT {
                for panel in panels {
                    let (col, cols) = (left + panel * I::NR, I::NR.min(width - panel * I::NR));
                    pack_b_columns::<I>(b.add(col * ldb), ldb, k, cols, packed.add(panel * I::NR * k));
                }
                return;
            }
            // A few rows of all panels at a time: the rows are read along, not one cache line in each page.
            for start in (0..k).step_by(PACK_ROWS) {
                let rows = PACK_ROWS.min(k - start);
                for panel in panels.clone() {
                    let (col, cols) = (left + panel * I::NR, I::NR.min(width - panel * I::NR));
                    let target = packed.add(panel * I::NR * k + start * I::NR);
                    // As many rows more than the CPU looks ahead by itself.
                    for row in start + rows..start + 2 * rows {
                        for at in (0..cols).step_by(LINE) {
                            I::prefetch_far(b.wrapping_add(row * ldb + col + at));
                        }
                    }
                    pack_b_rows::<I>(b.add(start * ldb + col), ldb, rows, cols, target);
                }
            }
        }
    }
}

/// How C is cut into tasks: a part for each thread, and each part into blocks of rows.
struct Cut {
    row_parts: usize,
    col_parts: usize,
    /// Rows of a part.
    part_rows: usize,
    /// Columns of a part, whole panels.
    part_cols: usize,
    /// Blocks of a part, and the rows of each: whole tiles.
    blocks: usize,
    block_rows: usize,
}

impl Cut {
    fn new(exec: &Exec, (m, n, k): (usize, usize, usize), mc: usize) -> Cut {
        let (tile_rows, tile_cols) = tile_size(exec.path());
        let parts = (m * n * k / PART_MULTIPLICATIONS).clamp(1, exec.threads());
        let row_parts = parts.min(m.div_ceil(4 * tile_rows));
        let col_parts = (parts / row_parts).min(n.div_ceil(4 * tile_cols));
        let part_rows = m.div_ceil(row_parts);
        let part_cols = n.div_ceil(col_parts).next_multiple_of(tile_cols);
        let blocks = part_rows.div_ceil(mc);
        let block_rows = part_rows.div_ceil(blocks).next_multiple_of(tile_rows);
        Cut { row_parts, col_parts, part_rows, part_cols, blocks, block_rows }
    }

    fn tasks(&self) -> usize {
        self.row_parts * self.col_parts * self.blocks
    }

    /// Rows and columns of a task; rounding may have left some without any.
    fn task(&self, index: usize, m: usize, n: usize) -> (Range<usize>, Range<usize>) {
        let (part, block) = (index / self.blocks, index % self.blocks);
        let (row_part, col_part) = (part / self.col_parts, part % self.col_parts);
        let part_end = ((row_part + 1) * self.part_rows).min(m);
        let row = row_part * self.part_rows + block * self.block_rows;
        let col = col_part * self.part_cols;
        (row..(row + self.block_rows).min(part_end), col..(col + self.part_cols).min(n))
    }
}

/// The sizes of blocks. Tests take others, to see that they are not seen.
#[derive(Debug, Clone, Copy)]
struct Blocking {
    kc: usize,
    mc: usize,
    packed_b_max: usize,
}

const BLOCKING: Blocking = Blocking { kc: KC, mc: MC, packed_b_max: PACKED_B_MAX };

/// `C (+)= op(A) op(B)` on a fast path; the slices were checked against the shape.
pub(crate) fn gemm(exec: &Exec, shape: &GemmShape, a: &[f32], b: &[f32], c: &mut [f32]) {
    gemm_in_blocks(exec, shape, a, b, c, BLOCKING);
}

fn gemm_in_blocks(exec: &Exec, shape: &GemmShape, a: &[f32], b: &[f32], c: &mut [f32], blocking: Blocking) {
    let GemmShape { m, n, k, ldc, accumulate, .. } = *shape;
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !accumulate {
            c.chunks_mut(ldc).take(m).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    let (tile_rows, tile_cols) = tile_size(exec.path());
    let chunk = (blocking.packed_b_max / k).max(tile_cols) / tile_cols * tile_cols;
    let mut packed = Scratch::take(Slot::PackedB, chunk.min(n.next_multiple_of(tile_cols)) * k);
    let packed = Shared::new(packed.as_mut_ptr());
    let c = Shared::new(c.as_mut_ptr());
    for left in (0..n).step_by(chunk) {
        let width = chunk.min(n - left);
        exec.for_each_range(width.div_ceil(tile_cols), tile_cols * k, |panels| {
            pack_panels(exec.path(), shape, b.as_ptr(), left, width, panels, packed.get());
        });
        let cut = Cut::new(exec, (m, width, k), blocking.mc);
        exec.for_each_task(cut.tasks(), |index| {
            let (rows, cols) = cut.task(index, m, width);
            if rows.is_empty() || cols.is_empty() {
                return;
            }
            // SAFETY: the columns begin at a panel below `width`, which lies within the buffer.
            let packed_b = unsafe { packed.get().add(cols.start * k) }.cast_const();
            let task = Task {
                shape: *shape,
                a: a.as_ptr(),
                packed_b,
                c: c.get(),
                row: rows.start,
                rows: rows.len(),
                col: left + cols.start,
                cols: cols.len(),
                kc: blocking.kc,
            };
            let mut packed_a = Scratch::take(Slot::PackedA, a_block_len(tile_rows, rows.len(), blocking.kc.min(k)));
            run_task(exec.path(), &task, packed_a.as_mut_ptr());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Path;
    use proptest::prelude::*;

    /// Values in [-2, 2), from a linear congruence.
    fn values(seed: u32, len: usize) -> Vec<f32> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((state >> 8) as f32 / 4_194_304.0 - 2.0)
        };
        std::iter::from_fn(next).take(len).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Whatever the blocks: the reference's bits.
        #[test]
        fn sizes_of_blocks_are_not_seen(
            layout in 0usize..3, m in 1usize..80, n in 1usize..120, k in 1usize..300, accumulate: bool, seed: u32,
            kc in 1usize..320, mc in 1usize..100, packed_b_max in 1usize..20_000, threads in 1usize..4,
        ) {
            let layout = [Layout::NN, Layout::NT, Layout::TN][layout];
            let (lda, ldb) = (if layout == Layout::TN { m } else { k }, if layout == Layout::NT { k } else { n });
            let shape = GemmShape { layout, m, n, k, lda, ldb, ldc: n, accumulate };
            let (a, b, c) = (values(seed, m * k), values(!seed, n * k), values(seed ^ 5, m * n));
            let mut want = c.clone();
            crate::reference::gemm::gemm(&shape, &a, &b, &mut want);
            for path in Path::available().into_iter().filter(|&path| path != Path::Scalar) {
                let mut got = c.clone();
                let exec = Exec::new(path, threads).unwrap();
                gemm_in_blocks(&exec, &shape, &a, &b, &mut got, Blocking { kc, mc, packed_b_max });
                let bits = |x: &[f32]| x.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                prop_assert!(bits(&got) == bits(&want), "{path}");
            }
        }
    }
}

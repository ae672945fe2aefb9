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

/// Terms of a block: a panel of B (384 × 16) stays in the first-level cache. Measured best of 128 to 512.
const KC: usize = 384;
/// Rows of a block of A: 168 × 400 elements stay in the second-level cache.
const MC: usize = 168;
/// Elements of B packed at a time, at most: bounds the buffer to 64 MiB.
const PACKED_B_MAX: usize = 1 << 24;
/// Rows of B packed before the next panel's.
const PACK_ROWS: usize = 16;
/// Multiplications that are worth a task of their own.
const TASK_MULTIPLICATIONS: usize = 1 << 20;

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
}

simd_fn! {
    fn run_task<I>(task: &Task, packed_a: *mut f32) {
        let GemmShape { layout, k, lda, .. } = task.shape;
        let by_k = layout == Layout::TN;
        let tiles = task.rows.div_ceil(I::MR) * task.cols.div_ceil(I::NR);
        for start in (0..k).step_by(KC) {
            let terms = KC.min(k - start);
            // What will be packed next: the same rows, or else those below, which are likely this thread's next task.
            let (next_row, next_start) = match start + terms < k {
                true => (task.row, start + terms),
                false => (task.row + task.rows, 0),
            };
            let next_terms = KC.min(k - next_start);
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
                // The tile below of C will be needed soon.
                for next in I::MR..2 * I::MR {
                    for at in (0..I::NR).step_by(LINE) {
                        I::prefetch(c.wrapping_add(next * ldc + at));
                    }
                }
                if I::LANES == 8 {
                    // So will a share of the next panel of B. (A wide panel does not stay in the first-level cache anyway.)
                    let share = (terms * I::NR / LINE).div_ceil(rows.div_ceil(I::MR));
                    let next_panel = b.wrapping_add(I::NR * k + top / I::MR * share * LINE);
                    for line in 0..share {
                        I::prefetch(next_panel.wrapping_add(line * LINE));
                    }
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
                    pack_b_rows::<I>(b.add(start * ldb + col), ldb, rows, cols, target);
                }
            }
        }
    }
}

/// How C is cut into tasks: rows and columns of each.
fn cut(exec: &Exec, m: usize, n: usize, k: usize) -> (usize, usize) {
    let (tile_rows, tile_cols) = tile_size(exec.path());
    let rows = m.div_ceil(m.div_ceil(MC)).next_multiple_of(tile_rows);
    if exec.threads() == 1 {
        return (rows, n);
    }
    let wanted = (m * n * k / TASK_MULTIPLICATIONS).clamp(1, exec.threads() * 4);
    let row_blocks = m.div_ceil(rows);
    let col_blocks = wanted.div_ceil(row_blocks).min(n.div_ceil(128));
    let cols = n.div_ceil(col_blocks).next_multiple_of(tile_cols);
    let row_blocks = wanted.div_ceil(n.div_ceil(cols)).max(row_blocks);
    let rows = m.div_ceil(row_blocks).next_multiple_of(tile_rows).max(4 * tile_rows);
    (rows.min(MC), cols)
}

/// `C (+)= op(A) op(B)` on a fast path; the slices were checked against the shape.
pub(crate) fn gemm(exec: &Exec, shape: &GemmShape, a: &[f32], b: &[f32], c: &mut [f32]) {
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
    let chunk = (PACKED_B_MAX / k).max(tile_cols) / tile_cols * tile_cols;
    let mut packed = Scratch::take(Slot::PackedB, chunk.min(n.next_multiple_of(tile_cols)) * k);
    let packed = Shared::new(packed.as_mut_ptr());
    let c = Shared::new(c.as_mut_ptr());
    for left in (0..n).step_by(chunk) {
        let width = chunk.min(n - left);
        exec.for_each_range(width.div_ceil(tile_cols), tile_cols * k, |panels| {
            pack_panels(exec.path(), shape, b.as_ptr(), left, width, panels, packed.get());
        });
        let (rows, cols) = cut(exec, m, width, k);
        let col_blocks = width.div_ceil(cols);
        exec.for_each_task(m.div_ceil(rows) * col_blocks, |index| {
            let (row, col) = (index / col_blocks * rows, index % col_blocks * cols);
            // SAFETY: `col` is a multiple of a tile's columns below `width`: its panel lies within the buffer.
            let packed_b = unsafe { packed.get().add(col * k) }.cast_const();
            let task = Task {
                shape: *shape,
                a: a.as_ptr(),
                packed_b,
                c: c.get(),
                row,
                rows: rows.min(m - row),
                col: left + col,
                cols: cols.min(width - col),
            };
            let mut packed_a = Scratch::take(Slot::PackedA, a_block_len(tile_rows, rows, KC.min(k)));
            run_task(exec.path(), &task, packed_a.as_mut_ptr());
        });
    }
}

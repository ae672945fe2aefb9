//! The blocked matrix product.
//!
//! A chunk of B's columns is packed by all threads, and shared (by each for itself, where gradients are computed in turns). Then tasks, each a block of rows times a block of columns of C, run through `k` in
//! blocks: pack a block of A, multiply it with every panel of B, and carry C through memory to the next block. Operands that packing would not
//! serve are read where they lie: `blocking` says which, and how large the blocks are. None of this can be seen in the bits, since each output remains one chain over increasing `k`.

use std::ops::Range;

use super::ahead::{Ahead, LINE, Stream};
use super::blocking::{BLOCKING, Blocking, Cut, a_unpacked, b_unpacked, block_terms};
use super::isa::{Isa, simd_fn, tile_size};
use super::micro::{FULL, Tile, tile};
use super::pack::{a_block_len, a_row_stride, a_tile_stride, pack_a_columns, pack_a_rows, pack_b_columns, pack_b_rows};
use super::scratch::{Scratch, Shared, Slot};
use crate::exec::{Exec, Turn};
use crate::gemm::{GemmShape, Layout};
use crate::platform::Path;

/// Elements of packed B that a tile's rows go through before the next rows do, about: 256 KiB of the second-level cache. Tiles that follow each
/// other lie side by side in C, since lines of one column of C share few sets of the caches where the rows' distance is a power of two.
const B_BLOCK: usize = 1 << 16;
/// Columns of a block of C that is continued in turn, at most: B, packed for it, stays near.
const STRIP: usize = 256;
/// Rows of B packed before the next panel's.
const PACK_ROWS: usize = 16;

/// B for a task.
#[derive(Clone, Copy)]
struct Right {
    /// The first term of the task's first column.
    b: *const f32,
    /// Distance of terms.
    term: usize,
    /// Distance of panels.
    panel: usize,
    packed: bool,
}

/// One task: rows `row..row + rows` times the columns `col..col + cols`.
#[derive(Clone, Copy)]
pub(crate) struct Task {
    shape: GemmShape,
    a: *const f32,
    b: Right,
    c: *mut f32,
    row: usize,
    rows: usize,
    col: usize,
    cols: usize,
    /// Terms of a block.
    kc: usize,
}

/// A block of A for a task.
#[derive(Clone, Copy)]
struct Left {
    /// The first term of the first row.
    a: *const f32,
    /// Distance of rows; of terms, when A is read by terms.
    stride: usize,
    /// Distance of tiles.
    tile: usize,
    /// The rows after this block's, when rows are fetched as they are read.
    next: Option<*const f32>,
}

simd_fn! {
    fn run_task<I>(task: &Task, packed_a: *mut f32) {
        let (GemmShape { layout, k, lda, .. }, kc) = (task.shape, task.kc);
        let (by_k, unpacked) = (layout == Layout::TN, a_unpacked(&task.shape, I::NR));
        let (row_stride, term_stride) = if by_k { (1, lda) } else { (lda, 1) };
        let tiles = task.rows.div_ceil(I::MR) * task.cols.div_ceil(I::NR);
        if by_k && unpacked {
            // Every line of the first block is read within the first row of tiles.
            let a = task.a.wrapping_add(task.row);
            Ahead::new(a, lda, kc.min(k), task.rows, 1).fetch::<I>();
            if !task.b.packed {
                Ahead::new(task.b.b, task.b.term, kc.min(k), task.cols, 1).fetch::<I>();
            }
        }
        for start in (0..k).step_by(kc) {
            let terms = kc.min(k - start);
            // What will be read next: the same rows, or else those below, which are likely this thread's next task.
            let (next_row, next_start) = match start + terms < k {
                true => (task.row, start + terms),
                false => (task.row + task.rows, 0),
            };
            let next = task.a.wrapping_add(next_row * row_stride + next_start * term_stride);
            let next_terms = kc.min(k - next_start);
            // SAFETY: `gemm` checked the slices against the shape; the task's rows, columns and terms lie within it, and `packed_a`
            // has room for a block of `rows` × `terms`. (The block ahead may lie outside: it is not read.)
            unsafe {
                let a = task.a.add(task.row * row_stride + start * term_stride);
                if by_k {
                    let mut left = Left { a, stride: lda, tile: I::MR, next: None };
                    if !unpacked {
                        pack_a_columns::<I>(a, lda, task.rows, terms, packed_a);
                        left = Left { a: packed_a, stride: I::MR, tile: a_tile_stride(I::MR, terms), next: None };
                    }
                    multiply_block::<I, true>(task, start, terms, left, Ahead::new(next, lda, next_terms, task.rows, tiles * Stream::calls(terms)));
                } else if unpacked {
                    let left = Left { a, stride: lda, tile: I::MR * lda, next: Some(next) };
                    multiply_block::<I, false>(task, start, terms, left, Ahead::none());
                } else {
                    pack_a_rows(a, lda, task.rows, terms, packed_a);
                    let stride = a_row_stride(terms);
                    let left = Left { a: packed_a, stride, tile: I::MR * stride, next: None };
                    multiply_block::<I, false>(task, start, terms, left, Ahead::new(next, lda, task.rows, next_terms, tiles * Stream::calls(terms)));
                }
            }
        }
    }
}

/// A block of A times every panel of the task, over the terms from `start` on.
///
/// # Safety
/// The task's pointers must be valid for its shape, and `left` for its rows and terms.
#[inline(always)]
unsafe fn multiply_block<I: Isa, const BY_K: bool>(
    task: &Task,
    start: usize,
    terms: usize,
    left: Left,
    a_ahead: Ahead,
) {
    let Task { shape: GemmShape { k, ldc, accumulate, .. }, b, c, row, rows, col, cols, .. } = *task;
    let block_cols = (B_BLOCK / terms).next_multiple_of(I::NR);
    // B's next terms, where they lie; a packed B is in the caches.
    let more_terms = if b.packed { 0 } else { terms.min(k - start - terms) };
    let tiles = rows.div_ceil(I::MR) * cols.div_ceil(I::NR);
    let calls = Stream::calls(terms);
    let b_next = b.b.wrapping_add((start + terms) * b.term);
    let b_ahead = Ahead::new(b_next, b.term, more_terms, cols, tiles * calls);
    let mut ahead = Stream { a: a_ahead, b: b_ahead, c: Ahead::none() };
    let (a_row, a_k) = if BY_K { (1, left.stride) } else { (left.stride, 1) };
    for block in (0..cols).step_by(block_cols) {
        let block_end = cols.min(block + block_cols);
        for top in (0..rows).step_by(I::MR) {
            let last_row = top + I::MR >= rows;
            if let (0, Some(next)) = (block, left.next) {
                // Rows that are read where they lie are fetched one row of tiles before they are needed.
                let rows_below = if last_row { next } else { left.a.wrapping_add((top + I::MR) * left.stride) };
                ahead.a = Ahead::new(rows_below, left.stride, I::MR, terms, block_end.div_ceil(I::NR) * calls);
            }
            for at in (block..block_end).step_by(I::NR) {
                // SAFETY: the caller's promise.
                unsafe {
                    let c_tile = c.add((row + top) * ldc + col + at);
                    let next_c = match (at + I::NR < block_end, last_row) {
                        (true, _) => c_tile.wrapping_add(I::NR),
                        (false, false) => c.wrapping_add((row + top + I::MR) * ldc + col + block),
                        (false, true) => c.wrapping_add(row * ldc + col + block_end % cols),
                    };
                    ahead.c = Ahead::new(next_c, ldc, I::MR, I::NR, calls);
                    let a = left.a.add(top / I::MR * left.tile);
                    let b_at = b.b.add(at / I::NR * b.panel + start * b.term);
                    let load = accumulate || start > 0;
                    let operands = Tile { k: terms, a, a_row, a_k, b: b_at, b_k: b.term, c: c_tile, ldc, load };
                    let (tile_rows, tile_cols) = (I::MR.min(rows - top), I::NR.min(cols - at));
                    tile::<I, BY_K, FULL>(tile_rows, tile_cols, operands, &mut ahead);
                }
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
                            I::prefetch(b.wrapping_add(row * ldb + col + at));
                        }
                    }
                    pack_b_rows::<I>(b.add(start * ldb + col), ldb, rows, cols, target);
                }
            }
        }
    }
}

/// `C (+)= op(A) op(B)` on a fast path; the slices, and what `c` points to, were checked against the shape.
pub(crate) fn gemm(exec: &Exec, shape: &GemmShape, a: &[f32], b: &[f32], c: Shared<f32>) {
    gemm_in_blocks(exec, shape, a, b, c, None, BLOCKING);
}

/// As [`gemm`] on the calling thread alone, block by block of C along its longer side, each when it is this thread's turn. C's columns are few
/// enough to be packed at once: [`fits_turns`].
pub(crate) fn gemm_in_turn(path: Path, shape: &GemmShape, a: &[f32], b: &[f32], c: Shared<f32>, turn: &Turn<'_>) {
    let (exec, GemmShape { m, n, k, .. }) = (Exec::untested(path), *shape);
    if k == 0 {
        return;
    }
    if n <= m {
        let mc = m.div_ceil(turn.parts()).min(BLOCKING.mc);
        return gemm_in_blocks(&exec, shape, a, b, c, Some(turn), Blocking { mc, ..BLOCKING });
    }
    let cols = n.div_ceil(turn.parts()).min(STRIP).next_multiple_of(tile_size(path).1);
    for col in (0..n).step_by(cols) {
        let shape = GemmShape { n: cols.min(n - col), ..*shape };
        // SAFETY: the columns from `col` on lie within C. B of this layout has its columns side by side too.
        let c = Shared::new(unsafe { c.get().add(col) });
        turn.take(col + shape.n, || gemm_in_blocks(&exec, &shape, a, &b[col..], c, None, BLOCKING));
    }
}

/// Whether all columns of a product are packed at once.
pub(crate) fn fits_turns(shape: &GemmShape) -> bool {
    shape.n <= (BLOCKING.packed_b / shape.k.max(1)).max(BLOCKING.packed_cols_min)
}

fn gemm_in_blocks(
    exec: &Exec,
    shape: &GemmShape,
    a: &[f32],
    b: &[f32],
    c: Shared<f32>,
    turn: Option<&Turn<'_>>,
    blocking: Blocking,
) {
    let GemmShape { m, n, k, ldc, accumulate, .. } = *shape;
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !accumulate {
            // SAFETY: the rows of C were checked.
            (0..m).for_each(|row| unsafe { std::ptr::write_bytes(c.get().add(row * ldc), 0, n) });
        }
        return;
    }
    let (tile_rows, tile_cols) = tile_size(exec.path());
    let (a_unpacked, b_unpacked) = (a_unpacked(shape, tile_cols), b_unpacked(shape, tile_cols));
    let columns = (blocking.packed_b / k).max(blocking.packed_cols_min);
    let chunk = if b_unpacked { n } else { columns.next_multiple_of(tile_cols) };
    assert!(turn.is_none() || chunk >= n, "columns in turns must be packed at once");
    let kc = block_terms(b_unpacked, blocking.kc);
    let packed_len = if b_unpacked { 0 } else { chunk.min(n.next_multiple_of(tile_cols)) * k };
    let mut packed = Scratch::take(Slot::PackedB, packed_len);
    let packed = Shared::new(packed.as_mut_ptr());
    for left in (0..n).step_by(chunk) {
        let width = chunk.min(n - left);
        if !b_unpacked {
            exec.for_each_range(width.div_ceil(tile_cols), tile_cols * k, |panels| {
                pack_panels(exec.path(), shape, b.as_ptr(), left, width, panels, packed.get());
            });
        }
        let cut = Cut::new(exec, (m, width, k), blocking.mc);
        exec.for_each_task(cut.tasks(), |index| {
            let (rows, cols) = cut.task(index, m, width);
            if rows.is_empty() || cols.is_empty() {
                return;
            }
            let b = if b_unpacked {
                Right { b: b[left + cols.start..].as_ptr(), term: shape.ldb, panel: tile_cols, packed: false }
            } else {
                // SAFETY: the columns begin at a panel below `width`, which lies within the buffer.
                let b = unsafe { packed.get().add(cols.start * k) };
                Right { b, term: tile_cols, panel: tile_cols * k, packed: true }
            };
            let task = Task {
                shape: *shape,
                a: a.as_ptr(),
                b,
                c: c.get(),
                row: rows.start,
                rows: rows.len(),
                col: left + cols.start,
                cols: cols.len(),
                kc,
            };
            let block_len = if a_unpacked { 0 } else { a_block_len(tile_rows, rows.len(), kc.min(k)) };
            let mut packed_a = Scratch::take(Slot::PackedA, block_len);
            match turn {
                Some(turn) => turn.take(rows.end, || run_task(exec.path(), &task, packed_a.as_mut_ptr())),
                None => run_task(exec.path(), &task, packed_a.as_mut_ptr()),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocking::UNPACKED_ROW_MAX;
    use super::*;
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

    /// What makes rows so long that the operand is packed, or nothing.
    fn long_rows() -> impl Strategy<Value = usize> {
        prop_oneof![Just(0), Just(UNPACKED_ROW_MAX)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(120))]

        /// Whatever the blocks: the reference's bits.
        #[test]
        fn sizes_of_blocks_are_not_seen(
            layout in 0usize..3, m in 1usize..80, n in prop_oneof![1usize..120, (1usize..5).prop_map(|panels| 32 * panels)],
            k in 1usize..300, accumulate: bool, seed: u32, (a_gap, b_gap) in (long_rows(), long_rows()), kc in 1usize..320, mc in 1usize..100, packed_b in 1usize..20_000, packed_cols_min in 1usize..100, threads in 1usize..4,
        ) {
            let layout = [Layout::NN, Layout::NT, Layout::TN][layout];
            let (a_rows, a_cols) = if layout == Layout::TN { (k, m) } else { (m, k) };
            let (b_rows, b_cols) = if layout == Layout::NT { (n, k) } else { (k, n) };
            let (lda, ldb) = (a_cols + a_gap, b_cols + b_gap);
            let shape = GemmShape { layout, m, n, k, lda, ldb, ldc: n, accumulate };
            let (a, b, c) = (values(seed, a_rows * lda), values(!seed, b_rows * ldb), values(seed ^ 5, m * n));
            let mut want = c.clone();
            crate::reference::gemm::gemm(&shape, &a, &b, &mut want);
            for path in Path::available().into_iter().filter(|&path| path != Path::Scalar) {
                let mut got = c.clone();
                let exec = Exec::new(path, threads).unwrap();
                let blocking = Blocking { kc, mc, packed_b, packed_cols_min };
                gemm_in_blocks(&exec, &shape, &a, &b, Shared::new(got.as_mut_ptr()), None, blocking);
                let bits = |x: &[f32]| x.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                prop_assert!(bits(&got) == bits(&want), "{path}");
            }
        }
    }
}

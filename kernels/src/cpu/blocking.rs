//! How a product is cut into blocks and tasks, which operands are packed, and what packing takes.

use std::ops::Range;

use super::ahead::LINE;
use super::isa::{TILE_SIZES, tile_size};
use super::pack::a_block_len;
use crate::exec::Exec;
use crate::gemm::{GemmShape, Layout};

/// Terms of a block: a panel of B stays in the first-level cache when it is 16 columns wide, else in the second. Others from 192 to
/// 512 were no faster.
const KC: usize = 384;
/// Terms of a block when B is read where it lies. With half as many, C is read and written twice as often; with 384, `down`'s weight gradient
/// is slower.
const KC_UNPACKED: usize = 256;
/// Rows of a block of A, at most: 252 × 400 elements take 400 KiB of the second-level cache.
const MC: usize = 252;
/// Elements of B packed at a time, about: 4 MiB, which the third-level cache returns while memory is busy.
const PACKED_B: usize = 1 << 20;
/// Columns of B packed at a time, at least, since A is read once for each chunk of columns.
const PACKED_COLS_MIN: usize = 512;
/// Multiplications that are worth another thread.
const PART_MULTIPLICATIONS: usize = 1 << 19;

/// Longest rows of an operand that is read where it lies whatever their distance, elements. A tile takes a part of each row, and what lies
/// further apart shares too few sets of the caches to stay in them.
pub(crate) const UNPACKED_ROW_MAX: usize = 512;
/// The same in weight gradients, where each row is a term: 2 KiB apart, at two places of a page, they are packed.
const UNPACKED_TERM_MAX: usize = 384;
/// Rows at a multiple of this distance begin at one of four places of a page, and share as few sets of the first-level cache.
const SET_DISTANCE: usize = 256;
/// Panels of B up to which packing a block of A is not worth it, if its rows share few sets: each packed line is read once for each panel.
const UNPACKED_PANELS_MAX: usize = 16;
/// Likewise, when A is transposed, wherever its rows lie.
const UNPACKED_COLUMN_PANELS_MAX: usize = 4;
/// Longest rows of a large B that is read where it lies when C has a row for each token.
const UNPACKED_LARGE_B_ROW_MAX: usize = 256;
/// Elements of a B that is large.
const UNPACKED_B_MIN: usize = 1 << 18;

/// The distance, in elements, at which the rows of a matrix of `width` float32 are best kept that products read: long rows do not begin
/// at the same few places of a page, where they would share few sets of the caches. From `width` to `width + 31`.
pub fn row_stride(width: usize) -> usize {
    let whole = width.next_multiple_of(LINE);
    match width {
        short if short <= UNPACKED_ROW_MAX => short,
        _ if whole.is_multiple_of(SET_DISTANCE) => whole + LINE,
        _ => whole,
    }
}

/// Whether A is read where it lies.
pub(crate) fn a_unpacked(shape: &GemmShape, tile_cols: usize) -> bool {
    let by_k = shape.layout == Layout::TN;
    let few = |panels| shape.n <= panels * tile_cols;
    shape.lda <= if by_k { UNPACKED_TERM_MAX } else { UNPACKED_ROW_MAX }
        || !shape.lda.is_multiple_of(SET_DISTANCE) && few(UNPACKED_PANELS_MAX)
        || by_k && few(UNPACKED_COLUMN_PANELS_MAX)
}

/// Whether B is read where it lies: only where its terms are rows, and where packing it is of little use: many products with few rows of
/// C (TN), or more than stays in a cache for C's rows (NN).
pub(crate) fn b_unpacked(shape: &GemmShape, tile_cols: usize) -> bool {
    let GemmShape { layout, n, k, ldb, .. } = *shape;
    n.is_multiple_of(tile_cols)
        && match layout {
            Layout::TN => ldb <= UNPACKED_TERM_MAX,
            Layout::NN => ldb <= UNPACKED_LARGE_B_ROW_MAX && n * k >= UNPACKED_B_MIN,
            Layout::NT => false,
        }
}

/// Terms of a block, at most `kc`.
pub(crate) fn block_terms(b_unpacked: bool, kc: usize) -> usize {
    if b_unpacked { kc.min(KC_UNPACKED) } else { kc }
}

/// How C is cut into tasks: a part for each thread, and each part into blocks of rows.
pub(crate) struct Cut {
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
    pub(crate) fn new(exec: &Exec, (m, n, k): (usize, usize, usize), mc: usize) -> Cut {
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

    pub(crate) fn tasks(&self) -> usize {
        self.row_parts * self.col_parts * self.blocks
    }

    /// Rows and columns of a task; rounding may have left some without any.
    pub(crate) fn task(&self, index: usize, m: usize, n: usize) -> (Range<usize>, Range<usize>) {
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
pub(crate) struct Blocking {
    pub(crate) kc: usize,
    pub(crate) mc: usize,
    pub(crate) packed_b: usize,
    pub(crate) packed_cols_min: usize,
}

pub(crate) const BLOCKING: Blocking = Blocking { kc: KC, mc: MC, packed_b: PACKED_B, packed_cols_min: PACKED_COLS_MIN };

/// The most elements that a product as large as `shape`, or with fewer tokens of it, keeps packed on any path: of B, and of A for each
/// thread. Which operands are packed depends on the columns of C and on distances only.
pub(crate) fn scratch_len(shape: &GemmShape) -> [usize; 2] {
    let GemmShape { m, n, k, .. } = *shape;
    let of_tile = |(tile_rows, tile_cols): (usize, usize)| {
        let b_unpacked = b_unpacked(shape, tile_cols);
        let kc = block_terms(b_unpacked, BLOCKING.kc).min(k);
        // A chunk's columns are whole panels: less than a panel more than asked for.
        let chunk = (PACKED_B + tile_cols * k).max(PACKED_COLS_MIN.next_multiple_of(tile_cols) * k);
        let packed_b = if b_unpacked { 0 } else { chunk.min(n.next_multiple_of(tile_cols) * k) };
        let packed_a = if a_unpacked(shape, tile_cols) { 0 } else { a_block_len(tile_rows, m.min(MC), kc) };
        [packed_b, packed_a]
    };
    let [[wide_b, wide_a], [narrow_b, narrow_a]] = TILE_SIZES.map(of_tile);
    [wide_b.max(narrow_b), wide_a.max(narrow_a)]
}

//! Reductions: 32 strided lanes in each block of 4096 elements, then one tree over lanes and one over blocks.

use crate::math::canonical;

/// Elements of a block.
pub(crate) const BLOCK: usize = 4096;
/// Lanes of a block: element `i` of a block belongs to lane `i % 32`.
pub(crate) const LANES: usize = 32;

/// Folds the elements `0..len` with `step(lane_value, index)` into one value by the fixed tree.
fn fold(len: usize, step: impl Fn(f32, usize) -> f32) -> f32 {
    let mut blocks: Vec<f32> = Vec::new();
    for start in (0..len).step_by(BLOCK) {
        let mut lanes = [0.0f32; LANES];
        for index in start..(start + BLOCK).min(len) {
            let lane = (index - start) % LANES;
            lanes[lane] = step(lanes[lane], index);
        }
        blocks.push(lane_tree(lanes));
    }
    canonical(block_tree(&mut blocks))
}

/// Lane `i` takes lane `i + 16`, then `i + 8`, 4, 2, 1.
pub(crate) fn lane_tree(mut lanes: [f32; LANES]) -> f32 {
    for width in [16, 8, 4, 2, 1] {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
}

/// Neighbours are added pair by pair, level by level, in place; an odd last one rises unchanged.
pub(crate) fn block_tree(blocks: &mut [f32]) -> f32 {
    let mut count = blocks.len();
    while count > 1 {
        for pair in 0..count / 2 {
            blocks[pair] = blocks[2 * pair] + blocks[2 * pair + 1];
        }
        if count % 2 == 1 {
            blocks[count / 2] = blocks[count - 1];
        }
        count = count.div_ceil(2);
    }
    blocks.first().copied().unwrap_or(0.0)
}

pub(crate) fn sum(x: &[f32]) -> f32 {
    fold(x.len(), |lane, i| lane + x[i])
}

pub(crate) fn sum_squares(x: &[f32]) -> f32 {
    fold(x.len(), |lane, i| x[i].mul_add(x[i], lane))
}

pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    fold(x.len(), |lane, i| x[i].mul_add(y[i], lane))
}

/// The largest element of a softmax's row. NaN is passed over, since it reaches every result through the exponentials anyway; a zero
/// result is +0; without any number the result is -inf.
pub(crate) fn row_max(x: &[f32]) -> f32 {
    let mut largest = f32::NEG_INFINITY;
    for &value in x {
        if value > largest {
            largest = value;
        }
    }
    largest + 0.0
}

/// NaN when any element is NaN, else the largest magnitude; an empty slice gives +0.
pub(crate) fn max_abs(x: &[f32]) -> f32 {
    let mut largest = 0.0;
    for &value in x {
        if value.is_nan() {
            return crate::math::CANONICAL_NAN;
        }
        if value.abs() > largest {
            largest = value.abs();
        }
    }
    largest
}

/// `out[row] = Σ x[row, ·]`, by the tree.
pub(crate) fn row_sums(x: &[f32], out: &mut [f32]) {
    let cols = x.len() / out.len();
    for (row, value) in out.iter_mut().enumerate() {
        *value = sum(&x[row * cols..(row + 1) * cols]);
    }
}

/// `out[row] = Σ x[row, ·]²`, by the tree; squares are rounded before they are added.
pub(crate) fn row_sum_squares(x: &[f32], out: &mut [f32]) {
    let cols = x.len() / out.len();
    for (row, value) in out.iter_mut().enumerate() {
        *value = fold(cols, |lane, i| lane + x[row * cols + i] * x[row * cols + i]);
    }
}

/// `out[col] = Σ x[·, col]`, one chain of additions over the rows from +0.
pub(crate) fn col_sums(x: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    for row in x.chunks_exact(out.len()) {
        out.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value);
    }
    out.iter_mut().for_each(|value| *value = canonical(*value));
}

/// `out[col] = Σ x[·, col]²`, one chain over the rows; squares are rounded before they are added.
pub(crate) fn col_sum_squares(x: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    for row in x.chunks_exact(out.len()) {
        out.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value * value);
    }
    out.iter_mut().for_each(|value| *value = canonical(*value));
}

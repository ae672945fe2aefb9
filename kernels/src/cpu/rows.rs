//! What operations do to a row: sums and maxima in lanes, exponentials. Bodies only, compiled into each path's functions.

use super::isa::Isa;
use crate::math::{canonical, exp_lanes};
use crate::reference::reduce::{BLOCK, LANES, lane_tree};

/// The fixed tree over blocks, as the blocks come: partial sums of 2^level blocks wait for their neighbour.
struct BlockTree {
    waiting: [f32; usize::BITS as usize],
    blocks: usize,
}

impl BlockTree {
    #[inline(always)]
    fn new() -> BlockTree {
        BlockTree { waiting: [0.0; usize::BITS as usize], blocks: 0 }
    }

    #[inline(always)]
    fn push(&mut self, mut sum: f32) {
        let mut level = 0;
        while self.blocks >> level & 1 == 1 {
            sum += self.waiting[level];
            level += 1;
        }
        self.waiting[level] = sum;
        self.blocks += 1;
    }

    #[inline(always)]
    fn finish(self) -> f32 {
        let mut total = None;
        for (level, &sum) in self.waiting.iter().enumerate() {
            if self.blocks >> level & 1 == 1 {
                total = Some(total.map_or(sum, |total| sum + total));
            }
        }
        total.unwrap_or(0.0)
    }
}

/// Adds up one block of `$len` elements: the expressions extend a vector or a lane by the elements from an index on.
///
/// These are macros because a closure would be compiled without the instructions of the function that it is written in.
macro_rules! block {
    ($len:expr, |$sums:ident, $at:ident| $vector:expr, |$lane:ident, $index:ident| $scalar:expr) => {{
        let mut sums = [I::splat(0.0); 4];
        let whole = $len / LANES * LANES;
        let mut start = 0;
        while start < whole {
            for (group, sum) in sums.iter_mut().enumerate().take(LANES / I::LANES) {
                let ($sums, $at) = (*sum, start + group * I::LANES);
                *sum = $vector;
            }
            start += LANES;
        }
        if whole == $len {
            I::lane_sum(sums)
        } else {
            let mut lanes = stored::<I>(sums);
            for $index in whole..$len {
                let $lane = lanes[$index - whole];
                lanes[$index - whole] = $scalar;
            }
            lane_tree(lanes)
        }
    }};
}

/// Adds up a row of any length; the expression adds up the block of `$block_len` elements from `$start` on.
macro_rules! by_blocks {
    ($len:expr, |$start:ident, $block_len:ident| $of_block:expr) => {{
        let len = $len;
        if len <= BLOCK {
            let ($start, $block_len) = (0, len);
            canonical($of_block)
        } else {
            let mut tree = BlockTree::new();
            let mut $start = 0;
            while $start < len {
                let $block_len = BLOCK.min(len - $start);
                tree.push($of_block);
                $start += BLOCK;
            }
            canonical(tree.finish())
        }
    }};
}

#[inline(always)]
fn stored<I: Isa>(sums: [I::V; 4]) -> [f32; LANES] {
    let mut lanes = [0.0f32; LANES];
    for (group, sum) in sums.into_iter().enumerate().take(LANES / I::LANES) {
        // SAFETY: whole vectors, 32 lanes in all.
        unsafe { I::store(lanes.as_mut_ptr().add(group * I::LANES), sum) };
    }
    lanes
}

/// The vector of `x` from `at` on.
#[inline(always)]
pub(crate) fn vector<I: Isa>(x: &[f32], at: usize) -> I::V {
    debug_assert!(at + I::LANES <= x.len(), "a vector at {at} of {}", x.len());
    // SAFETY: the loops of this module ask for whole vectors within the slice.
    unsafe { I::load(x.as_ptr().add(at)) }
}

/// Stores a vector at `at`.
#[inline(always)]
pub(crate) fn set_vector<I: Isa>(x: &mut [f32], at: usize, v: I::V) {
    debug_assert!(at + I::LANES <= x.len(), "a vector at {at} of {}", x.len());
    // SAFETY: as in `vector`.
    unsafe { I::store(x.as_mut_ptr().add(at), v) }
}

/// `Σ x`.
#[inline(always)]
pub(crate) fn sum<I: Isa>(x: &[f32]) -> f32 {
    by_blocks!(x.len(), |start, len| {
        let x = &x[start..start + len];
        block!(len, |sums, at| I::vadd(sums, vector::<I>(x, at)), |lane, at| lane + x[at])
    })
}

/// `Σ x²`, squares rounded first.
#[inline(always)]
pub(crate) fn sum_rounded_squares<I: Isa>(x: &[f32]) -> f32 {
    by_blocks!(x.len(), |start, len| {
        let x = &x[start..start + len];
        block!(
            len,
            |sums, at| {
                let v = vector::<I>(x, at);
                I::vadd(sums, I::vmul(v, v))
            },
            |lane, at| lane + x[at] * x[at]
        )
    })
}

/// `Σ x y`, terms fused.
#[inline(always)]
pub(crate) fn dot<I: Isa>(x: &[f32], y: &[f32]) -> f32 {
    let y = &y[..x.len()];
    by_blocks!(x.len(), |start, len| {
        let (x, y) = (&x[start..start + len], &y[start..start + len]);
        block!(len, |sums, at| I::vfma(vector::<I>(x, at), vector::<I>(y, at), sums), |lane, at| I::fma(
            x[at], y[at], lane
        ))
    })
}

/// `Σ (a b) (c factor)`: the products of pairs are rounded, the terms fused.
#[inline(always)]
pub(crate) fn dot_of_products<I: Isa>((a, b): (&[f32], &[f32]), (c, factor): (&[f32], f32)) -> f32 {
    let (b, c, wide) = (&b[..a.len()], &c[..a.len()], I::splat(factor));
    by_blocks!(a.len(), |start, len| {
        let (a, b, c) = (&a[start..start + len], &b[start..start + len], &c[start..start + len]);
        block!(
            len,
            |sums, at| {
                let products = I::vmul(vector::<I>(a, at), vector::<I>(b, at));
                I::vfma(products, I::vmul(vector::<I>(c, at), wide), sums)
            },
            |lane, at| I::fma(a[at] * b[at], c[at] * factor, lane)
        )
    })
}

/// The largest element, NaN passed over, zero as +0.
#[inline(always)]
pub(crate) fn max<I: Isa>(x: &[f32]) -> f32 {
    let whole = x.len() / LANES * LANES;
    let mut largest = [I::splat(f32::NEG_INFINITY); 4];
    for start in (0..whole).step_by(LANES) {
        for (group, most) in largest.iter_mut().enumerate().take(LANES / I::LANES) {
            *most = I::vmax(vector::<I>(x, start + group * I::LANES), *most);
        }
    }
    largest_of::<I>(largest, &x[whole..])
}

/// Multiplies every element by `scale`, and gives the largest product as [`max`] does. Whole vectors only.
#[inline(always)]
pub(crate) fn scale_and_max<I: Isa>(x: &mut [f32], scale: f32) -> f32 {
    let scale = I::splat(scale);
    let mut largest = [I::splat(f32::NEG_INFINITY); 4];
    for start in (0..x.len() / I::LANES * I::LANES).step_by(I::LANES) {
        let scaled = I::vmul(vector::<I>(x, start), scale);
        set_vector::<I>(x, start, scaled);
        let most = &mut largest[start / I::LANES % 2];
        *most = I::vmax(scaled, *most);
    }
    largest_of::<I>(largest, &[])
}

/// Multiplies every element by `factor`. Whole vectors only.
#[inline(always)]
pub(crate) fn scale<I: Isa>(x: &mut [f32], factor: f32) {
    let factor = I::splat(factor);
    for start in (0..x.len() / I::LANES * I::LANES).step_by(I::LANES) {
        set_vector::<I>(x, start, I::vmul(vector::<I>(x, start), factor));
    }
}

/// The largest of four vectors and what is left of a row.
#[inline(always)]
fn largest_of<I: Isa>([a, b, c, d]: [I::V; 4], rest: &[f32]) -> f32 {
    let mut most = I::largest_lane(I::vmax(I::vmax(a, b), I::vmax(c, d)));
    for &value in rest {
        most = if value > most { value } else { most };
    }
    most + 0.0
}

/// Replaces every element by `exp(x - max)` and returns the sum.
#[inline(always)]
pub(crate) fn exp_and_sum<I: Isa>(x: &mut [f32], max: f32) -> f32 {
    by_blocks!(x.len(), |start, len| exp_block::<I>(&mut x[start..start + len], max))
}

/// The sum of `exp(x - max)`, which is stored nowhere.
#[inline(always)]
pub(crate) fn sum_of_exp<I: Isa>(x: &[f32], max: f32) -> f32 {
    let mut copy = [0.0f32; BLOCK];
    by_blocks!(x.len(), |start, len| {
        copy[..len].copy_from_slice(&x[start..start + len]);
        exp_block::<I>(&mut copy[..len], max)
    })
}

#[inline(always)]
fn exp_block<I: Isa>(x: &mut [f32], max: f32) -> f32 {
    let mut sums = [I::splat(0.0); 4];
    let wide = I::splat(max);
    let vectors = LANES / I::LANES;
    let whole = x.len() / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (group, sum) in sums.iter_mut().enumerate().take(vectors) {
            let at = start + group * I::LANES;
            let power = exp_lanes::<I>(I::vsub(vector::<I>(x, at), wide));
            set_vector::<I>(x, at, power);
            *sum = I::vadd(*sum, power);
        }
    }
    let rest = &mut x[whole..];
    if !rest.is_empty() {
        // Lanes that the row does not reach add exp(-inf) = +0, which leaves a sum that started from +0 as it is. (Where max is
        // -inf they add NaN, but then so does every element of the row.)
        let mut lanes = [f32::NEG_INFINITY; LANES];
        lanes[..rest.len()].copy_from_slice(rest);
        for (group, sum) in sums.iter_mut().enumerate().take(rest.len().div_ceil(I::LANES)) {
            let power = exp_lanes::<I>(I::vsub(vector::<I>(&lanes, group * I::LANES), wide));
            set_vector::<I>(&mut lanes, group * I::LANES, power);
            *sum = I::vadd(*sum, power);
        }
        rest.copy_from_slice(&lanes[..rest.len()]);
    }
    I::lane_sum(sums)
}

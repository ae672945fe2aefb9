//! What operations do to a row: sums and maxima in lanes, exponentials. Bodies only, compiled into each path's functions.

use super::isa::Isa;
use crate::math::{canonical, exp_with};
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
            sum = self.waiting[level] + sum;
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

/// Adds up one block: `vector` and `scalar` extend lanes by the elements from an index on.
#[inline(always)]
fn block<I: Isa>(len: usize, vector: impl Fn(I::V, usize) -> I::V, scalar: impl Fn(f32, usize) -> f32) -> f32 {
    let mut sums = [I::splat(0.0); 4];
    let whole = len / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (group, sum) in sums.iter_mut().enumerate() {
            *sum = vector(*sum, start + group * 8);
        }
    }
    let mut lanes = [0.0f32; LANES];
    for (group, sum) in sums.into_iter().enumerate() {
        // SAFETY: four groups of eight lanes.
        unsafe { I::store(lanes.as_mut_ptr().add(group * 8), sum) };
    }
    for index in whole..len {
        lanes[index - whole] = scalar(lanes[index - whole], index);
    }
    lane_tree(lanes)
}

/// Adds up a row of any length, block by block; `of_block` does one.
#[inline(always)]
fn by_blocks(len: usize, mut of_block: impl FnMut(usize, usize) -> f32) -> f32 {
    if len <= BLOCK {
        return canonical(of_block(0, len));
    }
    let mut tree = BlockTree::new();
    for start in (0..len).step_by(BLOCK) {
        tree.push(of_block(start, BLOCK.min(len - start)));
    }
    canonical(tree.finish())
}

/// `Σ x`.
#[inline(always)]
pub(crate) fn sum<I: Isa>(x: &[f32]) -> f32 {
    by_blocks(x.len(), |start, len| {
        let x = &x[start..start + len];
        // SAFETY: `block` asks for whole groups of eight within `len`.
        block::<I>(len, |sum, at| I::vadd(sum, unsafe { I::load(x.as_ptr().add(at)) }), |sum, at| sum + x[at])
    })
}

/// `Σ x²`, squares rounded first.
#[inline(always)]
pub(crate) fn sum_rounded_squares<I: Isa>(x: &[f32]) -> f32 {
    by_blocks(x.len(), |start, len| {
        let x = &x[start..start + len];
        let vector = |sum, at: usize| {
            // SAFETY: `block` asks for whole groups of eight within `len`.
            let v = unsafe { I::load(x.as_ptr().add(at)) };
            I::vadd(sum, I::vmul(v, v))
        };
        block::<I>(len, vector, |sum, at| sum + x[at] * x[at])
    })
}

/// `Σ x y`, terms fused.
#[inline(always)]
pub(crate) fn dot<I: Isa>(x: &[f32], y: &[f32]) -> f32 {
    let y = &y[..x.len()];
    by_blocks(x.len(), |start, len| {
        let (x, y) = (&x[start..start + len], &y[start..start + len]);
        let vector = |sum, at: usize| {
            // SAFETY: `block` asks for whole groups of eight within `len`.
            unsafe { I::vfma(I::load(x.as_ptr().add(at)), I::load(y.as_ptr().add(at)), sum) }
        };
        block::<I>(len, vector, |sum, at| I::fma(x[at], y[at], sum))
    })
}

/// The largest element, NaN passed over, zero as +0.
#[inline(always)]
pub(crate) fn max<I: Isa>(x: &[f32]) -> f32 {
    let mut largest = [I::splat(f32::NEG_INFINITY); 4];
    let whole = x.len() / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (group, v) in largest.iter_mut().enumerate() {
            // SAFETY: whole groups of eight within the row.
            *v = I::vmax(unsafe { I::load(x.as_ptr().add(start + group * 8)) }, *v);
        }
    }
    let [a, b, c, d] = largest;
    let mut lanes = [0.0f32; 8];
    // SAFETY: eight lanes.
    unsafe { I::store(lanes.as_mut_ptr(), I::vmax(I::vmax(a, b), I::vmax(c, d))) };
    let larger = |a: f32, &b: &f32| if b > a { b } else { a };
    x[whole..].iter().fold(lanes.iter().fold(f32::NEG_INFINITY, larger), larger) + 0.0
}

/// `exp(x - max)` of 32 elements.
#[inline(always)]
fn exp_lanes<I: Isa>(x: &mut [f32; LANES], max: f32) {
    for value in x.iter_mut() {
        *value = exp_with::<I>(*value - max);
    }
}

/// Replaces every element by `exp(x - max)` and returns the sum.
#[inline(always)]
pub(crate) fn exp_and_sum<I: Isa>(x: &mut [f32], max: f32) -> f32 {
    let len = x.len();
    by_blocks(len, |start, len| exp_block::<I>(&mut x[start..start + len], max))
}

/// The sum of `exp(x - max)`, which is stored nowhere.
#[inline(always)]
pub(crate) fn sum_of_exp<I: Isa>(x: &[f32], max: f32) -> f32 {
    by_blocks(x.len(), |start, len| {
        let mut copy = [0.0f32; BLOCK];
        copy[..len].copy_from_slice(&x[start..start + len]);
        exp_block::<I>(&mut copy[..len], max)
    })
}

#[inline(always)]
fn exp_block<I: Isa>(x: &mut [f32], max: f32) -> f32 {
    let mut sums = [I::splat(0.0); 4];
    let mut add = |lanes: &[f32; LANES]| {
        for (group, sum) in sums.iter_mut().enumerate() {
            // SAFETY: four groups of eight lanes.
            *sum = I::vadd(*sum, unsafe { I::load(lanes.as_ptr().add(group * 8)) });
        }
    };
    let (whole, rest) = x.as_chunks_mut::<LANES>();
    for lanes in whole {
        exp_lanes::<I>(lanes, max);
        add(lanes);
    }
    if !rest.is_empty() {
        // Lanes that the row does not reach add exp(-inf) = +0, which leaves a sum that started from +0 as it is. (Where max is
        // -inf they add NaN, but then so does every element of the row.)
        let mut lanes = [f32::NEG_INFINITY; LANES];
        lanes[..rest.len()].copy_from_slice(rest);
        exp_lanes::<I>(&mut lanes, max);
        add(&lanes);
        rest.copy_from_slice(&lanes[..rest.len()]);
    }
    let mut lanes = [0.0f32; LANES];
    for (group, sum) in sums.into_iter().enumerate() {
        // SAFETY: four groups of eight lanes.
        unsafe { I::store(lanes.as_mut_ptr().add(group * 8), sum) };
    }
    lane_tree(lanes)
}

//! Causal attention, a key/value head of a sequence at a time.
//!
//! Keys and values of a head are packed once for all query heads of its group. Queries go through in blocks, whose scores stay in the
//! cache. The backward pass computes the probabilities again from the saved maximum and inverse sum, with the very same
//! operations, so nothing of size seq² is ever kept. Tiles on the diagonal end or begin with a triangle ([`TAIL`], [`HEAD`]).

use super::ahead::Nothing;
use super::isa::{Isa, NR_MAX, simd_fn};
use super::micro::{FULL, HEAD, TAIL, Tile, tile};
use super::pack::{pack_b_columns, pack_b_rows};
use super::rows::{self, set_vector, vector};
use super::scratch::{Scratch, Shared, Slot};
use crate::exec::Exec;
use crate::math::exp_lanes;
use crate::ops::{AttentionShape, AttentionStrides};

/// Queries of a block in the forward pass, at most: whole tiles.
const FORWARD_BLOCK: usize = 28;
/// Queries of a block in the backward pass, at most: more, since `dk` and `dv` are carried through memory from block to block.
const BACKWARD_BLOCK: usize = 112;

/// Queries of a block of whole tiles.
const fn block<I: Isa>(most: usize) -> usize {
    most / I::MR * I::MR
}

/// Sizes that the passes share, in elements.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    seq: usize,
    hd: usize,
    /// Query heads of a key/value head.
    group: usize,
    strides: AttentionStrides,
    /// Distance of rows of scores: whole groups of 32 lanes, and not a multiple of a large power of two.
    score_stride: usize,
    /// A packed matrix with a term for each position and a column for each element of a head.
    packed_by_position: usize,
    /// A packed matrix with a term for each element of a head and a column for each position.
    packed_by_element: usize,
    scale: f32,
}

impl Sizes {
    fn new(shape: &AttentionShape, strides: AttentionStrides) -> Sizes {
        let AttentionShape { seq, head_dim: hd, .. } = *shape;
        Sizes {
            seq,
            hd,
            group: shape.group(),
            strides,
            score_stride: seq.next_multiple_of(32) + 16,
            packed_by_position: seq * hd.next_multiple_of(NR_MAX),
            packed_by_element: seq.next_multiple_of(NR_MAX) * hd,
            scale: shape.scale(),
        }
    }

    /// Where a head's first row begins in a sequence.
    fn offset(&self, batch: usize, head: usize, stride: usize) -> usize {
        batch * self.seq * stride + head * self.hd
    }

    /// Scratch elements of the forward pass.
    fn forward_len(&self) -> usize {
        self.packed_by_element + self.packed_by_position + FORWARD_BLOCK * self.score_stride
    }

    /// Scratch elements of the backward pass.
    fn backward_len(&self) -> usize {
        let block = 2 * self.hd.next_multiple_of(NR_MAX) + 2 * self.score_stride;
        2 * self.packed_by_element + self.packed_by_position + BACKWARD_BLOCK * block
    }
}

/// The most elements that either pass keeps for each thread, on any path.
pub(crate) fn scratch_len(shape: &AttentionShape) -> usize {
    let sizes = Sizes::new(shape, shape.dense());
    sizes.forward_len().max(sizes.backward_len())
}

/// Packs the rows `b[rows, hd]` as right operand of a product over the rows.
#[inline(always)]
unsafe fn pack_by_position<I: Isa>(b: *const f32, stride: usize, rows: usize, hd: usize, target: *mut f32) {
    for left in (0..hd).step_by(I::NR) {
        // SAFETY: the caller promises `rows` rows of `hd` elements at `b`, and room for their panels.
        unsafe { pack_b_rows::<I>(b.add(left), stride, rows, I::NR.min(hd - left), target.add(left * rows)) };
    }
}

/// Packs the rows `b[rows, hd]`, transposed, as right operand of a product over the elements.
#[inline(always)]
unsafe fn pack_by_element<I: Isa>(b: *const f32, stride: usize, rows: usize, hd: usize, target: *mut f32) {
    for top in (0..rows).step_by(I::NR) {
        // SAFETY: as above.
        unsafe { pack_b_columns::<I>(b.add(top * stride), stride, hd, I::NR.min(rows - top), target.add(top * hd)) };
    }
}

/// `target[rows, seq] = a[rows, hd] · packed`, for the positions up to the last row's own; later ones hold anything.
#[inline(always)]
unsafe fn products_with_positions<I: Isa>(
    s: &Sizes,
    (a, a_row): (*const f32, usize),
    first: usize,
    rows: usize,
    packed: *const f32,
    target: *mut f32,
) {
    for left in (0..first + rows).step_by(I::NR) {
        // Tiles whose every row ends before the panel's first position are skipped.
        let skipped = (left.saturating_sub(first) / I::MR) * I::MR;
        for top in (skipped..rows).step_by(I::MR) {
            // SAFETY: the caller promises `rows` rows at `a`, and room for as many rows of scores, which hold whole panels.
            unsafe {
                let a = a.add(top * a_row);
                let c = target.add(top * s.score_stride + left);
                let b = packed.add(left * s.hd);
                let operands = Tile { k: s.hd, a, a_row, a_k: 1, b, b_k: I::NR, c, ldc: s.score_stride, load: false };
                tile::<I, false, FULL>(I::MR.min(rows - top), I::NR, operands, &mut Nothing);
            }
        }
    }
}

/// `out[rows, hd] = weights[rows, ..] · packed`, each row over the positions up to its own.
#[inline(always)]
unsafe fn weighted_positions<I: Isa>(
    s: &Sizes,
    weights: *const f32,
    first: usize,
    rows: usize,
    packed: *const f32,
    (out, ldc): (*mut f32, usize),
) {
    for left in (0..s.hd).step_by(I::NR) {
        for top in (0..rows).step_by(I::MR) {
            // SAFETY: the caller promises `rows` rows of weights and of `out`; the panel has a term for every position.
            unsafe {
                let a = weights.add(top * s.score_stride);
                let c = out.add(top * ldc + left);
                let b = packed.add(left * s.seq);
                let k = first + top + 1;
                let operands = Tile { k, a, a_row: s.score_stride, a_k: 1, b, b_k: I::NR, c, ldc, load: false };
                tile::<I, false, TAIL>(I::MR.min(rows - top), I::NR.min(s.hd - left), operands, &mut Nothing);
            }
        }
    }
}

/// `out[position, hd] += Σ weights[query, position] packed[query, hd]` over the block's queries from the position on.
#[inline(always)]
unsafe fn weighted_queries<I: Isa>(
    s: &Sizes,
    weights: *const f32,
    first: usize,
    rows: usize,
    packed: *const f32,
    out: *mut f32,
) {
    for left in (0..s.hd).step_by(I::NR) {
        let cols = I::NR.min(s.hd - left);
        for top in (0..first + rows).step_by(I::MR) {
            let height = I::MR.min(first + rows - top);
            // Blocks and tiles start at multiples of a tile's rows, so a tile lies before the block's first query, or begins with the
            // query of its own first position.
            let skipped = top.saturating_sub(first);
            // SAFETY: the caller promises `rows` rows of weights and packed terms, and an output row for every position.
            unsafe {
                let a = weights.add(skipped * s.score_stride + top);
                let b = packed.add(left * rows + skipped * I::NR);
                let c = out.add(top * s.strides.kv + left);
                let k = rows - skipped;
                let operands =
                    Tile { k, a, a_row: 1, a_k: s.score_stride, b, b_k: I::NR, c, ldc: s.strides.kv, load: true };
                if top < first {
                    tile::<I, true, FULL>(height, cols, operands, &mut Nothing);
                } else {
                    tile::<I, true, HEAD>(height, cols, operands, &mut Nothing);
                }
            }
        }
    }
}

/// The first query head of a group in the forward pass: pointers to its first elements.
#[derive(Clone, Copy)]
pub(crate) struct ForwardHead {
    q: *const f32,
    out: *mut f32,
    stats: *mut f32,
}

impl ForwardHead {
    /// The head `index` places further on.
    fn further(self, s: &Sizes, index: usize) -> ForwardHead {
        ForwardHead {
            q: self.q.wrapping_add(index * s.hd),
            out: self.out.wrapping_add(index * s.hd),
            stats: self.stats.wrapping_add(index * s.seq * 2),
        }
    }
}

simd_fn! {
    /// All query heads of one key/value head.
    fn forward_group<I>(s: &Sizes, k: *const f32, v: *const f32, heads: ForwardHead, scratch: *mut f32) {
        // SAFETY: `attention_forward` checked the slices against the shape and made room for `forward_len` elements of scratch.
        unsafe {
            let keys = scratch;
            let values = keys.add(s.packed_by_element);
            let scores = values.add(s.packed_by_position);
            let AttentionStrides { q: q_stride, kv: kv_stride, out: out_stride } = s.strides;
            pack_by_element::<I>(k, kv_stride, s.seq, s.hd, keys);
            pack_by_position::<I>(v, kv_stride, s.seq, s.hd, values);
            for index in 0..s.group {
                let head = heads.further(s, index);
                for first in (0..s.seq).step_by(block::<I>(FORWARD_BLOCK)) {
                    let rows = block::<I>(FORWARD_BLOCK).min(s.seq - first);
                    let (q, out) = (head.q.add(first * q_stride), head.out.add(first * out_stride));
                    products_with_positions::<I>(s, (q, q_stride), first, rows, keys, scores);
                    softmax::<I>(s, scores, first, rows, head.stats.add(2 * first));
                    weighted_positions::<I>(s, scores, first, rows, values, (out, out_stride));
                }
            }
        }
    }
}

/// Softmax of `rows` rows of scores, the first of them that of query `first`; `stats` receives each row's maximum and inverse sum.
#[inline(always)]
unsafe fn softmax<I: Isa>(s: &Sizes, scores: *mut f32, first: usize, rows: usize, stats: *mut f32) {
    // SAFETY: the caller promises the rows of scores, which have room for whole vectors, and two statistics of each.
    let row_of = |row: usize| unsafe {
        let len = first + row + 1;
        (len, std::slice::from_raw_parts_mut(scores.add(row * s.score_stride), len.next_multiple_of(I::LANES)))
    };
    // A step of all rows at a time: what reduces a row to one number takes long, but need not wait for another row's.
    for row in 0..rows {
        let (len, scores) = row_of(row);
        // What lies beyond the row must not be its maximum, and adds exp(-inf) = +0 to a lane. (The scale is positive.)
        scores[len..].fill(f32::NEG_INFINITY);
        // SAFETY: as above.
        unsafe { *stats.add(2 * row) = rows::scale_and_max::<I>(scores, s.scale) };
    }
    for row in 0..rows {
        // SAFETY: as above.
        unsafe { *stats.add(2 * row + 1) = 1.0 / rows::exp_and_sum::<I>(row_of(row).1, *stats.add(2 * row)) };
    }
    for row in 0..rows {
        // SAFETY: as above.
        rows::scale::<I>(row_of(row).1, unsafe { *stats.add(2 * row + 1) });
    }
}

/// `out = softmax(scale · q kᵀ) v` on a fast path; the slices were checked against the shape and the strides.
pub(crate) fn attention_forward(
    exec: &Exec,
    shape: &AttentionShape,
    strides: AttentionStrides,
    [q, k, v]: [&[f32]; 3],
    out: &mut [f32],
    stats: &mut [f32],
) {
    let sizes = Sizes::new(shape, strides);
    let (out, stats) = (Shared::new(out.as_mut_ptr()), Shared::new(stats.as_mut_ptr()));
    exec.for_each_task(shape.batch * shape.kv_heads, |task| {
        let (batch, kv_head) = (task / shape.kv_heads, task % shape.kv_heads);
        let mut scratch = Scratch::take(Slot::Attention, sizes.forward_len());
        let kv = sizes.offset(batch, kv_head, strides.kv);
        let head = kv_head * shape.group();
        let (q_at, out_at) = (sizes.offset(batch, head, strides.q), sizes.offset(batch, head, strides.out));
        // SAFETY: the offsets lie within the checked slices; each head of each sequence belongs to one task only.
        let (out, stats) = unsafe { (out.get().add(out_at), stats.get().add(shape.stats_offset(batch, head))) };
        let heads = ForwardHead { q: q[q_at..].as_ptr(), out, stats };
        forward_group(exec.path(), &sizes, k[kv..].as_ptr(), v[kv..].as_ptr(), heads, scratch.as_mut_ptr());
    });
}

/// The first query head of a group in the backward pass: pointers to its first elements.
#[derive(Clone, Copy)]
pub(crate) struct BackwardHead {
    q: *const f32,
    out: *const f32,
    stats: *const f32,
    dout: *const f32,
    dq: *mut f32,
}

impl BackwardHead {
    /// The head `index` places further on.
    fn further(self, s: &Sizes, index: usize) -> BackwardHead {
        let by = index * s.hd;
        BackwardHead {
            q: self.q.wrapping_add(by),
            out: self.out.wrapping_add(by),
            stats: self.stats.wrapping_add(index * s.seq * 2),
            dout: self.dout.wrapping_add(by),
            dq: self.dq.wrapping_add(by),
        }
    }
}

/// One key/value head of the backward pass.
#[derive(Clone, Copy)]
pub(crate) struct BackwardKeys {
    k: *const f32,
    v: *const f32,
    dk: *mut f32,
    dv: *mut f32,
}

simd_fn! {
    /// All query heads of one key/value head.
    fn backward_group<I>(s: &Sizes, kv: &BackwardKeys, heads: BackwardHead, scratch: *mut f32) {
        // SAFETY: `attention_backward` checked the slices against the shape and made room for `backward_len` elements of scratch.
        unsafe {
            let wide = s.hd.next_multiple_of(I::NR);
            let keys_by_element = scratch;
            let values_by_element = keys_by_element.add(s.packed_by_element);
            let keys = values_by_element.add(s.packed_by_element);
            let queries = keys.add(s.packed_by_position);
            let douts = queries.add(BACKWARD_BLOCK * wide);
            let scores = douts.add(BACKWARD_BLOCK * wide);
            let dscores = scores.add(BACKWARD_BLOCK * s.score_stride);
            let AttentionStrides { q: q_stride, kv: kv_stride, out: out_stride } = s.strides;
            pack_by_element::<I>(kv.k, kv_stride, s.seq, s.hd, keys_by_element);
            pack_by_element::<I>(kv.v, kv_stride, s.seq, s.hd, values_by_element);
            pack_by_position::<I>(kv.k, kv_stride, s.seq, s.hd, keys);
            for row in 0..s.seq {
                std::ptr::write_bytes(kv.dk.add(row * kv_stride), 0, s.hd);
                std::ptr::write_bytes(kv.dv.add(row * kv_stride), 0, s.hd);
            }
            for index in 0..s.group {
                let head = heads.further(s, index);
                for first in (0..s.seq).step_by(block::<I>(BACKWARD_BLOCK)) {
                    let rows = block::<I>(BACKWARD_BLOCK).min(s.seq - first);
                    let (q, dq) = (head.q.add(first * q_stride), head.dq.add(first * q_stride));
                    let (out, dout) = (head.out.add(first * out_stride), head.dout.add(first * out_stride));
                    products_with_positions::<I>(s, (q, q_stride), first, rows, keys_by_element, scores);
                    products_with_positions::<I>(s, (dout, out_stride), first, rows, values_by_element, dscores);
                    for row in 0..rows {
                        let (offset, start) = (row * out_stride, row * s.score_stride);
                        let dout = std::slice::from_raw_parts(dout.add(offset), s.hd);
                        let out = std::slice::from_raw_parts(out.add(offset), s.hd);
                        let stats = head.stats.add(2 * (first + row));
                        let factors = [*stats, *stats.add(1), rows::dot::<I>(dout, out)];
                        softmax_backward::<I>(s, scores.add(start), dscores.add(start), first + row + 1, factors);
                    }
                    weighted_positions::<I>(s, dscores, first, rows, keys, (dq, q_stride));
                    pack_by_position::<I>(q, q_stride, rows, s.hd, queries);
                    pack_by_position::<I>(dout, out_stride, rows, s.hd, douts);
                    weighted_queries::<I>(s, scores, first, rows, douts, kv.dv);
                    weighted_queries::<I>(s, dscores, first, rows, queries, kv.dk);
                }
            }
        }
    }
}

/// One row of `len` raw scores becomes probabilities, and its `dp` becomes `(p * (dp - D)) * scale`.
#[inline(always)]
unsafe fn softmax_backward<I: Isa>(
    s: &Sizes,
    scores: *mut f32,
    dscores: *mut f32,
    len: usize,
    [max, inverse, mean]: [f32; 3],
) {
    // SAFETY: the caller promises two rows of scores, which have room for whole vectors.
    let (scores, dscores) = unsafe {
        let padded = len.next_multiple_of(I::LANES);
        (std::slice::from_raw_parts_mut(scores, padded), std::slice::from_raw_parts_mut(dscores, padded))
    };
    let [max, inverse, mean, scale] = [max, inverse, mean, s.scale].map(I::splat);
    for at in (0..scores.len()).step_by(I::LANES) {
        let power = exp_lanes::<I>(I::vsub(I::vmul(vector::<I>(scores, at), scale), max));
        let p = I::vmul(power, inverse);
        set_vector::<I>(scores, at, p);
        let ds = I::vmul(I::vmul(p, I::vsub(vector::<I>(dscores, at), mean)), scale);
        set_vector::<I>(dscores, at, ds);
    }
}

/// The gradients on a fast path: from `[q, k, v, out, stats, dout]` to `[dq, dk, dv]`, whose heads may lie between each other's; the slices were
/// checked against the shape and the strides.
pub(crate) fn attention_backward(
    exec: &Exec,
    shape: &AttentionShape,
    strides: AttentionStrides,
    [q, k, v, out, stats, dout]: [&[f32]; 6],
    [dq, dk, dv]: [Shared<f32>; 3],
) {
    let sizes = Sizes::new(shape, strides);
    exec.for_each_task(shape.batch * shape.kv_heads, |task| {
        let (batch, kv_head) = (task / shape.kv_heads, task % shape.kv_heads);
        let mut scratch = Scratch::take(Slot::Attention, sizes.backward_len());
        let at = sizes.offset(batch, kv_head, strides.kv);
        // SAFETY: the offset lies within the checked slices; each key/value head of each sequence belongs to one task only.
        let (dk, dv) = unsafe { (dk.get().add(at), dv.get().add(at)) };
        let keys = BackwardKeys { k: k[at..].as_ptr(), v: v[at..].as_ptr(), dk, dv };
        let head = kv_head * shape.group();
        let (q_at, out_at) = (sizes.offset(batch, head, strides.q), sizes.offset(batch, head, strides.out));
        let heads = BackwardHead {
            q: q[q_at..].as_ptr(),
            out: out[out_at..].as_ptr(),
            stats: stats[shape.stats_offset(batch, head)..].as_ptr(),
            dout: dout[out_at..].as_ptr(),
            // SAFETY: as above; a query head belongs to one key/value head.
            dq: unsafe { dq.get().add(q_at) },
        };
        backward_group(exec.path(), &sizes, &keys, heads, scratch.as_mut_ptr());
    });
}

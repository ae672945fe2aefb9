//! Causal attention with grouped keys and values.

use super::reduce;
use crate::math::exp;
use crate::ops::AttentionShape;

/// Queries, keys and values of `qkv[tokens, stride]`, each without gaps.
pub(crate) fn split(shape: &AttentionShape, stride: usize, qkv: &[f32]) -> [Vec<f32>; 3] {
    let (q, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    [0..q, q..q + kv, q + kv..q + 2 * kv]
        .map(|columns| qkv.chunks_exact(stride).flat_map(|row| &row[columns.clone()]).copied().collect())
}

/// Puts back what [`split`] takes apart.
pub(crate) fn join(stride: usize, parts: [&[f32]; 3], qkv: &mut [f32]) {
    let tokens = qkv.len() / stride;
    for (token, row) in qkv.chunks_exact_mut(stride).enumerate() {
        let mut column = 0;
        for part in parts {
            let width = part.len() / tokens;
            row[column..column + width].copy_from_slice(&part[token * width..][..width]);
            column += width;
        }
    }
}

/// A chain of fused multiply-adds from +0.
fn chain(terms: impl Iterator<Item = (f32, f32)>) -> f32 {
    terms.fold(0.0, |sum, (a, b)| a.mul_add(b, sum))
}

/// `softmax(scale * q · k)` of one query over the keys `0..=i`; stores the row's maximum and the inverse of its sum.
fn probabilities(scores: &mut [f32], scale: f32) -> (f32, f32) {
    scores.iter_mut().for_each(|score| *score *= scale);
    let max = reduce::row_max(scores);
    scores.iter_mut().for_each(|score| *score = exp(*score - max));
    let inverse = 1.0 / reduce::sum(scores);
    scores.iter_mut().for_each(|value| *value *= inverse);
    (max, inverse)
}

/// The rows of the probability matrix of one head, row `i` having `i + 1` entries.
fn head_probabilities(shape: &AttentionShape, at: (usize, usize), q: &[f32], k: &[f32]) -> (Vec<Vec<f32>>, Vec<f32>) {
    let (batch, head) = at;
    let (hd, kv_head) = (shape.head_dim, head / shape.group());
    let mut stats = Vec::new();
    let rows = (0..shape.seq).map(|i| {
        let q_row = &q[shape.q_offset(batch, i, head)..][..hd];
        let mut scores: Vec<f32> = (0..=i)
            .map(|j| {
                let k_row = &k[shape.kv_offset(batch, j, kv_head)..][..hd];
                chain(q_row.iter().copied().zip(k_row.iter().copied()))
            })
            .collect();
        let (max, inverse) = probabilities(&mut scores, shape.scale());
        stats.extend([max, inverse]);
        scores
    });
    (rows.collect(), stats)
}

/// `out[i] = Σ_j p[i, j] v[j]`, keys in increasing order; masked keys take no part.
pub(crate) fn attention_forward(
    shape: &AttentionShape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    stats: &mut [f32],
) {
    for batch in 0..shape.batch {
        for head in 0..shape.heads {
            let (rows, row_stats) = head_probabilities(shape, (batch, head), q, k);
            stats[shape.stats_offset(batch, head)..][..2 * shape.seq].copy_from_slice(&row_stats);
            for (i, row) in rows.iter().enumerate() {
                for x in 0..shape.head_dim {
                    let column = |j: usize| v[shape.kv_offset(batch, j, head / shape.group()) + x];
                    out[shape.q_offset(batch, i, head) + x] =
                        chain(row.iter().enumerate().map(|(j, &p)| (p, column(j))));
                }
            }
        }
    }
}

/// Gradients with respect to q, k and v. `dk` and `dv` are one chain each, over the heads of the group and then the queries.
#[allow(clippy::too_many_arguments)]
pub(crate) fn attention_backward(
    shape: &AttentionShape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &[f32],
    dout: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let (hd, scale) = (shape.head_dim, shape.scale());
    dk.fill(0.0);
    dv.fill(0.0);
    for batch in 0..shape.batch {
        for head in 0..shape.heads {
            let kv_head = head / shape.group();
            let (rows, _) = head_probabilities(shape, (batch, head), q, k);
            for (i, row) in rows.iter().enumerate() {
                let at = shape.q_offset(batch, i, head);
                let (dout_row, q_row) = (&dout[at..][..hd], &q[at..][..hd]);
                let mean = reduce::dot(dout_row, &out[at..][..hd]);
                let kv = |j: usize| shape.kv_offset(batch, j, kv_head);
                let dscores: Vec<f32> = row
                    .iter()
                    .enumerate()
                    .map(|(j, &p)| {
                        let v_row = &v[kv(j)..][..hd];
                        let dp = chain(dout_row.iter().copied().zip(v_row.iter().copied()));
                        (p * (dp - mean)) * scale
                    })
                    .collect();
                for x in 0..hd {
                    dq[at + x] = chain(dscores.iter().enumerate().map(|(j, &ds)| (ds, k[kv(j) + x])));
                }
                for j in 0..=i {
                    for x in 0..hd {
                        dv[kv(j) + x] = row[j].mul_add(dout_row[x], dv[kv(j) + x]);
                        dk[kv(j) + x] = dscores[j].mul_add(q_row[x], dk[kv(j) + x]);
                    }
                }
            }
        }
    }
}

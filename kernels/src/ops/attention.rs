//! Causal attention with grouped keys and values.

use crate::cpu::{self, Shared};
use crate::exec::Exec;
use crate::platform::Path;
use crate::reference;

/// The sizes of an attention. Query head `h` reads key/value head `h / (heads / kv_heads)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Independent sequences.
    pub batch: usize,
    /// Positions of each.
    pub seq: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

impl AttentionShape {
    /// Length of q, out, dq, dout: `[batch, seq, heads, head_dim]`.
    pub fn q_len(&self) -> usize {
        self.batch * self.seq * self.heads * self.head_dim
    }

    /// Length of k, v, dk, dv: `[batch, seq, kv_heads, head_dim]`.
    pub fn kv_len(&self) -> usize {
        self.batch * self.seq * self.kv_heads * self.head_dim
    }

    /// Length of the softmax statistics: `[batch, heads, seq, 2]`.
    pub fn stats_len(&self) -> usize {
        self.batch * self.heads * self.seq * 2
    }

    /// `1 / sqrt(head_dim)`, in float64, rounded once.
    pub fn scale(&self) -> f32 {
        (1.0 / crate::scalar64::sqrt(self.head_dim as f64)) as f32
    }

    pub(crate) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    pub(crate) fn q_offset(&self, batch: usize, pos: usize, head: usize) -> usize {
        ((batch * self.seq + pos) * self.heads + head) * self.head_dim
    }

    pub(crate) fn kv_offset(&self, batch: usize, pos: usize, kv_head: usize) -> usize {
        ((batch * self.seq + pos) * self.kv_heads + kv_head) * self.head_dim
    }

    pub(crate) fn stats_offset(&self, batch: usize, head: usize) -> usize {
        (batch * self.heads + head) * self.seq * 2
    }

    /// Distances of rows when nothing lies between.
    pub(crate) fn dense(&self) -> AttentionStrides {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        AttentionStrides { q, kv, out: q }
    }

    /// Where keys and values begin in a row of `qkv`, and where the values end.
    fn joint_columns(&self) -> [usize; 3] {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        [q, q + kv, q + 2 * kv]
    }

    /// Panics unless `stride` holds a row of `qkv`, and `len` is that of all rows.
    fn check_joint(&self, stride: usize, of_qkv: &[&[f32]], of_q: &[&[f32]], stats: &[f32]) {
        self.check(of_q, &[], stats);
        let [.., width] = self.joint_columns();
        assert!(stride >= width, "rows of {width} elements at a distance of {stride}");
        let len = (self.batch * self.seq).checked_mul(stride);
        assert!(
            of_qkv.iter().all(|x| Some(x.len()) == len),
            "qkv and its gradient must be [tokens, {stride}] of {self:?}"
        );
    }

    fn check(&self, of_q: &[&[f32]], of_kv: &[&[f32]], stats: &[f32]) {
        self.check_lens(of_q.iter().map(|x| x.len()), of_kv.iter().map(|x| x.len()), stats.len());
    }

    /// As `check`, of lengths.
    pub(crate) fn check_lens(
        &self,
        mut of_q: impl Iterator<Item = usize>,
        mut of_kv: impl Iterator<Item = usize>,
        stats: usize,
    ) {
        // Unsafe code relies on these checks: sizes whose product wraps around must not pass them.
        // A row of q, k and v has at most three times as many heads as there are of either.
        let sizes = [self.batch, self.seq, self.heads.max(self.kv_heads).max(2), self.head_dim.max(2)];
        let row = self.heads.max(self.kv_heads).checked_mul(self.head_dim).and_then(|width| width.checked_mul(3));
        assert!(row.is_some(), "the sizes of {self:?} overflow");
        let product = sizes.into_iter().try_fold(1usize, usize::checked_mul);
        assert!(product.is_some(), "the sizes of {self:?} overflow");
        assert!(self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads), "heads must divide: {self:?}");
        assert!(of_q.all(|len| len == self.q_len()), "q, out and their gradients must be {self:?}");
        assert!(of_kv.all(|len| len == self.kv_len()), "k, v and their gradients must be {self:?}");
        assert_eq!(stats, self.stats_len(), "stats must be [batch, heads, seq, 2] of {self:?}");
    }
}

/// Distances of rows, in elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionStrides {
    /// Of q and dq.
    pub(crate) q: usize,
    /// Of k, v, dk and dv.
    pub(crate) kv: usize,
    /// Of out and dout.
    pub(crate) out: usize,
}

/// `out = softmax(scale · q kᵀ) v` over the keys `j ≤ i` of each query `i`, with `q, out: [batch, seq, heads, head_dim]`,
/// `k, v: [batch, seq, kv_heads, head_dim]`.
///
/// `stats[batch, heads, seq, 2]` receives each row's maximum and the inverse of its sum of exponentials, for the backward pass.
/// A score is a chain over `head_dim`, then one multiplication by the scale; `p = exp(s - max) * (1 / Σ)`; an output is a chain over the
/// keys in increasing order. Keys after the query take no part at all.
///
/// # Panics
/// When the lengths don't fit.
pub fn attention_forward(
    exec: &Exec,
    shape: AttentionShape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &mut [f32],
    stats: &mut [f32],
) {
    shape.check(&[q, out], &[k, v], stats);
    match exec.path() {
        Path::Scalar => reference::attention::attention_forward(&shape, q, k, v, out, stats),
        _ => cpu::attention::attention_forward(exec, &shape, shape.dense(), [q, k, v], out, stats),
    }
}

/// As [`attention_forward`], of `qkv[batch, seq, stride]`: in each row the heads of the queries, then those of the keys, then those of the values, as
/// one product with all three matrices leaves them. What follows in a row is not read.
///
/// # Panics
/// When the lengths don't fit, or a row is longer than `stride`.
pub fn attention_forward_joint(
    exec: &Exec,
    shape: AttentionShape,
    stride: usize,
    qkv: &[f32],
    out: &mut [f32],
    stats: &mut [f32],
) {
    shape.check_joint(stride, &[qkv], &[out], stats);
    if qkv.is_empty() {
        return;
    }
    match exec.path() {
        Path::Scalar => {
            let [q, k, v] = reference::attention::split(&shape, stride, qkv);
            reference::attention::attention_forward(&shape, &q, &k, &v, out, stats);
        }
        _ => {
            let strides = AttentionStrides { q: stride, kv: stride, out: shape.dense().out };
            cpu::attention::attention_forward(exec, &shape, strides, joint_parts(&shape, qkv), out, stats);
        }
    }
}

/// Queries, keys and values of `qkv`, each from its first element on.
fn joint_parts<'a>(shape: &AttentionShape, qkv: &'a [f32]) -> [&'a [f32]; 3] {
    let [keys, values, _] = shape.joint_columns();
    [qkv, &qkv[keys..], &qkv[values..]]
}

/// The gradients `dq`, `dk`, `dv` (all overwritten) of [`attention_forward`], from its inputs, its `out` and `stats`, and `dout`.
///
/// With `D = dot(dout_i, out_i)` and `dp` a chain over `head_dim`: `ds = (p * (dp - D)) * scale`; `dq` is a chain over the keys; `dk` and `dv` are
/// chains over the heads of the group, then the queries.
///
/// # Panics
/// When the lengths don't fit.
#[allow(clippy::too_many_arguments)]
pub fn attention_backward(
    exec: &Exec,
    shape: AttentionShape,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    out: &[f32],
    stats: &[f32],
    dout: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    shape.check(&[q, out, dout, dq], &[k, v, dk, dv], stats);
    match exec.path() {
        Path::Scalar => reference::attention::attention_backward(&shape, q, k, v, out, dout, dq, dk, dv),
        _ => {
            let gradients = [dq, dk, dv].map(|gradient| Shared::new(gradient.as_mut_ptr()));
            let inputs = [q, k, v, out, stats, dout];
            cpu::attention::attention_backward(exec, &shape, shape.dense(), inputs, gradients);
        }
    }
}

/// As [`attention_backward`], of `qkv[batch, seq, stride]` as in [`attention_forward_joint`]; `dqkv` likewise, where what follows the values in a row
/// is not written.
///
/// # Panics
/// When the lengths don't fit, or a row is longer than `stride`.
#[allow(clippy::too_many_arguments)]
pub fn attention_backward_joint(
    exec: &Exec,
    shape: AttentionShape,
    stride: usize,
    qkv: &[f32],
    out: &[f32],
    stats: &[f32],
    dout: &[f32],
    dqkv: &mut [f32],
) {
    shape.check_joint(stride, &[qkv, dqkv], &[out, dout], stats);
    if qkv.is_empty() {
        return;
    }
    if exec.path() == Path::Scalar {
        let [q, k, v] = reference::attention::split(&shape, stride, qkv);
        let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|x| vec![0.0; x.len()]);
        reference::attention::attention_backward(&shape, &q, &k, &v, out, dout, &mut dq, &mut dk, &mut dv);
        reference::attention::join(stride, [&dq, &dk, &dv], dqkv);
        return;
    }
    let [keys, values, _] = shape.joint_columns();
    let start = dqkv.as_mut_ptr();
    let gradients = [0, keys, values].map(|column| Shared::new(start.wrapping_add(column)));
    let [q, k, v] = joint_parts(&shape, qkv);
    let strides = AttentionStrides { q: stride, kv: stride, out: shape.dense().out };
    cpu::attention::attention_backward(exec, &shape, strides, [q, k, v, out, stats, dout], gradients);
}

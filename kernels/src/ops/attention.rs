//! Causal attention with grouped keys and values.

use crate::cpu;
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
        let sizes = [self.batch, self.seq, self.heads.max(2), self.head_dim.max(2)];
        let product = sizes.into_iter().try_fold(1usize, usize::checked_mul);
        assert!(product.is_some(), "the sizes of {self:?} overflow");
        assert!(self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads), "heads must divide: {self:?}");
        assert!(of_q.all(|len| len == self.q_len()), "q, out and their gradients must be {self:?}");
        assert!(of_kv.all(|len| len == self.kv_len()), "k, v and their gradients must be {self:?}");
        assert_eq!(stats, self.stats_len(), "stats must be [batch, heads, seq, 2] of {self:?}");
    }
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
        _ => cpu::attention::attention_forward(exec, &shape, q, k, v, out, stats),
    }
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
        _ => cpu::attention::attention_backward(exec, &shape, [q, k, v, out, stats, dout], [dq, dk, dv]),
    }
}

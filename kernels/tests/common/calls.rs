//! Calls of every operation, all of whose operands follow from a few numbers.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use super::common::{Numbers, bits};
use essaim_kernels::ops::{
    self, AdamwScalars, AttentionShape, LinearShape, LinearStrides, NesterovScalars, RopeShape, SwigluShape,
};
use essaim_kernels::{Exec, Layout, gemm, math, reduce};
use std::ops::Range;

/// Elements at a chosen distance, in elements, from a cache line's begin, with guards around them.
struct Placed {
    buffer: Vec<f32>,
    start: usize,
    len: usize,
}

const GUARD: f32 = f32::from_bits(0x7fab_cdef);

impl Placed {
    fn new(values: &[f32], offset: usize) -> Placed {
        let mut buffer = vec![GUARD; values.len() + 48];
        let to_line = (64 - buffer.as_ptr().addr() % 64) % 64 / 4;
        let start = to_line + offset;
        buffer[start..start + values.len()].copy_from_slice(values);
        Placed { buffer, start, len: values.len() }
    }

    fn get(&self) -> &[f32] {
        &self.buffer[self.start..][..self.len]
    }

    fn get_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[self.start..][..self.len]
    }

    /// The elements' bits, after a look at the guards.
    fn bits(&self) -> Vec<u32> {
        let (before, after) = (&self.buffer[..self.start], &self.buffer[self.start + self.len..]);
        assert!(before.iter().chain(after).all(|guard| guard.to_bits() == GUARD.to_bits()), "written out of bounds");
        bits(self.get())
    }
}

/// Where the values of a case come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values {
    Ordinary,
    Wild,
    /// NaN and infinities only: what a run leaves in scratch buffers must not be seen by the next.
    Poison,
}

/// One call of one operation: everything follows from these.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub operation: usize,
    pub seed: u64,
    pub values: Values,
    /// Seed of the operands' places, 0 for all at the begin of a line.
    pub places: u64,
    /// Whether sizes are such that every operation has tasks for several threads.
    pub large: bool,
}

pub const OPERATIONS: usize = 12;

/// Makes a call's operands.
struct Maker {
    numbers: Numbers,
    places: Numbers,
    call: Call,
}

impl Maker {
    /// From 1 to `small`, or in `large`.
    fn size(&mut self, small: usize, large: Range<usize>) -> usize {
        let range = if self.call.large { large } else { 1..small + 1 };
        range.start + self.numbers.below(range.len())
    }

    fn make(&mut self, len: usize) -> Placed {
        let values = match self.call.values {
            Values::Ordinary => self.numbers.vec(len, 2.0),
            Values::Wild => self.numbers.wild(len),
            Values::Poison => (0..len).map(|i| [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][i % 3]).collect(),
        };
        Placed::new(&values, if self.call.places == 0 { 0 } else { self.places.below(16) })
    }
}

impl Call {
    /// The bits of all outputs.
    pub fn run(self, exec: &Exec) -> Vec<u32> {
        let mut maker = Maker { numbers: Numbers(self.seed), places: Numbers(self.places), call: self };
        let outputs = match self.operation {
            0 => product(exec, &mut maker),
            1 => linear(exec, &mut maker),
            2 => attention(exec, &mut maker),
            3 => norm(exec, &mut maker),
            4 => cross_entropy(exec, &mut maker),
            5 => swiglu(exec, &mut maker),
            6 => reductions(exec, &mut maker),
            7 => optimisers(exec, &mut maker),
            8 => elementwise(exec, &mut maker),
            9 => linear_gradients(exec, &mut maker),
            10 => joint(exec, &mut maker),
            _ => embedding_and_rope(exec, &mut maker),
        };
        outputs.iter().flat_map(Placed::bits).collect()
    }
}

fn product(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let (m, n, k) = (maker.size(60, 80..120), maker.size(80, 110..160), maker.size(420, 330..420));
    let layout = [Layout::NN, Layout::NT, Layout::TN][maker.numbers.below(3)];
    let (a, b, mut c) = (maker.make(m * k), maker.make(n * k), maker.make(m * n));
    let (lda, ldb) = (if layout == Layout::TN { m } else { k }, if layout == Layout::NT { k } else { n });
    let accumulate = maker.numbers.below(2) == 1;
    gemm(exec, layout, m, n, k, a.get(), lda, b.get(), ldb, c.get_mut(), n, accumulate);
    vec![c]
}

fn linear(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let shape = {
        let mut size = |small| maker.size(small, 140..170);
        LinearShape { tokens: size(40), inputs: size(70), outputs: size(70) }
    };
    let (x, w) = (maker.make(shape.tokens * shape.inputs), maker.make(shape.outputs * shape.inputs));
    let (dy, mut y) = (maker.make(shape.tokens * shape.outputs), maker.make(shape.tokens * shape.outputs));
    let (mut dx, mut dw) = (maker.make(x.len), maker.make(w.len));
    ops::linear_forward(exec, shape, x.get(), w.get(), y.get_mut());
    ops::linear_backward_input(exec, shape, dy.get(), w.get(), dx.get_mut(), true);
    ops::linear_backward_weight(exec, shape, dy.get(), x.get(), dw.get_mut(), true);
    vec![y, dx, dw]
}

fn attention(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let (kv_heads, group) = (maker.size(2, 2..4), maker.size(3, 1..3));
    let (seq, head_dim) = (maker.size(70, 80..100), maker.size(40, 20..40));
    let shape = AttentionShape { batch: maker.size(2, 3..4), seq, heads: kv_heads * group, kv_heads, head_dim };
    let [q, dout] = [(); 2].map(|()| maker.make(shape.q_len()));
    let [k, v] = [(); 2].map(|()| maker.make(shape.kv_len()));
    let (mut out, mut stats) = (maker.make(shape.q_len()), maker.make(shape.stats_len()));
    ops::attention_forward(exec, shape, q.get(), k.get(), v.get(), out.get_mut(), stats.get_mut());
    let (mut dq, mut dk, mut dv) = (maker.make(q.len), maker.make(k.len), maker.make(v.len));
    let gradients = [&mut dq, &mut dk, &mut dv].map(Placed::get_mut);
    let [dq_slice, dk_slice, dv_slice] = gradients;
    let (q, k, v, dout) = (q.get(), k.get(), v.get(), dout.get());
    ops::attention_backward(exec, shape, q, k, v, out.get(), stats.get(), dout, dq_slice, dk_slice, dv_slice);
    vec![out, stats, dq, dk, dv]
}

fn norm(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let (tokens, d) = (maker.size(20, 60..80), maker.size(1500, 1400..1600));
    let (x, w, dy) = (maker.make(tokens * d), maker.make(d), maker.make(tokens * d));
    let (mut y, mut rstd) = (maker.make(tokens * d), maker.make(tokens));
    ops::rmsnorm_forward(exec, x.get(), w.get(), 1e-5, y.get_mut(), rstd.get_mut());
    let (mut dx, mut dw) = (maker.make(tokens * d), maker.make(d));
    let accumulate = maker.numbers.below(2) == 1;
    let (dx_slice, dw_slice) = (dx.get_mut(), dw.get_mut());
    ops::rmsnorm_backward(exec, x.get(), w.get(), rstd.get(), dy.get(), dx_slice, accumulate, dw_slice);
    vec![y, rstd, dx, dw]
}

fn cross_entropy(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let (tokens, vocab) = (maker.size(12, 20..30), maker.size(6000, 5000..6000));
    let (mut logits, mut losses) = (maker.make(tokens * vocab), maker.make(tokens));
    let targets = maker.numbers.ids(tokens, vocab);
    let mut only_losses = maker.make(tokens);
    ops::cross_entropy_losses(exec, logits.get(), &targets, only_losses.get_mut());
    ops::cross_entropy_forward_backward(exec, logits.get_mut(), &targets, losses.get_mut(), 0.25);
    vec![logits, losses, only_losses]
}

fn swiglu(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let len = maker.size(9000, 40_000..50_000);
    let (gate, up, dout) = (maker.make(len), maker.make(len), maker.make(len));
    let (mut out, mut dgate, mut dup) = (maker.make(len), maker.make(len), maker.make(len));
    ops::swiglu_forward(exec, gate.get(), up.get(), out.get_mut());
    ops::swiglu_backward(exec, gate.get(), up.get(), dout.get(), dgate.get_mut(), dup.get_mut());
    let mut functions = gate;
    math::exp_slice(exec, functions.get_mut());
    math::log_slice(exec, functions.get_mut());
    math::rsqrt_slice(exec, functions.get_mut());
    vec![out, dgate, dup, functions]
}

/// Both gradients of a layer at once, over so many tokens that each worker keeps to its own.
fn linear_gradients(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let (tokens, inputs, outputs) = (maker.size(60, 600..700), maker.size(40, 130..170), maker.size(40, 130..170));
    let (shape, strides) = (LinearShape { tokens, inputs, outputs }, LinearStrides { x: inputs + 3, y: outputs + 5 });
    let (x, dy, w) = (maker.make(tokens * strides.x), maker.make(tokens * strides.y), maker.make(outputs * inputs));
    let (mut dx, mut dw) = (maker.make(x.len), maker.make(w.len));
    let accumulate = maker.numbers.below(2) == 1;
    let (dw_slice, dx_slice) = (dw.get_mut(), dx.get_mut());
    ops::linear_backward_strided(exec, shape, strides, dy.get(), x.get(), w.get(), dw_slice, dx_slice, accumulate);
    vec![dx, dw]
}

/// Queries, keys and values in one tensor, gate and up in another.
fn joint(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let (kv_heads, half) = (maker.size(2, 2..4), maker.size(12, 10..20));
    let (batch, seq, heads, head_dim) = (maker.size(2, 3..4), maker.size(50, 80..100), 2 * kv_heads, 2 * half);
    let (shape, tokens) = (AttentionShape { batch, seq, heads, kv_heads, head_dim }, batch * seq);
    let stride = (heads + 2 * kv_heads) * head_dim + 7;
    let (mut qkv, dout) = (maker.make(tokens * stride), maker.make(shape.q_len()));
    let (cos, sin) = (maker.make(seq * half), maker.make(seq * half));
    let rotated = RopeShape { seq, heads: heads + kv_heads, head_dim };
    ops::rope_forward_strided(exec, rotated, stride, qkv.get_mut(), cos.get(), sin.get());
    let (mut out, mut stats) = (maker.make(shape.q_len()), maker.make(shape.stats_len()));
    ops::attention_forward_joint(exec, shape, stride, qkv.get(), out.get_mut(), stats.get_mut());
    let mut dqkv = maker.make(qkv.len);
    let dqkv_slice = dqkv.get_mut();
    ops::attention_backward_joint(exec, shape, stride, qkv.get(), out.get(), stats.get(), dout.get(), dqkv_slice);
    ops::rope_backward_strided(exec, rotated, stride, dqkv.get_mut(), cos.get(), sin.get());
    let ffn = maker.size(60, 130..150);
    let shape = SwigluShape { ffn, gate_up: 2 * ffn + 5, out: ffn + 3 };
    let (gate_up, mut activation) = (maker.make(tokens * shape.gate_up), maker.make(tokens * shape.out));
    ops::swiglu_forward_joint(exec, shape, gate_up.get(), activation.get_mut());
    let mut dgate_up = maker.make(gate_up.len);
    ops::swiglu_backward_joint(exec, shape, gate_up.get(), activation.get(), dgate_up.get_mut());
    vec![qkv, out, stats, dqkv, activation, dgate_up]
}

type Reduction = fn(&Exec, &[f32], &mut [f32]);

fn reductions(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let (rows, cols) = (maker.size(30, 90..110), maker.size(1200, 2000..2200));
    let (x, y) = (maker.make(rows * cols), maker.make(rows * cols));
    let results = [reduce::sum(exec, x.get()), reduce::sum_squares(exec, x.get()), reduce::max_abs(exec, x.get())];
    let mut outputs = vec![Placed::new(&results, 0), Placed::new(&[reduce::dot(exec, x.get(), y.get())], 0)];
    let of_rows: [Reduction; 2] = [reduce::row_sums, reduce::row_sum_squares];
    let of_cols: [Reduction; 2] = [reduce::col_sums, reduce::col_sum_squares];
    for (len, function) in
        of_rows.map(|function| (rows, function)).into_iter().chain(of_cols.map(|function| (cols, function)))
    {
        let mut out = maker.make(len);
        function(exec, x.get(), out.get_mut());
        outputs.push(out);
    }
    outputs
}

fn optimisers(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let len = maker.size(20_000, 100_000..110_000);
    let scalars =
        AdamwScalars { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, bias1: 0.5, bias2: 0.3 };
    let (mut p, g, mut m, mut v) = (maker.make(len), maker.make(len), maker.make(len), maker.make(len));
    ops::adamw_update(exec, p.get_mut(), g.get(), m.get_mut(), v.get_mut(), &scalars);
    let mut momentum = maker.make(len);
    ops::nesterov_update(exec, p.get_mut(), g.get(), momentum.get_mut(), &NesterovScalars { lr: 0.7, mu: 0.9 });
    vec![p, m, v, momentum]
}

fn elementwise(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let len = maker.size(20_000, 100_000..110_000);
    let (x, mut y, mut sum, mut difference) = (maker.make(len), maker.make(len), maker.make(len), maker.make(len));
    ops::add(exec, x.get(), y.get(), sum.get_mut());
    ops::sub(exec, x.get(), y.get(), difference.get_mut());
    let mut quotient = maker.make(len);
    ops::div_assign(exec, quotient.get_mut(), x.get());
    ops::lerp(exec, y.get_mut(), 0.3, x.get());
    ops::scaled_add(exec, y.get_mut(), -0.7, sum.get());
    ops::axpby(exec, y.get_mut(), 1.5, -2.5, difference.get());
    ops::scale(exec, sum.get_mut(), 1.7);
    ops::mul_assign(exec, sum.get_mut(), x.get());
    ops::add_assign(exec, difference.get_mut(), x.get());
    ops::sqrt_assign(exec, difference.get_mut());
    vec![y, sum, difference, quotient]
}

fn embedding_and_rope(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let (vocab, heads, half, seq) =
        (maker.size(50, 40..50), maker.size(3, 3..4), maker.size(20, 18..20), maker.size(40, 600..620));
    let (head_dim, d) = (2 * half, 2 * half * heads);
    let ids = maker.numbers.ids(2 * seq, vocab);
    let (table, mut out) = (maker.make(vocab * d), maker.make(2 * seq * d));
    ops::embedding_forward(exec, &ids, table.get(), out.get_mut());
    let mut dtable = maker.make(vocab * d);
    ops::embedding_backward(exec, &ids, out.get(), dtable.get_mut());
    let (cos, sin) = (maker.make(seq * half), maker.make(seq * half));
    ops::rope_forward(exec, RopeShape { seq, heads, head_dim }, out.get_mut(), cos.get(), sin.get());
    vec![out, dtable]
}

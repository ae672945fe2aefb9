//! What must not be seen in the results: path, threads, where operands lie in memory, what scratch buffers held before, in which order
//! operations run, and how a batch or a chain is cut. Random cases, compared bit for bit.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Numbers, bits, reference};
use essaim_kernels::ops::{self, AdamwScalars, AttentionShape, LinearShape, RopeShape};
use essaim_kernels::{Exec, Layout, Path, gemm, math, reduce};
use proptest::prelude::*;
use std::sync::OnceLock;

/// Every path with one to five threads.
fn execs() -> &'static [Exec] {
    static EXECS: OnceLock<Vec<Exec>> = OnceLock::new();
    EXECS.get_or_init(|| {
        let fast = Path::available().into_iter().filter(|&path| path != Path::Scalar);
        let fast = fast.flat_map(|path| (1..=5).map(move |threads| Exec::new(path, threads).unwrap()));
        std::iter::once(reference()).chain(fast).collect()
    })
}

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
enum Values {
    Ordinary,
    Wild,
    /// NaN and infinities only: what a run leaves in scratch buffers must not be seen by the next.
    Poison,
}

/// One call of one operation: everything follows from these.
#[derive(Debug, Clone, Copy)]
struct Call {
    operation: usize,
    seed: u64,
    values: Values,
    /// Seed of the operands' places, 0 for all at the begin of a line.
    places: u64,
}

const OPERATIONS: usize = 9;

/// Makes a call's operands.
struct Maker {
    numbers: Numbers,
    places: Numbers,
    call: Call,
}

impl Maker {
    fn size(&mut self, below: usize) -> usize {
        1 + self.numbers.below(below)
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
    fn run(self, exec: &Exec) -> Vec<u32> {
        let mut maker = Maker { numbers: Numbers(self.seed), places: Numbers(self.places), call: self };
        let outputs = match self.operation {
            0 => product(exec, &mut maker),
            1 => linear(exec, &mut maker),
            2 => attention(exec, &mut maker),
            3 => norm(exec, &mut maker),
            4 => cross_entropy(exec, &mut maker),
            5 => swiglu(exec, &mut maker),
            6 => reductions(exec, &mut maker),
            7 => adamw(exec, &mut maker),
            _ => embedding_and_rope(exec, &mut maker),
        };
        outputs.iter().flat_map(Placed::bits).collect()
    }
}

fn product(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let (m, n, k) = (maker.size(60), maker.size(80), maker.size(420));
    let layout = [Layout::NN, Layout::NT, Layout::TN][maker.numbers.below(3)];
    let (a, b, mut c) = (maker.make(m * k), maker.make(n * k), maker.make(m * n));
    let (lda, ldb) = (if layout == Layout::TN { m } else { k }, if layout == Layout::NT { k } else { n });
    let accumulate = maker.numbers.below(2) == 1;
    gemm(exec, layout, m, n, k, a.get(), lda, b.get(), ldb, c.get_mut(), n, accumulate);
    vec![c]
}

fn linear(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let shape = LinearShape { tokens: maker.size(40), inputs: maker.size(70), outputs: maker.size(70) };
    let (x, w) = (maker.make(shape.tokens * shape.inputs), maker.make(shape.outputs * shape.inputs));
    let (dy, mut y) = (maker.make(shape.tokens * shape.outputs), maker.make(shape.tokens * shape.outputs));
    let (mut dx, mut dw) = (maker.make(x.len), maker.make(w.len));
    ops::linear_forward(exec, shape, x.get(), w.get(), y.get_mut());
    ops::linear_backward_input(exec, shape, dy.get(), w.get(), dx.get_mut(), true);
    ops::linear_backward_weight(exec, shape, dy.get(), x.get(), dw.get_mut(), true);
    vec![y, dx, dw]
}

fn attention(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let (kv_heads, group) = (maker.size(2), maker.size(3));
    let (seq, head_dim) = (maker.size(70), maker.size(40));
    let shape = AttentionShape { batch: maker.size(2), seq, heads: kv_heads * group, kv_heads, head_dim };
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
    let (tokens, d) = (maker.size(20), maker.size(1500));
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
    let (tokens, vocab) = (maker.size(12), maker.size(6000));
    let (mut logits, mut losses) = (maker.make(tokens * vocab), maker.make(tokens));
    let targets = maker.numbers.ids(tokens, vocab);
    ops::cross_entropy_forward_backward(exec, logits.get_mut(), &targets, losses.get_mut(), 0.25);
    vec![logits, losses]
}

fn swiglu(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let len = maker.size(9000);
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

fn reductions(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let (rows, cols) = (maker.size(30), maker.size(1200));
    let (x, y) = (maker.make(rows * cols), maker.make(rows * cols));
    let results = [reduce::sum(exec, x.get()), reduce::sum_squares(exec, x.get()), reduce::max_abs(exec, x.get())];
    let mut outputs = vec![Placed::new(&results, 0), Placed::new(&[reduce::dot(exec, x.get(), y.get())], 0)];
    for (len, function) in [(rows, reduce::row_sums as fn(&Exec, &[f32], &mut [f32])), (cols, reduce::col_sum_squares)]
    {
        let mut out = maker.make(len);
        function(exec, x.get(), out.get_mut());
        outputs.push(out);
    }
    outputs
}

fn adamw(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let len = maker.size(20_000);
    let scalars =
        AdamwScalars { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, bias1: 0.5, bias2: 0.3 };
    let (mut p, g, mut m, mut v) = (maker.make(len), maker.make(len), maker.make(len), maker.make(len));
    ops::adamw_update(exec, p.get_mut(), g.get(), m.get_mut(), v.get_mut(), &scalars);
    vec![p, m, v]
}

fn embedding_and_rope(exec: &Exec, maker: &mut Maker) -> Vec<Placed> {
    let (vocab, heads, half, seq) = (maker.size(50), maker.size(3), maker.size(20), maker.size(40));
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

fn calls() -> impl Strategy<Value = Call> {
    let values = prop_oneof![Just(Values::Ordinary), Just(Values::Wild)];
    (0..OPERATIONS, any::<u64>(), values, any::<u64>()).prop_map(|(operation, seed, values, places)| Call {
        operation,
        seed,
        values,
        places,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Path, threads and the place of every operand.
    #[test]
    fn places_threads_and_paths_are_not_seen(call in calls()) {
        let want = Call { places: 0, ..call }.run(&execs()[0]);
        for exec in execs() {
            let got = call.run(exec);
            prop_assert!(got == want, "on {} with {} threads", exec.path(), exec.threads());
        }
    }

    /// Several calls, one after the other, with others between them that leave nothing but NaN and infinities in every buffer.
    #[test]
    fn what_ran_before_is_not_seen(sequence in proptest::collection::vec((calls(), any::<bool>()), 1..8), which: usize) {
        let exec = &execs()[which % execs().len()];
        for (call, after_poison) in sequence {
            let want = call.run(&execs()[0]);
            if after_poison {
                Call { values: Values::Poison, ..call }.run(exec);
            }
            prop_assert!(call.run(exec) == want, "{call:?} on {} with {} threads", exec.path(), exec.threads());
        }
    }
}

/// Calls `part` for the pieces between the cuts, which are given as shares of 256.
fn pieces(len: usize, cuts: &[u8], mut part: impl FnMut(usize, usize)) {
    let mut ends: Vec<usize> = cuts.iter().map(|&cut| len * usize::from(cut) / 256).collect();
    ends.push(len);
    ends.sort_unstable();
    let mut start = 0;
    for end in ends {
        if end > start {
            part(start, end - start);
            start = end;
        }
    }
}

/// What is accumulated over a batch, the batch given in pieces: weight gradients of a linear layer, a norm and an embedding.
fn gradients(exec: &Exec, (tokens, d, outputs): (usize, usize, usize), seed: u64, cuts: &[u8]) -> Vec<u32> {
    let mut numbers = Numbers(seed);
    let (x, dy, w) = (numbers.vec(tokens * d, 1.0), numbers.vec(tokens * d, 1.0), numbers.vec(d, 1.0));
    let (dz, rstd, ids) = (numbers.vec(tokens * outputs, 1.0), numbers.vec(tokens, 1.0), numbers.ids(tokens, 9));
    let (mut dlinear, mut dw, mut dtable) = (vec![0.0; outputs * d], vec![0.0; d], vec![0.0; 9 * d]);
    let mut dx = vec![0.0; tokens * d];
    pieces(tokens, cuts, |start, len| {
        let rows = start * d..(start + len) * d;
        let (x, dy) = (&x[rows.clone()], &dy[rows.clone()]);
        let shape = LinearShape { tokens: len, inputs: d, outputs };
        ops::linear_backward_weight(exec, shape, &dz[start * outputs..][..len * outputs], x, &mut dlinear, true);
        ops::rmsnorm_backward(exec, x, &w, &rstd[start..][..len], dy, &mut dx[rows], false, &mut dw);
        ops::embedding_backward(exec, &ids[start..][..len], dy, &mut dtable);
    });
    bits(&[dlinear, dw, dtable, dx].concat())
}

/// A chain, its terms given in pieces, each continuing the one before.
fn chain_in_pieces(exec: &Exec, (m, n, k): (usize, usize, usize), seed: u64, cuts: &[u8]) -> Vec<u32> {
    let mut numbers = Numbers(seed);
    let (a, b, mut c) = (numbers.wild(k * m), numbers.wild(k * n), numbers.vec(m * n, 1.0));
    pieces(k, cuts, |start, len| {
        gemm(exec, Layout::TN, m, n, len, &a[start * m..], m, &b[start * n..], n, &mut c, n, true);
    });
    bits(&c)
}

/// Attention and losses, the sequences of a batch given in pieces.
fn by_sequences(exec: &Exec, (batch, seq): (usize, usize), seed: u64, cuts: &[u8]) -> Vec<u32> {
    let mut numbers = Numbers(seed);
    let shape = AttentionShape { batch, seq, heads: 4, kv_heads: 2, head_dim: 12 };
    let (q, dout) = (numbers.vec(shape.q_len(), 2.0), numbers.vec(shape.q_len(), 1.0));
    let (k, v) = (numbers.vec(shape.kv_len(), 2.0), numbers.vec(shape.kv_len(), 1.0));
    let targets = numbers.ids(batch * seq, 48);
    let (mut out, mut stats, mut dq) = (q.clone(), vec![0.0; shape.stats_len()], q.clone());
    let (mut dk, mut dv) = (k.clone(), v.clone());
    let (mut logits, mut losses) = (q.clone(), vec![0.0; batch * seq]);
    pieces(batch, cuts, |start, len| {
        let one = AttentionShape { batch: 1, ..shape };
        let part = AttentionShape { batch: len, ..shape };
        let of_q = start * one.q_len()..(start + len) * one.q_len();
        let of_kv = start * one.kv_len()..(start + len) * one.kv_len();
        let of_stats = start * one.stats_len()..(start + len) * one.stats_len();
        let (q, k, v, dout) = (&q[of_q.clone()], &k[of_kv.clone()], &v[of_kv.clone()], &dout[of_q.clone()]);
        let (out, stats) = (&mut out[of_q.clone()], &mut stats[of_stats]);
        ops::attention_forward(exec, part, q, k, v, out, stats);
        let (dq, dk, dv) = (&mut dq[of_q.clone()], &mut dk[of_kv.clone()], &mut dv[of_kv]);
        ops::attention_backward(exec, part, q, k, v, out, stats, dout, dq, dk, dv);
        let tokens = start * seq..(start + len) * seq;
        let (logits, losses) = (&mut logits[of_q], &mut losses[tokens.clone()]);
        ops::cross_entropy_forward_backward(exec, logits, &targets[tokens], losses, 0.5);
    });
    bits(&[out, stats, dq, dk, dv, logits, losses].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn cuts_are_not_seen(
        tokens in 1usize..60, d in 1usize..50, outputs in 1usize..40, k in 1usize..900, batch in 1usize..5, seed: u64,
        cuts in proptest::collection::vec(any::<u8>(), 0..5),
    ) {
        let sizes = ((tokens, d, outputs), (outputs, d, k), (batch, tokens));
        let whole = |exec: &Exec, cuts: &[u8]| {
            [gradients(exec, sizes.0, seed, cuts), chain_in_pieces(exec, sizes.1, seed, cuts), by_sequences(exec, sizes.2, seed, cuts)]
        };
        let want = whole(&execs()[0], &[]);
        for exec in execs() {
            prop_assert!(whole(exec, &cuts) == want, "on {} with {} threads", exec.path(), exec.threads());
        }
    }
}

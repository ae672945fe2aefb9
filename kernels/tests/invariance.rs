//! What must not be seen in the results: path, threads, where operands lie in memory, what scratch buffers held before, in which order
//! operations run, and how a batch or a chain is cut. Random cases, compared bit for bit.
#![allow(clippy::unwrap_used)]

#[path = "common/calls.rs"]
mod calls;
mod common;

use calls::{Call, OPERATIONS, Values};
use common::{Numbers, bits, reference};
use essaim_kernels::ops::{self, AttentionShape, LinearShape};
use essaim_kernels::{Exec, Layout, Path, gemm};
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

fn calls() -> impl Strategy<Value = Call> {
    let values = prop_oneof![Just(Values::Ordinary), Just(Values::Wild)];
    (0..OPERATIONS, any::<u64>(), values, any::<u64>()).prop_map(|(operation, seed, values, places)| Call {
        operation,
        seed,
        values,
        places,
        large: false,
    })
}

/// Sizes at which every operation is shared out: what is too small for that runs on one thread, however many there are.
#[test]
fn places_threads_and_paths_are_not_seen_in_large_work() {
    for operation in 0..OPERATIONS {
        for seed in [1, 2] {
            let call = Call { operation, seed, values: Values::Ordinary, places: 0, large: true };
            let want = call.run(&execs()[0]);
            for exec in execs() {
                let got = Call { places: 3 + seed, ..call }.run(exec);
                assert!(got == want, "{call:?} on {} with {} threads", exec.path(), exec.threads());
            }
        }
    }
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

/// A chain, its terms given in pieces, each continuing the one before; odd seeds have ordinary values, since of many wild ones most are NaN.
fn chain_in_pieces(exec: &Exec, (m, n, k): (usize, usize, usize), seed: u64, cuts: &[u8]) -> Vec<u32> {
    let mut numbers = Numbers(seed);
    let mut make = |len| if seed.is_multiple_of(2) { numbers.wild(len) } else { numbers.vec(len, 1.0) };
    let (a, b, mut c) = (make(k * m), make(k * n), make(m * n));
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
        check_cuts(sizes, seed, &cuts)?;
    }
}

/// The same where the whole, and some of the pieces, are shared out.
#[test]
fn cuts_are_not_seen_in_large_work() {
    check_cuts(((400, 110, 90), (90, 110, 500), (5, 70)), 1, &[40, 41, 150, 250]).unwrap();
}

type Sizes = ((usize, usize, usize), (usize, usize, usize), (usize, usize));

fn check_cuts(sizes: Sizes, seed: u64, cuts: &[u8]) -> Result<(), TestCaseError> {
    let whole = |exec: &Exec, cuts: &[u8]| {
        [
            gradients(exec, sizes.0, seed, cuts),
            chain_in_pieces(exec, sizes.1, seed, cuts),
            by_sequences(exec, sizes.2, seed, cuts),
        ]
    };
    let want = whole(&execs()[0], &[]);
    for exec in execs() {
        prop_assert!(whole(exec, cuts) == want, "on {} with {} threads", exec.path(), exec.threads());
    }
    Ok(())
}

//! The cases of `vectors/*.txt`: every operation of a training step, on sizes around every edge, with special values.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use super::operators;
use super::vector_file::{Case, Expected, Source};
use essaim_kernels::{Exec, NUMERICS_ID, ops};

/// A case with at most this many elements in its inputs, and in its outputs, is written out.
const WRITTEN_OUT_MAX: usize = 420;

/// The files with their cases, without outputs.
pub fn files() -> [(&'static str, Vec<Case>); 4] {
    [
        ("products.txt", products()),
        ("layers.txt", layers()),
        ("attention.txt", attention()),
        ("parameters.txt", parameters()),
    ]
}

/// A file's text, with outputs computed by `exec`.
pub fn text(exec: &Exec, cases: Vec<Case>) -> String {
    let mut text = format!("# {NUMERICS_ID}: cases for any implementation; the format is described in README.md\n");
    for mut case in cases {
        let words: Vec<Vec<u32>> = case.inputs.iter().map(|(_, source)| source.words()).collect();
        let outputs = operators::run(exec, &case);
        let of_inputs: usize = words.iter().map(Vec::len).sum();
        let of_outputs: usize = outputs.iter().map(|(_, values)| values.len()).sum();
        let is_written_out = of_inputs.max(of_outputs) <= WRITTEN_OUT_MAX;
        if is_written_out {
            case.inputs.iter_mut().zip(words).for_each(|((_, source), words)| *source = Source::Words(words));
        }
        case.outputs =
            outputs.iter().map(|(name, values)| ((*name).to_owned(), Expected::of(values, is_written_out))).collect();
        case.write(&mut text);
    }
    text
}

/// Ordinary values in [-2, 2), or with special ones mixed in.
fn values(seed: u64, len: usize, wild: bool) -> Source {
    if wild { Source::Wild(seed, len) } else { Source::Unit(seed, len, 2.0) }
}

fn gemm(layout: u64, (m, n, k): (usize, usize, usize), slack: usize, accumulate: bool, wild: bool) -> Case {
    let (a_rows, a_cols) = if layout == 2 { (k, m) } else { (m, k) };
    let (b_rows, b_cols) = if layout == 1 { (n, k) } else { (k, n) };
    let [lda, ldb, ldc] = [a_cols, b_cols, n].map(|cols| cols + slack);
    let sizes = [("m", m), ("n", n), ("k", k), ("lda", lda), ("ldb", ldb), ("ldc", ldc)];
    let mut ints = vec![("layout", layout), ("accumulate", u64::from(accumulate))];
    ints.extend(sizes.map(|(name, size)| (name, size as u64)));
    let inputs =
        [("a", values(1, a_rows * lda, wild)), ("b", values(2, b_rows * ldb, wild)), ("c", values(3, m * ldc, wild))];
    Case::new("gemm", &ints, &[], &inputs)
}

fn products() -> Vec<Case> {
    let mut cases = Vec::new();
    for layout in 0..3 {
        for accumulate in [false, true] {
            cases.push(gemm(layout, (2, 3, 0), 0, accumulate, true));
            cases.push(gemm(layout, (1, 1, 5), 0, accumulate, true));
            cases.push(gemm(layout, (3, 5, 4), 1, accumulate, true));
            cases.push(gemm(layout, (7, 17, 9), 0, accumulate, true));
            cases.push(gemm(layout, (31, 37, 21), 0, accumulate, true));
            for shape in [(6, 16, 384), (12, 32, 33), (13, 33, 385), (25, 49, 100), (29, 97, 64), (169, 65, 40)] {
                cases.push(gemm(layout, shape, 0, accumulate, false));
            }
            cases.push(gemm(layout, (49, 130, 100), 3, accumulate, false));
            cases.push(gemm(layout, (200, 200, 800), 0, accumulate, false));
        }
    }
    for (tokens, inputs, outputs, wild) in
        [(1, 1, 1, false), (5, 7, 3, true), (33, 40, 24, true), (65, 128, 100, false)]
    {
        let ints = [("tokens", tokens as u64), ("inputs", inputs as u64), ("outputs", outputs as u64)];
        let (x, w) = (("x", values(4, tokens * inputs, wild)), ("w", values(5, outputs * inputs, wild)));
        let dy = ("dy", values(6, tokens * outputs, wild));
        cases.push(Case::new("linear_forward", &ints, &[], &[x.clone(), w.clone()]));
        for accumulate in [0, 1] {
            let ints = [ints[0], ints[1], ints[2], ("accumulate", accumulate)];
            let dx = ("dx", values(7, tokens * inputs, wild));
            cases.push(Case::new("linear_backward_input", &ints, &[], &[dy.clone(), w.clone(), dx]));
        }
        let dw = ("dw", values(8, outputs * inputs, wild));
        cases.push(Case::new("linear_backward_weight", &ints, &[], &[dy, x, dw]));
    }
    cases
}

fn norms() -> Vec<Case> {
    let mut cases = Vec::new();
    let shapes = [
        (3, 1, true),
        (3, 7, true),
        (2, 33, true),
        (5, 100, true),
        (9, 128, false),
        (4, 1030, false),
        (3, 4100, false),
    ];
    for (tokens, d, wild) in shapes {
        let ints = [("tokens", tokens as u64), ("d", d as u64)];
        let (x, w) = (("x", values(1, tokens * d, wild)), ("w", values(2, d, false)));
        for eps in [0.0, 1e-5] {
            cases.push(Case::new("rmsnorm_forward", &ints, &[("eps", eps)], &[x.clone(), w.clone()]));
        }
        for accumulate in [0, 1] {
            let ints = [ints[0], ints[1], ("accumulate", accumulate)];
            let (rstd, dy) = (("rstd", values(3, tokens, false)), ("dy", values(4, tokens * d, wild)));
            let (dx, dw) = (("dx", values(5, tokens * d, wild)), ("dw", values(6, d, wild)));
            cases.push(Case::new("rmsnorm_backward", &ints, &[], &[x.clone(), w.clone(), rstd, dy, dx, dw]));
        }
    }
    cases
}

fn layers() -> Vec<Case> {
    let mut cases = norms();
    for (vocab, d, tokens) in [(1, 1, 1), (5, 3, 7), (300, 64, 1500)] {
        let (ids, table) = (("ids", Source::Below(1, tokens, vocab)), ("table", Source::Wild(2, vocab * d)));
        let (dout, dtable) = (("dout", Source::Wild(3, tokens * d)), ("dtable", Source::Wild(4, vocab * d)));
        let ints = [("d", d as u64)];
        cases.push(Case::new("embedding_forward", &ints, &[], &[ids.clone(), table]));
        cases.push(Case::new("embedding_backward", &ints, &[], &[ids, dout, dtable]));
    }
    for (theta, head_dim, seq) in [(10_000.0, 2, 3), (10_000.0, 32, 256), (500_000.0, 64, 1024)] {
        let mut case = Case::new("rope_tables", &[("head_dim", head_dim), ("seq", seq)], &[], &[]);
        case.doubles.push(("theta".into(), theta));
        cases.push(case);
    }
    for (seq, heads, head_dim, wild) in [(3, 2, 4, true), (1, 1, 2, false), (16, 4, 32, true), (40, 3, 6, false)] {
        let ints = [("seq", seq as u64), ("heads", heads as u64), ("head_dim", head_dim as u64)];
        let (cos, sin) = ops::rope_tables(10_000.0, head_dim, seq);
        let words = |table: Vec<f32>| Source::Words(table.into_iter().map(f32::to_bits).collect());
        // Tables of large cases are any values: the rotation itself does not care.
        let tables =
            if seq <= 3 { [words(cos), words(sin)] } else { [5, 6].map(|seed| values(seed, cos.len(), false)) };
        let [cos, sin] = tables;
        for name in ["rope_forward", "rope_backward"] {
            let x = ("x", values(7, 2 * seq * heads * head_dim, wild));
            cases.push(Case::new(name, &ints, &[], &[x, ("cos", cos.clone()), ("sin", sin.clone())]));
        }
    }
    for (len, wild) in [(0, true), (1, false), (60, true), (1001, true), (5000, false)] {
        let [gate, up, dout] = [1, 2, 3].map(|seed| values(seed, len, wild));
        cases.push(Case::new("swiglu_forward", &[], &[], &[("gate", gate.clone()), ("up", up.clone())]));
        cases.push(Case::new("swiglu_backward", &[], &[], &[("gate", gate), ("up", up), ("dout", dout)]));
    }
    let shapes = [
        (3, 1, true),
        (4, 2, true),
        (5, 33, true),
        (30, 100, true),
        (6, 4100, false),
        (3, 8192, false),
        (2, 12_289, false),
    ];
    for (tokens, vocab, wild) in shapes {
        let ints = [("tokens", tokens as u64), ("vocab", vocab as u64)];
        for (scale, wild) in [(0.125, false), (1.0, wild)] {
            let inputs = [("logits", values(8, tokens * vocab, wild)), ("targets", Source::Below(9, tokens, vocab))];
            cases.push(Case::new("cross_entropy", &ints, &[("grad_scale", scale)], &inputs));
        }
    }
    cases
}

fn attention() -> Vec<Case> {
    let shapes = [
        (1, 1, 1, 1, 1),
        (1, 3, 2, 1, 4),
        (2, 4, 2, 2, 3),
        (1, 5, 4, 2, 6),
        (1, 7, 2, 2, 17),
        (3, 24, 2, 2, 32),
        (1, 33, 4, 1, 20),
        (2, 49, 2, 2, 16),
        (1, 97, 4, 2, 32),
        (1, 129, 2, 1, 64),
        (1, 257, 4, 2, 32),
    ];
    let mut cases = Vec::new();
    for (batch, seq, heads, kv_heads, head_dim) in shapes {
        let sizes = [("batch", batch), ("seq", seq), ("heads", heads), ("kv_heads", kv_heads), ("head_dim", head_dim)];
        let ints = sizes.map(|(name, size)| (name, size as u64));
        let (of_q, of_kv) = (batch * seq * heads * head_dim, batch * seq * kv_heads * head_dim);
        for wild in [false, true] {
            let [q, dout] = [1, 2].map(|seed| values(seed, of_q, wild));
            let [k, v] = [3, 4].map(|seed| values(seed, of_kv, wild));
            cases.push(Case::new("attention", &ints, &[], &[("q", q), ("k", k), ("v", v), ("dout", dout)]));
        }
    }
    cases
}

fn parameters() -> Vec<Case> {
    let mut cases = Vec::new();
    for len in [0, 1, 7, 32, 33, 65, 200, 4095, 4096, 4097, 8193, 20_481, 140_001] {
        for wild in if len == 0 { &[false][..] } else { &[false, true] } {
            let (x, y) = (("x", values(1, len, *wild)), ("y", values(2, len, *wild)));
            for name in ["sum", "sum_squares", "max_abs"] {
                cases.push(Case::new(name, &[], &[], std::slice::from_ref(&x)));
            }
            cases.push(Case::new("dot", &[], &[], &[x, y]));
        }
    }
    for (rows, cols) in [(1, 1), (3, 33), (40, 100), (2, 5000), (700, 30)] {
        for name in ["row_sums", "row_sum_squares", "col_sums", "col_sum_squares"] {
            let ints = [("rows", rows as u64), ("cols", cols as u64)];
            cases.push(Case::new(name, &ints, &[], &[("x", values(3, rows * cols, rows * cols < 1000))]));
        }
    }
    let adamw = [
        ("lr", 1e-3f32),
        ("beta1", 0.9),
        ("beta2", 0.95),
        ("eps", 1e-8),
        ("weight_decay", 0.1),
        ("bias1", 0.271),
        ("bias2", 0.142_625),
    ];
    for (len, wild) in [(60, true), (9000, false)] {
        let [p, g, m, v] = [1, 2, 3, 4].map(|seed| values(seed, len, wild));
        let (p, g) = (("p", p), ("g", g));
        cases.push(Case::new("adamw_update", &[], &adamw, &[p.clone(), g.clone(), ("m", m), ("v", v)]));
        let inputs = [p, g, ("b", values(5, len, wild))];
        cases.push(Case::new("nesterov_update", &[], &[("lr", 0.7), ("mu", 0.9)], &inputs));
    }
    let (x, y) = (("x", Source::Wild(6, 120)), ("y", Source::Wild(7, 120)));
    for name in ["exp", "log", "rsqrt", "sigmoid", "silu", "sqrt"] {
        cases.push(Case::new(name, &[], &[], std::slice::from_ref(&x)));
    }
    cases.push(Case::new("scale", &[], &[("a", -1.7)], std::slice::from_ref(&x)));
    for name in ["add", "sub", "add_assign", "mul_assign", "div_assign"] {
        cases.push(Case::new(name, &[], &[], &[x.clone(), y.clone()]));
    }
    cases.push(Case::new("scaled_add", &[], &[("a", -1.7)], &[x.clone(), y.clone()]));
    cases.push(Case::new("lerp", &[], &[("w", 0.3)], &[x.clone(), y.clone()]));
    cases.push(Case::new("axpby", &[], &[("a", 0.3), ("b", -1.7)], &[x, y]));
    cases
}

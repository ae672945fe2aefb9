//! Carries out the case of a vector file with the crate's operations.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use super::common::bits;
use super::vector_file::Case;
use essaim_kernels::ops::{self, AdamwScalars, AttentionShape, LinearShape, NesterovScalars, RopeShape};
use essaim_kernels::{Exec, Layout, gemm, math, reduce};

/// Outputs with their names, in the order of the file.
pub type Outputs = Vec<(&'static str, Vec<f32>)>;

/// What outputs hold before they are overwritten: it must not be seen afterwards.
const GARBAGE: f32 = f32::from_bits(0xffd0_beef);

fn garbage(len: usize) -> Vec<f32> {
    vec![GARBAGE; len]
}

/// Every line of `fma.txt`, through products of one term that accumulate: `fma(a, b, c)` in all places of whole tiles and of what is left
/// beside and below them. Gives the number of lines.
pub fn check_fma(exec: &Exec, text: &str) -> usize {
    let n = 69;
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for line in &lines {
        let words: Vec<u32> = line.split(' ').map(|word| u32::from_str_radix(word, 16).unwrap()).collect();
        let [a, b, c, want] = words[..] else { panic!("four numbers to a line: {line:?}") };
        // Rows: 14 + 8 + 4 + 1 and 14 + 2, or 6 × 4 + 2 + 1 and 6 × 2 + 4. Columns: two tiles of 32, or four of 16, and five more.
        for (layout, m) in [(Layout::NN, 27), (Layout::NT, 27), (Layout::TN, 27), (Layout::NN, 16), (Layout::TN, 16)] {
            let (lda, ldb) = (if layout == Layout::TN { m } else { 1 }, if layout == Layout::NT { 1 } else { n });
            let (a, b) = (vec![f32::from_bits(a); m], vec![f32::from_bits(b); n]);
            let mut outputs = vec![f32::from_bits(c); m * n];
            gemm(exec, layout, m, n, 1, &a, lda, &b, ldb, &mut outputs, n, true);
            let wrong = bits(&outputs).into_iter().position(|got| got != want);
            let (path, threads) = (exec.path(), exec.threads());
            assert!(wrong.is_none(), "{line}: {layout:?} on {path} with {threads} threads, at {wrong:?}");
        }
    }
    lines.len()
}

/// The case's outputs on the context's path.
pub fn run(exec: &Exec, case: &Case) -> Outputs {
    match case.operation.as_str() {
        "gemm" | "linear_forward" | "linear_backward_input" | "linear_backward_weight" => products(exec, case),
        "attention" => attention(exec, case),
        "adamw_update" | "nesterov_update" => optimisers(exec, case),
        name if name.starts_with("embedding") || name.starts_with("rope") => tokens(exec, case),
        name if name.starts_with("rmsnorm") || name.starts_with("cross") || name.starts_with("swiglu") => {
            layers(exec, case)
        }
        name if name.starts_with("row_") || name.starts_with("col_") => rows_and_columns(exec, case),
        "sum" | "sum_squares" | "dot" | "max_abs" => reductions(exec, case),
        _ => elementwise(exec, case),
    }
}

fn products(exec: &Exec, case: &Case) -> Outputs {
    let linear =
        || LinearShape { tokens: case.int("tokens"), inputs: case.int("inputs"), outputs: case.int("outputs") };
    match case.operation.as_str() {
        "gemm" => {
            let layout = [Layout::NN, Layout::NT, Layout::TN][case.int("layout")];
            let [m, n, k, lda, ldb, ldc] = ["m", "n", "k", "lda", "ldb", "ldc"].map(|name| case.int(name));
            let mut c = case.f32s("c");
            let accumulate = case.int("accumulate") == 1;
            gemm(exec, layout, m, n, k, &case.f32s("a"), lda, &case.f32s("b"), ldb, &mut c, ldc, accumulate);
            vec![("c", c)]
        }
        "linear_forward" => {
            let mut y = garbage(linear().tokens * linear().outputs);
            ops::linear_forward(exec, linear(), &case.f32s("x"), &case.f32s("w"), &mut y);
            vec![("y", y)]
        }
        "linear_backward_input" => {
            let (mut dx, accumulate) = (case.f32s("dx"), case.int("accumulate") == 1);
            ops::linear_backward_input(exec, linear(), &case.f32s("dy"), &case.f32s("w"), &mut dx, accumulate);
            vec![("dx", dx)]
        }
        _ => {
            let mut dw = case.f32s("dw");
            ops::linear_backward_weight(exec, linear(), &case.f32s("dy"), &case.f32s("x"), &mut dw, true);
            vec![("dw", dw)]
        }
    }
}

fn attention(exec: &Exec, case: &Case) -> Outputs {
    let [batch, seq, heads, kv_heads, head_dim] =
        ["batch", "seq", "heads", "kv_heads", "head_dim"].map(|name| case.int(name));
    let shape = AttentionShape { batch, seq, heads, kv_heads, head_dim };
    let [q, k, v, dout] = ["q", "k", "v", "dout"].map(|name| case.f32s(name));
    let (mut out, mut stats) = (garbage(shape.q_len()), garbage(shape.stats_len()));
    ops::attention_forward(exec, shape, &q, &k, &v, &mut out, &mut stats);
    let (mut dq, mut dk, mut dv) = (garbage(shape.q_len()), garbage(shape.kv_len()), garbage(shape.kv_len()));
    ops::attention_backward(exec, shape, &q, &k, &v, &out, &stats, &dout, &mut dq, &mut dk, &mut dv);
    vec![("out", out), ("stats", stats), ("dq", dq), ("dk", dk), ("dv", dv)]
}

fn tokens(exec: &Exec, case: &Case) -> Outputs {
    let rope = || RopeShape { seq: case.int("seq"), heads: case.int("heads"), head_dim: case.int("head_dim") };
    match case.operation.as_str() {
        "embedding_forward" => {
            let ids = case.u32s("ids");
            let mut out = garbage(ids.len() * case.int("d"));
            ops::embedding_forward(exec, &ids, &case.f32s("table"), &mut out);
            vec![("out", out)]
        }
        "embedding_backward" => {
            let mut dtable = case.f32s("dtable");
            ops::embedding_backward(exec, &case.u32s("ids"), &case.f32s("dout"), &mut dtable);
            vec![("dtable", dtable)]
        }
        "rope_tables" => {
            let (cos, sin) = ops::rope_tables(case.double("theta"), case.int("head_dim"), case.int("seq"));
            vec![("cos", cos), ("sin", sin)]
        }
        name => {
            let (mut x, cos, sin) = (case.f32s("x"), case.f32s("cos"), case.f32s("sin"));
            let rotate = if name == "rope_forward" { ops::rope_forward } else { ops::rope_backward };
            rotate(exec, rope(), &mut x, &cos, &sin);
            vec![("x", x)]
        }
    }
}

fn layers(exec: &Exec, case: &Case) -> Outputs {
    let input = |name: &str| case.f32s(name);
    match case.operation.as_str() {
        "rmsnorm_forward" => {
            let (x, w) = (input("x"), input("w"));
            let (mut y, mut rstd) = (garbage(x.len()), garbage(case.int("tokens")));
            ops::rmsnorm_forward(exec, &x, &w, case.float("eps"), &mut y, &mut rstd);
            vec![("y", y), ("rstd", rstd)]
        }
        "rmsnorm_backward" => {
            let (x, w, rstd, dy) = (input("x"), input("w"), input("rstd"), input("dy"));
            let (mut dx, mut dw) = (input("dx"), input("dw"));
            ops::rmsnorm_backward(exec, &x, &w, &rstd, &dy, &mut dx, case.int("accumulate") == 1, &mut dw);
            vec![("dx", dx), ("dw", dw)]
        }
        "swiglu_forward" => {
            let mut out = garbage(input("gate").len());
            ops::swiglu_forward(exec, &input("gate"), &input("up"), &mut out);
            vec![("out", out)]
        }
        "swiglu_backward" => {
            let (gate, up, dout) = (input("gate"), input("up"), input("dout"));
            let (mut dgate, mut dup) = (garbage(gate.len()), garbage(gate.len()));
            ops::swiglu_backward(exec, &gate, &up, &dout, &mut dgate, &mut dup);
            vec![("dgate", dgate), ("dup", dup)]
        }
        "cross_entropy" => {
            let (mut gradient, targets) = (input("logits"), case.u32s("targets"));
            let (mut losses, mut again) = (garbage(targets.len()), garbage(targets.len()));
            ops::cross_entropy_losses(exec, &gradient, &targets, &mut again);
            ops::cross_entropy_forward_backward(exec, &mut gradient, &targets, &mut losses, case.float("grad_scale"));
            let as_bits = |x: &[f32]| x.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(as_bits(&losses), as_bits(&again), "losses with and without gradient");
            vec![("losses", losses), ("gradient", gradient)]
        }
        name => panic!("unknown operation {name:?}"),
    }
}

fn reductions(exec: &Exec, case: &Case) -> Outputs {
    let x = case.f32s("x");
    let result = match case.operation.as_str() {
        "sum" => reduce::sum(exec, &x),
        "sum_squares" => reduce::sum_squares(exec, &x),
        "dot" => reduce::dot(exec, &x, &case.f32s("y")),
        _ => reduce::max_abs(exec, &x),
    };
    vec![("result", vec![result])]
}

fn rows_and_columns(exec: &Exec, case: &Case) -> Outputs {
    let x = case.f32s("x");
    let (mut rows, mut cols) = (garbage(case.int("rows")), garbage(case.int("cols")));
    match case.operation.as_str() {
        "row_sums" => reduce::row_sums(exec, &x, &mut rows),
        "row_sum_squares" => reduce::row_sum_squares(exec, &x, &mut rows),
        "col_sums" => reduce::col_sums(exec, &x, &mut cols),
        "col_sum_squares" => reduce::col_sum_squares(exec, &x, &mut cols),
        name => panic!("unknown operation {name:?}"),
    }
    vec![("result", if case.operation.starts_with("row") { rows } else { cols })]
}

fn optimisers(exec: &Exec, case: &Case) -> Outputs {
    let (mut p, g) = (case.f32s("p"), case.f32s("g"));
    let f = |name: &str| case.float(name);
    if case.operation == "nesterov_update" {
        let mut b = case.f32s("b");
        ops::nesterov_update(exec, &mut p, &g, &mut b, &NesterovScalars { lr: f("lr"), mu: f("mu") });
        return vec![("p", p), ("b", b)];
    }
    let scalars = AdamwScalars {
        lr: f("lr"),
        beta1: f("beta1"),
        beta2: f("beta2"),
        eps: f("eps"),
        weight_decay: f("weight_decay"),
        bias1: f("bias1"),
        bias2: f("bias2"),
    };
    let (mut m, mut v) = (case.f32s("m"), case.f32s("v"));
    ops::adamw_update(exec, &mut p, &g, &mut m, &mut v, &scalars);
    vec![("p", p), ("m", m), ("v", v)]
}

fn elementwise(exec: &Exec, case: &Case) -> Outputs {
    let (x, mut y) = (case.f32s("x"), case.f32s("x"));
    let second = || case.f32s("y");
    let f = |name: &str| case.float(name);
    match case.operation.as_str() {
        "exp" => math::exp_slice(exec, &mut y),
        "log" => math::log_slice(exec, &mut y),
        "rsqrt" => math::rsqrt_slice(exec, &mut y),
        "sigmoid" => math::sigmoid_slice(exec, &mut y),
        "silu" => math::silu_slice(exec, &mut y),
        "sqrt" => ops::sqrt_assign(exec, &mut y),
        "scale" => ops::scale(exec, &mut y, f("a")),
        "add" => ops::add(exec, &x, &second(), &mut y),
        "sub" => ops::sub(exec, &x, &second(), &mut y),
        name => {
            y = second();
            match name {
                "add_assign" => ops::add_assign(exec, &mut y, &x),
                "mul_assign" => ops::mul_assign(exec, &mut y, &x),
                "div_assign" => ops::div_assign(exec, &mut y, &x),
                "scaled_add" => ops::scaled_add(exec, &mut y, f("a"), &x),
                "lerp" => ops::lerp(exec, &mut y, f("w"), &x),
                "axpby" => ops::axpby(exec, &mut y, f("a"), f("b"), &x),
                _ => panic!("unknown operation {name:?}"),
            }
        }
    }
    vec![("result", y)]
}

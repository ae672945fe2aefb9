//! Golden values: `kernels/vectors/*.txt` hold what `f32-exact/1` computes, so that a change of the semantics cannot go unseen, and other
//! implementations can be compared (`vectors/README.md`). `ESSAIM_BLESS=1` writes the files anew; a changed line is a new numerics id.
#![allow(clippy::unwrap_used)]

#[path = "common/cases.rs"]
mod cases;
mod common;
#[path = "common/operators.rs"]
mod operators;
#[path = "common/vector_file.rs"]
mod vector_file;

use common::{Numbers, bits, fast_execs, reference};
use essaim_kernels::ops::{self, AdamwScalars, AttentionShape, LinearShape, NesterovScalars, RopeShape};
use essaim_kernels::{Exec, Layout, NUMERICS_ID, fma_exact, gemm, math, reduce};
use std::fmt::Write as _;

fn check_file(name: &str, actual: &str) {
    let path = format!("{}/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("ESSAIM_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, actual).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(!golden.contains('\r') && golden.ends_with('\n'), "{name}: line ends");
    assert_eq!(golden.lines().count(), actual.lines().count(), "{name}: number of lines");
    for (number, (want, got)) in golden.lines().zip(actual.lines()).enumerate() {
        assert_eq!(got, want, "{name}, line {}", number + 1);
    }
}

/// Inputs of the elementary functions: specials, the edges of every range, and a spread over all magnitudes.
fn inputs() -> Vec<f32> {
    let edges = [
        0x0000_0000,
        0x8000_0000,
        0x0000_0001,
        0x8000_0001,
        0x007f_ffff,
        0x0080_0000,
        0x3f80_0000,
        0xbf80_0000,
        0x7f7f_ffff,
        0xff7f_ffff,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
        0xffc0_0001,
        0x7f80_0001,
        0x42b1_7217,
        0x42b1_7218,
        0xc2ae_ac50,
        0xc2ae_ac51,
        0xc2cf_f1b4,
        0xc2cf_f1b5,
        0x3eb1_7218,
        0x3eb1_7219,
        0xbeb1_7218,
        0x3f35_04f2,
        0x3f35_04f3,
        0x3fb5_04f3,
        0x3fb5_04f4,
        0x3f7f_ffff,
        0x3f80_0001,
        0x402d_f854,
    ];
    let spread = (0..300u32).map(|i| i.wrapping_mul(0x00da_7475) ^ (i << 31));
    let moderate = Numbers(9).vec(300, 20.0);
    edges.into_iter().chain(spread).map(f32::from_bits).chain(moderate).collect()
}

#[test]
fn elementary_functions() {
    let mut text = format!("# {NUMERICS_ID}: input, exp, log, rsqrt, sigmoid, silu; bits in hexadecimal\n");
    for x in inputs() {
        let results = [math::exp(x), math::log(x), math::rsqrt(x), math::sigmoid(x), math::silu(x)];
        write!(text, "{:08x}", x.to_bits()).unwrap();
        results.iter().for_each(|value| write!(text, " {:08x}", value.to_bits()).unwrap());
        text.push('\n');
    }
    check_file("elementary.txt", &text);
}

#[test]
fn fused_multiply_add() {
    let mut text = format!("# {NUMERICS_ID}: a, b, c, fma(a, b, c); bits in hexadecimal; any NaN is 7fc00000\n");
    let mut numbers = Numbers(11);
    for _ in 0..600 {
        let values = numbers.wild(3);
        let (a, b, mut c) = (values[0], values[1], values[2]);
        if numbers.below(2) == 0 {
            c = -(a * b);
        }
        let [a_bits, b_bits, c_bits, result] = bits(&[a, b, c, a.mul_add(b, c)])[..] else { unreachable!() };
        assert_eq!(bits(&[fma_exact(a, b, c)])[0], result);
        writeln!(text, "{a_bits:08x} {b_bits:08x} {c_bits:08x} {result:08x}").unwrap();
    }
    check_file("fma.txt", &text);
    for exec in fast_execs().iter().chain([&reference()]) {
        assert_eq!(operators::check_fma(exec, &text), 600);
    }
}

/// BLAKE3 over the bits in little-endian order.
fn digest(outputs: &[&[f32]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for output in outputs {
        bits(output).iter().for_each(|bits| _ = hasher.update(&bits.to_le_bytes()));
    }
    hasher.finalize().to_hex().to_string()
}

type Lines = Vec<(&'static str, String)>;

fn product_lines(exec: &Exec, lines: &mut Lines) {
    for (name, layout) in [("gemm nn", Layout::NN), ("gemm nt", Layout::NT), ("gemm tn", Layout::TN)] {
        let (m, n, k) = (50, 40, 400);
        let mut c = Numbers(1).vec(m * n, 1.0);
        let (a, b) = (Numbers(2).vec(m * k, 1.0), Numbers(3).vec(n * k, 1.0));
        let (lda, ldb) = (if layout == Layout::TN { m } else { k }, if layout == Layout::NT { k } else { n });
        gemm(exec, layout, m, n, k, &a, lda, &b, ldb, &mut c, n, true);
        lines.push((name, digest(&[&c])));
    }
    let shape = LinearShape { tokens: 9, inputs: 30, outputs: 17 };
    let (x, w) = (Numbers(4).vec(9 * 30, 1.0), Numbers(5).vec(17 * 30, 1.0));
    let (mut y, mut dx, mut dw) = (vec![0.0; 9 * 17], vec![0.0; 9 * 30], vec![0.0; 17 * 30]);
    ops::linear_forward(exec, shape, &x, &w, &mut y);
    ops::linear_backward_input(exec, shape, &y, &w, &mut dx, false);
    ops::linear_backward_weight(exec, shape, &y, &x, &mut dw, true);
    lines.push(("linear", digest(&[&y, &dx, &dw])));
}

fn layer_lines(exec: &Exec, lines: &mut Lines) {
    let (tokens, d) = (20, 70);
    let [x, dy] = [1, 2].map(|seed| Numbers(seed).vec(tokens * d, 2.0));
    let w = Numbers(3).vec(d, 1.0);
    let (mut y, mut rstd, mut dw) = (x.clone(), vec![0.0; tokens], vec![0.0; d]);
    ops::rmsnorm_forward(exec, &x, &w, 1e-5, &mut y, &mut rstd);
    let mut dx = dy.clone();
    ops::rmsnorm_backward(exec, &x, &w, &rstd, &dy, &mut dx, true, &mut dw);
    lines.push(("rmsnorm", digest(&[&y, &rstd, &dx, &dw])));
    let (mut out, mut dgate, mut dup) = (x.clone(), x.clone(), x.clone());
    ops::swiglu_forward(exec, &x, &dy, &mut out);
    ops::swiglu_backward(exec, &x, &dy, &y, &mut dgate, &mut dup);
    lines.push(("swiglu", digest(&[&out, &dgate, &dup])));
    let (cos, sin) = ops::rope_tables(10_000.0, 14, 20);
    let mut rotated = x.clone();
    ops::rope_forward(exec, RopeShape { seq: 20, heads: 5, head_dim: 14 }, &mut rotated, &cos, &sin);
    lines.push(("rope", digest(&[&cos, &sin, &rotated])));
    let (ids, mut losses, mut logits) = (Numbers(4).ids(tokens, d), vec![0.0; tokens], x.clone());
    ops::cross_entropy_forward_backward(exec, &mut logits, &ids, &mut losses, 0.05);
    lines.push(("cross entropy", digest(&[&losses, &logits])));
    let mut table = vec![0.0; d * d];
    ops::embedding_backward(exec, &ids, &dy, &mut table);
    lines.push(("embedding", digest(&[&table])));
    let shape = AttentionShape { batch: 2, seq: 40, heads: 4, kv_heads: 2, head_dim: 20 };
    let [q, dout] = [5, 6].map(|seed| Numbers(seed).vec(shape.q_len(), 2.0));
    let [k, v] = [7, 8].map(|seed| Numbers(seed).vec(shape.kv_len(), 2.0));
    let (mut out, mut stats) = (vec![0.0; shape.q_len()], vec![0.0; shape.stats_len()]);
    ops::attention_forward(exec, shape, &q, &k, &v, &mut out, &mut stats);
    let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
    ops::attention_backward(exec, shape, &q, &k, &v, &out, &stats, &dout, &mut dq, &mut dk, &mut dv);
    lines.push(("attention", digest(&[&out, &stats, &dq, &dk, &dv])));
}

fn parameter_lines(exec: &Exec, lines: &mut Lines) {
    let len = 9000;
    let [x, g, mut p, mut m] = [1, 2, 3, 4].map(|seed| Numbers(seed).vec(len, 1.0));
    let sums =
        [reduce::sum(exec, &x), reduce::sum_squares(exec, &x), reduce::dot(exec, &x, &g), reduce::max_abs(exec, &x)];
    lines.push(("reductions", digest(&[&sums])));
    let mut out = [vec![0.0; 30], vec![0.0; 30], vec![0.0; 300], vec![0.0; 300]];
    reduce::row_sums(exec, &x, &mut out[0]);
    reduce::row_sum_squares(exec, &x, &mut out[1]);
    reduce::col_sums(exec, &x, &mut out[2]);
    reduce::col_sum_squares(exec, &x, &mut out[3]);
    lines.push(("rows and columns", digest(&[&out[0], &out[1], &out[2], &out[3]])));
    let mut v: Vec<f32> = x.iter().map(|x| x * x).collect();
    let scalars =
        AdamwScalars { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, bias1: 0.19, bias2: 0.0975 };
    ops::adamw_update(exec, &mut p, &g, &mut m, &mut v, &scalars);
    lines.push(("adamw", digest(&[&p, &m, &v])));
    ops::nesterov_update(exec, &mut p, &g, &mut m, &NesterovScalars { lr: 0.7, mu: 0.9 });
    lines.push(("nesterov", digest(&[&p, &m])));
    ops::lerp(exec, &mut p, 0.3, &x);
    ops::scaled_add(exec, &mut p, -0.7, &g);
    ops::axpby(exec, &mut p, 1.5, -2.5, &m);
    lines.push(("element-wise", digest(&[&p])));
}

#[test]
fn operations() {
    let run = |exec: &Exec| {
        let mut lines = Vec::new();
        product_lines(exec, &mut lines);
        layer_lines(exec, &mut lines);
        parameter_lines(exec, &mut lines);
        let header = format!("# {NUMERICS_ID}: BLAKE3 of the outputs' bits; inputs as in tests/vectors.rs\n");
        lines.into_iter().fold(header, |text, (name, digest)| text + name + ": " + &digest + "\n")
    };
    check_file("operations.txt", &run(&reference()));
    for exec in fast_execs() {
        check_file("operations.txt", &run(&exec));
    }
}

/// The committed files are what the scalar path writes, byte for byte; text and memory say the same.
#[test]
fn case_files_are_regenerated_to_the_same_bytes() {
    for (name, cases) in cases::files() {
        let text = cases::text(&reference(), cases);
        check_file(name, &text);
        let header = format!("{}\n", text.lines().next().unwrap());
        let again = vector_file::parse(&text).iter().fold(header, |mut again, case| {
            case.write(&mut again);
            again
        });
        assert!(again == text, "{name}: parsed and written again");
    }
}

/// Every path and thread count gives every output of the committed files.
#[test]
fn every_path_passes_every_case() {
    for (name, cases) in cases::files() {
        let text = std::fs::read_to_string(format!("{}/vectors/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let parsed = vector_file::parse(&text);
        assert_eq!(parsed.len(), cases.len(), "{name}: number of cases");
        for exec in fast_execs().iter().chain([&reference()]) {
            for case in &parsed {
                check_case(exec, case).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    }
}

fn check_case(exec: &Exec, case: &vector_file::Case) -> Result<(), String> {
    let outputs = operators::run(exec, case);
    assert_eq!(outputs.len(), case.outputs.len(), "{}: number of outputs", case.name());
    for ((name, got), (expected_name, expected)) in outputs.iter().zip(&case.outputs) {
        assert_eq!(name, expected_name, "{}", case.name());
        if !expected.matches(got) {
            return Err(format!("{name} of {} on {} with {} threads", case.name(), exec.path(), exec.threads()));
        }
    }
    Ok(())
}

/// Any one bit of an output, written out or as a digest, decides.
#[test]
fn a_wrong_expectation_is_found() {
    let mut tried = [0; 2];
    for case in cases::files().into_iter().flat_map(|(_, cases)| vector_file::parse(&cases::text(&reference(), cases)))
    {
        for output in 0..case.outputs.len() {
            let mut wrong = case.clone();
            match &mut wrong.outputs[output].1 {
                vector_file::Expected::Words(words) if words.is_empty() => continue,
                vector_file::Expected::Words(words) => *words.last_mut().unwrap() ^= 1 << 31,
                // One case with a digest is enough: they are the large ones.
                vector_file::Expected::Digest(..) if tried[1] > 0 => continue,
                vector_file::Expected::Digest(_, digest) => digest.replace_range(..1, "x"),
            }
            tried[usize::from(matches!(wrong.outputs[output].1, vector_file::Expected::Digest(..)))] += 1;
            assert!(check_case(&reference(), &wrong).is_err(), "{}", case.name());
        }
    }
    assert!(tried[0] > 100 && tried[1] == 1, "{tried:?}");
}

//! Sizes around the edges of the kernels' tiles, lanes and blocks, with and without special values, against the CPU's kernels.

use super::common::assert_same;
use super::on_device::Run;
use super::operators;
use super::vector_file::{Case, Source};
use super::{checked_shim, shim};
use essaim_cuda_shim::test_card;
use essaim_kernels::cuda::{Device, DeviceError, DeviceInfo, Driver, Launch};
use essaim_kernels::{Exec, Path};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Carries out a case here and there, and compares.
fn compare(device: &Device, exec: &Exec, case: &Case) {
    let got = Run { device, case }.outputs().unwrap_or_else(|error| panic!("{}: {error}", case.name())).unwrap();
    let want = operators::run(exec, case);
    assert_eq!(got.len(), want.len());
    for ((name, got), (_, want)) in got.iter().zip(&want) {
        assert_same(got, want, &format!("{name} of {}", case.name()));
    }
}

/// As [`compare`] with the fastest path of the CPU, which is tested against the scalar one elsewhere.
fn compare_all(device: &Device, cases: impl IntoIterator<Item = Case>) {
    let exec = Exec::new(Path::detect(), 1).unwrap();
    cases.into_iter().for_each(|case| compare(device, &exec, &case));
}

fn values(seed: u64, len: usize, wild: bool) -> Source {
    if wild { Source::Wild(seed, len) } else { Source::Unit(seed, len, 2.0) }
}

/// Rows in memory are `slack` longer than they need be, after they have been made a multiple of `multiple`.
fn gemm(layout: u64, [m, n, k]: [usize; 3], (multiple, slack): (usize, usize), accumulate: bool, wild: bool) -> Case {
    let (a_rows, a_cols) = if layout == 2 { (k, m) } else { (m, k) };
    let (b_rows, b_cols) = if layout == 1 { (n, k) } else { (k, n) };
    let [lda, ldb, ldc] = [a_cols, b_cols, n].map(|cols| cols.next_multiple_of(multiple) + slack);
    let sizes = [("m", m), ("n", n), ("k", k), ("lda", lda), ("ldb", ldb), ("ldc", ldc)];
    let mut ints = vec![("layout", layout), ("accumulate", u64::from(accumulate))];
    ints.extend(sizes.map(|(name, size)| (name, size as u64)));
    let inputs =
        [("a", values(1, a_rows * lda, wild)), ("b", values(2, b_rows * ldb, wild)), ("c", values(3, m * ldc, wild))];
    Case::new("gemm", &ints, &[], &inputs)
}

fn gemms(shapes: &[[usize; 3]], strides: (usize, usize)) -> Vec<Case> {
    let mut cases = Vec::new();
    for &shape in shapes {
        for layout in 0..3 {
            cases.extend([(false, false), (true, true)].map(|(acc, wild)| gemm(layout, shape, strides, acc, wild)));
        }
    }
    cases
}

/// A device that claims a number of multiprocessors, which decides the size of a product's tiles, and notes which kernels ran: the shim, or a
/// card, whose own number would leave kinds out.
#[derive(Debug)]
struct Claiming {
    driver: Arc<dyn Driver>,
    info: DeviceInfo,
    launched: Mutex<BTreeSet<&'static str>>,
}

impl Claiming {
    fn new(multiprocessors: u32) -> Arc<Claiming> {
        let driver = shim().driver().clone();
        let info = DeviceInfo { multiprocessors, ..driver.info().clone() };
        Arc::new(Claiming { driver, info, launched: Mutex::default() })
    }

    fn launched(&self) -> BTreeSet<String> {
        self.launched.lock().unwrap().iter().map(|name| (*name).to_owned()).collect()
    }
}

fn kernels_of(kinds: &[&str]) -> BTreeSet<String> {
    let of_kind = |kind: &&str| ["nn", "nt", "tn"].map(|layout| format!("essaim_gemm_{layout}_{kind}"));
    kinds.iter().flat_map(of_kind).collect()
}

impl Driver for Claiming {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn alloc(&self, len_bytes: usize) -> Result<u64, DeviceError> {
        self.driver.alloc(len_bytes)
    }

    fn free(&self, address: u64) {
        self.driver.free(address);
    }

    fn upload(&self, target: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.driver.upload(target, bytes)
    }

    fn download(&self, source: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.driver.download(source, bytes)
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        self.launched.lock().unwrap().insert(launch.kernel);
        // SAFETY: the caller's promise.
        unsafe { self.driver.launch(launch) }
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.driver.synchronize()
    }
}

/// Sizes that are multiples of four, around tiles of 32, 64 and 128; ends of k around slices of 8, 16 and 32.
const VECTOR_SHAPES: [[usize; 3]; 14] = [
    [128, 128, 1],
    [128, 128, 8],
    [124, 124, 7],
    [100, 120, 9],
    [252, 248, 23],
    [1100, 124, 12],
    [124, 1100, 12],
    [64, 64, 16],
    [64, 64, 15],
    [60, 68, 17],
    [132, 4, 33],
    [4, 132, 31],
    [580, 8, 5],
    [8, 580, 64],
];

#[test]
fn products_of_multiples_of_four() {
    let mut launched = BTreeSet::new();
    for multiprocessors in [1, 4, 1000] {
        let claiming = Claiming::new(multiprocessors);
        let device = Device::new(claiming.clone());
        compare_all(&device, gemms(&VECTOR_SHAPES, (4, 0)));
        compare_all(&device, gemms(&VECTOR_SHAPES[1..9], (4, 4)));
        launched.append(&mut claiming.launched());
    }
    assert_eq!(launched, kernels_of(&["large", "small", "tiny"]));
}

#[test]
fn products_of_any_size() {
    let shapes =
        [[1, 1, 1], [1, 65, 3], [63, 1, 16], [65, 63, 15], [66, 129, 18], [7, 130, 40], [129, 5, 33], [3, 3, 0]];
    let claiming = Claiming::new(1);
    let device = Device::new(claiming.clone());
    compare_all(&device, gemms(&shapes, (1, 0)));
    compare_all(&device, gemms(&shapes, (1, 3)));
    // Only the strides are no multiples of four.
    compare_all(&device, gemms(&[[64, 68, 20], [128, 128, 8]], (1, 1)));
    assert_eq!(claiming.launched(), kernels_of(&["any"]));
    // Only one of the sizes.
    compare_all(&device, gemms(&[[66, 64, 20], [64, 66, 20], [130, 128, 16]], (1, 2)));
}

/// Products of many tiles, for a card only. As few outputs as these go to each kind when a device has so many multiprocessors.
#[test]
fn large_products_on_a_card() {
    if test_card().is_none() {
        return;
    }
    for (multiprocessors, kind) in [(1, "large"), (1000, "small"), (10_000, "tiny")] {
        let claiming = Claiming::new(multiprocessors);
        compare_all(&Device::new(claiming.clone()), gemms(&[[2052, 4092, 75]], (4, 0)));
        assert_eq!(claiming.launched(), kernels_of(&[kind]));
    }
    let card = shim();
    compare_all(&card, gemms(&[[1028, 1020, 300], [252, 260, 2051]], (4, 0)));
    compare_all(&card, gemms(&[[1031, 517, 130]], (1, 0)));
}

#[test]
fn products_touch_nothing_else() {
    compare_all(&checked_shim(), gemms(&[[100, 120, 9], [60, 68, 17], [5, 67, 18]], (4, 4)));
}

fn attention([batch, seq, heads, kv_heads, head_dim]: [usize; 5], wild: bool) -> Case {
    let sizes = [("batch", batch), ("seq", seq), ("heads", heads), ("kv_heads", kv_heads), ("head_dim", head_dim)];
    let ints = sizes.map(|(name, size)| (name, size as u64));
    let (of_q, of_kv) = (batch * seq * heads * head_dim, batch * seq * kv_heads * head_dim);
    let [q, dout] = [1, 2].map(|seed| values(seed, of_q, wild));
    let [k, v] = [3, 4].map(|seed| values(seed, of_kv, wild));
    Case::new("attention", &ints, &[], &[("q", q), ("k", k), ("v", v), ("dout", dout)])
}

/// Around tiles of 64 positions, 32 elements of a head at a time, and blocks of 32, 64 and 128 elements; groups of 1 to 4.
const ATTENTIONS: [[usize; 5]; 14] = [
    [1, 1, 2, 1, 2],
    [2, 2, 1, 1, 1],
    [1, 63, 2, 1, 31],
    [1, 64, 2, 2, 32],
    [2, 65, 2, 1, 33],
    [1, 66, 3, 1, 36],
    [1, 127, 1, 1, 63],
    [1, 128, 2, 1, 64],
    [1, 129, 4, 2, 8],
    [1, 70, 2, 1, 65],
    [1, 100, 2, 1, 128],
    [1, 66, 1, 1, 130],
    [1, 65, 2, 1, 260],
    [2, 200, 4, 1, 12],
];

#[test]
fn attention_around_tiles() {
    for wild in [false, true] {
        compare_all(&shim(), ATTENTIONS.map(|sizes| attention(sizes, wild)));
    }
}

#[test]
fn attention_touches_nothing_else() {
    let sizes = [[2, 65, 4, 2, 33], [1, 70, 2, 1, 36], [1, 66, 1, 1, 65]];
    compare_all(&checked_shim(), sizes.map(|sizes| attention(sizes, false)));
}

/// More keys than a block of the fixed order of sums.
#[test]
fn attention_over_more_than_4096_keys() {
    compare_all(&shim(), [attention([1, 4200, 1, 1, 4], false)]);
}

fn norm(tokens: usize, d: usize, wild: bool) -> [Case; 3] {
    let ints = [("tokens", tokens as u64), ("d", d as u64)];
    let (x, w) = (("x", values(1, tokens * d, wild)), ("w", values(2, d, false)));
    let forward = Case::new("rmsnorm_forward", &ints, &[("eps", 1e-5)], &[x.clone(), w.clone()]);
    let backward = [0, 1].map(|accumulate| {
        let ints = [ints[0], ints[1], ("accumulate", accumulate)];
        let (rstd, dy) = (("rstd", values(3, tokens, false)), ("dy", values(4, tokens * d, wild)));
        let (dx, dw) = (("dx", values(5, tokens * d, wild)), ("dw", values(6, d, wild)));
        Case::new("rmsnorm_backward", &ints, &[], &[x.clone(), w.clone(), rstd, dy, dx, dw])
    });
    let [stored, added] = backward;
    [forward, stored, added]
}

#[test]
fn norms() {
    let sizes = [(1, 1), (8, 31), (9, 32), (63, 33), (64, 64), (65, 100), (128, 5), (129, 4), (200, 65), (9, 8292)];
    for (tokens, d) in sizes {
        compare_all(&shim(), norm(tokens, d, false));
        compare_all(&shim(), norm(tokens, d, true));
    }
    compare_all(&checked_shim(), norm(65, 45, false));
    compare_all(&checked_shim(), norm(3, 4100, false));
}

#[test]
fn rows_and_columns() {
    let sizes = [(1, 1), (7, 4096), (9, 4097), (2, 20_487), (63, 31), (64, 32), (65, 33), (129, 70), (700, 3)];
    for device in [shim(), checked_shim()] {
        for (rows, cols) in sizes {
            for name in ["row_sums", "row_sum_squares", "col_sums", "col_sum_squares"] {
                let ints = [("rows", rows as u64), ("cols", cols as u64)];
                for wild in [false, true] {
                    compare_all(&device, [Case::new(name, &ints, &[], &[("x", values(3, rows * cols, wild))])]);
                }
            }
        }
    }
}

/// Around the 32 lanes, the blocks of 4096, the eight blocks of a group of threads.
#[test]
fn sums() {
    let lens = [0, 1, 31, 33, 4096, 4097, 8 * 4096 - 1, 8 * 4096, 8 * 4096 + 1, 17 * 4096 + 5, 33 * 8 * 4096 + 77];
    for len in lens {
        for wild in [false, true] {
            let (x, y) = (("x", values(1, len, wild)), ("y", values(2, len, wild)));
            for name in ["sum", "sum_squares", "max_abs"] {
                compare_all(&shim(), [Case::new(name, &[], &[], std::slice::from_ref(&x))]);
            }
            compare_all(&shim(), [Case::new("dot", &[], &[], &[x, y])]);
        }
    }
    // The partial sums of more than 1024 groups are added by a tree in two levels.
    compare_all(&shim(), [Case::new("sum_squares", &[], &[], &[("x", values(1, 1025 * 8 * 4096 + 4097, false))])]);
    let x = [("x", values(1, 9 * 4096 + 5, false))];
    compare_all(&checked_shim(), ["sum", "max_abs"].map(|name| Case::new(name, &[], &[], &x)));
}

/// Vocabularies around the lanes, and with fewer and more blocks of 4096 than a block has warps.
#[test]
fn cross_entropies() {
    let case = |tokens: usize, vocab: usize, wild: bool| {
        let ints = [("tokens", tokens as u64), ("vocab", vocab as u64)];
        let inputs = [("logits", values(8, tokens * vocab, wild)), ("targets", Source::Below(9, tokens, vocab))];
        Case::new("cross_entropy", &ints, &[("grad_scale", 0.125)], &inputs)
    };
    for vocab in [1, 31, 32, 4095, 4096, 4097, 3 * 4096, 5 * 4096 + 1, 16 * 4096, 19 * 4096 + 33] {
        compare_all(&shim(), [case(3, vocab, false), case(2, vocab, true)]);
    }
    compare_all(&checked_shim(), [case(2, 77, false), case(2, 17 * 4096 + 3, false)]);
}

/// Long chains of one token, tokens that come once, more tokens than are staged at a time, more columns than a block has threads.
#[test]
fn embeddings() {
    for (vocab, d, tokens) in [(1, 1, 1), (3, 5, 1023), (2, 300, 1024), (5000, 3, 1025), (40, 257, 2500), (1, 2, 300)] {
        let (ids, table) = (("ids", Source::Below(1, tokens, vocab)), ("table", values(2, vocab * d, true)));
        let (dout, dtable) = (("dout", values(3, tokens * d, false)), ("dtable", values(4, vocab * d, false)));
        let ints = [("d", d as u64)];
        let forward = Case::new("embedding_forward", &ints, &[], &[ids.clone(), table]);
        let backward = Case::new("embedding_backward", &ints, &[], &[ids, dout, dtable]);
        compare_all(&shim(), [forward.clone(), backward.clone()]);
        compare_all(&checked_shim(), [forward, backward]);
    }
}

#[test]
fn rotary_positions() {
    for (seq, heads, head_dim) in [(1, 1, 2), (5, 3, 6), (16, 4, 32), (3, 9, 64), (7, 2, 600)] {
        let ints = [("seq", seq as u64), ("heads", heads as u64), ("head_dim", head_dim as u64)];
        let [cos, sin] = [5, 6].map(|seed| values(seed, seq * head_dim / 2, false));
        for name in ["rope_forward", "rope_backward"] {
            let x = ("x", values(7, 3 * seq * heads * head_dim, true));
            compare_all(
                &checked_shim(),
                [Case::new(name, &ints, &[], &[x, ("cos", cos.clone()), ("sin", sin.clone())])],
            );
        }
    }
}

/// Lengths around the four elements of a thread and the 1024 of a block.
#[test]
fn element_by_element() {
    for len in [1, 2, 3, 4, 5, 1023, 1024, 1025, 3001] {
        let [x, y] = [("x", values(1, len, true)), ("y", values(2, len, true))];
        let [gate, up, dout] =
            [("gate", values(3, len, true)), ("up", values(4, len, true)), ("dout", values(5, len, true))];
        let mut cases = vec![
            Case::new("swiglu_forward", &[], &[], &[gate.clone(), up.clone()]),
            Case::new("swiglu_backward", &[], &[], &[gate, up, dout]),
            Case::new("scale", &[], &[("a", -1.7)], std::slice::from_ref(&x)),
            Case::new("sqrt", &[], &[], std::slice::from_ref(&x)),
            Case::new("scaled_add", &[], &[("a", -1.7)], &[x.clone(), y.clone()]),
            Case::new("lerp", &[], &[("w", 0.3)], &[x.clone(), y.clone()]),
            Case::new("axpby", &[], &[("a", 0.3), ("b", -1.7)], &[x.clone(), y.clone()]),
        ];
        for name in ["add", "sub", "add_assign", "mul_assign", "div_assign"] {
            cases.push(Case::new(name, &[], &[], &[x.clone(), y.clone()]));
        }
        let names = ["lr", "beta1", "beta2", "eps", "weight_decay", "bias1", "bias2"];
        let scalars = [1e-3, 0.9, 0.95, 1e-8, 0.1, 0.271, 0.142_625];
        let floats: Vec<(&str, f32)> = names.into_iter().zip(scalars).collect();
        let [p, g, m, v] = [6, 7, 8, 9].map(|seed| values(seed, len, true));
        let (p, g) = (("p", p), ("g", g));
        cases.push(Case::new("adamw_update", &[], &floats, &[p.clone(), g.clone(), ("m", m.clone()), ("v", v)]));
        cases.push(Case::new("nesterov_update", &[], &[("lr", 0.7), ("mu", 0.9)], &[p, g, ("b", m)]));
        compare_all(&shim(), cases.clone());
        compare_all(&checked_shim(), cases);
    }
}

/// Every 997th bit pattern through the elementary functions.
#[test]
fn elementary_functions() {
    let words: Vec<u32> = (0..u32::MAX / 997).map(|i| i * 997).collect();
    let x = [("x", Source::Words(words))];
    compare_all(&shim(), ["exp", "log", "rsqrt", "sigmoid", "silu"].map(|name| Case::new(name, &[], &[], &x)));
}

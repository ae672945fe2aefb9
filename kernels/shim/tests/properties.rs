//! Random shapes, values and alignments: every operation on the device against the scalar reference, bit for bit, with threads in some order
//! or with every access to memory looked at.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/common/mod.rs"]
mod common;

use common::{Numbers, assert_same, reference};
use essaim_cuda_shim::{Options, Order, ShimDriver};
use essaim_kernels::cuda::{Buffer, Device, Element, View, ViewMut, ops as device_ops};
use essaim_kernels::ops::{self, AdamwScalars, AttentionShape, NesterovScalars, RopeShape};
use essaim_kernels::{Layout, gemm, reduce};
use proptest::prelude::*;

/// A device whose threads run in an order drawn from `seed`; of those with little to do, one in three is a checked one.
fn device(seed: u64, work: usize) -> Device {
    let order = [Order::Forward, Order::Backward, Order::Shuffled(seed)][(seed % 3) as usize];
    let checked = work < 300_000 && (seed / 3).is_multiple_of(3);
    Device::new(ShimDriver::with(Options { order, checked, ..Options::default() }).unwrap())
}

/// Values on a device that begin a few elements into their buffer and end with it, so that addresses are aligned or not and every step beyond
/// the end meets a fence.
struct Placed<T: Element> {
    buffer: Buffer<T>,
    start: usize,
}

impl<T: Element> Placed<T> {
    fn view(&self) -> View<'_, T> {
        self.buffer.view(self.start..)
    }

    fn view_mut(&mut self) -> ViewMut<'_, T> {
        self.buffer.view_mut(self.start..)
    }
}

impl Placed<f32> {
    fn read(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.buffer.len() - self.start];
        self.buffer.device().download(self.view(), &mut values).unwrap();
        values
    }
}

/// Makes the inputs of one case.
struct Maker {
    device: Device,
    numbers: Numbers,
    wild: bool,
}

impl Maker {
    fn new(seed: u64, work: usize, wild: bool) -> Maker {
        Maker { device: device(seed, work), numbers: Numbers(seed), wild }
    }

    fn place<T: Element>(&mut self, values: &[T]) -> Placed<T> {
        // Aligned to sixteen bytes half of the time: the fast kernels want all of their operands so.
        let start = [0, 4, 0, 8, 1, 2, 3, 0][self.numbers.below(8)];
        let mut buffer = self.device.buffer(start + values.len()).unwrap();
        self.device.upload(buffer.view_mut(start..), values).unwrap();
        Placed { buffer, start }
    }

    fn aligned<T: Element>(&mut self, values: &[T]) -> Placed<T> {
        Placed { buffer: self.device.buffer_from(values).unwrap(), start: 0 }
    }

    /// The same values here and there.
    fn both(&mut self, len: usize) -> (Vec<f32>, Placed<f32>) {
        let values = self.values(len);
        let placed = self.place(&values);
        (values, placed)
    }

    fn values(&mut self, len: usize) -> Vec<f32> {
        if self.wild { self.numbers.wild(len) } else { self.numbers.vec(len, 2.0) }
    }

    /// An output that nobody has written.
    fn output(&mut self, len: usize) -> Placed<f32> {
        let start = [0, 4, 1, 3][self.numbers.below(4)];
        Placed { buffer: self.device.buffer(start + len).unwrap(), start }
    }
}

fn one_product(layout: Layout, (m, n, k): (usize, usize, usize), slack: [usize; 3], flags: [bool; 3], seed: u64) {
    let [accumulate, wild, aligned] = flags;
    let mut maker = Maker::new(seed, m * n * k / 2, wild);
    let ((a_rows, a_cols), (b_rows, b_cols)) = match layout {
        Layout::NN => ((m, k), (k, n)),
        Layout::NT => ((m, k), (n, k)),
        Layout::TN => ((k, m), (k, n)),
    };
    let stride = |cols: usize, slack: usize| if aligned { (cols + slack).next_multiple_of(4) } else { cols + slack };
    let (lda, ldb, ldc) = (stride(a_cols, slack[0]), stride(b_cols, slack[1]), stride(n, slack[2]));
    // The last row ends where its last column does.
    let len = |rows: usize, cols: usize, stride: usize| if rows == 0 { 0 } else { (rows - 1) * stride + cols };
    let a = maker.values(len(a_rows, a_cols, lda));
    let b = maker.values(len(b_rows, b_cols, ldb));
    let mut c = maker.values(len(m, n, ldc));
    let mut put = |values: &[f32]| if aligned { maker.aligned(values) } else { maker.place(values) };
    let (device_a, device_b, mut device_c) = (put(&a), put(&b), put(&c));
    gemm(&reference(), layout, m, n, k, &a, lda, &b, ldb, &mut c, ldc, accumulate);
    let (va, vb, vc) = (device_a.view(), device_b.view(), device_c.view_mut());
    device_ops::gemm(&maker.device, layout, m, n, k, va, lda, vb, ldb, vc, ldc, accumulate).unwrap();
    assert_same(&device_c.read(), &c, &format!("{layout:?} {m} {n} {k}, strides {lda} {ldb} {ldc}"));
}

fn one_attention(shape: AttentionShape, wild: bool, seed: u64) {
    let mut maker = Maker::new(seed, shape.batch * shape.heads * shape.seq.next_multiple_of(64).pow(2) * 64, wild);
    let (exec, what) = (reference(), format!("{shape:?}"));
    let (q, device_q) = maker.both(shape.q_len());
    let (k, device_k) = maker.both(shape.kv_len());
    let (v, device_v) = maker.both(shape.kv_len());
    let (dout, device_dout) = maker.both(shape.q_len());
    let (mut out, mut stats) = (vec![0.0; shape.q_len()], vec![0.0; shape.stats_len()]);
    ops::attention_forward(&exec, shape, &q, &k, &v, &mut out, &mut stats);
    let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
    ops::attention_backward(&exec, shape, &q, &k, &v, &out, &stats, &dout, &mut dq, &mut dk, &mut dv);

    let device = maker.device.clone();
    let mut output = |len: usize| maker.output(len);
    let (mut d_out, mut d_stats) = (output(shape.q_len()), output(shape.stats_len()));
    let (mut d_dq, mut d_dk, mut d_dv) = (output(shape.q_len()), output(shape.kv_len()), output(shape.kv_len()));
    let mut scratch = output(device_ops::attention_scratch_len(&shape));
    let (vq, vk, vv) = (device_q.view(), device_k.view(), device_v.view());
    device_ops::attention_forward(&device, shape, vq, vk, vv, d_out.view_mut(), d_stats.view_mut()).unwrap();
    assert_same(&d_out.read(), &out, &format!("output of {what}"));
    let (saved, statistics, gradient) = (d_out.view(), d_stats.view(), device_dout.view());
    let (gq, gk, gv) = (d_dq.view_mut(), d_dk.view_mut(), d_dv.view_mut());
    device_ops::attention_backward(
        &device,
        shape,
        vq,
        vk,
        vv,
        saved,
        statistics,
        gradient,
        gq,
        gk,
        gv,
        scratch.view_mut(),
    )
    .unwrap();
    for (got, want, name) in [(&d_dq, &dq, "dq"), (&d_dk, &dk, "dk"), (&d_dv, &dv, "dv")] {
        assert_same(&got.read(), want, &format!("{name} of {what}"));
    }
}

fn one_norm(rows: usize, d: usize, accumulate: bool, wild: bool, seed: u64) {
    let mut maker = Maker::new(seed, rows * d * 8, wild);
    let (exec, device) = (reference(), maker.device.clone());
    let ((x, d_x), (w, d_w), (dy, d_dy)) = (maker.both(rows * d), maker.both(d), maker.both(rows * d));
    let ((mut dx, mut d_dx), (mut dw, mut d_dw)) = (maker.both(rows * d), maker.both(d));
    let (mut y, mut rstd) = (vec![0.0; rows * d], vec![0.0; rows]);
    let (mut d_y, mut d_rstd) = (maker.output(rows * d), maker.output(rows));
    ops::rmsnorm_forward(&exec, &x, &w, 1e-5, &mut y, &mut rstd);
    device_ops::rmsnorm_forward(&device, d_x.view(), d_w.view(), 1e-5, d_y.view_mut(), d_rstd.view_mut()).unwrap();
    ops::rmsnorm_backward(&exec, &x, &w, &rstd, &dy, &mut dx, accumulate, &mut dw);
    let (vx, vw, vr, vdy) = (d_x.view(), d_w.view(), d_rstd.view(), d_dy.view());
    device_ops::rmsnorm_backward(&device, vx, vw, vr, vdy, d_dx.view_mut(), accumulate, d_dw.view_mut()).unwrap();
    for (got, want, name) in [(&d_y, &y, "y"), (&d_rstd, &rstd, "rstd"), (&d_dx, &dx, "dx"), (&d_dw, &dw, "dw")] {
        assert_same(&got.read(), want, &format!("{name} of {rows} by {d}"));
    }
}

fn one_loss(rows: usize, vocab: usize, wild: bool, seed: u64) {
    let mut maker = Maker::new(seed, rows * vocab * 8, wild);
    let (exec, device) = (reference(), maker.device.clone());
    let (mut logits, mut d_logits) = maker.both(rows * vocab);
    let targets = maker.numbers.ids(rows, vocab);
    let d_targets = maker.place(&targets);
    let (mut losses, mut d_losses) = (vec![0.0; rows], maker.output(rows));
    ops::cross_entropy_losses(&exec, &logits, &targets, &mut losses);
    device_ops::cross_entropy_losses(&device, d_logits.view(), d_targets.view(), d_losses.view_mut()).unwrap();
    assert_same(&d_losses.read(), &losses, &format!("losses alone of {rows} by {vocab}"));
    ops::cross_entropy_forward_backward(&exec, &mut logits, &targets, &mut losses, 0.3);
    let (vl, vt) = (d_logits.view_mut(), d_targets.view());
    device_ops::cross_entropy_forward_backward(&device, vl, vt, d_losses.view_mut(), 0.3).unwrap();
    assert_same(&d_losses.read(), &losses, &format!("losses of {rows} by {vocab}"));
    assert_same(&d_logits.read(), &logits, &format!("gradient of {rows} by {vocab}"));
}

fn one_embedding(tokens: usize, vocab: usize, d: usize, wild: bool, seed: u64) {
    let mut maker = Maker::new(seed, tokens * (d * 4 + tokens), wild);
    let (exec, device) = (reference(), maker.device.clone());
    let (mut table, mut d_table) = maker.both(vocab * d);
    let (dout, d_dout) = maker.both(tokens * d);
    let ids = maker.numbers.ids(tokens, vocab);
    let d_ids = maker.place(&ids);
    let (mut out, mut d_out) = (vec![0.0; tokens * d], maker.output(tokens * d));
    ops::embedding_forward(&exec, &ids, &table, &mut out);
    device_ops::embedding_forward(&device, d_ids.view(), d_table.view(), d_out.view_mut()).unwrap();
    assert_same(&d_out.read(), &out, &format!("{tokens} of {vocab} rows of {d}"));
    ops::embedding_backward(&exec, &ids, &dout, &mut table);
    let mut scratch = device.buffer::<u32>(device_ops::embedding_scratch_len(tokens)).unwrap();
    let (vi, vd) = (d_ids.view(), d_dout.view());
    device_ops::embedding_backward(&device, vi, vd, d_table.view_mut(), scratch.view_mut(..)).unwrap();
    assert_same(&d_table.read(), &table, &format!("gradient of {tokens} of {vocab} rows of {d}"));
}

fn one_reduction(len: usize, wild: bool, seed: u64) {
    let mut maker = Maker::new(seed, len * 2, wild);
    let (exec, device) = (reference(), maker.device.clone());
    let ((x, d_x), (y, d_y)) = (maker.both(len), maker.both(len));
    let mut out = maker.output(4);
    let mut scratch = maker.output(device_ops::sum_scratch_len(len));
    let (vx, vy) = (d_x.view(), d_y.view());
    let (first, rest) = out.view_mut().split_at(1);
    let (second, rest) = rest.split_at(1);
    let (third, fourth) = rest.split_at(1);
    device_ops::sum(&device, vx, first, scratch.view_mut()).unwrap();
    device_ops::sum_squares(&device, vx, second, scratch.view_mut()).unwrap();
    device_ops::dot(&device, vx, vy, third, scratch.view_mut()).unwrap();
    device_ops::max_abs(&device, vx, fourth, scratch.view_mut()).unwrap();
    let want = [
        reduce::sum(&exec, &x),
        reduce::sum_squares(&exec, &x),
        reduce::dot(&exec, &x, &y),
        reduce::max_abs(&exec, &x),
    ];
    // These are canonical, NaN or not.
    assert_eq!(out.read().iter().map(|x| x.to_bits()).collect::<Vec<_>>(), want.map(f32::to_bits), "{len}");
}

fn one_matrix_reduction(rows: usize, cols: usize, wild: bool, seed: u64) {
    let mut maker = Maker::new(seed, rows * cols * 4, wild);
    let (exec, device) = (reference(), maker.device.clone());
    let (x, d_x) = maker.both(rows * cols);
    let (mut by_row, mut by_col) = (vec![0.0; rows], vec![0.0; cols]);
    let (mut d_row, mut d_col) = (maker.output(rows), maker.output(cols));
    reduce::row_sums(&exec, &x, &mut by_row);
    device_ops::row_sums(&device, d_x.view(), d_row.view_mut()).unwrap();
    assert_same(&d_row.read(), &by_row, &format!("rows of {rows} by {cols}"));
    reduce::row_sum_squares(&exec, &x, &mut by_row);
    device_ops::row_sum_squares(&device, d_x.view(), d_row.view_mut()).unwrap();
    assert_same(&d_row.read(), &by_row, &format!("squares of rows of {rows} by {cols}"));
    reduce::col_sums(&exec, &x, &mut by_col);
    device_ops::col_sums(&device, d_x.view(), d_col.view_mut()).unwrap();
    assert_same(&d_col.read(), &by_col, &format!("columns of {rows} by {cols}"));
    reduce::col_sum_squares(&exec, &x, &mut by_col);
    device_ops::col_sum_squares(&device, d_x.view(), d_col.view_mut()).unwrap();
    assert_same(&d_col.read(), &by_col, &format!("squares of columns of {rows} by {cols}"));
}

fn one_update(len: usize, wild: bool, seed: u64) {
    let mut maker = Maker::new(seed, len * 12, wild);
    let (exec, device) = (reference(), maker.device.clone());
    let ((mut p, mut d_p), (g, d_g)) = (maker.both(len), maker.both(len));
    let ((mut m, mut d_m), (mut v, mut d_v)) = (maker.both(len), maker.both(len));
    let adamw =
        AdamwScalars { lr: 3e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, bias1: 0.271, bias2: 0.142 };
    let nesterov = NesterovScalars { lr: 0.7, mu: 0.9 };
    let (stop, go) = (maker.aligned(&[0u32]), maker.aligned(&[1u32]));
    for flag in [&stop, &go] {
        let (vp, vm, vv) = (d_p.view_mut(), d_m.view_mut(), d_v.view_mut());
        device_ops::adamw_update_if(&device, flag.view(), vp, d_g.view(), vm, vv, &adamw).unwrap();
        device_ops::nesterov_update_if(&device, flag.view(), d_p.view_mut(), d_g.view(), d_m.view_mut(), &nesterov)
            .unwrap();
        device_ops::axpby_if(&device, flag.view(), d_v.view_mut(), 0.3, -1.7, d_g.view()).unwrap();
    }
    ops::adamw_update(&exec, &mut p, &g, &mut m, &mut v, &adamw);
    ops::nesterov_update(&exec, &mut p, &g, &mut m, &nesterov);
    ops::axpby(&exec, &mut v, 0.3, -1.7, &g);
    for (got, want, name) in [(&d_p, &p, "parameters"), (&d_m, &m, "first"), (&d_v, &v, "second")] {
        assert_same(&got.read(), want, &format!("{name} of {len}"));
    }
    let (mut up, mut out, mut d_out, mut d_up) = (m, vec![0.0; len], maker.output(len), maker.output(len));
    ops::swiglu_forward(&exec, &p, &g, &mut out);
    device_ops::swiglu_forward(&device, d_p.view(), d_g.view(), d_out.view_mut()).unwrap();
    assert_same(&d_out.read(), &out, &format!("swiglu of {len}"));
    ops::swiglu_backward(&exec, &p, &g, &v, &mut out, &mut up);
    let (vp, vg, vv) = (d_p.view(), d_g.view(), d_v.view());
    device_ops::swiglu_backward(&device, vp, vg, vv, d_out.view_mut(), d_up.view_mut()).unwrap();
    assert_same(&d_out.read(), &out, &format!("gradient of gates of {len}"));
    assert_same(&d_up.read(), &up, &format!("gradient of {len}"));
}

fn one_rotation(shape: RopeShape, sequences: usize, wild: bool, seed: u64) {
    let len = sequences * shape.seq * shape.heads * shape.head_dim;
    let mut maker = Maker::new(seed, len * 4, wild);
    let (exec, device) = (reference(), maker.device.clone());
    let (cos, sin) = ops::rope_tables(10_000.0, shape.head_dim, shape.seq);
    let (d_cos, d_sin) = (maker.place(&cos), maker.place(&sin));
    let (mut x, mut d_x) = maker.both(len);
    ops::rope_forward(&exec, shape, &mut x, &cos, &sin);
    device_ops::rope_forward(&device, shape, d_x.view_mut(), d_cos.view(), d_sin.view()).unwrap();
    assert_same(&d_x.read(), &x, &format!("{shape:?}"));
    ops::rope_backward(&exec, shape, &mut x, &cos, &sin);
    device_ops::rope_backward(&device, shape, d_x.view_mut(), d_cos.view(), d_sin.view()).unwrap();
    assert_same(&d_x.read(), &x, &format!("back: {shape:?}"));
}

/// So many elements that the tree over their partial sums takes two turns.
#[test]
fn a_long_sum_agrees() {
    one_reduction(33_600_001, false, 5);
}

/// Sizes near the edges of tiles, and any others.
fn size(most: usize) -> impl Strategy<Value = usize> {
    let edge = (0usize..6, 0usize..5).prop_map(move |(tile, off)| (tile * 32 + off).saturating_sub(2).min(most));
    prop_oneof![edge, 0..=most]
}

/// 60 cases each, or as many as `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_some() { default } else { ProptestConfig { cases: 60, ..default } }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_product_agrees(
        layout in prop_oneof![Just(Layout::NN), Just(Layout::NT), Just(Layout::TN)],
        m in size(280), n in size(280), k in size(90), slack: [u8; 3], flags: [bool; 3], seed: u64,
    ) {
        let [accumulate, wild, aligned] = flags;
        // The fast kernels take rows of four.
        let (m, n) = if aligned { (m.next_multiple_of(4), n.next_multiple_of(4)) } else { (m, n) };
        one_product(layout, (m, n, k), slack.map(|slack| usize::from(slack % 6)), [accumulate, wild, aligned], seed);
    }

    #[test]
    fn any_attention_agrees(
        batch in 1usize..3, seq in size(150), kv_heads in 1usize..3, group in 1usize..3, head_dim in size(140), seed: u64, wild: bool,
    ) {
        let (seq, head_dim) = (seq.max(1), head_dim.max(1));
        one_attention(AttentionShape { batch, seq, heads: kv_heads * group, kv_heads, head_dim }, wild, seed);
    }

    #[test]
    fn any_norm_agrees(rows in 1usize..90, d in prop_oneof![1usize..300, 4000usize..9000], accumulate: bool, seed: u64, wild: bool) {
        one_norm(if d > 300 { rows % 12 + 1 } else { rows }, d, accumulate, wild, seed);
    }

    #[test]
    fn any_loss_agrees(rows in 1usize..20, vocab in prop_oneof![8 => 1usize..300, 8 => 4000usize..17_000, 1 => 65_000usize..70_000], seed: u64, wild: bool) {
        one_loss(if vocab > 300 { rows % 4 + 1 } else { rows }, vocab, wild, seed);
    }

    #[test]
    fn any_embedding_agrees(tokens in prop_oneof![4 => 1usize..600, 1 => 1000usize..2300], vocab in prop_oneof![1usize..4, 4usize..700], d in 1usize..300, seed: u64, wild: bool) {
        one_embedding(tokens, vocab, d, wild, seed);
    }

    #[test]
    fn any_reduction_agrees(len in prop_oneof![0usize..5000, 30_000usize..180_000], seed: u64, wild: bool) {
        one_reduction(len, wild, seed);
    }

    #[test]
    fn any_matrix_reduction_agrees(
        rows in prop_oneof![1usize..200, 1usize..8], cols in prop_oneof![1usize..200, 4000usize..9000], seed: u64, wild: bool,
    ) {
        one_matrix_reduction(if cols > 200 { rows % 12 + 1 } else { rows }, cols, wild, seed);
    }

    #[test]
    fn any_update_agrees(len in 0usize..3000, seed: u64, wild: bool) {
        one_update(len, wild, seed);
    }

    #[test]
    fn any_rotation_agrees(sequences in 1usize..4, seq in 1usize..40, heads in 1usize..5, half in 1usize..80, seed: u64, wild: bool) {
        one_rotation(RopeShape { seq, heads, head_dim: 2 * half }, sequences, wild, seed);
    }
}

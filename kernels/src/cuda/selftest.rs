//! The known-answer test of a device: does it compute as `f32-exact/1` demands?
//!
//! What a translator or a card could get wrong without anybody noticing is asked for first: subnormals, rounding, fusion. Then every family of
//! kernels computes something small, which must have the bits of the scalar reference on this thread; that has passed its own
//! known-answer test before. It takes a fraction of a second.

use super::ops::{self as device_ops, ProductKind};
use super::{Buffer, Device, DeviceError, View};
use crate::exec::Exec;
use crate::gemm::{Layout, gemm};
use crate::ops::{self, AdamwScalars, AttentionShape, LinearShape, RopeShape};
use crate::platform::Path;
use crate::reduce;
use crate::selftest::{SelfTestError, digest, self_test, values};

/// Runs the known-answer test on a device.
///
/// # Errors
/// [`DeviceError::SelfTest`] with the first answer that differs, and when the device fails.
pub fn device_self_test(device: &Device) -> Result<(), DeviceError> {
    self_test(Path::Scalar).map_err(|SelfTestError { what, got, want }| DeviceError::SelfTest { what, got, want })?;
    environment(device)?;
    let exec = Exec::untested(Path::Scalar);
    let answers = [
        ("matrix products", products(device)?, host_products(&exec)),
        ("attention", attention(device)?, host_attention(&exec)),
        ("norm and activation", layers(device)?, host_layers(&exec)),
        ("loss and embedding", loss(device)?, host_loss(&exec)),
        ("reductions", reductions(device)?, host_reductions(&exec)),
        ("optimiser", optimiser(device)?, host_optimiser(&exec)),
    ];
    answers.into_iter().try_for_each(|(what, got, want)| compare(what, digest(&got), digest(&want)))
}

fn compare(what: &'static str, got: u32, want: u32) -> Result<(), DeviceError> {
    if got == want { Ok(()) } else { Err(DeviceError::SelfTest { what, got, want }) }
}

fn read(buffer: &Buffer<f32>) -> Result<Vec<f32>, DeviceError> {
    let mut values = vec![0.0; buffer.len()];
    buffer.download(&mut values)?;
    Ok(values)
}

/// Rounding to nearest, ties to even; subnormals neither flushed on output nor read as zero; nothing fused unasked.
fn environment(device: &Device) -> Result<(), DeviceError> {
    let (half_ulp, above) = (f32::EPSILON / 2.0, 1.0 + f32::EPSILON);
    let bits = |buffer: &Buffer<f32>| Ok::<_, DeviceError>(read(buffer)?[0].to_bits());
    let scaled = |x: f32, a: f32| {
        let mut buffer = device.buffer_from(&[x])?;
        device_ops::scale(device, buffer.view_mut(..), a)?;
        bits(&buffer)
    };
    compare("subnormal results are kept (FTZ off)", scaled(f32::MIN_POSITIVE, 0.5)?, 0x0040_0000)?;
    compare("subnormal inputs are kept (DAZ off)", scaled(f32::from_bits(1), 16_777_216.0)?, 0x0100_0000)?;
    let added = |x: f32, a: f32, y: f32| {
        let (mut x, y) = (device.buffer_from(&[x])?, device.buffer_from(&[y])?);
        device_ops::scaled_add(device, x.view_mut(..), a, y.view(..))?;
        bits(&x)
    };
    compare("ties round to even, down", added(1.0, 1.0, half_ulp)?, 0x3f80_0000)?;
    compare("ties round to even, up", added(above, 1.0, half_ulp)?, 0x3f80_0002)?;
    compare("negative ties round to even", added(-above, -1.0, half_ulp)?, 0xbf80_0002)?;
    let below = 1.0 - f32::EPSILON;
    compare("products and sums are not fused unasked", added(-1.0, above, below)?, 0x0000_0000)?;
    let (a, b, mut c) = (device.buffer_from(&[above])?, device.buffer_from(&[below])?, device.buffer_from(&[-1.0])?);
    device_ops::gemm(device, Layout::NN, 1, 1, 1, a.view(..), 1, b.view(..), 1, c.view_mut(..), 1, true)?;
    compare("fused multiply-add rounds once", bits(&c)?, 0xa880_0000)
}

/// Rows, columns and terms of products, in multiples of four: two tiles of the largest kind each way, the second of them incomplete, and
/// several whole slices of every kind and a partial one.
const PRODUCT: [usize; 3] = [132, 136, 76];
/// As [`PRODUCT`], for the kernels that read element by element.
const ODD_PRODUCT: [usize; 3] = [13, 21, 19];

/// One product of each layout by the kernels of a kind, each continuing the chains of the one before.
fn products_of(device: &Device, kind: ProductKind, [m, n, k]: [usize; 3]) -> Result<Vec<f32>, DeviceError> {
    let (a, b) = (device.buffer_from(&values(2, m * k))?, device.buffer_from(&values(3, n * k))?);
    let mut c = device.buffer(m * n)?;
    for (layout, lda, ldb) in [(Layout::NN, k, n), (Layout::NT, k, k), (Layout::TN, m, n)] {
        let (a, b, accumulate) = (a.view(..), b.view(..), layout != Layout::NN);
        let c = c.view_mut(..);
        device_ops::gemm_of_kind(device, Some(kind), layout, m, n, k, a, lda, b, ldb, c, n, accumulate)?;
    }
    read(&c)
}

/// Those of every kind: which of them training takes depends on shapes and card.
fn products(device: &Device) -> Result<Vec<f32>, DeviceError> {
    let mut all = products_of(device, ProductKind::Any, ODD_PRODUCT)?;
    for kind in ProductKind::ALL {
        all.extend(products_of(device, kind, PRODUCT)?);
    }
    Ok(all)
}

fn host_products(exec: &Exec) -> Vec<f32> {
    let product = |[m, n, k]: [usize; 3]| {
        let (a, b) = (values(2, m * k), values(3, n * k));
        let mut c = vec![0.0; m * n];
        gemm(exec, Layout::NN, m, n, k, &a, k, &b, n, &mut c, n, false);
        gemm(exec, Layout::NT, m, n, k, &a, k, &b, k, &mut c, n, true);
        gemm(exec, Layout::TN, m, n, k, &a, m, &b, n, &mut c, n, true);
        c
    };
    [product(ODD_PRODUCT), product(PRODUCT).repeat(ProductKind::ALL.len())].concat()
}

/// Sizes of a head: element by element, then by the kernels for up to 32, 64 and 128 elements, four at a time. Two tiles of positions each.
const HEAD_DIMS: [usize; 4] = [6, 32, 64, 128];
const SEQ: usize = 70;
const HEADS: usize = 2;

fn attention(device: &Device) -> Result<Vec<f32>, DeviceError> {
    Ok(HEAD_DIMS.map(|head_dim| attention_of(device, head_dim)).into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

fn host_attention(exec: &Exec) -> Vec<f32> {
    HEAD_DIMS.map(|head_dim| host_attention_of(exec, head_dim)).concat()
}

fn attention_shapes(head_dim: usize) -> (AttentionShape, RopeShape) {
    let shape = AttentionShape { batch: 1, seq: SEQ, heads: HEADS, kv_heads: 1, head_dim };
    (shape, RopeShape { seq: SEQ, heads: HEADS, head_dim })
}

/// Queries rotated, then attention, forward and backward.
fn attention_of(device: &Device, head_dim: usize) -> Result<Vec<f32>, DeviceError> {
    let (shape, rope) = attention_shapes(head_dim);
    let (mut q, dout) =
        (device.buffer_from(&values(4, shape.q_len()))?, device.buffer_from(&values(5, shape.q_len()))?);
    let (k, v) = (device.buffer_from(&values(6, shape.kv_len()))?, device.buffer_from(&values(7, shape.kv_len()))?);
    let (cos, sin) = ops::rope_tables(10_000.0, head_dim, SEQ);
    let (cos, sin) = (device.buffer_from(&cos)?, device.buffer_from(&sin)?);
    device_ops::rope_forward(device, rope, q.view_mut(..), cos.view(..), sin.view(..))?;
    let (mut out, mut stats) = (device.buffer(shape.q_len())?, device.buffer(shape.stats_len())?);
    let (q, k, v) = (q.view(..), k.view(..), v.view(..));
    device_ops::attention_forward(device, shape, q, k, v, out.view_mut(..), stats.view_mut(..))?;
    let (mut dq, mut dk, mut dv) =
        (device.buffer(shape.q_len())?, device.buffer(shape.kv_len())?, device.buffer(shape.kv_len())?);
    let mut scratch = device.buffer(device_ops::attention_scratch_len(&shape))?;
    device_ops::attention_backward(
        device,
        shape,
        q,
        k,
        v,
        out.view(..),
        stats.view(..),
        dout.view(..),
        dq.view_mut(..),
        dk.view_mut(..),
        dv.view_mut(..),
        scratch.view_mut(..),
    )?;
    Ok([read(&out)?, read(&dq)?, read(&dk)?, read(&dv)?].concat())
}

fn host_attention_of(exec: &Exec, head_dim: usize) -> Vec<f32> {
    let (shape, rope) = attention_shapes(head_dim);
    let (mut q, dout) = (values(4, shape.q_len()), values(5, shape.q_len()));
    let (k, v) = (values(6, shape.kv_len()), values(7, shape.kv_len()));
    let (cos, sin) = ops::rope_tables(10_000.0, head_dim, SEQ);
    ops::rope_forward(exec, rope, &mut q, &cos, &sin);
    let (mut out, mut stats) = (vec![0.0; shape.q_len()], vec![0.0; shape.stats_len()]);
    ops::attention_forward(exec, shape, &q, &k, &v, &mut out, &mut stats);
    let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
    ops::attention_backward(exec, shape, &q, &k, &v, &out, &stats, &dout, &mut dq, &mut dk, &mut dv);
    [out, dq, dk, dv].concat()
}

const WIDTH: usize = 36;
const TOKENS: usize = 19;

/// Norm and gated activation, forward and backward.
fn layers(device: &Device) -> Result<Vec<f32>, DeviceError> {
    let input = |seed, len| device.buffer_from(&values(seed, len));
    let (x, w, dy, up) =
        (input(8, TOKENS * WIDTH)?, input(9, WIDTH)?, input(10, TOKENS * WIDTH)?, input(11, TOKENS * WIDTH)?);
    let (mut y, mut rstd) = (device.buffer(TOKENS * WIDTH)?, device.buffer(TOKENS)?);
    device_ops::rmsnorm_forward(device, x.view(..), w.view(..), 1e-5, y.view_mut(..), rstd.view_mut(..))?;
    let (mut dx, mut dw) = (input(12, TOKENS * WIDTH)?, input(13, WIDTH)?);
    let (saved, gradient) = ((x.view(..), w.view(..), rstd.view(..)), (dx.view_mut(..), dw.view_mut(..)));
    device_ops::rmsnorm_backward(device, saved.0, saved.1, saved.2, dy.view(..), gradient.0, true, gradient.1)?;
    let mut out = device.buffer(TOKENS * WIDTH)?;
    device_ops::swiglu_forward(device, y.view(..), up.view(..), out.view_mut(..))?;
    let (mut dgate, mut dup) = (device.buffer(TOKENS * WIDTH)?, device.buffer(TOKENS * WIDTH)?);
    let gradient = (dgate.view_mut(..), dup.view_mut(..));
    device_ops::swiglu_backward(device, y.view(..), up.view(..), dy.view(..), gradient.0, gradient.1)?;
    Ok([read(&y)?, read(&rstd)?, read(&dx)?, read(&dw)?, read(&out)?, read(&dgate)?, read(&dup)?].concat())
}

fn host_layers(exec: &Exec) -> Vec<f32> {
    let (x, w, dy, up) =
        (values(8, TOKENS * WIDTH), values(9, WIDTH), values(10, TOKENS * WIDTH), values(11, TOKENS * WIDTH));
    let (mut y, mut rstd) = (vec![0.0; TOKENS * WIDTH], vec![0.0; TOKENS]);
    ops::rmsnorm_forward(exec, &x, &w, 1e-5, &mut y, &mut rstd);
    let (mut dx, mut dw) = (values(12, TOKENS * WIDTH), values(13, WIDTH));
    ops::rmsnorm_backward(exec, &x, &w, &rstd, &dy, &mut dx, true, &mut dw);
    let mut out = vec![0.0; TOKENS * WIDTH];
    ops::swiglu_forward(exec, &y, &up, &mut out);
    let (mut dgate, mut dup) = (vec![0.0; TOKENS * WIDTH], vec![0.0; TOKENS * WIDTH]);
    ops::swiglu_backward(exec, &y, &up, &dy, &mut dgate, &mut dup);
    [y, rstd, dx, dw, out, dgate, dup].concat()
}

const VOCAB: usize = 53;

/// Some tokens, several of them more than once.
fn tokens() -> Vec<u32> {
    (0..TOKENS as u32).map(|index| (index * index * 7 + index) % VOCAB as u32 % 11).collect()
}

/// Embedding, head, loss, and the gradients.
fn loss(device: &Device) -> Result<Vec<f32>, DeviceError> {
    let shape = LinearShape { tokens: TOKENS, inputs: WIDTH, outputs: VOCAB };
    let (ids, table) = (device.buffer_from(&tokens())?, device.buffer_from(&values(14, VOCAB * WIDTH))?);
    let mut x = device.buffer(TOKENS * WIDTH)?;
    device_ops::embedding_forward(device, ids.view(..), table.view(..), x.view_mut(..))?;
    let (mut logits, mut losses) = (device.buffer(TOKENS * VOCAB)?, device.buffer(TOKENS)?);
    device_ops::linear_forward(device, shape, x.view(..), table.view(..), logits.view_mut(..))?;
    let targets = ids.view(..);
    device_ops::cross_entropy_forward_backward(device, logits.view_mut(..), targets, losses.view_mut(..), 0.125)?;
    let mut dtable = device.buffer_from(&values(15, VOCAB * WIDTH))?;
    let mut scratch = device.buffer(device_ops::embedding_scratch_len(TOKENS))?;
    device_ops::embedding_backward(device, targets, x.view(..), dtable.view_mut(..), scratch.view_mut(..))?;
    Ok([read(&losses)?, read(&logits)?, read(&dtable)?].concat())
}

fn host_loss(exec: &Exec) -> Vec<f32> {
    let shape = LinearShape { tokens: TOKENS, inputs: WIDTH, outputs: VOCAB };
    let (ids, table) = (tokens(), values(14, VOCAB * WIDTH));
    let mut x = vec![0.0; TOKENS * WIDTH];
    ops::embedding_forward(exec, &ids, &table, &mut x);
    let (mut logits, mut losses) = (vec![0.0; TOKENS * VOCAB], vec![0.0; TOKENS]);
    ops::linear_forward(exec, shape, &x, &table, &mut logits);
    ops::cross_entropy_forward_backward(exec, &mut logits, &ids, &mut losses, 0.125);
    let mut dtable = values(15, VOCAB * WIDTH);
    ops::embedding_backward(exec, &ids, &x, &mut dtable);
    [losses, logits, dtable].concat()
}

/// Two blocks of a sum's fixed order and a bit.
const LONG: usize = 8200;

fn reductions(device: &Device) -> Result<Vec<f32>, DeviceError> {
    let x = device.buffer_from(&values(1, LONG))?;
    let (mut out, mut scratch) = (device.buffer(3)?, device.buffer(device_ops::sum_scratch_len(LONG))?);
    let x = x.view(..);
    device_ops::sum(device, x, out.view_mut(..1), scratch.view_mut(..))?;
    device_ops::sum_squares(device, x, out.view_mut(1..2), scratch.view_mut(..))?;
    device_ops::max_abs(device, x, out.view_mut(2..), scratch.view_mut(..))?;
    read(&out)
}

fn host_reductions(exec: &Exec) -> Vec<f32> {
    let x = values(1, LONG);
    vec![reduce::sum(exec, &x), reduce::sum_squares(exec, &x), reduce::max_abs(exec, &x)]
}

const ADAMW: AdamwScalars =
    AdamwScalars { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, bias1: 0.1, bias2: 0.05 };

fn optimiser(device: &Device) -> Result<Vec<f32>, DeviceError> {
    let input = |seed| device.buffer_from(&values(seed, 77));
    let (mut p, g, mut m, mut v) = (input(16)?, input(17)?, input(18)?, device.buffer_from(&squares())?);
    let grads: View<'_, f32> = g.view(..);
    device_ops::adamw_update(device, p.view_mut(..), grads, m.view_mut(..), v.view_mut(..), &ADAMW)?;
    device_ops::axpby(device, p.view_mut(..), 0.3, 0.7, m.view(..))?;
    Ok([read(&p)?, read(&m)?, read(&v)?].concat())
}

fn host_optimiser(exec: &Exec) -> Vec<f32> {
    let (mut p, g, mut m, mut v) = (values(16, 77), values(17, 77), values(18, 77), squares());
    ops::adamw_update(exec, &mut p, &g, &mut m, &mut v, &ADAMW);
    ops::axpby(exec, &mut p, 0.3, 0.7, &m);
    [p, m, v].concat()
}

fn squares() -> Vec<f32> {
    values(19, 77).iter().map(|value| value * value).collect()
}

//! Causal attention with grouped keys and values.

use super::launch::{THREADS, launch, size};
use super::reduce::row_dots;
use crate::cuda::{Arg, Device, DeviceError, View, ViewMut};
use crate::ops::AttentionShape;

/// Queries, or keys, of a block.
const TILE: usize = 64;
/// Longest sequence: what the kernels have room for in the tree over a row's blocks.
const SEQ_MAX: usize = 1 << 19;

/// Elements of `scratch` that [`attention_backward`] takes: `dot(dout, out)` of each query and head.
pub fn attention_scratch_len(shape: &AttentionShape) -> usize {
    shape.batch * shape.seq * shape.heads
}

/// What both directions need to launch their kernels.
struct Plan {
    /// Elements of a head that a block computes: 32, 64 or 128.
    width: usize,
    /// Blocks that share a head's elements.
    parts: usize,
    /// Tiles of a sequence.
    tiles: usize,
    /// The kernels' last parameters.
    sizes: [Arg; 6],
}

impl Plan {
    /// `pointers` are all tensors whose rows are read.
    fn new(shape: &AttentionShape, pointers: &[Arg]) -> Plan {
        let AttentionShape { seq, heads, kv_heads, head_dim, .. } = *shape;
        assert!(seq <= SEQ_MAX, "sequences of {seq}; the kernels take up to {SEQ_MAX}");
        assert!(heads * head_dim <= i32::MAX as usize, "rows of {heads} heads of {head_dim}");
        let aligned = pointers.iter().all(|pointer| matches!(pointer, Arg::Address(address) if address % 16 == 0));
        let vector = aligned && head_dim.is_multiple_of(4);
        let width = head_dim.next_power_of_two().clamp(32, 128);
        let [seq_arg, heads_arg, kv_heads_arg, head_dim_arg] = [seq, heads, kv_heads, head_dim].map(size);
        let scale = Arg::F32(shape.scale());
        let sizes = [seq_arg, heads_arg, kv_heads_arg, head_dim_arg, scale, Arg::U32(u32::from(vector))];
        Plan { width, parts: head_dim.div_ceil(width), tiles: seq.div_ceil(TILE), sizes }
    }

    /// Queues the one of three kernels, for widths of 32, 64 and 128, on the tiles of `heads` heads of all sequences.
    fn launch(
        &self,
        device: &Device,
        kernels: [&'static str; 3],
        heads: usize,
        pointers: &[Arg],
    ) -> Result<(), DeviceError> {
        let [narrow, middle, wide] = kernels;
        let kernel = match self.width {
            32 => narrow,
            64 => middle,
            _ => wide,
        };
        launch(device, kernel, (self.tiles * heads, self.parts), THREADS, &[pointers, &self.sizes].concat())
    }
}

/// `out = softmax(scale · q kᵀ) v` over the keys `j ≤ i` of each query `i`, with each row's maximum and inverse sum to `stats`:
/// [`crate::ops::attention_forward`]. Scores are computed three times and never stored, so no memory grows with `seq²`.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths don't fit.
pub fn attention_forward(
    device: &Device,
    shape: AttentionShape,
    q: View<'_, f32>,
    k: View<'_, f32>,
    v: View<'_, f32>,
    mut out: ViewMut<'_, f32>,
    mut stats: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    shape.check_lens([q.len(), out.len()].into_iter(), [k.len(), v.len()].into_iter(), stats.len());
    if q.is_empty() {
        return Ok(());
    }
    let plan = Plan::new(&shape, &[q.arg(), k.arg(), v.arg()]);
    let kernels = ["essaim_attention_forward_32", "essaim_attention_forward_64", "essaim_attention_forward_128"];
    let pointers = [q.arg(), k.arg(), v.arg(), out.arg(), stats.arg()];
    plan.launch(device, kernels, shape.batch * shape.heads, &pointers)
}

/// The gradients `dq`, `dk`, `dv` (all overwritten) of [`attention_forward`], from its inputs, its `out` and `stats`, and `dout`:
/// [`crate::ops::attention_backward`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths don't fit, or `scratch` is shorter than [`attention_scratch_len`].
#[allow(clippy::too_many_arguments)]
pub fn attention_backward(
    device: &Device,
    shape: AttentionShape,
    q: View<'_, f32>,
    k: View<'_, f32>,
    v: View<'_, f32>,
    out: View<'_, f32>,
    stats: View<'_, f32>,
    dout: View<'_, f32>,
    mut dq: ViewMut<'_, f32>,
    mut dk: ViewMut<'_, f32>,
    mut dv: ViewMut<'_, f32>,
    scratch: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    shape.check_lens(
        [q.len(), out.len(), dout.len(), dq.len()].into_iter(),
        [k.len(), v.len(), dk.len(), dv.len()].into_iter(),
        stats.len(),
    );
    let len = attention_scratch_len(&shape);
    assert!(scratch.len() >= len, "scratch of {} elements for {shape:?}, which takes {len}", scratch.len());
    if q.is_empty() {
        return Ok(());
    }
    let mut means = scratch.range(..len);
    row_dots(device, dout, out, means.reborrow())?;
    let plan = Plan::new(&shape, &[q.arg(), k.arg(), v.arg(), dout.arg()]);
    let inputs = [q.arg(), k.arg(), v.arg(), dout.arg(), stats.arg(), means.arg()];
    let kernels = [
        "essaim_attention_backward_queries_32",
        "essaim_attention_backward_queries_64",
        "essaim_attention_backward_queries_128",
    ];
    plan.launch(device, kernels, shape.batch * shape.heads, &[&inputs[..], &[dq.arg()]].concat())?;
    let kernels = [
        "essaim_attention_backward_keys_32",
        "essaim_attention_backward_keys_64",
        "essaim_attention_backward_keys_128",
    ];
    plan.launch(device, kernels, shape.batch * shape.kv_heads, &[&inputs[..], &[dk.arg(), dv.arg()]].concat())
}

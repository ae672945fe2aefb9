//! The inner loop on a device: the same results as [`crate::inner`], bit for bit, computed on a card.
//!
//! Parameters, gradients, momenta and activations live on the device. All of its memory is taken when the loop is made
//! ([`device_memory_bytes`]); an inner step allocates nothing. Into the device go the tokens of the step, once; out of it come the
//! losses and the gradient's norm, once. The host computes the sum of the losses and the learning rate, in float64. Whether a step is skipped must be known on the device before the host reads anything: it is a flag
//! that every update obeys, and the host draws the same conclusion from the same values.
//!
//! Order of operations: that of [`crate::model`] and [`crate::inner`], operator by operator. Tests compare the two with `==`.

mod clock;
mod inner_loop;
mod model;
mod moments;
mod optimizer;
mod pass;
mod workspace;

pub use clock::DeviceTimes;
pub use inner_loop::DeviceInnerLoop;

use crate::codec::UpdateFormat;
use crate::config::ModelShape;
use crate::moments::MomentLayout;
use crate::params::ParamLayout;
use essaim_kernels::cuda::Device;
use essaim_protocol::manifest::{Manifest, Optimizer};
use model::DeviceModel;
use moments::Factors;
use optimizer::{Gate, MuonBuffers};

/// Device memory of an inner loop whose batches are cut into micro-batches of `micro_batch` sequences, in bytes: parameters, gradients
/// and first moments (4 bytes a parameter each), second moments of the tensors that AdamW updates, Newton–Schulz's buffers, the
/// model's workspace, factored second moments, tokens, losses, and the numbers of a step.
pub fn device_memory_bytes(manifest: &Manifest, micro_batch: u32) -> u64 {
    let layout = ParamLayout::new(&manifest.model);
    let moments = MomentLayout::new(&layout, manifest.inner.optimizer);
    let shape = ModelShape::from(&manifest.model);
    let micro_batch = micro_batch.clamp(1, manifest.inner.batch) as usize;
    let tokens = manifest.tokens_per_step() as usize;
    let muon = match manifest.inner.optimizer {
        Optimizer::Muon => MuonBuffers::len(&layout),
        Optimizer::AdamW => 0,
    };
    let values = 3 * layout.total() + moments.full() + muon + DeviceModel::len(&shape, micro_batch);
    4 * (values + 2 * tokens + inner_loop::outcome_len(tokens) + Gate::len(&layout) + Factors::len(&moments)) as u64
}

/// Memory of the host beside it, in bytes: the base's parameters and momentum, the parameters at the end and the pseudo-gradient (4 bytes a
/// parameter each), factored second moments, the update.
pub fn host_memory_bytes(manifest: &Manifest) -> u64 {
    let layout = ParamLayout::new(&manifest.model);
    let moments = MomentLayout::new(&layout, manifest.inner.optimizer);
    let values = 4 * layout.total() + 3 * moments.factored();
    4 * values as u64 + UpdateFormat::of(manifest).len_bytes() as u64
}

/// Device memory that is left free: for the driver itself, for the ends of the pages that buffers take, for the screen.
const SPARE_BYTES: u64 = 256 << 20;

/// What an inner loop may take of a device's memory: what was free when it was opened, less some to spare. In bytes.
pub fn usable_bytes(device: &Device) -> u64 {
    device.info().free_bytes.saturating_sub(SPARE_BYTES)
}

/// The largest micro-batch whose inner loop fits in `memory_bytes` of a device; none when not even one sequence does.
pub fn micro_batch_for(manifest: &Manifest, memory_bytes: u64) -> Option<u32> {
    (1..=manifest.inner.batch).rev().find(|&micro_batch| device_memory_bytes(manifest, micro_batch) <= memory_bytes)
}

//! Every operation of a device against the CPU, bit for bit: the test vectors, the edges of the kernels' tiles, special values, and what only
//! devices have.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod device_only;
mod edges;
mod on_device;
#[path = "../../../tests/common/operators.rs"]
mod operators;
#[path = "../../../tests/common/vector_file.rs"]
mod vector_file;
mod vectors;

use essaim_cuda_shim::{Options, ShimDriver, test_card};
use essaim_kernels::cuda::Device;

/// The shim; its threads run in an order that changes with each launch. With `ESSAIM_TEST_DEVICE=cuda` it is a card instead, whose order is
/// its own.
fn shim() -> Device {
    test_card().unwrap_or_else(|| Device::new(ShimDriver::with(Options::default()).unwrap()))
}

/// The shim that looks at every access to memory: none outside a buffer, none to what was never written, no two without a barrier between. Or a
/// card, as above.
fn checked_shim() -> Device {
    test_card().unwrap_or_else(|| Device::new(ShimDriver::checked().unwrap()))
}

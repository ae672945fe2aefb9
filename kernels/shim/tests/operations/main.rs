//! Every operation of a device against the scalar reference, bit for bit: the test vectors, the edges of the kernels' tiles, special values, and what only
//! devices have.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/common/mod.rs"]
mod common;
mod on_device;
#[path = "../../../tests/common/operators.rs"]
mod operators;
#[path = "../../../tests/common/vector_file.rs"]
mod vector_file;
mod vectors;

use essaim_cuda_shim::{Options, Order, ShimDriver, test_card};
use essaim_kernels::cuda::Device;

/// The shim with the given order of threads, and as many multiprocessors as make products of a few hundred rows take both sizes of tiles.
///
/// With `ESSAIM_TEST_DEVICE=cuda` it is a card instead, whose order is its own.
fn shim(order: Order) -> Device {
    test_card().unwrap_or_else(|| Device::new(ShimDriver::with(Options { order, ..Options::default() }).unwrap()))
}

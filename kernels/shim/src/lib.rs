//! The CUDA kernels, run on a CPU.
//!
//! The build compiles `kernels/cuda/*.cu` as C++ against the small `shim.h`; [`ShimDriver`] runs their blocks and threads. So the logic of every kernel, and
//! of everything that launches them, is tested on any machine, bit by bit. What a real card adds (its compiler, its caches, its
//! memory model) is not tested here.
//!
//! What is watched: arguments against parameters; writes beyond a buffer; barriers that not all threads of a block reach; shared and device memory
//! that is read before it was written (it holds NaN); and, by the [`Order`] in which threads run, missing barriers.
//!
//! For tests only: nothing but a dev-dependency may name this crate.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod driver;
mod memory;
mod native;
mod real;
mod watch;

pub use driver::{KernelInfo, Options, Order, Parameter, ShimDriver, kernels};
pub use real::test_card;
pub use watch::{Call, Counts, WatchedDriver};

/// Where the build left a stand-in for NVIDIA's driver library, by the name of the real one: `cpp/stand_in/libcuda.cpp`. A program that is started with
/// its folder in `LD_LIBRARY_PATH` finds a CUDA device.
pub const STAND_IN: &str = env!("ESSAIM_STAND_IN");

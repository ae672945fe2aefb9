//! The same arithmetic on a CUDA device.
//!
//! The kernels are CUDA C++ in `cuda/` beside this crate's sources. A [`Device`] is where they run; [`Buffer`], [`View`] and [`ViewMut`] are its memory under
//! Rust's rules of borrowing; [`ops`] are the operations. All work of a device happens in the order of the calls, and mostly after
//! them: only a download and [`Device::synchronize`] wait.

mod buffer;
mod choice;
mod driver;
mod nvidia;
pub mod ops;
mod ptx;
mod selftest;

pub use buffer::{Buffer, Device, Element, View, ViewMut};
pub use choice::{DeviceChoice, DeviceSource, ParseDeviceError};
pub use driver::{Arg, DeviceError, DeviceInfo, DeviceKind, Driver, KernelResources, Launch};
pub use nvidia::{CudaDevices, CudaLibrary};
pub use ptx::{COMPUTE_CAPABILITY_MIN, PTX};
pub use selftest::device_self_test;

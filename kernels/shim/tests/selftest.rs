//! The known-answer test of a device: the shim passes it, and a device that computes something else is named.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::Arc;

use essaim_cuda_shim::{Options, Order, ShimDriver, WatchedDriver, kernels, test_card};
use essaim_kernels::cuda::{Device, DeviceError, DeviceInfo, Driver, Launch, device_self_test};

#[test]
fn the_shim_passes_in_every_order_of_threads() {
    for order in [Order::Forward, Order::Backward, Order::Shuffled(3)] {
        let device = Device::new(ShimDriver::with(Options { order, ..Options::default() }).unwrap());
        assert_eq!(device_self_test(&test_card().unwrap_or(device)), Ok(()));
    }
}

/// Whatever kernels the models' shapes lead to on a card have been asked for something before.
#[test]
fn every_kind_of_product_and_of_attention_is_asked_for() {
    let watched = WatchedDriver::new(ShimDriver::open().unwrap());
    assert_eq!(device_self_test(&Device::new(watched.clone())), Ok(()));
    let launched: BTreeSet<&str> = watched.launched().into_iter().collect();
    let kernels = kernels().into_iter().map(|kernel| kernel.name);
    let wanted: BTreeSet<&str> =
        kernels.filter(|name| name.starts_with("essaim_gemm_") || name.starts_with("essaim_attention_")).collect();
    assert_eq!(wanted.len(), 12 + 9);
    assert_eq!(wanted.difference(&launched).collect::<Vec<_>>(), Vec::<&&str>::new());
}

/// A device whose results are changed on their way to the host.
#[derive(Debug)]
struct Broken {
    shim: Arc<ShimDriver>,
    change: fn(&mut [u32]),
}

impl Driver for Broken {
    fn info(&self) -> &DeviceInfo {
        self.shim.info()
    }

    fn alloc(&self, len_bytes: usize) -> Result<u64, DeviceError> {
        self.shim.alloc(len_bytes)
    }

    fn free(&self, address: u64) {
        self.shim.free(address);
    }

    fn upload(&self, target: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.shim.upload(target, bytes)
    }

    fn download(&self, source: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.shim.download(source, bytes)?;
        let mut values: Vec<u32> =
            bytes.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect();
        (self.change)(&mut values);
        bytes.copy_from_slice(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
        Ok(())
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        // SAFETY: the caller's promise.
        unsafe { self.shim.launch(launch) }
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.shim.synchronize()
    }
}

fn verdict(change: fn(&mut [u32])) -> &'static str {
    let device = Device::new(Arc::new(Broken { shim: ShimDriver::open().unwrap(), change }));
    match device_self_test(&device) {
        Err(DeviceError::SelfTest { what, got, want }) if got != want => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn wrong_answers_are_named() {
    let flush = |values: &mut [u32]| {
        values.iter_mut().filter(|value| **value & 0x7f80_0000 == 0).for_each(|value| *value &= 0x8000_0000);
    };
    assert_eq!(verdict(flush), "subnormal results are kept (FTZ off)");
    let away = |values: &mut [u32]| values.iter_mut().filter(|value| **value == 0x3f80_0002).for_each(|v| *v -= 1);
    assert_eq!(verdict(away), "ties round to even, up");
    let unfused = |values: &mut [u32]| values.iter_mut().filter(|value| **value == 0xa880_0000).for_each(|v| *v = 0);
    assert_eq!(verdict(unfused), "fused multiply-add rounds once");
    // One bit of one element of the many.
    let bit = |values: &mut [u32]| values.iter_mut().skip(1000).take(1).for_each(|value| *value ^= 1);
    assert_eq!(verdict(bit), "matrix products");
    let sums = |values: &mut [u32]| {
        if let [_, _, largest] = values {
            *largest ^= 1
        }
    };
    assert_eq!(verdict(sums), "reductions");
}

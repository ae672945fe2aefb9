//! A machine with one card, which is the shim, and can be told to fail or be taken away.
// Each test file uses a part of it.
#![allow(dead_code)]

use essaim_cuda_shim::{Call, Options, ShimDriver, WatchedDriver};
use essaim_kernels::cuda::{Device, DeviceError, DeviceInfo, DeviceSource, Driver};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

#[derive(Debug)]
pub(crate) struct Cards {
    memory_bytes: u64,
    /// The driver of the last opening, as long as it is in use.
    last: Mutex<Weak<WatchedDriver>>,
    opened: AtomicU32,
    gone: AtomicBool,
}

impl Cards {
    pub(crate) fn new(memory_bytes: u64) -> Cards {
        let (last, opened, gone) = (Mutex::default(), AtomicU32::new(0), AtomicBool::new(false));
        Cards { memory_bytes, last, opened, gone }
    }

    fn fault() -> DeviceError {
        DeviceError::Failed { operation: "a test", code: 719, reason: "it fell off the bus".into() }
    }

    /// From that call on the device fails, until it is opened again.
    pub(crate) fn fail_at(&self, call: Call, number: u64) {
        let driver = self.last.lock().unwrap().upgrade().expect("the device is in use");
        driver.fail_at(call, number, Cards::fault());
    }

    pub(crate) fn take_away(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    pub(crate) fn bring_back(&self) {
        self.gone.store(false, Ordering::Relaxed);
    }

    pub(crate) fn opened(&self) -> u32 {
        self.opened.load(Ordering::Relaxed)
    }

    fn driver(&self) -> Arc<ShimDriver> {
        ShimDriver::with(Options { memory_bytes: self.memory_bytes, ..Options::default() }).unwrap()
    }
}

impl DeviceSource for Cards {
    fn devices(&self) -> Result<Vec<DeviceInfo>, DeviceError> {
        Ok(vec![self.driver().info().clone()])
    }

    fn open(&self, ordinal: u32) -> Result<Device, DeviceError> {
        if ordinal > 0 {
            return Err(DeviceError::NoSuchDevice { ordinal, count: 1 });
        }
        if self.gone.load(Ordering::Relaxed) {
            return Err(Cards::fault());
        }
        assert!(self.last.lock().unwrap().upgrade().is_none(), "given back before it is opened again");
        let driver = WatchedDriver::new(self.driver());
        *self.last.lock().unwrap() = Arc::downgrade(&driver);
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Device::new(driver))
    }
}

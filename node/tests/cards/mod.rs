//! A machine with one card, which is the shim, and can be told to fail or be taken away.
// Each test file uses a part of it.
#![allow(dead_code)]

use essaim_cuda_shim::{Call, Options, ShimDriver, WatchedDriver};
use essaim_kernels::cuda::{Device, DeviceError, DeviceInfo, DeviceSource, Driver};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

#[derive(Debug)]
pub(crate) struct Cards {
    memory_bytes: AtomicU64,
    /// The driver of the last opening, as long as it is in use.
    last: Mutex<Weak<WatchedDriver>>,
    opened: AtomicU32,
    gone: AtomicBool,
    /// When the next opening's device fails.
    failure: Mutex<Option<(Call, u64)>>,
}

impl Cards {
    pub(crate) fn new(memory_bytes: u64) -> Cards {
        let (last, opened, gone) = (Mutex::default(), AtomicU32::new(0), AtomicBool::new(false));
        Cards { memory_bytes: memory_bytes.into(), last, opened, gone, failure: Mutex::default() }
    }

    fn fault() -> DeviceError {
        DeviceError::Failed { operation: "a test", code: 719, reason: "it fell off the bus".into() }
    }

    /// From that call on the device fails, until it is opened again.
    pub(crate) fn fail_at(&self, call: Call, number: u64) {
        let driver = self.last.lock().unwrap().upgrade().expect("the device is in use");
        driver.fail_at(call, number, Cards::fault());
    }

    /// Kernels since the device was opened, or since the last time.
    pub(crate) fn take_launches(&self) -> u64 {
        self.last.lock().unwrap().upgrade().expect("the device is in use").take_counts().launches
    }

    /// The device of the next opening fails at that call.
    pub(crate) fn fail_at_opening(&self, call: Call, number: u64) {
        *self.failure.lock().unwrap() = Some((call, number));
    }

    /// Another program leaves so much memory, from the next opening on.
    pub(crate) fn shrink(&self, memory_bytes: u64) {
        self.memory_bytes.store(memory_bytes, Ordering::Relaxed);
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
        ShimDriver::with(Options { memory_bytes: self.memory_bytes.load(Ordering::Relaxed), ..Options::default() })
            .unwrap()
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
        if let Some((call, number)) = self.failure.lock().unwrap().take() {
            driver.fail_at(call, number, Cards::fault());
        }
        *self.last.lock().unwrap() = Arc::downgrade(&driver);
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(Device::new(driver))
    }
}

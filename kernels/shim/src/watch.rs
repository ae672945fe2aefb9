//! A driver around another that counts what is done, and can be told to fail.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use essaim_kernels::cuda::{DeviceError, DeviceInfo, Driver, Launch};

/// A kind of call to a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// [`Driver::alloc`].
    Alloc,
    /// [`Driver::upload`].
    Upload,
    /// [`Driver::download`].
    Download,
    /// [`Driver::launch`].
    Launch,
    /// [`Driver::synchronize`].
    Synchronize,
    /// Any of these, counted together.
    Any,
}

/// How often each call was made since the start or since [`WatchedDriver::take_counts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Allocations.
    pub allocs: u64,
    /// Buffers given back.
    pub frees: u64,
    /// Copies to the device.
    pub uploads: u64,
    /// Copies from the device.
    pub downloads: u64,
    /// Kernels.
    pub launches: u64,
    /// Waits.
    pub synchronizes: u64,
}

impl Counts {
    fn note(&mut self, call: Call) {
        match call {
            Call::Alloc => self.allocs += 1,
            Call::Upload => self.uploads += 1,
            Call::Download => self.downloads += 1,
            Call::Launch => self.launches += 1,
            Call::Synchronize => self.synchronizes += 1,
            Call::Any => unreachable!("no call is of every kind"),
        }
    }
}

/// Counts, forwards, fails on demand.
#[derive(Debug)]
pub struct WatchedDriver {
    inner: Arc<dyn Driver>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    names: Vec<&'static str>,
    /// At which of the calls to come to fail: 1 is the next of its kind.
    failure: Option<(Call, u64, DeviceError)>,
    broken: Option<DeviceError>,
}

impl WatchedDriver {
    /// Around `inner`.
    pub fn new(inner: Arc<dyn Driver>) -> Arc<WatchedDriver> {
        Arc::new(WatchedDriver { inner, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was done since the last time, or since the start.
    pub fn take_counts(&self) -> Counts {
        let mut state = self.state();
        state.names.clear();
        std::mem::take(&mut state.counts)
    }

    /// The kernels launched since the last [`WatchedDriver::take_counts`], in order.
    pub fn launched(&self) -> Vec<&'static str> {
        self.state().names.clone()
    }

    /// From the `number`th `call` from now on (1 is the next), everything fails with `error`, as on a card that fell off the bus. Buffers can
    /// still be dropped.
    pub fn fail_at(&self, call: Call, number: u64, error: DeviceError) {
        assert!(number > 0, "the next call is number 1");
        self.state().failure = Some((call, number, error));
    }

    /// Ends the failure that [`WatchedDriver::fail_at`] planned or began, as if the device had been opened again.
    pub fn repair(&self) {
        let mut state = self.state();
        (state.failure, state.broken) = (None, None);
    }

    fn pass(&self, call: Call) -> Result<(), DeviceError> {
        let mut state = self.state();
        state.counts.note(call);
        if let Some((kind, number, error)) = &mut state.failure
            && (*kind == call || *kind == Call::Any)
        {
            *number -= 1;
            if *number == 0 {
                let error = error.clone();
                (state.failure, state.broken) = (None, Some(error));
            }
        }
        state.broken.clone().map_or(Ok(()), Err)
    }
}

impl Driver for WatchedDriver {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn alloc(&self, len_bytes: usize) -> Result<u64, DeviceError> {
        self.pass(Call::Alloc)?;
        self.inner.alloc(len_bytes)
    }

    fn free(&self, address: u64) {
        self.state().counts.frees += 1;
        self.inner.free(address);
    }

    fn upload(&self, target: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.pass(Call::Upload)?;
        self.inner.upload(target, bytes)
    }

    fn download(&self, source: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.pass(Call::Download)?;
        self.inner.download(source, bytes)
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<(), DeviceError> {
        self.pass(Call::Launch)?;
        self.state().names.push(launch.kernel);
        // SAFETY: the caller's promise.
        unsafe { self.inner.launch(launch) }
    }

    fn synchronize(&self) -> Result<(), DeviceError> {
        self.pass(Call::Synchronize)?;
        self.inner.synchronize()
    }
}

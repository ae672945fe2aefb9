//! NVIDIA cards: which there are, and the [`Driver`] that runs kernels on one.
//!
//! Only the driver's own library is needed, found when the program runs: the kernels come as PTX, which that library translates for the
//! card it has (and keeps the translation). A card is used through its primary context and one stream, so everything happens in the
//! order of the calls.

mod api;
mod context;
mod library;

use super::buffer::Device;
use super::choice::DeviceSource;
use super::driver::{DeviceError, DeviceInfo, KernelResources};
use super::ptx::{COMPUTE_CAPABILITY_MIN, PTX};
use super::selftest::device_self_test;
use context::Nvidia;
use library::{DRIVER_VERSION_MIN, Started, version_text};
use std::path::Path;
use std::sync::Arc;

/// The CUDA devices of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct CudaDevices;

impl DeviceSource for CudaDevices {
    fn devices(&self) -> Result<Vec<DeviceInfo>, DeviceError> {
        devices(&library::system()?)
    }

    fn open(&self, ordinal: u32) -> Result<Device, DeviceError> {
        open(&library::system()?, ordinal)
    }
}

impl CudaDevices {
    /// What each kernel takes of a multiprocessor of a device, as its driver translated them.
    ///
    /// # Errors
    /// As [`DeviceSource::open`], but that the device takes no known-answer test.
    pub fn resources(&self, ordinal: u32) -> Result<Vec<KernelResources>, DeviceError> {
        start(&library::system()?, ordinal)?.resources()
    }
}

/// The devices behind a driver library that is none of the system's: for tests.
#[derive(Debug, Clone)]
pub struct CudaLibrary(Started);

impl CudaLibrary {
    /// Loads and starts the library at `path`. It stays loaded.
    ///
    /// # Errors
    /// [`DeviceError::NoDriver`].
    ///
    /// # Safety
    /// The library's functions of `cuda.h`'s names do what NVIDIA's do.
    pub unsafe fn load(path: &Path) -> Result<CudaLibrary, DeviceError> {
        // SAFETY: the caller's promise.
        unsafe { library::at(path) }.map(CudaLibrary)
    }

    /// As [`CudaDevices::resources`].
    ///
    /// # Errors
    /// As there.
    pub fn resources(&self, ordinal: u32) -> Result<Vec<KernelResources>, DeviceError> {
        start(&self.0, ordinal)?.resources()
    }
}

impl DeviceSource for CudaLibrary {
    fn devices(&self) -> Result<Vec<DeviceInfo>, DeviceError> {
        devices(&self.0)
    }

    fn open(&self, ordinal: u32) -> Result<Device, DeviceError> {
        open(&self.0, ordinal)
    }
}

/// All devices, in the driver's order, whether or not they can be used. What is free of their memory is not asked for
/// ([`DeviceInfo::free_bytes`] is 0), since that would start each of them.
fn devices(library: &Started) -> Result<Vec<DeviceInfo>, DeviceError> {
    (0..library.count()?).map(|ordinal| Ok(library.describe(ordinal)?.1)).collect()
}

/// Whether the kernels can run on a device, judged by what it says of itself.
fn is_supported(info: &DeviceInfo, driver_version: i32) -> Result<(), DeviceError> {
    let (major, minor) = info.compute_capability;
    if info.compute_capability < COMPUTE_CAPABILITY_MIN {
        let (needed_major, needed_minor) = COMPUTE_CAPABILITY_MIN;
        return Err(DeviceError::TooOld {
            name: info.name.clone(),
            what: "compute capability",
            found: format!("{major}.{minor}"),
            needed: format!("{needed_major}.{needed_minor}"),
        });
    }
    if driver_version < DRIVER_VERSION_MIN {
        return Err(DeviceError::TooOld {
            name: info.name.clone(),
            what: "the CUDA version of the driver",
            found: version_text(driver_version),
            needed: format!("{} (driver 520)", version_text(DRIVER_VERSION_MIN)),
        });
    }
    Ok(())
}

/// Opens a device by its number: starts it, loads the kernels, and has it pass the known-answer test.
fn open(library: &Started, ordinal: u32) -> Result<Device, DeviceError> {
    let device = Device::new(Arc::new(start(library, ordinal)?));
    device_self_test(&device)?;
    Ok(device)
}

fn start(library: &Started, ordinal: u32) -> Result<Nvidia, DeviceError> {
    let count = library.count()?;
    if ordinal >= count {
        return Err(DeviceError::NoSuchDevice { ordinal, count });
    }
    let (handle, info) = library.describe(ordinal)?;
    is_supported(&info, library.version)?;
    Nvidia::new(library.api.clone(), handle, info, PTX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::driver::DeviceKind;

    fn card(compute_capability: (u32, u32)) -> DeviceInfo {
        DeviceInfo {
            name: "a card".into(),
            ordinal: 0,
            compute_capability,
            multiprocessors: 1,
            clock_khz: 0,
            memory_bytes: 1 << 30,
            free_bytes: 0,
            driver_version: "12.0".into(),
            kind: DeviceKind::Cuda,
        }
    }

    #[test]
    fn old_cards_and_old_drivers_are_named() {
        assert_eq!(is_supported(&card((7, 5)), 11_080), Ok(()));
        assert_eq!(is_supported(&card((12, 0)), 13_000), Ok(()));
        let error = is_supported(&card((7, 0)), 13_000).map_err(|error| error.to_string());
        assert_eq!(error, Err("a card: compute capability is 7.0, and at least 7.5 is needed".into()));
        let error = is_supported(&card((8, 0)), 11_040).map_err(|error| error.to_string());
        let expected = "a card: the CUDA version of the driver is 11.4, and at least 11.8 (driver 520) is needed";
        assert_eq!(error, Err(expected.into()));
    }

    /// Whatever this machine has, asking is no panic; without a driver the line says what to install.
    #[test]
    fn asking_for_devices_never_panics() {
        match CudaDevices.devices() {
            Ok(devices) => assert_eq!(
                CudaDevices.open(devices.len() as u32).map(|_| ()),
                Err(DeviceError::NoSuchDevice { ordinal: devices.len() as u32, count: devices.len() as u32 })
            ),
            Err(error) => {
                assert!(matches!(error, DeviceError::NoDriver { .. }), "{error:?}");
                assert!(error.to_string().contains("driver"), "{error}");
                assert_eq!(CudaDevices.open(0).map(|_| ()), Err(error));
            }
        }
    }
}

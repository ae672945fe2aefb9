//! NVIDIA cards: which there are, and the [`Driver`] that runs kernels on one.
//!
//! Only the driver's own library is needed, found when the program runs: the kernels come as PTX, which that library translates for the
//! card it has (and keeps the translation). A card is used through its primary context and one stream, so everything happens in the
//! order of the calls.

mod context;
mod library;

use super::buffer::Device;
use super::driver::{DeviceError, DeviceInfo, DeviceKind};
use super::ptx::{COMPUTE_CAPABILITY_MIN, PTX};
use super::selftest::device_self_test;
use context::Nvidia;
use cudarc::driver::result;
use cudarc::driver::sys::{CUdevice, CUdevice_attribute_enum as Attribute};
use library::{DRIVER_VERSION_MIN, check, load, version_text};
use std::sync::Arc;

/// The CUDA devices of this machine, in the driver's order, whether or not they can be used. What is free of their memory is not asked
/// for ([`DeviceInfo::free_bytes`] is 0), since that would start each of them.
///
/// # Errors
/// [`DeviceError::NoDriver`] when there is no driver or no device, and when the driver fails.
pub fn devices() -> Result<Vec<DeviceInfo>, DeviceError> {
    let version = load()?;
    (0..count()?).map(|ordinal| Ok(describe(ordinal, version)?.1)).collect()
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
///
/// # Errors
/// [`DeviceError`]: no driver, no such device, one that is too old, fails, or computes other bits.
pub fn open(ordinal: u32) -> Result<Device, DeviceError> {
    let version = load()?;
    let count = count()?;
    if ordinal >= count {
        return Err(DeviceError::NoSuchDevice { ordinal, count });
    }
    let (handle, info) = describe(ordinal, version)?;
    is_supported(&info, version)?;
    let device = Device::new(Arc::new(Nvidia::new(handle, info, PTX)?));
    device_self_test(&device)?;
    Ok(device)
}

fn count() -> Result<u32, DeviceError> {
    Ok(check("counting CUDA devices", result::device::get_count())?.max(0).unsigned_abs())
}

/// A device's handle, and what it says of itself.
fn describe(ordinal: u32, driver_version: i32) -> Result<(CUdevice, DeviceInfo), DeviceError> {
    const OPERATION: &str = "asking a CUDA device what it is";
    let handle = check(OPERATION, result::device::get(ordinal as i32))?;
    let attribute = |attribute| {
        // SAFETY: the handle is the driver's.
        let value = unsafe { result::device::get_attribute(handle, attribute) };
        Ok(check(OPERATION, value)?.unsigned_abs())
    };
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let multiprocessors = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    let clock_khz = attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?;
    // SAFETY: the handle is the driver's.
    let memory = check(OPERATION, unsafe { result::device::total_mem(handle) })?;
    let info = DeviceInfo {
        name: check(OPERATION, result::device::get_name(handle))?,
        ordinal,
        compute_capability: (major, minor),
        multiprocessors,
        clock_khz,
        memory_bytes: memory as u64,
        free_bytes: 0,
        driver_version: version_text(driver_version),
        kind: DeviceKind::Cuda,
    };
    Ok((handle, info))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        match devices() {
            Ok(devices) => assert_eq!(
                open(devices.len() as u32).map(|_| ()),
                Err(DeviceError::NoSuchDevice { ordinal: devices.len() as u32, count: devices.len() as u32 })
            ),
            Err(error) => {
                assert!(matches!(error, DeviceError::NoDriver { .. }), "{error:?}");
                assert!(error.to_string().contains("driver"), "{error}");
                assert_eq!(open(0).map(|_| ()), Err(error));
            }
        }
    }
}

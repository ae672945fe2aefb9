//! NVIDIA's driver library, loaded and started: what it is asked before a device is opened, and what its errors mean.

use super::super::driver::{DeviceError, DeviceInfo, DeviceKind};
use super::api::{Api, Code, DeviceAttribute, DeviceHandle, NO_DEVICE};
use std::ffi::{CStr, c_char, c_int};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// The oldest driver that reads the embedded PTX (ISA 7.8): that of CUDA 11.8, as `cuDriverGetVersion` counts.
pub(super) const DRIVER_VERSION_MIN: i32 = 11_080;

/// A driver library in use.
#[derive(Debug, Clone)]
pub(super) struct Started {
    pub(super) api: Arc<Api>,
    /// As `cuDriverGetVersion` counts.
    pub(super) version: i32,
}

/// The system's library, loaded and started once in a process.
pub(super) fn system() -> Result<Started, DeviceError> {
    static LOADED: OnceLock<Result<Started, DeviceError>> = OnceLock::new();
    let load = || match Api::system() {
        Ok(Some(api)) => start(api),
        Ok(None) => Err(absent("NVIDIA's driver library", "not found")),
        Err(error) => Err(absent("NVIDIA's driver library", &words(&error))),
    };
    LOADED.get_or_init(load).clone()
}

/// The library at a path.
///
/// # Safety
/// As [`Api::load`].
pub(super) unsafe fn at(path: &Path) -> Result<Started, DeviceError> {
    // SAFETY: the caller's promise.
    let api = unsafe { Api::load(path) }.map_err(|error| absent(&path.display().to_string(), &words(&error)))?;
    start(api)
}

/// What the system says.
fn words(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn absent(name: &str, problem: &str) -> DeviceError {
    let reason = format!(
        "{name} is not here or cannot be loaded ({problem}); install NVIDIA's driver, version 520 or newer (nothing else of CUDA is needed)"
    );
    DeviceError::NoDriver { reason }
}

fn start(api: Api) -> Result<Started, DeviceError> {
    // SAFETY: no condition.
    match unsafe { api.init(0) } {
        0 => {}
        NO_DEVICE => {
            let reason = "NVIDIA's driver finds no device; look at `nvidia-smi` and at CUDA_VISIBLE_DEVICES";
            return Err(DeviceError::NoDriver { reason: reason.into() });
        }
        code => {
            let reason = format!("NVIDIA's driver does not start: {}", describe(&api, code));
            return Err(DeviceError::NoDriver { reason });
        }
    }
    let mut version = 0;
    // SAFETY: the pointer is to an integer.
    check(&api, "reading the driver's version", unsafe { api.driver_version(&raw mut version) })?;
    Ok(Started { api: Arc::new(api), version })
}

impl Started {
    /// How many devices there are.
    pub(super) fn count(&self) -> Result<u32, DeviceError> {
        let mut count = 0;
        // SAFETY: the pointer is to an integer.
        check(&self.api, "counting CUDA devices", unsafe { self.api.device_count(&raw mut count) })?;
        Ok(count.max(0).unsigned_abs())
    }

    /// A device's handle, and what it says of itself.
    pub(super) fn describe(&self, ordinal: u32) -> Result<(DeviceHandle, DeviceInfo), DeviceError> {
        let done = |code| check(&self.api, "asking a CUDA device what it is", code);
        let mut handle = 0;
        // SAFETY: the pointer is to an integer; a wrong number is an error.
        done(unsafe { self.api.device_get(&raw mut handle, ordinal as c_int) })?;
        let attribute = |attribute: DeviceAttribute| {
            let mut value = 0;
            // SAFETY: the pointer is to an integer, the handle the driver's.
            done(unsafe { self.api.device_attribute(&raw mut value, attribute as c_int, handle) })?;
            Ok(value.max(0).unsigned_abs())
        };
        let major = attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let multiprocessors = attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        // Drivers may cease to know it; it only says how fast the device could be.
        let clock_khz = attribute(DeviceAttribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE).unwrap_or(0);
        let mut memory = 0;
        // SAFETY: the pointer is to an integer, the handle the driver's.
        done(unsafe { self.api.device_memory(&raw mut memory, handle) })?;
        let mut name = [0u8; 256];
        // SAFETY: writes at most 255 bytes and a zero.
        done(unsafe { self.api.device_name(name.as_mut_ptr().cast::<c_char>(), name.len() as c_int - 1, handle) })?;
        let info = DeviceInfo {
            name: CStr::from_bytes_until_nul(&name).unwrap_or_default().to_string_lossy().into_owned(),
            ordinal,
            compute_capability: (major, minor),
            multiprocessors,
            clock_khz,
            memory_bytes: memory as u64,
            free_bytes: 0,
            driver_version: version_text(self.version),
            kind: DeviceKind::Cuda,
        };
        Ok((handle, info))
    }
}

/// The version as people write it: `12.4` for 12040.
pub(super) fn version_text(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// Turns a result of the driver into an error that names the operation.
pub(super) fn check(api: &Api, operation: &'static str, code: Code) -> Result<(), DeviceError> {
    if code == 0 { Ok(()) } else { Err(DeviceError::Failed { operation, code, reason: describe(api, code) }) }
}

/// CUDA's name for an error, and its explanation. A driver may give codes that it has no words for.
pub(super) fn describe(api: &Api, code: Code) -> String {
    let text = |get: unsafe fn(&Api, Code, *mut *const c_char) -> Code| {
        let mut text = std::ptr::null();
        // SAFETY: the pointer is to a pointer; what it is set to is a static text or null.
        unsafe {
            let known = get(api, code, &raw mut text) == 0 && !text.is_null();
            known.then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    };
    match (text(Api::error_name), text(Api::error_string)) {
        (Some(name), Some(words)) => format!("{name}: {words}"),
        (Some(name), None) => name,
        (None, Some(words)) => words,
        (None, None) => "the driver has no name for it".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_people_write_them() {
        assert_eq!(version_text(11_080), "11.8");
        assert_eq!(version_text(13_010), "13.1");
    }

    #[test]
    fn what_is_no_driver_is_said_to_be_none() {
        // SAFETY: there is no such file, so nothing is loaded.
        let error = unsafe { at(Path::new("/no/such/libcuda.so.1")) }.unwrap_err();
        assert!(matches!(error, DeviceError::NoDriver { .. }));
        assert!(error.to_string().contains("/no/such/libcuda.so.1 is not here"), "{error}");
    }
}

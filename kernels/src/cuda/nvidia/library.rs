//! NVIDIA's driver library: is it there, and what its errors mean.

use super::super::driver::DeviceError;
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUresult};
use std::sync::OnceLock;

/// The oldest driver that reads the embedded PTX (ISA 7.8): that of CUDA 11.8, as `cuDriverGetVersion` counts.
pub(super) const DRIVER_VERSION_MIN: i32 = 11_080;

/// Loads and initialises the library, once in a process, and gives the driver's version as `cuDriverGetVersion` counts.
///
/// The bindings panic on a missing library or symbol, so its presence is tested first. Every symbol used here is in each driver from
/// [`DRIVER_VERSION_MIN`] on, and that version is tested before any other call.
pub(super) fn load() -> Result<i32, DeviceError> {
    static LOADED: OnceLock<Result<i32, DeviceError>> = OnceLock::new();
    LOADED.get_or_init(initialise).clone()
}

fn initialise() -> Result<i32, DeviceError> {
    // SAFETY: loading runs the constructors of NVIDIA's library, which has none that touch this program's memory.
    if !unsafe { sys::is_culib_present() } {
        let reason = "libcuda.so is not here or cannot be loaded; install NVIDIA's driver, version 520 or newer \
                      (nothing else of CUDA is needed)";
        return Err(DeviceError::NoDriver { reason: reason.into() });
    }
    result::init().map_err(|error| match error.0 {
        CUresult::CUDA_ERROR_NO_DEVICE => DeviceError::NoDriver {
            reason: "NVIDIA's driver finds no device; look at `nvidia-smi` and at CUDA_VISIBLE_DEVICES".into(),
        },
        _ => DeviceError::NoDriver { reason: format!("NVIDIA's driver does not start: {}", describe(error)) },
    })?;
    let mut version = 0;
    // SAFETY: the library is loaded, and the pointer is to a valid integer.
    check("reading the driver's version", unsafe { sys::cuDriverGetVersion(&raw mut version) }.result())?;
    Ok(version)
}

/// The version as people write it: `12.4` for 12040.
pub(super) fn version_text(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// Turns an error of the driver into one that names the operation.
pub(super) fn check<T>(operation: &'static str, result: Result<T, DriverError>) -> Result<T, DeviceError> {
    result.map_err(|error| DeviceError::Failed { operation, code: error.0 as i32, reason: describe(error) })
}

/// CUDA's name for an error, and its explanation.
pub(super) fn describe(error: DriverError) -> String {
    let text = |text: Result<&std::ffi::CStr, _>| text.ok().map(|text| text.to_string_lossy().into_owned());
    let name = text(error.error_name()).unwrap_or_else(|| format!("{:?}", error.0));
    match text(error.error_string()) {
        Some(text) => format!("{name}: {text}"),
        None => name,
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
}

//! The same tests on a card.

use std::sync::OnceLock;

use essaim_kernels::cuda::{CudaDevices, Device, DeviceChoice, DeviceSource};

/// The CUDA device that the environment variable `ESSAIM_TEST_DEVICE` names (`cuda`, `cuda:N`), opened once; none when it names none. Tests
/// that only need some device run on it instead of the shim.
///
/// # Panics
/// When the device cannot be opened: a test that was to run on a card must not pass without one.
pub fn test_card() -> Option<Device> {
    static CARD: OnceLock<Option<Device>> = OnceLock::new();
    let open = || {
        let name = std::env::var("ESSAIM_TEST_DEVICE").ok().filter(|name| !name.is_empty() && name != "shim")?;
        let choice: DeviceChoice = name.parse().unwrap_or_else(|error| panic!("ESSAIM_TEST_DEVICE: {error}"));
        let picked = choice.pick(&CudaDevices, |ordinal| CudaDevices.open(ordinal));
        let (device, _) = picked.unwrap_or_else(|reason| panic!("ESSAIM_TEST_DEVICE={name}: {reason}"));
        Some(device.unwrap_or_else(|| panic!("ESSAIM_TEST_DEVICE={name} is no card; write cuda or cuda:N")))
    };
    CARD.get_or_init(open).clone()
}

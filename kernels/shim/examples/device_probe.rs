//! What only a card can answer, as JSON lines for `benches/gpu.py`.
//!
//! `device_probe kernels cuda:0`: what the driver made of each kernel: registers, and bytes that were spilled.
//! `device_probe fault cuda:0`: makes a kernel write where nothing is, and says whether this process can open the device again. It harms
//! nothing but this process.

use essaim_kernels::cuda::{Arg, CudaDevices, Device, DeviceError, DeviceSource, Launch};

fn kernels(ordinal: u32) -> Result<(), DeviceError> {
    for kernel in CudaDevices.resources(ordinal)? {
        println!(
            r#"{{"kernel": "{}", "registers": {}, "local_bytes": {}, "shared_bytes": {}}}"#,
            kernel.name, kernel.registers, kernel.local_bytes, kernel.shared_bytes
        );
    }
    Ok(())
}

/// A kernel that writes to the first pages, which are nobody's.
fn misbehave(device: &Device) -> Result<(), DeviceError> {
    let args = [Arg::Address(0x1000), Arg::F32(1.0), Arg::U64(4)];
    let launch = Launch { kernel: "essaim_fill", grid: [1; 3], block: [256, 1, 1], args: &args };
    // SAFETY: none of Rust's memory is there: the device refuses the access, which is what is asked.
    unsafe { device.launch(&launch)? };
    device.synchronize()
}

fn fault(ordinal: u32) -> Result<(), Box<dyn std::error::Error>> {
    let device = CudaDevices.open(ordinal)?;
    let code = match misbehave(&device) {
        Err(DeviceError::Failed { code, .. }) => code,
        Err(other) => return Err(other.into()),
        Ok(()) => return Err("the device took a write to where nothing is".into()),
    };
    drop(device);
    // With the known-answer test.
    let again = CudaDevices.open(ordinal);
    let problem = again.as_ref().err().map(|error| error.to_string().replace(['"', '\\'], " ")).unwrap_or_default();
    println!(r#"{{"code": {code}, "reopened": {}, "problem": "{problem}"}}"#, again.is_ok());
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, device] = &arguments[..] else { return Err("usage: device_probe kernels|fault cuda:N".into()) };
    let ordinal = device.strip_prefix("cuda:").ok_or("name a device, such as cuda:0")?.parse()?;
    match what.as_str() {
        "kernels" => Ok(kernels(ordinal)?),
        "fault" => fault(ordinal),
        other => Err(format!("'{other}' is neither kernels nor fault").into()),
    }
}

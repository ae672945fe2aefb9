//! `essaim devices`.

use crate::events::bytes_text;
use clap::Args;
use essaim_kernels::Exec;
use essaim_kernels::cuda::{CudaDevices, DeviceError, DeviceInfo, DeviceSource};
use essaim_train::engine::Engine;
use essaim_train::selfcheck;
use serde::Serialize;

/// Arguments of `essaim devices`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each CUDA device is opened, takes the known-answer test, and does two rounds of a tiny run whose results are known: what is called
ready can train. The first start on a card takes some seconds longer, since the driver translates the kernels for it.
")]
pub struct DevicesArgs {
    /// CPU threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What can be asked for with `--device`.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Listing {
    devices: Vec<Entry>,
    /// Why there are no CUDA devices; none when there are.
    no_cuda: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Entry {
    /// As written after `--device`.
    device: String,
    name: String,
    /// Whether it can train.
    ready: bool,
    /// Why not.
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cuda: Option<Cuda>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Cuda {
    compute_capability: String,
    multiprocessors: u32,
    memory_bytes: u64,
    /// None when it could not be opened.
    free_bytes: Option<u64>,
    driver_version: String,
    peak_flops_per_s: Option<f64>,
}

impl DevicesArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let threads = self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let listing = list(&CudaDevices, threads);
        if self.json {
            println!("{}", serde_json::to_string(&listing)?);
        } else {
            print!("{}", text(&listing));
        }
        Ok(())
    }
}

fn list(source: &dyn DeviceSource, threads: usize) -> Listing {
    let exec = Exec::from_env(threads);
    let (name, reason) = match &exec {
        Ok(exec) => {
            let verdict = selfcheck::self_check(exec);
            (format!("{threads} threads, {}", exec.path()), verdict.err().map(|error| error.to_string()))
        }
        Err(error) => (format!("{threads} threads"), Some(error.to_string())),
    };
    let mut devices = vec![Entry { device: "cpu".into(), name, ready: reason.is_none(), reason, cuda: None }];
    let no_cuda = match source.devices() {
        Ok(infos) => {
            devices.extend(infos.iter().map(|info| entry(source, info, exec.as_ref().ok())));
            infos.is_empty().then(|| "there is no CUDA device".to_owned())
        }
        Err(error) => Some(error.to_string()),
    };
    Listing { devices, no_cuda }
}

fn entry(source: &dyn DeviceSource, info: &DeviceInfo, exec: Option<&Exec>) -> Entry {
    let tried = match source.open(info.ordinal) {
        Ok(device) => {
            let verdict = exec.map_or(Ok(()), |exec| selfcheck::self_check_on(exec, Engine::Device(&device)));
            (Some(device.info().free_bytes), verdict.err().map(|error| error.to_string()))
        }
        Err(error) => (None, Some(short(&error, info))),
    };
    let (free_bytes, reason) = tried;
    let (major, minor) = info.compute_capability;
    Entry {
        device: format!("cuda:{}", info.ordinal),
        name: info.name.clone(),
        ready: reason.is_none(),
        reason,
        cuda: Some(Cuda {
            compute_capability: format!("{major}.{minor}"),
            multiprocessors: info.multiprocessors,
            memory_bytes: info.memory_bytes,
            free_bytes,
            driver_version: info.driver_version.clone(),
            peak_flops_per_s: info.peak_flops(),
        }),
    }
}

/// The error without the device's name, which stands beside it.
fn short(error: &DeviceError, info: &DeviceInfo) -> String {
    let text = error.to_string();
    text.strip_prefix(&format!("{}: ", info.name)).map(str::to_owned).unwrap_or(text)
}

fn text(listing: &Listing) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    for Entry { device, name, ready, reason, cuda } in &listing.devices {
        let mut about = name.clone();
        if let Some(cuda) = cuda {
            let free = cuda.free_bytes.map(|bytes| format!(" ({} free)", bytes_text(bytes))).unwrap_or_default();
            let _ = write!(
                about,
                ", {}{free}, compute capability {}, driver for CUDA {}",
                bytes_text(cuda.memory_bytes),
                cuda.compute_capability,
                cuda.driver_version
            );
        }
        let verdict = match reason {
            _ if *ready => "ready".to_owned(),
            Some(reason) => format!("cannot be used: {reason}"),
            None => "cannot be used".to_owned(),
        };
        let _ = writeln!(out, "{device:<8} {about}: {verdict}");
    }
    if let Some(reason) = &listing.no_cuda {
        let _ = writeln!(out, "{reason}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_kernels::cuda::{Device, DeviceKind};

    /// One card, which is too old.
    #[derive(Debug)]
    struct OldCard;

    impl DeviceSource for OldCard {
        fn devices(&self) -> Result<Vec<DeviceInfo>, DeviceError> {
            Ok(vec![DeviceInfo {
                name: "an old card".into(),
                ordinal: 0,
                compute_capability: (6, 1),
                multiprocessors: 20,
                clock_khz: 1_700_000,
                memory_bytes: 8 << 30,
                free_bytes: 0,
                driver_version: "12.4".into(),
                kind: DeviceKind::Cuda,
            }])
        }

        fn open(&self, _: u32) -> Result<Device, DeviceError> {
            Err(DeviceError::TooOld {
                name: "an old card".into(),
                what: "compute capability",
                found: "6.1".into(),
                needed: "7.5".into(),
            })
        }
    }

    #[test]
    fn what_cannot_be_used_is_listed_with_the_reason() {
        let listing = list(&OldCard, 1);
        let text = text(&listing);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("cpu ") && lines[0].ends_with(": ready"), "{text}");
        let expected = "cuda:0   an old card, 8.0 GiB, compute capability 6.1, driver for CUDA 12.4: cannot be used: \
                        compute capability is 6.1, and at least 7.5 is needed";
        assert_eq!(lines[1..], [expected]);
        let json = serde_json::to_value(&listing).unwrap();
        assert_eq!(json["devices"][1]["device"], "cuda:0");
        assert_eq!(json["devices"][1]["ready"], false);
        assert_eq!(json["no_cuda"], serde_json::Value::Null);
    }
}

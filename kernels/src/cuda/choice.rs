//! Which device a user wants, and where devices come from.

use super::buffer::Device;
use super::driver::{DeviceError, DeviceInfo};
use std::fmt;
use std::str::FromStr;

/// Which device a user wants, as written after `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// `auto`: the first CUDA device that can do the work, else the CPU.
    #[default]
    Auto,
    /// `cpu`.
    Cpu,
    /// `cuda`: the first CUDA device that can do the work; `cuda:N`: that one.
    Cuda(Option<u32>),
}

/// A device that is not written as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no device: write auto, cpu, cuda, or cuda:N with N from 0")]
pub struct ParseDeviceError(String);

impl FromStr for DeviceChoice {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<DeviceChoice, ParseDeviceError> {
        let wrong = || ParseDeviceError(text.to_owned());
        match text.split_once(':') {
            None => match text {
                "auto" => Ok(DeviceChoice::Auto),
                "cpu" => Ok(DeviceChoice::Cpu),
                "cuda" => Ok(DeviceChoice::Cuda(None)),
                _ => Err(wrong()),
            },
            Some(("cuda", number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                number.parse().map(|ordinal| DeviceChoice::Cuda(Some(ordinal))).map_err(|_| wrong())
            }
            Some(_) => Err(wrong()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(None) => f.write_str("cuda"),
            DeviceChoice::Cuda(Some(ordinal)) => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// Where devices come from: NVIDIA's driver, or a test.
pub trait DeviceSource: Send + Sync + fmt::Debug {
    /// The devices there are, by their numbers from 0, whether or not they can be used.
    ///
    /// # Errors
    /// When there are none, and when they cannot be listed.
    fn devices(&self) -> Result<Vec<DeviceInfo>, DeviceError>;

    /// Opens one, which then has passed the known-answer test.
    ///
    /// # Errors
    /// When it cannot be used.
    fn open(&self, ordinal: u32) -> Result<Device, DeviceError>;
}

impl DeviceChoice {
    /// Tries the devices that the choice allows, in order, until `try_device` takes one. Gives what it made of it, or none for the CPU, and the
    /// reason for either in a few words.
    ///
    /// # Errors
    /// Why no device was taken, device by device, when the choice does not allow the CPU.
    pub fn pick<T, E: fmt::Display>(
        self,
        source: &dyn DeviceSource,
        mut try_device: impl FnMut(u32) -> Result<T, E>,
    ) -> Result<(Option<T>, String), String> {
        let first = |try_device: &mut dyn FnMut(u32) -> Result<T, E>| {
            let devices = source.devices().map_err(|error| error.to_string())?;
            let mut reasons = Vec::new();
            for info in &devices {
                match try_device(info.ordinal) {
                    Ok(taken) => return Ok((Some(taken), "the first device that can do it".to_owned())),
                    Err(reason) => reasons.push(format!("cuda:{} ({}): {reason}", info.ordinal, info.name)),
                }
            }
            Err(if reasons.is_empty() { "there is no CUDA device".to_owned() } else { reasons.join("; ") })
        };
        match self {
            DeviceChoice::Cpu => Ok((None, "as asked for".to_owned())),
            DeviceChoice::Cuda(Some(ordinal)) => {
                let taken = try_device(ordinal).map_err(|reason| reason.to_string())?;
                Ok((Some(taken), "as asked for".to_owned()))
            }
            DeviceChoice::Cuda(None) => first(&mut try_device),
            DeviceChoice::Auto => first(&mut try_device).or_else(|reason| Ok((None, reason))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_written_alike() {
        let choices = [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(None)),
            ("cuda:0", DeviceChoice::Cuda(Some(0))),
            ("cuda:12", DeviceChoice::Cuda(Some(12))),
        ];
        for (text, choice) in choices {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
        }
    }

    /// So many devices, none of which opens.
    #[derive(Debug)]
    struct Cards(u32);

    impl DeviceSource for Cards {
        fn devices(&self) -> Result<Vec<DeviceInfo>, DeviceError> {
            let card = |ordinal| DeviceInfo {
                name: format!("card {ordinal}"),
                ordinal,
                compute_capability: (8, 0),
                multiprocessors: 1,
                clock_khz: 0,
                memory_bytes: 1,
                free_bytes: 0,
                driver_version: String::new(),
                kind: super::super::driver::DeviceKind::Cuda,
            };
            Ok((0..self.0).map(card).collect())
        }

        fn open(&self, ordinal: u32) -> Result<Device, DeviceError> {
            Err(DeviceError::NoSuchDevice { ordinal, count: self.0 })
        }
    }

    #[test]
    fn the_first_that_is_taken_or_the_cpu_where_that_is_allowed() {
        let pick = |choice: DeviceChoice, good: &[u32]| {
            choice.pick(&Cards(3), |ordinal| if good.contains(&ordinal) { Ok(ordinal) } else { Err("too small") })
        };
        let first = |ordinal| Ok((Some(ordinal), "the first device that can do it".to_owned()));
        let asked = |taken| Ok((taken, "as asked for".to_owned()));
        let all = "cuda:0 (card 0): too small; cuda:1 (card 1): too small; cuda:2 (card 2): too small".to_owned();
        assert_eq!(pick(DeviceChoice::Auto, &[1, 2]), first(1));
        assert_eq!(pick(DeviceChoice::Auto, &[]), Ok((None, all.clone())));
        assert_eq!(pick(DeviceChoice::Cuda(None), &[0]), first(0));
        assert_eq!(pick(DeviceChoice::Cuda(None), &[]), Err(all));
        assert_eq!(pick(DeviceChoice::Cuda(Some(2)), &[0, 2]), asked(Some(2)));
        assert_eq!(pick(DeviceChoice::Cuda(Some(1)), &[0, 2]), Err("too small".to_owned()));
        assert_eq!(pick(DeviceChoice::Cpu, &[0]), asked(None));
        let none = DeviceChoice::Auto.pick(&Cards(0), |_| Ok::<u32, String>(0));
        assert_eq!(none, Ok((None, "there is no CUDA device".to_owned())));
    }

    #[test]
    fn what_is_no_device_is_refused_with_a_hint() {
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cpu:0", "CUDA", "cuda:99999999999"] {
            let error = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.contains("cuda:N"), "{text}: {error}");
        }
    }
}

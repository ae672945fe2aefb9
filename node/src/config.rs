//! Settings: what a machine lends. They come from `node.toml` in the data directory and from flags, which override it;
//! they never change a result, only how fast it comes.

use crate::files::{self, FileError};
use essaim_kernels::cuda::{DeviceChoice, ParseDeviceError};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The longest `node.toml` read, bytes.
const CONFIG_MAX: u64 = 64 << 10;

/// Where to listen when nothing is said: any free port, QUIC first.
pub const LISTEN_DEFAULT: [&str; 2] = ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0"];

/// Rounds whose updates are kept, to serve them to others, when nothing is said.
pub const KEEP_ROUNDS_DEFAULT: u64 = 4;

/// An example of `node.toml`, with every setting at its default.
pub const EXAMPLE: &str = r#"# Settings of a member of an Essaim run. Every one has a default; flags of `essaim join` override them.

# threads = 8                 # CPU threads that train; default: all cores
# device = "auto"             # what trains: auto (the first CUDA device that can, else the CPU), cpu, cuda, cuda:N
# memory = "4G"               # most memory that training may use; default: half of the machine's
# listen = ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0"]
# mdns = true                 # find members on the local network
# keep_rounds = 4             # updates of so many past rounds are kept and served to others
"#;

/// Why settings were not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `node.toml` cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// `node.toml` is not what it should be.
    #[error("{path}: {reason}", path = path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        reason: String,
    },
    /// A size that is none.
    #[error("'{0}' is no size: write bytes, or a number with K, M, G or T, such as 4G")]
    Size(String),
    /// A device that is none.
    #[error(transparent)]
    Device(#[from] ParseDeviceError),
    /// A setting out of its range.
    #[error("{name} is {got}: {rule}")]
    Range {
        /// Which setting.
        name: &'static str,
        /// Its value.
        got: String,
        /// What it should be.
        rule: &'static str,
    },
}

/// What flags or `node.toml` say; `None` where they say nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// CPU threads that train.
    pub threads: Option<usize>,
    /// What trains: `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: Option<String>,
    /// Most memory that training may use, as `4G`.
    pub memory: Option<String>,
    /// Multiaddresses to listen on.
    pub listen: Option<Vec<String>>,
    /// Whether to find members on the local network.
    pub mdns: Option<bool>,
    /// Rounds whose updates are kept.
    pub keep_rounds: Option<u64>,
}

/// Settings with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// CPU threads that train.
    pub threads: usize,
    /// What trains.
    pub device: DeviceChoice,
    /// Most of the machine's memory that training may use, bytes.
    pub memory_bytes: u64,
    /// Multiaddresses to listen on.
    pub listen: Vec<String>,
    /// Whether to find members on the local network.
    pub mdns: bool,
    /// Rounds whose updates are kept.
    pub keep_rounds: u64,
}

impl Settings {
    /// The settings in the file at `path`; none if there is no such file.
    ///
    /// # Errors
    /// [`ConfigError`], also for a setting that is not known.
    pub fn load(path: &Path) -> Result<Settings, ConfigError> {
        let Some(bytes) = files::read_bounded(path, CONFIG_MAX)? else {
            return Ok(Settings::default());
        };
        let wrong = |reason: String| ConfigError::Toml { path: path.to_owned(), reason };
        let text = String::from_utf8(bytes).map_err(|_| wrong("not UTF-8".into()))?;
        toml::from_str(&text).map_err(|error| {
            let line =
                error.span().map(|span| text.get(..span.start).map_or(1, |before| before.matches('\n').count() + 1));
            let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            wrong(format!("{place}{}", error.message()))
        })
    }

    /// These settings, and those of `file` where these say nothing.
    pub fn or(self, file: Settings) -> Settings {
        Settings {
            threads: self.threads.or(file.threads),
            device: self.device.or(file.device),
            memory: self.memory.or(file.memory),
            listen: self.listen.or(file.listen),
            mdns: self.mdns.or(file.mdns),
            keep_rounds: self.keep_rounds.or(file.keep_rounds),
        }
    }

    /// Fills in the defaults and checks ranges.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.threads.unwrap_or(cores);
        if !(1..=1024).contains(&threads) {
            return Err(ConfigError::Range { name: "threads", got: threads.to_string(), rule: "from 1 to 1024" });
        }
        let device = self.device.as_deref().map(str::parse).transpose()?.unwrap_or_default();
        let memory_bytes = match &self.memory {
            Some(text) => parse_size(text)?,
            None => machine_memory_bytes().unwrap_or(8 << 30) / 2,
        };
        if memory_bytes < 64 << 20 {
            let got = self.memory.unwrap_or_default();
            return Err(ConfigError::Range { name: "memory", got, rule: "at least 64M" });
        }
        let listen = self.listen.unwrap_or_else(|| LISTEN_DEFAULT.map(str::to_owned).to_vec());
        let keep_rounds = self.keep_rounds.unwrap_or(KEEP_ROUNDS_DEFAULT);
        if keep_rounds == 0 {
            return Err(ConfigError::Range { name: "keep_rounds", got: "0".into(), rule: "at least 1" });
        }
        Ok(Config { threads, device, memory_bytes, listen, mdns: self.mdns.unwrap_or(true), keep_rounds })
    }
}

/// Bytes of a size such as `512M`, `4G`, `4GiB` or `1000000`. Powers of 1024.
///
/// # Errors
/// [`ConfigError::Size`].
pub fn parse_size(text: &str) -> Result<u64, ConfigError> {
    let wrong = || ConfigError::Size(text.to_owned());
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let shift = match unit.trim().to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * (1u64 << shift) as f64;
    if bytes.is_finite() && (1.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

/// The machine's memory as the system tells, bytes.
fn machine_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("4G").unwrap(), 4 << 30);
        assert_eq!(parse_size("1.5 GiB").unwrap(), 3 << 29);
        assert_eq!(parse_size("512mb").unwrap(), 512 << 20);
        assert_eq!(parse_size("70000000").unwrap(), 70_000_000);
        for wrong in ["", "G", "4X", "-1G", "1e3", "4 G G", "nan"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_override_the_file_and_defaults_fill_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, "threads = 3\nmemory = \"1G\"\n").unwrap();
        let flags = Settings { threads: Some(2), ..Settings::default() };
        let config = flags.or(Settings::load(&path).unwrap()).resolve().unwrap();
        assert_eq!((config.threads, config.memory_bytes, config.mdns), (2, 1 << 30, true));
        assert_eq!(config.device, DeviceChoice::Auto);
        assert_eq!(config.listen, LISTEN_DEFAULT);
    }

    #[test]
    fn unknown_and_impossible_settings_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, "threads = 3\nthread = 4\n").unwrap();
        let error = Settings::load(&path).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("thread"), "{error}");
        assert!(!error.contains('\n'), "one line: {error}");
        let none = Settings { threads: Some(0), ..Settings::default() };
        assert!(matches!(none.resolve(), Err(ConfigError::Range { name: "threads", .. })));
        let gpu = Settings { device: Some("gpu".into()), ..Settings::default() };
        assert!(gpu.resolve().unwrap_err().to_string().contains("cuda:N"));
        let small = Settings { memory: Some("1M".into()), ..Settings::default() };
        assert!(matches!(small.resolve(), Err(ConfigError::Range { name: "memory", .. })));
    }

    #[test]
    fn the_example_is_the_defaults() {
        let commented: Settings = toml::from_str(EXAMPLE).unwrap();
        assert_eq!(commented, Settings::default());
        let uncommented: String = EXAMPLE
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|line| line.contains(" = "))
            .collect::<Vec<_>>()
            .join("\n");
        let settings: Settings = toml::from_str(&uncommented).unwrap();
        assert_eq!(settings.keep_rounds, Some(KEEP_ROUNDS_DEFAULT));
        assert_eq!(settings.listen.unwrap(), LISTEN_DEFAULT);
    }
}

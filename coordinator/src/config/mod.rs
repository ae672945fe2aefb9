//! `run.toml`: what an operator writes. Everything but `[network]` goes into the signed manifest and is fixed for the run;
//! `[network]` is local, and `serve` reads it again from the copy in the data directory at every start.
//!
//! Field names are those of [`essaim_protocol::manifest::Manifest`], so that its errors name what the operator wrote.

mod manifest;
mod model;
mod network;

pub use manifest::{ManifestInput, SettingsError};
pub use model::{ModelSettings, PRESETS};
pub use network::NetworkSettings;

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The longest `run.toml` that is read, bytes.
pub const RUN_TOML_MAX_BYTES: u64 = 1 << 20;

/// A `run.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Name of the run, for people.
    pub name: String,
    /// Folder made by `essaim-corpus build`; relative to the file that names it.
    pub dataset: PathBuf,
    /// Rounds of the run.
    pub rounds: u64,
    /// Seed of the first checkpoint and of the order of the data: a number, or 64 hexadecimal digits. Random by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Seed>,
    /// A full copy of the checkpoint stays public every so many rounds.
    #[serde(default = "ten")]
    pub keyframe_every_rounds: u64,
    /// Tokens of held-out text, for each language, that the held-out loss is measured on.
    #[serde(default = "heldout_tokens")]
    pub heldout_tokens_max: u64,
    /// The model.
    #[serde(default)]
    pub model: ModelSettings,
    /// What is read when. By default one phase over the mix `main`.
    #[serde(default)]
    pub phases: Vec<PhaseSettings>,
    /// The inner optimiser.
    #[serde(default)]
    pub inner: InnerSettings,
    /// Compression of updates.
    #[serde(default)]
    pub codec: CodecSettings,
    /// The outer optimiser.
    #[serde(default)]
    pub outer: OuterSettings,
    /// Who takes part.
    #[serde(default)]
    pub admission: AdmissionSettings,
    /// How long things may take.
    #[serde(default)]
    pub timing: TimingSettings,
    /// Where the coordinator listens: local, not part of the manifest.
    #[serde(default)]
    pub network: NetworkSettings,
}

fn ten() -> u64 {
    10
}

fn heldout_tokens() -> u64 {
    32_768
}

/// The seed as an operator writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a seed is a whole number or a text of 64 hexadecimal digits")]
pub enum Seed {
    /// A number; the seed is derived from it.
    Number(u64),
    /// The 32 bytes in hexadecimal.
    Hex(String),
}

/// A phase: from where in the run on, which mixes are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseSettings {
    /// For people.
    pub name: String,
    /// Tokens handed out in it; the last phase goes on to the end of the run.
    pub tokens: u64,
    /// Shares of mixes, relative to their sum.
    pub weights: std::collections::BTreeMap<String, u32>,
}

/// Names of the inner optimisers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// AdamW for every parameter.
    AdamW,
    /// Muon for the hidden matrices, AdamW for the rest.
    Muon,
}

/// `[inner]`. Defaults: `docs/LOG.md`, small runs with Muon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InnerSettings {
    /// Which optimiser; default `muon`.
    pub optimizer: OptimizerName,
    /// Most inner steps of a member in a round; default 24.
    pub steps: u32,
    /// Sequences in the batch of an inner step; default 8.
    pub batch: u32,
    /// Learning rate after warm-up; default 2e-3.
    pub peak_lr: f64,
    /// Share of the peak that the cosine ends at; default 0.1.
    pub final_lr_fraction: f64,
    /// Tokens of linear warm-up; default 5 % of `total_tokens`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_tokens: Option<u64>,
    /// Tokens after which the rate stays at its end; default `rounds × steps × batch × context × members_min`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_tokens: Option<u64>,
    /// Decay of AdamW's first moment; default 0.9.
    pub beta1: f64,
    /// Decay of AdamW's second moment; default 0.95.
    pub beta2: f64,
    /// Added to the root of the second moment; default 1e-8.
    pub eps: f64,
    /// Decoupled weight decay, on matrices; default 0.1.
    pub weight_decay: f64,
    /// Largest global gradient norm; default 1.
    pub clip_norm: f64,
    /// Muon's momentum; default 0.95.
    pub muon_momentum: f64,
    /// Newton–Schulz iterations of Muon; default 5.
    pub muon_iterations: u32,
}

impl Default for InnerSettings {
    fn default() -> InnerSettings {
        InnerSettings {
            optimizer: OptimizerName::Muon,
            steps: 24,
            batch: 8,
            peak_lr: 2e-3,
            final_lr_fraction: 0.1,
            warmup_tokens: None,
            total_tokens: None,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            clip_norm: 1.0,
            muon_momentum: 0.95,
            muon_iterations: 5,
        }
    }
}

/// Names of the codecs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodecName {
    /// Four-bit values with one scale a block.
    Q4,
}

/// `[codec]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CodecSettings {
    /// Which codec; default `q4`, the only one in this version.
    pub name: CodecName,
    /// Values in a block; default 64.
    pub block: u32,
}

impl Default for CodecSettings {
    fn default() -> CodecSettings {
        CodecSettings { name: CodecName::Q4, block: 64 }
    }
}

/// `[outer]`: Nesterov SGD on the mean of the pseudo-gradients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OuterSettings {
    /// Learning rate; default 0.7.
    pub lr: f64,
    /// Momentum; default 0.9.
    pub momentum: f64,
    /// Whether an update longer than the median is scaled down to it; default true.
    pub clip_to_median: bool,
}

impl Default for OuterSettings {
    fn default() -> OuterSettings {
        OuterSettings { lr: 0.7, momentum: 0.9, clip_to_median: true }
    }
}

/// `[admission]`: who takes part, and how inner steps are shared out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdmissionSettings {
    /// Members that the run waits for before its first round; default 1.
    pub members_min: u32,
    /// Most members; default 256.
    pub members_max: u32,
    /// Inner steps of a newcomer; default a third of `inner.steps`, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probation_steps: Option<u32>,
    /// Accepted contributions that end probation; default 1.
    pub probation_rounds: u32,
    /// Most that one member is assigned, in thousandths of a round; default 500.
    pub member_share_max_permille: u32,
    /// Most that all newcomers together are assigned while others are present, in thousandths; default 500.
    pub newcomer_share_max_permille: u32,
    /// Rounds in a row without a contribution after which a member is dropped; default 3.
    pub absent_rounds_max: u32,
}

impl Default for AdmissionSettings {
    fn default() -> AdmissionSettings {
        AdmissionSettings {
            members_min: 1,
            members_max: 256,
            probation_steps: None,
            probation_rounds: 1,
            member_share_max_permille: 500,
            newcomer_share_max_permille: 500,
            absent_rounds_max: 3,
        }
    }
}

/// `[timing]`, milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimingSettings {
    /// A round is not closed before; default 1 s.
    pub round_min_ms: u64,
    /// A round is closed then, whoever is missing; default 10 minutes.
    pub round_max_ms: u64,
    /// An update not fetched so long after the close is withheld; default 1 minute.
    pub fetch_max_ms: u64,
}

impl Default for TimingSettings {
    fn default() -> TimingSettings {
        TimingSettings { round_min_ms: 1_000, round_max_ms: 600_000, fetch_max_ms: 60_000 }
    }
}

/// Why a `run.toml` was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is longer than any `run.toml`.
    #[error("{path} has {got} bytes, at most {RUN_TOML_MAX_BYTES} are read: is it a run.toml?", path = .path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// Its length, bytes.
        got: u64,
    },
    /// Not TOML, or not of this form.
    #[error("{path}:{line}: {message}", path = .path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// In which line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

impl RunConfig {
    /// Reads a `run.toml`.
    ///
    /// # Errors
    /// [`ConfigError`]: unreadable, not TOML, an unknown key, a value of another type.
    pub fn read(path: &Path) -> Result<RunConfig, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let got = std::fs::metadata(path).map_err(read)?.len();
        if got > RUN_TOML_MAX_BYTES {
            return Err(ConfigError::TooLong { path: path.to_owned(), got });
        }
        RunConfig::parse(&std::fs::read_to_string(path).map_err(read)?, path)
    }

    /// Reads the text of a `run.toml`; `path` is for messages.
    ///
    /// # Errors
    /// [`ConfigError::Parse`].
    pub fn parse(text: &str, path: &Path) -> Result<RunConfig, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start).min(text.len());
            let line = 1 + text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count();
            let message = error.message().lines().collect::<Vec<_>>().join(" ");
            ConfigError::Parse { path: path.to_owned(), line, message }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RunConfig, String> {
        RunConfig::parse(text, Path::new("run.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn three_lines_are_a_run() {
        let config = parse("name = 'x'\ndataset = 'd'\nrounds = 8\n").unwrap();
        assert_eq!(config.inner, InnerSettings::default());
        assert_eq!(config.inner.steps, 24);
        assert_eq!(config.codec.block, 64);
        assert_eq!(config.keyframe_every_rounds, 10);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = parse("name = 'x'\ndataset = 'd'\nrounds = 8\n[inner]\nstepz = 3\n").unwrap_err();
        assert!(error.starts_with("run.toml:5: unknown field `stepz`"), "{error}");
        let error = parse("name = 'x'\ndataset = 'd'\nrounds = 8\nround = 3\n").unwrap_err();
        assert!(error.starts_with("run.toml:4: unknown field `round`"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }

    #[test]
    fn wrong_types_and_missing_keys_are_one_clear_line() {
        for (text, part) in [
            ("name = 3\ndataset = 'd'\nrounds = 8", "invalid type"),
            ("name = 'x'\nrounds = 8", "missing field `dataset`"),
            ("name = 'x", "run.toml:1:"),
            ("name = 'x'\ndataset='d'\nrounds = -1", "run.toml:3:"),
            ("name = 'x'\ndataset='d'\nrounds = 1\nseed = 1.5", "a seed is a whole number"),
            ("name = 'x'\ndataset='d'\nrounds = 1\n[inner]\noptimizer = 'sgd'", "unknown variant `sgd`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part) && error.lines().count() == 1, "{error}");
        }
    }

    #[test]
    fn the_example_is_read_and_says_the_defaults() {
        let example = parse(include_str!("../../run.example.toml")).unwrap();
        let short = parse("name = 'Essaim, first run'\ndataset = 'dataset'\nrounds = 100\n").unwrap();
        assert_eq!(RunConfig { seed: None, ..example }, short);
    }
}

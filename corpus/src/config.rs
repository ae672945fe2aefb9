//! `corpus.toml`: what to read and how to build. Every key has a default but `path`; unknown keys are refused.

use crate::decontaminate::DecontaminateConfig;
use crate::dedup::DedupConfig;
use crate::filters::FiltersConfig;
use crate::language::LanguageConfig;
use crate::license::{LicenseConfig, spelling};
use crate::pii::PiiConfig;
use crate::publish::PublishConfig;
use crate::readers::NO_LICENSE;
use crate::rights::RightsConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The largest corpus.toml that is read, bytes.
const CONFIG_MAX: u64 = 1 << 20;

/// A corpus file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of the data set, for people.
    pub name: String,
    /// Decides the order of training documents.
    pub seed: u64,
    /// How the tokenizer is made.
    pub tokenizer: TokenizerConfig,
    /// What is held out.
    pub heldout: HeldoutConfig,
    /// How large shards are.
    pub shards: ShardsConfig,
    /// What is trained on, in which proportion.
    pub mix: MixConfig,
    /// Phases of training with mixes of their own. Default: one mix, `main`.
    #[serde(rename = "phase", skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseConfig>,
    /// Which licences are taken.
    pub license: LicenseConfig,
    /// Which reservations of rights are honoured.
    pub rights: RightsConfig,
    /// How languages are checked.
    pub language: LanguageConfig,
    /// Which personal data is masked.
    pub pii: PiiConfig,
    /// Sets of quality filters, for sources to name.
    #[serde(skip_serializing_if = "FiltersConfig::is_empty")]
    pub filters: FiltersConfig,
    /// What counts as a duplicate.
    pub dedup: DedupConfig,
    /// What training text must not contain.
    pub decontaminate: DecontaminateConfig,
    /// What people say of the data set. It changes no shard, and so is no part of what the manifest says of the settings.
    #[serde(skip_serializing)]
    pub publish: PublishConfig,
    /// How much may be broken.
    pub limits: LimitsConfig,
    /// A file with the ids of documents that are to be left out, a line each, relative to the corpus file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove: Option<PathBuf>,
    /// What is read.
    #[serde(rename = "source")]
    pub sources: Vec<SourceConfig>,
    /// Folder of the corpus file, which the lists of filters are relative to.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// `[[source]]`: a file or folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// A file or folder, relative to the corpus file; folders are searched through.
    pub path: PathBuf,
    /// What its files are. Default: what their names say.
    #[serde(default, skip_serializing_if = "Format::is_auto")]
    pub format: Format,
    /// Source of documents that do not name theirs. Default: the name of the file or folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Language of documents that do not name theirs. Default for `.txt`: the name of the file's folder; for WARC and WET: `und`,
    /// which says that it is unknown and to be identified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// SPDX expression for documents that do not name theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The set of quality filters that its documents go through: a builtin one, or one that `[filters.NAME]` defines. Default: `web` for
    /// WARC and WET, `none` for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<String>,
    /// What the columns are called.
    #[serde(default)]
    pub columns: ColumnsConfig,
}

impl SourceConfig {
    /// The set of filters for a file of this format.
    pub fn filter_set(&self, format: Format) -> &str {
        let by_format = if format == Format::Warc { "web" } else { "none" };
        self.filters.as_deref().unwrap_or(by_format)
    }

    /// The source without the folder that it lies in, which must not change a result.
    pub fn shown(&self) -> SourceConfig {
        SourceConfig { path: self.path.file_name().unwrap_or_default().into(), ..self.clone() }
    }
}

/// What the files of a source are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// What a file's name says: `.parquet`; `.jsonl`, `.ndjson`; `.txt`; `.warc`, `.wet`; all but parquet also with `.gz` or
    /// `.zst`; and `.json.gz`, `.json.zst`, which data sets use for JSON lines.
    #[default]
    Auto,
    /// Parquet.
    Parquet,
    /// JSON lines; `.json` too.
    Jsonl,
    /// A document a file.
    Text,
    /// WARC or WET.
    Warc,
}

impl Format {
    /// Whether the name of a file decides.
    pub fn is_auto(&self) -> bool {
        *self == Format::Auto
    }
}

/// `[source.columns]`: names of parquet columns or JSON keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnsConfig {
    /// The text.
    pub text: String,
    /// The language. Required unless the source names one.
    pub language: String,
    /// The source. Required unless the source has a name.
    pub source: String,
    /// The document's id. `""`: documents have none, and are named after their file and row.
    pub id: String,
    /// The licence. Where it is absent, `license` within the JSON object in the column `extra` is taken.
    pub license: String,
    /// Where the document was. This and the following may be absent.
    pub url: String,
    /// Its title.
    pub title: String,
    /// Who wrote it.
    pub author: String,
    /// When.
    pub date: String,
    /// A JSON object of quality signals.
    pub quality_signals: String,
    /// A JSON object of anything else.
    pub extra: String,
}

/// `[tokenizer]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerConfig {
    /// Tokens of a tokenizer trained here.
    pub vocab_size: u32,
    /// Text that it is trained on at most, bytes.
    pub sample_bytes_max: u64,
    /// An existing tokenizer.json to use instead, relative to the corpus file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Published tokenizers to compare with: names and tokenizer.json files, relative to the corpus file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub compare: BTreeMap<String, PathBuf>,
}

/// `[heldout]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeldoutConfig {
    /// Thousandths of each language's documents, rounded up, that are never trained on.
    pub permille: u32,
    /// A language with fewer documents holds none out.
    pub documents_min: u32,
    /// Documents of a language that are held out at most.
    pub documents_max: u32,
}

/// `[shards]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShardsConfig {
    /// Tokens in a shard at most.
    pub tokens_max: u32,
}

/// `[mix]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MixConfig {
    /// The language that must be the largest of the mix, in bytes of text. `"any"`: no such demand.
    pub largest: String,
    /// How often each document is trained on: 2 is twice, 0.25 a quarter of them, chosen by hashes. By language, by source, or by
    /// `SOURCE/LANGUAGE`, which replaces the product of the other two. Default: once.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, f64>,
    /// The least share of a language in the tokens of every mix, 0 to 1. Default: `fr = 0.3` where the largest language is French,
    /// none where it is another or any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<BTreeMap<String, f64>>,
}

impl MixConfig {
    /// The least shares that hold.
    pub fn minimum(&self) -> BTreeMap<String, f64> {
        let french = || if self.largest == "fr" { BTreeMap::from([("fr".into(), 0.3)]) } else { BTreeMap::new() };
        self.minimum.clone().unwrap_or_else(french)
    }
}

/// `[[phase]]`: a phase of training, as pre-training, extension of the context, annealing; its shards are a mix of its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseConfig {
    /// Its name.
    pub name: String,
    /// Tokens that it should have, about: weights are scaled to it. Default: what the weights give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Weights, by the same names as in [`MixConfig::weights`], which they multiply.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, f64>,
    /// Shares of tokens, by language or source, in proportion; what is not named is left out. Default: what the weights give.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shares: BTreeMap<String, f64>,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Files and rows that cannot be read, at most; each is told and left out. More fail the build.
    pub broken_max: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig { broken_max: 100 }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: "corpus".into(),
            seed: 0,
            tokenizer: TokenizerConfig::default(),
            heldout: HeldoutConfig::default(),
            shards: ShardsConfig::default(),
            mix: MixConfig::default(),
            phases: Vec::new(),
            license: LicenseConfig::default(),
            rights: RightsConfig::default(),
            language: LanguageConfig::default(),
            pii: PiiConfig::default(),
            filters: FiltersConfig::default(),
            dedup: DedupConfig::default(),
            decontaminate: DecontaminateConfig::default(),
            publish: PublishConfig::default(),
            limits: LimitsConfig::default(),
            remove: None,
            sources: Vec::new(),
            folder: PathBuf::new(),
        }
    }
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        TokenizerConfig { vocab_size: 32_768, sample_bytes_max: 24_000_000, path: None, compare: BTreeMap::new() }
    }
}

impl Default for HeldoutConfig {
    fn default() -> Self {
        HeldoutConfig { permille: 20, documents_min: 2, documents_max: 10_000 }
    }
}

impl Default for ShardsConfig {
    fn default() -> Self {
        ShardsConfig { tokens_max: 1 << 20 }
    }
}

impl Default for MixConfig {
    fn default() -> Self {
        MixConfig { largest: "fr".into(), weights: BTreeMap::new(), minimum: None }
    }
}

impl Default for ColumnsConfig {
    fn default() -> Self {
        ColumnsConfig {
            text: "text".into(),
            language: "language".into(),
            source: "source".into(),
            id: "id".into(),
            license: "license".into(),
            url: "url".into(),
            title: "title".into(),
            author: "author".into(),
            date: "date".into(),
            quality_signals: "quality_signals".into(),
            extra: "extra".into(),
        }
    }
}

/// Why a corpus file is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It could not be read.
    #[error("{path}: {error}", path = .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not a corpus file.
    #[error("{path}: {reason}", path = .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
    /// A value out of its range.
    #[error("corpus settings: {key} is {got}, expected {expected}")]
    Value {
        /// Which key.
        key: &'static str,
        /// Its value.
        got: String,
        /// What is allowed.
        expected: &'static str,
    },
}

impl Config {
    /// Reads a corpus file. Paths in it become relative to its folder.
    ///
    /// # Errors
    /// [`ConfigError`] when it cannot be read, has an unknown key, or a value out of range.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let failed = |error| ConfigError::Read { path: path.to_owned(), error };
        let malformed = |reason| ConfigError::Malformed { path: path.to_owned(), reason };
        if std::fs::metadata(path).map_err(failed)?.len() > CONFIG_MAX {
            return Err(malformed(format!("longer than {CONFIG_MAX} bytes: not a corpus file")));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let mut config: Config = toml::from_str(&text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let place = line.map_or_else(String::new, |line| format!("line {line}: "));
            malformed(format!("{place}{}", error.message().trim().replace('\n', " ")))
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        config.paths(|path| *path = folder.join(&path));
        config.folder = folder.to_owned();
        config.check()?;
        Ok(config)
    }

    /// Every path in the settings.
    fn paths(&mut self, mut each: impl FnMut(&mut PathBuf)) {
        self.sources.iter_mut().for_each(|source| each(&mut source.path));
        self.named().into_iter().for_each(each);
    }

    /// Every path in the settings but those of sources.
    fn named(&mut self) -> Vec<&mut PathBuf> {
        let mut paths: Vec<&mut PathBuf> =
            self.tokenizer.path.iter_mut().chain(self.tokenizer.compare.values_mut()).collect();
        paths.extend(&mut self.decontaminate.benchmarks);
        paths.extend(&mut self.remove);
        paths.extend(&mut self.language.model);
        paths.extend(self.rights.paths_mut());
        paths
    }

    /// Files and folders that decide over documents.
    pub fn deciding_files(&self) -> Vec<PathBuf> {
        let mut copy = self.clone();
        (copy.tokenizer.path, copy.tokenizer.compare) = (None, BTreeMap::new());
        copy.named().into_iter().map(|path| path.clone()).collect()
    }

    /// The settings that decide over documents one by one.
    pub fn chain(&self) -> impl Serialize + '_ {
        (&self.license, &self.rights, &self.language, &self.pii, &self.filters, &self.remove)
    }

    /// Checks the ranges of all values.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let value = |key, got: String, expected| Err(ConfigError::Value { key, got, expected });
        let vocab_size = self.tokenizer.vocab_size;
        if !(512..=1 << 20).contains(&vocab_size) {
            return value("tokenizer.vocab_size", vocab_size.to_string(), "512 to 1048576");
        }
        if self.tokenizer.sample_bytes_max > 2_000_000_000 {
            let got = self.tokenizer.sample_bytes_max.to_string();
            return value("tokenizer.sample_bytes_max", got, "at most 2000000000");
        }
        if self.heldout.permille > 500 {
            return value("heldout.permille", self.heldout.permille.to_string(), "0 to 500");
        }
        if !(1024..=1 << 27).contains(&self.shards.tokens_max) {
            return value("shards.tokens_max", self.shards.tokens_max.to_string(), "1024 to 134217728");
        }
        self.check_mixes()?;
        self.dedup.check()?;
        self.decontaminate.check()?;
        self.publish.check()?;
        if self.name.is_empty() || self.name.len() > essaim_protocol::limits::NAME_MAX {
            return value("name", format!("{} bytes long", self.name.len()), "1 to 256 bytes");
        }
        if self.sources.is_empty() {
            return value("source", "absent".into(), "at least one [[source]] with path = …");
        }
        let known = |license: &str| license == NO_LICENSE || spelling::expression(license).is_some();
        if let Some(license) =
            self.sources.iter().filter_map(|source| source.license.as_deref()).find(|said| !known(said))
        {
            return value(
                "source.license",
                format!("{license:?}"),
                "an SPDX expression such as CC-BY-4.0, or NOASSERTION",
            );
        }
        Ok(())
    }

    fn check_mixes(&self) -> Result<(), ConfigError> {
        let value = |key, got: String, expected| Err(ConfigError::Value { key, got, expected });
        let weights = self.mix.weights.values().chain(self.phases.iter().flat_map(|phase| phase.weights.values()));
        if let Some(weight) = weights.into_iter().find(|weight| !(0.0..=64.0).contains(*weight)) {
            return value("mix.weights", weight.to_string(), "0 to 64");
        }
        if let Some(share) = self.mix.minimum().values().find(|share| !(0.0..=1.0).contains(*share)) {
            return value("mix.minimum", share.to_string(), "0 to 1, as in fr = 0.3");
        }
        let mut names = std::collections::BTreeSet::new();
        for phase in &self.phases {
            let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if phase.name.is_empty() || phase.name.len() > 64 || !phase.name.chars().all(safe) {
                return value("phase.name", format!("'{}'", phase.name), "letters, digits, - and _, at most 64");
            }
            if !names.insert(&phase.name) {
                return value("phase.name", format!("'{}' twice", phase.name), "a name of its own for each phase");
            }
            let sum: f64 = phase.shares.values().sum();
            let positive = phase.shares.values().all(|share| (0.0..=1e9).contains(share));
            let fine = phase.shares.is_empty() || (positive && sum > 0.0);
            if !fine {
                return value("phase.shares", format!("{sum} in sum"), "numbers from 0, not all 0");
            }
            if phase.tokens == Some(0) {
                return value("phase.tokens", "0".into(), "at least 1");
            }
        }
        Ok(())
    }

    /// The settings as TOML, with paths cut to their last part: what a machine calls its folders is nobody's business, and must
    /// not change the data set's bytes.
    pub fn settings(&self) -> String {
        let last = |path: &Path| PathBuf::from(path.file_name().unwrap_or_default());
        let mut shown = self.clone();
        shown.paths(|path| *path = last(path));
        shown.sources.sort_by(|a, b| (&a.path, &a.name).cmp(&(&b.path, &b.name)));
        match toml::to_string(&shown) {
            Ok(text) => text,
            Err(error) => unreachable!("settings that are no TOML: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_shows_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus.example.toml");
        let config = Config::read(&path).unwrap();
        let source = &config.sources[0];
        assert_eq!(source.path, path.with_file_name("textes"));
        assert_eq!(source.columns, ColumnsConfig::default());
        assert_eq!(Config { sources: Vec::new(), folder: PathBuf::new(), ..config }, Config::default());
    }

    #[test]
    fn settings_name_no_folders_and_no_order() {
        let source = |path: &str| SourceConfig { path: path.into(), ..SourceConfig::default() };
        let config = |paths: [&str; 2]| Config { sources: paths.map(source).to_vec(), ..Config::default() };
        let settings = config(["/home/me/b.jsonl", "../a"]).settings();
        assert_eq!(settings, config(["/srv/a", "b.jsonl"]).settings());
        let read: Config = toml::from_str(&settings).unwrap();
        assert_eq!(read, config(["a", "b.jsonl"]));
    }
}

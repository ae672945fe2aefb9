//! The dataset manifest: which shards there are, from which sources, under which licences. A run's manifest holds its hash.

use crate::encoding::{self, DecodeError};
use crate::ids::Hash;
use crate::limits;
use serde::{Deserialize, Serialize};

/// A data set: shards in mixes, held-out shards, and where the text came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct DatasetManifest {
    /// Version of this form: 1.
    pub version: u32,
    /// For people.
    pub name: String,
    /// Hash of the `tokenizer.json` that the shards were made with.
    pub tokenizer: Hash,
    /// Tokens it knows; every token id is below it.
    pub vocab_size: u32,
    /// Sets of shards that a run's phases draw from, by name.
    pub mixes: Vec<Mix>,
    /// Documents that are never trained on, one shard a language.
    pub heldout: Vec<HeldoutShard>,
    /// What the data set is made of.
    pub sources: Vec<SourceSummary>,
    /// The settings that it was built with, as the builder writes them.
    pub settings: String,
}

/// A named set of shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Mix {
    /// Its name.
    pub name: String,
    /// Its shards, in order.
    pub shards: Vec<ShardInfo>,
}

/// A shard file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct ShardInfo {
    /// Hash of the file.
    pub hash: Hash,
    /// Length of the file, bytes.
    pub len_bytes: u64,
    /// Tokens in it.
    pub tokens: u64,
    /// Documents in it.
    pub documents: u64,
}

/// A shard of held-out documents of one language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct HeldoutShard {
    /// The language, ISO 639-1.
    pub language: String,
    /// The file.
    pub shard: ShardInfo,
    /// UTF-8 bytes of its text.
    pub text_bytes: u64,
}

/// A source and language of the data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct SourceSummary {
    /// The source's name.
    pub name: String,
    /// The language, ISO 639-1.
    pub language: String,
    /// SPDX expressions of its documents.
    pub licenses: Vec<String>,
    /// Documents used for training.
    pub documents: u64,
    /// UTF-8 bytes of their text.
    pub text_bytes: u64,
    /// Tokens of them.
    pub tokens: u64,
}

/// What is wrong with a dataset manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// Not canonical bytes.
    #[error("dataset manifest: {0}")]
    Decode(#[from] DecodeError),
    /// Another version of the form.
    #[error("dataset manifest of version {got}, this build reads 1")]
    Version {
        /// Its version.
        got: u32,
    },
    /// A list or name that is too long, or a shard that is.
    #[error("dataset manifest: {what} has {got}, at most {max} are allowed")]
    TooMany {
        /// What.
        what: &'static str,
        /// How many.
        got: u64,
        /// How many are allowed.
        max: u64,
    },
    /// One name or one shard twice.
    #[error("dataset manifest: {what} '{name}' twice")]
    Twice {
        /// What.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// No shard at all.
    #[error("dataset manifest without training shards")]
    Empty,
}

impl DatasetManifest {
    /// The canonical bytes; their hash is what a run's manifest holds.
    pub fn to_bytes(&self) -> Vec<u8> {
        encoding::encode(self)
    }

    /// Reads canonical bytes and checks bounds.
    ///
    /// # Errors
    /// [`DatasetError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<DatasetManifest, DatasetError> {
        let dataset: DatasetManifest = encoding::decode(bytes, limits::DATASET_MANIFEST_MAX)?;
        dataset.check()?;
        Ok(dataset)
    }

    /// The shards of a mix.
    pub fn mix(&self, name: &str) -> Option<&Mix> {
        self.mixes.iter().find(|mix| mix.name == name)
    }

    /// Every shard, training and held-out.
    pub fn all_shards(&self) -> impl Iterator<Item = &ShardInfo> {
        let training = self.mixes.iter().flat_map(|mix| mix.shards.iter());
        training.chain(self.heldout.iter().map(|heldout| &heldout.shard))
    }

    fn check(&self) -> Result<(), DatasetError> {
        if self.version != 1 {
            return Err(DatasetError::Version { got: self.version });
        }
        let bound = |what, got: usize, max: usize| match got <= max {
            true => Ok(()),
            false => Err(DatasetError::TooMany { what, got: got as u64, max: max as u64 }),
        };
        bound("mixes", self.mixes.len(), 256)?;
        bound("shards", self.all_shards().count(), limits::SHARDS_MAX)?;
        bound("held-out languages", self.heldout.len(), limits::LANGUAGES_MAX)?;
        bound("sources", self.sources.len(), 65_536)?;
        for name in self.mixes.iter().map(|mix| &mix.name).chain(self.heldout.iter().map(|shard| &shard.language)) {
            bound("a name", name.len(), limits::NAME_MAX)?;
        }
        if let Some(shard) = self.all_shards().find(|shard| shard.len_bytes > limits::SHARD_MAX) {
            return Err(DatasetError::TooMany { what: "a shard", got: shard.len_bytes, max: limits::SHARD_MAX });
        }
        if self.mixes.iter().all(|mix| mix.shards.is_empty()) {
            return Err(DatasetError::Empty);
        }
        twice("mix", self.mixes.iter().map(|mix| mix.name.clone()))?;
        twice("held-out language", self.heldout.iter().map(|heldout| heldout.language.clone()))?;
        twice("shard", self.all_shards().map(|shard| shard.hash.to_string()))
    }
}

fn twice(what: &'static str, names: impl Iterator<Item = String>) -> Result<(), DatasetError> {
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    let pair = names.windows(2).find(|pair| pair.first() == pair.last());
    match pair.and_then(|pair| pair.first()) {
        Some(name) => Err(DatasetError::Twice { what, name: name.clone() }),
        None => Ok(()),
    }
}

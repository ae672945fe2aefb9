//! A data set on disk: what `build` writes, and reading it back with every hash checked.
//!
//! ```text
//! dataset.manifest        the canonical bytes; their BLAKE3 hash names the data set
//! dataset.manifest.json   the same for people
//! tokenizer.json          Hugging Face form; its hash is in the manifest
//! tokenizer_config.json   for programs that want one
//! shards/HASH.shard       training and held-out shards
//! heldout/LANGUAGE.jsonl  the held-out documents for people, in the order of their shard
//! ```

use crate::bundle::Notes;
use crate::document::Document;
use crate::license::LicenseFrom;
use crate::tokenizer::TokenizerError;
use crate::tokenizer::encode::Encoder;
use essaim_protocol::dataset::{DatasetError, DatasetManifest, HeldoutShard, ShardInfo};
use essaim_protocol::ids::Hash;
use essaim_protocol::{layout, limits};
use essaim_train::shard::{ShardError, ShardReader};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// File name of the manifest.
pub const MANIFEST: &str = "dataset.manifest";
/// File name of the manifest for people.
pub const MANIFEST_JSON: &str = "dataset.manifest.json";
/// File name of the tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// File name of the tokenizer's configuration.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// A file of held-out documents at most, bytes.
const HELDOUT_MAX: u64 = 4 << 30;

/// Where a shard lies in a data set's folder.
pub fn shard_name(hash: &Hash) -> String {
    let name = layout::shard(hash);
    name.strip_prefix("dataset/").unwrap_or(&name).to_owned()
}

/// Where a language's held-out documents lie in a data set's folder.
pub fn heldout_name(language: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    format!("heldout/{}.jsonl", language.chars().map(safe).collect::<String>())
}

/// A line of a held-out file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldoutLine {
    /// The document's id.
    pub id: String,
    /// Its source.
    pub source: String,
    /// Its language.
    pub language: String,
    /// Its licence.
    pub license: String,
    /// Its text, normalised.
    pub text: String,
    /// Where its licence was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_from: Option<LicenseFrom>,
    /// Documents with this text or nearly this one when duplicates were dropped, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_size: Option<u64>,
}

impl HeldoutLine {
    /// The line of a document.
    pub fn new(document: &Document, notes: &Notes) -> HeldoutLine {
        let Document { id, source, language, license, text, .. } = document.clone();
        let cluster_size = (notes.cluster > 0).then_some(notes.cluster);
        HeldoutLine { id, source, language, license, text, license_from: notes.license_from, cluster_size }
    }
}

/// What is wrong with a data set on disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file that cannot be read.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file longer than it may be.
    #[error("{path}: {got} bytes, at most {max} are read", path = .path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// Its length, bytes.
        got: u64,
        /// Length allowed, bytes.
        max: u64,
    },
    /// Not a dataset manifest.
    #[error("{path}: {error}", path = .path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: DatasetError,
    },
    /// A file with other bytes than the manifest names.
    #[error("{path}: its hash is {got}, the manifest says {expected}; copy or build it again", path = .path.display())]
    Hash {
        /// Which file.
        path: PathBuf,
        /// Its hash.
        got: Hash,
        /// The manifest's.
        expected: Hash,
    },
    /// A shard that is none.
    #[error("{path}: {error}", path = .path.display())]
    Shard {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: ShardError,
    },
    /// A file whose hash is right and whose content is not what the manifest says.
    #[error("{path}: {what} is {got}, the manifest says {expected}", path = .path.display())]
    Differs {
        /// Which file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// What the file has.
        got: u64,
        /// What the manifest says.
        expected: u64,
    },
    /// A line of a held-out file that is none, or not of the document in the shard.
    #[error("{path}: line {line}: {reason}", path = .path.display())]
    Heldout {
        /// Which file.
        path: PathBuf,
        /// Which line.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The tokenizer is none.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// A data set's folder, its manifest read.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The folder.
    pub root: PathBuf,
    /// The manifest.
    pub manifest: DatasetManifest,
    /// The manifest's hash.
    pub hash: Hash,
}

/// Reads a file of at most `max` bytes.
pub(crate) fn read_file(path: &Path, max: u64) -> Result<Vec<u8>, OpenError> {
    let failed = |error| OpenError::Io { path: path.to_owned(), error };
    let got = std::fs::metadata(path).map_err(failed)?.len();
    match got > max {
        true => Err(OpenError::TooLong { path: path.to_owned(), got, max }),
        false => std::fs::read(path).map_err(failed),
    }
}

fn read_hashed(path: PathBuf, max: u64, expected: Hash) -> Result<(PathBuf, Vec<u8>), OpenError> {
    let bytes = read_file(&path, max)?;
    let got = Hash::of(&bytes);
    match got == expected {
        true => Ok((path, bytes)),
        false => Err(OpenError::Hash { path, got, expected }),
    }
}

impl Dataset {
    /// Reads the manifest of a data set: its folder or the manifest itself is named.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<Dataset, OpenError> {
        let path = if path.is_dir() { path.join(MANIFEST) } else { path.to_owned() };
        let bytes = read_file(&path, limits::DATASET_MANIFEST_MAX as u64)?;
        let manifest =
            DatasetManifest::from_bytes(&bytes).map_err(|error| OpenError::Manifest { path: path.clone(), error })?;
        let root = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Dataset { root, manifest, hash: Hash::of(&bytes) })
    }

    /// The tokenizer, its hash checked.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn encoder(&self) -> Result<Encoder, OpenError> {
        let path = self.root.join(TOKENIZER);
        let (path, bytes) = read_hashed(path, limits::TOKENIZER_MAX, self.manifest.tokenizer)?;
        let encoder = Encoder::new(&bytes)?;
        differs(&path, "the vocabulary", encoder.vocab_size().into(), self.manifest.vocab_size.into())?;
        Ok(encoder)
    }

    /// A shard, its hash and counts checked.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn shard(&self, info: &ShardInfo) -> Result<ShardReader<Cursor<Vec<u8>>>, OpenError> {
        let path = self.root.join(shard_name(&info.hash));
        let (path, bytes) = read_hashed(path, limits::SHARD_MAX, info.hash)?;
        differs(&path, "the length", bytes.len() as u64, info.len_bytes)?;
        let reader = ShardReader::from_bytes(bytes).map_err(|error| OpenError::Shard { path: path.clone(), error })?;
        differs(&path, "the number of tokens", reader.tokens(), info.tokens)?;
        differs(&path, "the number of documents", reader.documents(), info.documents)?;
        differs(&path, "the vocabulary", reader.vocab_size().into(), self.manifest.vocab_size.into())?;
        Ok(reader)
    }

    /// The held-out documents of a language, as the file for people has them.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn heldout_lines(&self, language: &str) -> Result<Vec<HeldoutLine>, OpenError> {
        let path = self.root.join(heldout_name(language));
        let bytes = read_file(&path, HELDOUT_MAX)?;
        let mut lines = Vec::new();
        for (i, line) in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
            let failed = |error: serde_json::Error| OpenError::Heldout {
                path: path.clone(),
                line: i + 1,
                reason: error.to_string(),
            };
            lines.push(serde_json::from_slice::<HeldoutLine>(line).map_err(failed)?);
        }
        Ok(lines)
    }

    /// The held-out documents of a language. Each is encoded again and compared with its tokens in the shard: the file for
    /// people holds what the manifest commits to.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn heldout(&self, heldout: &HeldoutShard, encoder: &Encoder) -> Result<Vec<HeldoutLine>, OpenError> {
        let mut shard = self.shard(&heldout.shard)?;
        let path = self.root.join(heldout_name(&heldout.language));
        let failed = |line: usize, reason: String| OpenError::Heldout { path: path.clone(), line: line + 1, reason };
        let lines = self.heldout_lines(&heldout.language)?;
        differs(&path, "the number of documents", lines.len() as u64, shard.documents())?;
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        for (i, tokens) in encoder.encode_all(&texts, |_| {})?.iter().enumerate() {
            let expected = shard.document(i as u64).map_err(|error| failed(i, error.to_string()))?;
            if *tokens != expected {
                return Err(failed(i, "not the document in the shard; build the data set again".into()));
            }
        }
        differs(&path, "the length of the text", texts.iter().map(|text| text.len() as u64).sum(), heldout.text_bytes)?;
        Ok(lines)
    }
}

fn differs(path: &Path, what: &'static str, got: u64, expected: u64) -> Result<(), OpenError> {
    match got == expected {
        true => Ok(()),
        false => Err(OpenError::Differs { path: path.to_owned(), what, got, expected }),
    }
}

/// A manifest for people: the same fields, hashes in hexadecimal.
pub fn manifest_json(manifest: &DatasetManifest) -> Value {
    let shard = |info: &ShardInfo| json!({"hash": info.hash.to_string(), "len_bytes": info.len_bytes, "tokens": info.tokens, "documents": info.documents});
    let mixes = manifest
        .mixes
        .iter()
        .map(|mix| json!({"name": mix.name, "shards": mix.shards.iter().map(shard).collect::<Value>()}));
    let heldout = manifest.heldout.iter().map(|heldout| {
        json!({"language": heldout.language, "shard": shard(&heldout.shard), "text_bytes": heldout.text_bytes})
    });
    json!({
        "version": manifest.version,
        "name": manifest.name,
        "tokenizer": manifest.tokenizer.to_string(),
        "vocab_size": manifest.vocab_size,
        "mixes": mixes.collect::<Value>(),
        "heldout": heldout.collect::<Value>(),
        "sources": manifest.sources,
        "settings": manifest.settings,
    })
}

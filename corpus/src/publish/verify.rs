//! Whether a data set's folder is whole beyond what its manifest names: published files by the hashes in `croissant.json`, the index
//! of documents, the facts.

use super::FileInfo;
use super::index::{INDEX, Index, IndexError};
use super::remove::read_facts;
use crate::dataset::{self, Dataset, OpenError};
use crate::facts::FACTS;
use rayon::prelude::*;
use serde_json::Value;
use std::path::{Component, Path, PathBuf};

/// File name of the description of all published files.
pub const CROISSANT: &str = "croissant.json";
const CROISSANT_MAX: u64 = 1 << 30;

/// What is wrong with a data set's folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A file that cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The description of files is none.
    #[error("{path}: {reason}; copy it again, or build the data set again", path = .path.display())]
    Description {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file with other bytes than those described.
    #[error(
        "{path}: {got_bytes} bytes with the SHA-256 {got}, {CROISSANT} says {expected_bytes} with {expected}; copy it again, or, where \
         it was changed on purpose, change {CROISSANT} too",
        path = .path.display()
    )]
    Hash {
        /// Which file.
        path: PathBuf,
        /// Its length.
        got_bytes: u64,
        /// Its hash.
        got: String,
        /// The length that is described.
        expected_bytes: String,
        /// The hash that is described.
        expected: String,
    },
    /// Facts or an index of another data set.
    #[error("{path}: {what} {got}, this data set {expected}; copy it again", path = .path.display())]
    Other {
        /// Which file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// What the file has.
        got: String,
        /// What belongs here.
        expected: String,
    },
}

/// What was found whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// Files whose SHA-256 is the one described.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries of the index.
    pub entries: u64,
}

/// Checks what a folder holds beside shards. Files that an earlier version did not write need not be there.
///
/// # Errors
/// [`VerifyError`] of the first file, in the order of names, that is not as it was written.
pub fn verify(dataset: &Dataset) -> Result<Verified, VerifyError> {
    let mut verified = match dataset.root.join(CROISSANT).is_file() {
        true => described(&dataset.root)?,
        false => Verified::default(),
    };
    if dataset.root.join(FACTS).is_file() {
        let facts = read_facts(&dataset.root)?;
        if facts.dataset != dataset.hash.to_string() {
            let (path, what) = (dataset.root.join(FACTS), "it tells of data set");
            return Err(VerifyError::Other { path, what, got: facts.dataset, expected: dataset.hash.to_string() });
        }
    }
    if dataset.root.join(INDEX).is_file() {
        verified.entries = index(dataset)?;
    }
    Ok(verified)
}

/// Checks every file that `croissant.json` describes.
fn described(root: &Path) -> Result<Verified, VerifyError> {
    let path = root.join(CROISSANT);
    let failed = |reason: String| VerifyError::Description { path: path.clone(), reason };
    let bytes = dataset::read_file(&path, CROISSANT_MAX)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
    let items = value["distribution"].as_array().ok_or_else(|| failed("it has no distribution".into()))?;
    let mut files = Vec::new();
    for item in items.iter().filter(|item| item["@type"] == "cr:FileObject") {
        let text = |key: &str| item[key].as_str().ok_or_else(|| failed(format!("a file without {key}")));
        let (name, size, expected) = (text("contentUrl")?, text("contentSize")?, text("sha256")?);
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        if name.is_empty() || !Path::new(name).components().all(plain) {
            return Err(failed(format!("{name:?} is no file of this folder")));
        }
        files.push((name, size.trim_end_matches(" B"), expected));
    }
    files.sort_unstable();
    let check = |&(name, size, expected): &(&str, &str, &str)| {
        let path = root.join(name);
        let info = FileInfo::read(&path, name).map_err(|error| OpenError::Io { path: path.clone(), error })?;
        if info.sha256 == expected && info.len_bytes.to_string() == size {
            return Ok(info.len_bytes);
        }
        let (got_bytes, got) = (info.len_bytes, info.sha256);
        Err(VerifyError::Hash { path, got_bytes, got, expected_bytes: size.to_owned(), expected: expected.to_owned() })
    };
    let checked: Vec<Result<u64, VerifyError>> = files.par_iter().map(check).collect();
    let bytes = checked.into_iter().sum::<Result<u64, VerifyError>>()?;
    Ok(Verified { files: files.len() as u64, bytes, entries: 0 })
}

/// Checks that the index has each document of each shard.
fn index(dataset: &Dataset) -> Result<u64, VerifyError> {
    let path = dataset.root.join(INDEX);
    let shards: Vec<u64> = dataset.manifest.all_shards().map(|info| info.documents).collect();
    let mut seen = vec![0; shards.len()];
    let index = Index::open(&path)?;
    for entry in index.entries()? {
        let entry = entry?;
        match shards.get(entry.shard as usize) {
            Some(&documents) if u64::from(entry.document) < documents => seen[entry.shard as usize] += 1,
            _ => {
                let reason = format!("an entry for document {} of shard number {}", entry.document, entry.shard);
                return Err(IndexError::Malformed { path, reason }.into());
            }
        }
    }
    match seen == shards {
        true => Ok(index.len()),
        false => {
            let (got, expected) = (index.len().to_string(), shards.iter().sum::<u64>().to_string());
            Err(VerifyError::Other { path, what: "its documents in shards number", got, expected })
        }
    }
}

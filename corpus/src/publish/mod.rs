//! A data set for the public: the Hugging Face folder with its card, Croissant, attributions, the summary of training content,
//! statistics, plots, and the ids of what was left out.
//!
//! [`parts`] and [`rejected`] write what is as large as the corpus, in bounded memory; the rest is drawn from
//! [`Facts`](crate::facts::Facts).

pub mod ai_act;
pub mod attributions;
pub mod card;
mod columns;
pub mod config;
pub mod credits;
pub mod croissant;
pub mod diff;
pub mod explain;
pub mod index;
pub mod licenses;
pub mod listing;
pub mod markdown;
pub mod parts;
pub mod rejected;
pub mod remove;
mod removed_facts;
pub mod runs;
pub mod scan;
pub mod statistics;
pub mod verify;

#[cfg(test)]
pub(crate) mod tests;

use crate::dataset::{MANIFEST, MANIFEST_JSON, TOKENIZER, TOKENIZER_CONFIG, heldout_name};
use crate::facts::{FACTS, Facts};
use crate::plot;
use essaim_protocol::dataset::DatasetManifest;
use index::INDEX;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

pub use config::PublishConfig;
pub use credits::Credits;

/// Why a file could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Parquet.
    #[error("writing parquet: {0}{mend}", mend = crate::output::mend(.0))]
    Parquet(#[from] parquet::errors::ParquetError),
    /// Its columns.
    #[error("writing parquet: {0}")]
    Arrow(#[from] arrow_schema::ArrowError),
}

/// A file of a data set's folder, as its descriptions name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct FileInfo {
    /// Its name in the folder, with `/`.
    pub name: String,
    /// The language of the documents in it; `None` for a file that holds none.
    pub language: Option<String>,
    /// Documents in it.
    pub documents: u64,
    /// Its length, bytes.
    pub len_bytes: u64,
    /// Its SHA-256, hexadecimal: what the Hub and Croissant name files by.
    pub sha256: String,
}

impl FileInfo {
    /// Describes a file.
    pub fn of(name: &str, language: Option<&str>, documents: u64, bytes: &[u8]) -> FileInfo {
        let (name, language) = (name.to_owned(), language.map(str::to_owned));
        FileInfo { name, language, documents, len_bytes: bytes.len() as u64, sha256: sha256(bytes) }
    }

    /// Describes a file on disk that holds no documents, without holding it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path, name: &str) -> io::Result<FileInfo> {
        let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
        let (mut len_bytes, mut buffer) = (0, vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => {
                    hasher.update(&buffer[..read]);
                    len_bytes += read as u64;
                }
            }
        }
        let sha256 = hexadecimal(&hasher.finalize());
        Ok(FileInfo { name: name.to_owned(), language: None, documents: 0, len_bytes, sha256 })
    }
}

/// SHA-256 of bytes, hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The files of a folder that a description names beside the texts and itself: what the manifest, the tokenizer, the index and the
/// facts are in. Shards are named after their hashes.
pub(crate) fn own_files(manifest: &DatasetManifest) -> Vec<String> {
    let names = [MANIFEST, MANIFEST_JSON, TOKENIZER, TOKENIZER_CONFIG, FACTS, INDEX].map(str::to_owned);
    names.into_iter().chain(manifest.heldout.iter().map(|held| heldout_name(&held.language))).collect()
}

/// A value as JSON for people.
fn json_bytes<T: serde::Serialize>(value: &T) -> Vec<u8> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => (text + "\n").into_bytes(),
        Err(error) => unreachable!("a value that is no JSON: {error}"),
    }
}

/// All files that describe a data set, drawn from its facts and from the `files` that its folder holds: the parts, `rejected.parquet`,
/// and whatever else is to be named with its hash. The caller writes them into the folder.
pub fn write(facts: &Facts, files: &[FileInfo]) -> Vec<(String, Vec<u8>)> {
    let json = |value: serde_json::Value| format!("{value:#}\n");
    let mut written: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, text: String| written.push((name.to_owned(), text.into_bytes()));
    add("README.md", card::card(facts, files));
    add("ATTRIBUTIONS.md", attributions::attributions(facts));
    add("ai-act-summary.md", ai_act::markdown(facts));
    add("ai-act-summary.json", json(serde_json::json!({"sections": ai_act::summary(facts)})));
    add("statistics.json", json(statistics::statistics(facts)));
    plot::plots(facts).into_iter().for_each(|(name, svg)| add(&format!("plots/{name}.svg"), svg));
    let infos: Vec<FileInfo> = written.iter().map(|(name, bytes)| FileInfo::of(name, None, 0, bytes)).collect();
    let files = [files, &infos].concat();
    written.push(("croissant.json".into(), json(croissant::croissant(facts, &files)).into_bytes()));
    written
}

//! The documents of one shard, named: from the index, and from the texts where they are published.

use super::explain::ExplainError;
use super::index::{INDEX, Index, IndexError, id_prefix};
use super::parts::folder_name;
use super::scan;
use crate::dataset::Dataset;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};

/// A document of a shard, or a piece of one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its number in the shard.
    pub document: u64,
    /// Its tokens there, with those that begin and end it.
    pub tokens: u64,
    /// Its id, where its text is published or held out.
    pub id: Option<String>,
    /// Its source.
    pub source: String,
    /// Its language.
    pub language: String,
    /// Its licence, where that is known from its text's row.
    pub license: Option<String>,
    /// Bytes of the whole document's text.
    pub text_bytes: u64,
    /// Which piece it is of a document that is longer than a shard; else 0.
    pub piece: u16,
}

/// Lists the documents of a shard, by the shard's number among the manifest's.
///
/// # Errors
/// [`ExplainError`].
pub fn list(dataset: &Dataset, number: usize) -> Result<Vec<Listed>, ExplainError> {
    let manifest = &dataset.manifest;
    let Some(info) = manifest.all_shards().nth(number) else { return Ok(Vec::new()) };
    let shard = dataset.shard(info)?;
    let tokens = |document: u64| shard.document_range(document).map_or(0, |range| range.end - range.start);
    let mut listed: Vec<Listed> = (0..shard.documents())
        .map(|document| Listed { document, tokens: tokens(document), ..Listed::default() })
        .collect();
    let training: usize = manifest.mixes.iter().map(|mix| mix.shards.len()).sum();
    if let Some(heldout) = number.checked_sub(training).and_then(|held| manifest.heldout.get(held)) {
        for (listed, line) in listed.iter_mut().zip(dataset.heldout_lines(&heldout.language)?) {
            listed.text_bytes = line.text.len() as u64;
            (listed.id, listed.license) = (Some(line.id), Some(line.license));
            (listed.source, listed.language) = (line.source, line.language);
        }
        return Ok(listed);
    }
    let prefixes = from_index(dataset, number, &mut listed)?;
    from_texts(dataset, &prefixes, &mut listed)?;
    Ok(listed)
}

/// Documents of a shard by the first half of their keys, which many ids of different sources may share.
type Prefixes = HashMap<[u8; 16], Vec<usize>>;

fn from_index(dataset: &Dataset, number: usize, listed: &mut [Listed]) -> Result<Prefixes, ExplainError> {
    let mut prefixes = Prefixes::new();
    let path = dataset.root.join(INDEX);
    if !path.is_file() {
        return Ok(prefixes);
    }
    for entry in Index::open(&path)?.entries()? {
        let entry = entry?;
        if entry.shard as usize != number {
            continue;
        }
        let source = dataset.manifest.sources.get(usize::from(entry.source));
        let (Some(listed), Some(source)) = (listed.get_mut(entry.document as usize), source) else {
            let reason = format!("an entry for document {} of shard number {number}", entry.document);
            return Err(IndexError::Malformed { path, reason }.into());
        };
        (listed.source, listed.language) = (source.name.clone(), source.language.clone());
        (listed.text_bytes, listed.piece) = (entry.text_bytes.into(), entry.piece);
        let mut prefix = [0; 16];
        prefix.copy_from_slice(&entry.key.0[..16]);
        prefixes.entry(prefix).or_default().push(entry.document as usize);
    }
    Ok(prefixes)
}

fn from_texts(dataset: &Dataset, prefixes: &Prefixes, listed: &mut [Listed]) -> Result<(), ExplainError> {
    let languages: BTreeSet<String> = listed.iter().map(|listed| folder_name(&listed.language)).collect();
    for path in scan::part_paths(&dataset.root)? {
        let folder = path.parent().and_then(|folder| folder.file_name()?.to_str());
        if !folder.is_some_and(|folder| languages.contains(folder)) {
            continue;
        }
        scan::rows(&path, |row| {
            for &document in prefixes.get(&id_prefix(row.id)).into_iter().flatten() {
                let listed = &mut listed[document];
                if listed.source == row.source && listed.language == row.language {
                    listed.license = scan::license(row.extra);
                    listed.id = Some(row.id.to_owned());
                }
            }
        })?;
    }
    Ok(())
}

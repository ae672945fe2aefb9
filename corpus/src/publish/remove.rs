//! Taking documents out of a finished data set.
//!
//! What comes out is another data set with its own hash: the shards that held the documents are written without them, the others are
//! the same files. Runs that trained on the old one keep pointing to it; which they are is said.

use super::index::{self, Entry, INDEX, Index, IndexError};
use super::parts::PartWriter;
use super::rejected::{Fate, REJECTED, RejectedWriter};
use super::removed_facts;
use super::scan::{self, ScanError};
use super::{Credits, FileInfo, PublishError};
use crate::bundle::Key;
use crate::dataset::{self, Dataset, HeldoutLine, OpenError};
use crate::document::Document;
use crate::facts::{FACTS, Facts};
use crate::output::{OutputError, Staging};
use crate::shards;
use essaim_protocol::dataset::{DatasetError, DatasetManifest, ShardInfo};
use essaim_protocol::ids::Hash;
use essaim_train::shard::{ShardError, ShardWriter};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Why documents could not be taken out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// The data set.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Its texts.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A shard.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// Writing parquet.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The new folder.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The new manifest breaks a bound: nothing is left, for one.
    #[error("without these documents: {0}")]
    Dataset(#[from] DatasetError),
    /// A file operation failed.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// No such documents.
    #[error("{path} holds none of these documents; 'essaim-corpus explain' tells what happened to one", path = .path.display())]
    NoneFound {
        /// The data set.
        path: PathBuf,
    },
    /// The new folder would take the place of the old one.
    #[error("--out is the data set itself: name another folder, and remove the old one when the new one is checked")]
    SameFolder,
    /// A data set without an index.
    #[error("{path}: no {INDEX}, which an earlier version did not write; build the data set again", path = .path.display())]
    NoIndex {
        /// The data set.
        path: PathBuf,
    },
}

/// What was taken out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Removal {
    /// The old data set's hash.
    pub from: String,
    /// The new one's.
    pub to: String,
    /// Ids that were there.
    pub removed: Vec<String>,
    /// Ids that were not.
    pub missing: Vec<String>,
    /// Shards of the old data set that held the documents, and what stands in their place; nothing where no document is left.
    pub shards: Vec<(String, Option<String>)>,
    /// Files of the old folder that are not in the new one: whether they name the documents is not known.
    pub left_out: Vec<String>,
}

/// What is to go, and what it was.
pub(super) struct Going<'a> {
    pub(super) ids: &'a BTreeSet<String>,
    /// Numbers of documents to leave out, by number of shard.
    pub(super) shards: BTreeMap<u32, BTreeSet<u32>>,
    /// Entries of the documents, by key.
    pub(super) entries: BTreeMap<Key, Vec<Entry>>,
    /// Shards that are trained on: the first so many.
    pub(super) training_shards: usize,
    /// Documents as the texts have them.
    pub(super) documents: Vec<Document>,
    /// Who is to be credited for the documents that stay, where their texts are published.
    pub(super) credits: Credits,
    /// Documents as the held-out files have them.
    pub(super) heldout: Vec<HeldoutLine>,
}

/// Writes to `out` the data set without the documents named by `ids`.
///
/// # Errors
/// [`RemoveError`]; `out` is then as it was.
pub fn remove(dataset: &Dataset, ids: &BTreeSet<String>, out: &Path) -> Result<Removal, RemoveError> {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    if real(&dataset.root).is_some_and(|root| real(out) == Some(root)) {
        return Err(RemoveError::SameFolder);
    }
    let path = dataset.root.join(INDEX);
    if !path.is_file() {
        return Err(RemoveError::NoIndex { path: dataset.root.clone() });
    }
    let mut index = Index::open(&path)?;
    let mut removal = Removal { from: dataset.hash.to_string(), ..Removal::default() };
    let mut going = find(&mut index, ids, &mut removal)?;
    going.training_shards = dataset.manifest.mixes.iter().map(|mix| mix.shards.len()).sum();
    if removal.removed.is_empty() {
        return Err(RemoveError::NoneFound { path: dataset.root.clone() });
    }
    let staging = Staging::new(out)?;
    let mut manifest = dataset.manifest.clone();
    let (numbers, tokens) = rewrite_shards(dataset, &staging, &going, &mut manifest, &mut removal)?;
    going.heldout = rewrite_heldout(dataset, &staging, &going, &mut manifest)?;
    let mut files = rewrite_parts(dataset, &staging, &mut going)?;
    let sources = removed_facts::sources(&mut manifest, &going, &tokens);
    write_index(&index, &staging, &going, &numbers, &sources)?;
    files.extend(rewrite_rejected(dataset, &staging, &going)?);
    for name in [dataset::TOKENIZER, dataset::TOKENIZER_CONFIG] {
        if dataset.root.join(name).is_file() {
            link(&staging, &dataset.root, name)?;
        }
    }
    let bytes = manifest.to_bytes();
    DatasetManifest::from_bytes(&bytes)?;
    removal.to = Hash::of(&bytes).to_string();
    staging.write(dataset::MANIFEST_JSON, format!("{:#}\n", dataset::manifest_json(&manifest)).as_bytes())?;
    staging.write(dataset::MANIFEST, &bytes)?;
    if dataset.root.join(FACTS).is_file() {
        let old = read_facts(&dataset.root)?;
        let facts = removed_facts::facts(&old, &going, dataset, &manifest, &tokens, &removal.to);
        staging.write(FACTS, &super::json_bytes(&facts))?;
        files.extend(staging.describe(&super::own_files(&manifest))?);
        for (name, bytes) in super::write(&facts, &files) {
            staging.write(&name, &bytes)?;
        }
    }
    staging.commit()?;
    removal.left_out = left_out(&dataset.root, out)?;
    Ok(removal)
}

/// The facts of a data set's folder.
///
/// # Errors
/// [`OpenError`].
pub fn read_facts(root: &Path) -> Result<Facts, OpenError> {
    let path = if root.is_dir() { root.join(FACTS) } else { root.to_owned() };
    let bytes = dataset::read_file(&path, 1 << 30)?;
    serde_json::from_slice(&bytes).map_err(|error| OpenError::Io { path, error: error.into() })
}

fn find<'a>(index: &mut Index, ids: &'a BTreeSet<String>, removal: &mut Removal) -> Result<Going<'a>, RemoveError> {
    let mut going = Going {
        ids,
        shards: BTreeMap::new(),
        entries: BTreeMap::new(),
        training_shards: 0,
        documents: Vec::new(),
        credits: Credits::default(),
        heldout: Vec::new(),
    };
    for id in ids {
        let entries = index.find(id)?;
        match entries.is_empty() {
            true => removal.missing.push(id.clone()),
            false => removal.removed.push(id.clone()),
        }
        for entry in entries {
            going.shards.entry(entry.shard).or_default().insert(entry.document);
            going.entries.entry(entry.key).or_default().push(entry);
        }
    }
    Ok(going)
}

/// The new number of each shard, where it is still there.
type Numbers = Vec<Option<u32>>;
/// Tokens of the documents that go, by shard and document.
pub(super) type Tokens = BTreeMap<(u32, u32), u64>;

/// Writes the shards without the documents; the manifest's lists follow.
fn rewrite_shards(
    dataset: &Dataset,
    staging: &Staging,
    going: &Going<'_>,
    manifest: &mut DatasetManifest,
    removal: &mut Removal,
) -> Result<(Numbers, Tokens), RemoveError> {
    let (mut numbers, mut tokens, mut next) = (Vec::new(), Tokens::new(), 0);
    let mut infos: Vec<Option<ShardInfo>> = Vec::new();
    for (number, info) in dataset.manifest.all_shards().enumerate() {
        let new = match going.shards.get(&(number as u32)) {
            None => {
                link(staging, &dataset.root, &dataset::shard_name(&info.hash))?;
                Some(*info)
            }
            Some(documents) => {
                let new = rewrite_shard(dataset, staging, info, documents, |document, count| {
                    tokens.insert((number as u32, document), count);
                })?;
                removal.shards.push((info.hash.to_string(), new.map(|info| info.hash.to_string())));
                new
            }
        };
        infos.push(new);
        numbers.push(new.map(|_| next));
        next += u32::from(new.is_some());
    }
    let mut infos = infos.into_iter();
    for mix in &mut manifest.mixes {
        mix.shards = infos.by_ref().take(mix.shards.len()).flatten().collect();
    }
    let heldout = std::mem::take(&mut manifest.heldout).into_iter().zip(infos);
    manifest.heldout = heldout
        .filter_map(|(mut held, info)| {
            held.shard = info?;
            Some(held)
        })
        .collect();
    Ok((numbers, tokens))
}

fn rewrite_shard(
    dataset: &Dataset,
    staging: &Staging,
    info: &ShardInfo,
    without: &BTreeSet<u32>,
    mut gone: impl FnMut(u32, u64),
) -> Result<Option<ShardInfo>, RemoveError> {
    let mut shard = dataset.shard(info)?;
    let mut writer = ShardWriter::new(shard.vocab_size());
    for document in 0..shard.documents() {
        let tokens = shard.document(document)?;
        match u32::try_from(document).is_ok_and(|document| without.contains(&document)) {
            true => gone(document as u32, tokens.len() as u64),
            false => writer.push(&tokens)?,
        }
    }
    if writer.documents() == 0 {
        return Ok(None);
    }
    let shard = shards::finish(writer);
    staging.write(&dataset::shard_name(&shard.info.hash), &shard.bytes)?;
    Ok(Some(shard.info))
}

/// Writes the held-out files without the documents; gives those.
fn rewrite_heldout(
    dataset: &Dataset,
    staging: &Staging,
    going: &Going<'_>,
    manifest: &mut DatasetManifest,
) -> Result<Vec<HeldoutLine>, RemoveError> {
    let mut gone = Vec::new();
    for old in &dataset.manifest.heldout {
        let name = dataset::heldout_name(&old.language);
        let (out, kept): (Vec<_>, Vec<_>) =
            dataset.heldout_lines(&old.language)?.into_iter().partition(|line| going.ids.contains(&line.id));
        if out.is_empty() {
            link(staging, &dataset.root, &name)?;
            continue;
        }
        let bytes: u64 = out.iter().map(|line| line.text.len() as u64).sum();
        if let Some(held) = manifest.heldout.iter_mut().find(|held| held.language == old.language) {
            held.text_bytes -= bytes.min(held.text_bytes);
            let lines = kept.iter().map(|line| serde_json::to_string(line).unwrap_or_default() + "\n");
            staging.write(&name, lines.collect::<String>().as_bytes())?;
        }
        gone.extend(out);
    }
    Ok(gone)
}

/// Writes the parts without the documents, which go into `going`.
fn rewrite_parts(dataset: &Dataset, staging: &Staging, going: &mut Going<'_>) -> Result<Vec<FileInfo>, RemoveError> {
    let mut files = Vec::new();
    for path in scan::part_paths(&dataset.root)? {
        let relative = path.strip_prefix(&dataset.root).unwrap_or(&path);
        let name = relative.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        let (mut total, mut here) = (0, 0);
        scan::ids(&path, |id| (total, here) = (total + 1, here + u64::from(going.ids.contains(id))))?;
        let mut language = None;
        let mut writer = PartWriter::new(Vec::new())?;
        scan::documents(&path, |document| {
            language.get_or_insert_with(|| document.language.clone());
            if going.ids.contains(&document.id) {
                going.documents.push(document);
                return Ok(());
            }
            going.credits.document(&document);
            // A part that stays as it is is not written again.
            if here > 0 { writer.push(&document).map_err(|error| error.to_string()) } else { Ok(()) }
        })?;
        match here {
            0 => link(staging, &dataset.root, &name)?,
            _ if total > here => staging.write(&name, &writer.finish()?)?,
            _ => {}
        }
        if total > here {
            let path = staging.path(&name);
            let bytes = std::fs::read(&path).map_err(|error| RemoveError::Io { path, error })?;
            files.push(FileInfo::of(&name, language.as_deref(), total - here, &bytes));
        }
    }
    Ok(files)
}

fn write_index(
    index: &Index,
    staging: &Staging,
    going: &Going<'_>,
    numbers: &Numbers,
    sources: &[Option<u16>],
) -> Result<(), RemoveError> {
    let gone: u64 = going.entries.values().map(|entries| entries.len() as u64).sum();
    let (file, path) = staging.create(INDEX)?;
    let mut file = BufWriter::new(file);
    let mut failed = None;
    let renumber = |mut entry: Entry| {
        if going.entries.contains_key(&entry.key) {
            return None;
        }
        let before = going.shards.get(&entry.shard).map_or(0, |gone| gone.range(..entry.document).count());
        entry.document -= before as u32;
        entry.shard = numbers.get(entry.shard as usize).copied().flatten()?;
        entry.source = sources.get(usize::from(entry.source)).copied().flatten().unwrap_or(0);
        Some(entry)
    };
    let entries = index.entries()?.map_while(|entry| match entry {
        Ok(entry) => Some(entry),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let written = index::write(&mut file, &path, index.len() - gone.min(index.len()), entries.filter_map(renumber));
    if let Some(error) = failed {
        return Err(error.into());
    }
    written?;
    let io = |error| RemoveError::Io { path: path.clone(), error };
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(io)
}

/// Writes `rejected.parquet` with the documents added, their texts left out as ever.
fn rewrite_rejected(dataset: &Dataset, staging: &Staging, going: &Going<'_>) -> Result<Option<FileInfo>, RemoveError> {
    let old = dataset.root.join(REJECTED);
    if !old.is_file() {
        return Ok(None);
    }
    let (file, path) = staging.create(REJECTED)?;
    let io = |error| RemoveError::Io { path: path.clone(), error };
    let mut writer = RejectedWriter::new(BufWriter::new(file))?;
    let mut count = 0;
    let mut push = |fate: &Fate| {
        count += 1;
        writer.push(fate).map_err(|error| error.to_string())
    };
    scan::rejected(&old, |fate| push(&fate))?;
    for fate in removed_facts::fates(going) {
        push(&fate).map_err(|reason| ScanError::Malformed { path: path.clone(), reason })?;
    }
    let mut file = writer.finish()?;
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(io)?;
    let bytes = std::fs::read(&path).map_err(io)?;
    Ok(Some(FileInfo::of(REJECTED, None, count, &bytes)))
}

/// Puts a file of the old folder into the new one: as a second name of the same file where the file system can.
fn link(staging: &Staging, root: &Path, name: &str) -> Result<(), RemoveError> {
    let from = root.join(name);
    let (file, path) = staging.create(name)?;
    let io = |error| RemoveError::Io { path: from.clone(), error };
    drop(file);
    std::fs::remove_file(&path).map_err(io)?;
    if std::fs::hard_link(&from, &path).is_err() {
        std::fs::copy(&from, &path).map_err(io)?;
        std::fs::File::open(&path).and_then(|file| file.sync_all()).map_err(io)?;
    }
    Ok(())
}

/// Files in the old folder, outside of shards and texts, that the new one does not have.
fn left_out(old: &Path, new: &Path) -> Result<Vec<String>, RemoveError> {
    let (mut names, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        let failed = |error| RemoveError::Io { path: old.join(&folder), error };
        for entry in std::fs::read_dir(old.join(&folder)).map_err(failed)? {
            let name = folder.join(entry.map_err(failed)?.file_name());
            let generated = ["shards", "data", "heldout"].iter().any(|part| name.starts_with(part));
            match old.join(&name).is_dir() {
                _ if generated => {}
                true => folders.push(name),
                false if !new.join(&name).exists() => names.push(name.display().to_string()),
                false => {}
            }
        }
    }
    names.sort();
    Ok(names)
}

//! Checkpoint folders: the model in the Hugging Face layout, and the outer state beside it.

use crate::files::{self, FileError};
use crate::public::PublicFolder;
use essaim_protocol::ids::Hash;
use essaim_protocol::layout;
use essaim_protocol::manifest::Manifest;
use essaim_train::checkpoint::{self, CheckpointError};
use essaim_train::round::Base;
use essaim_train::state::{OuterState, StateError};
use std::path::{Path, PathBuf};

/// What a record says of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointHashes {
    /// Hash of the model file.
    pub model: Hash,
    /// Hash of the outer state.
    pub outer: Hash,
}

/// Why a checkpoint was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The model file is missing or not one.
    #[error("{path}: {source}", path = .path.display())]
    Model {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: CheckpointError,
    },
    /// The outer state is missing or not one.
    #[error("{path}: {source}", path = .path.display())]
    Outer {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: StateError,
    },
    /// Files that are whole but not those of the record.
    #[error("{path} has the hashes {got:?}, the record says {expected:?}", path = .path.display())]
    Hash {
        /// Which folder.
        path: PathBuf,
        /// What is there.
        got: Box<CheckpointHashes>,
        /// What should be.
        expected: Box<CheckpointHashes>,
    },
}

/// Writes a checkpoint folder under `temp/`, synced; [`PublicFolder::publish_folder`] moves it to its place.
///
/// # Errors
/// [`FileError`].
pub fn write(
    public: &PublicFolder,
    manifest: &Manifest,
    base: &Base,
) -> Result<(PathBuf, CheckpointHashes), FileError> {
    let folder = public.temp();
    files::create_dir(&folder)?;
    let at = |name: &str| folder.join(name);
    let model = checkpoint::write_model_file(&at(layout::MODEL_FILE), &manifest.model, &base.params)
        .map_err(FileError::at("write", &at(layout::MODEL_FILE)))?;
    let outer = base.outer.write(&at("outer.state")).map_err(FileError::at("write", &at("outer.state")))?;
    for (name, bytes) in checkpoint::checkpoint_files(manifest) {
        std::fs::write(at(name), bytes).map_err(FileError::at("write", &at(name)))?;
        std::fs::File::open(at(name)).and_then(|file| file.sync_all()).map_err(FileError::at("sync", &at(name)))?;
    }
    let tokenizer = public.path(layout::TOKENIZER);
    std::fs::hard_link(&tokenizer, at("tokenizer.json"))
        .or_else(|_| std::fs::copy(&tokenizer, at("tokenizer.json")).map(|_| ()))
        .map_err(FileError::at("link", &tokenizer))?;
    files::sync_dir(&folder)?;
    Ok((folder, CheckpointHashes { model, outer }))
}

/// Reads a checkpoint folder and checks it against its record.
///
/// # Errors
/// [`ReadError`].
pub fn read(folder: &Path, manifest: &Manifest, expected: CheckpointHashes) -> Result<Base, ReadError> {
    let model = folder.join(layout::MODEL_FILE);
    let params = checkpoint::read_model_file(&model, &manifest.model)
        .map_err(|source| ReadError::Model { path: model.clone(), source })?;
    let path = folder.join("outer.state");
    let outer = OuterState::read(&path, manifest).map_err(|source| ReadError::Outer { path, source })?;
    let base = Base { params, outer };
    let got = CheckpointHashes { model: base.checkpoint_hash(manifest), outer: base.outer_hash() };
    if got != expected {
        return Err(ReadError::Hash { path: folder.to_owned(), got: Box::new(got), expected: Box::new(expected) });
    }
    Ok(base)
}

/// Whether the small files of a checkpoint folder are what they should be.
pub fn small_files_hold(public: &PublicFolder, manifest: &Manifest, round: u64) -> bool {
    let folder = public.path(&layout::checkpoint(round));
    let same = |name: &str, bytes: &[u8]| std::fs::read(folder.join(name)).is_ok_and(|stored| stored == bytes);
    checkpoint::checkpoint_files(manifest).iter().all(|(name, bytes)| same(name, bytes))
        && std::fs::read(public.path(layout::TOKENIZER)).is_ok_and(|tokenizer| same("tokenizer.json", &tokenizer))
}

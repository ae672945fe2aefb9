//! Taking a data set into `public/dataset`: every file is hashed before it is believed.

use crate::files::{self, FileError};
use essaim_protocol::dataset::{DatasetError, DatasetManifest};
use essaim_protocol::ids::Hash;
use essaim_protocol::{layout, limits};
use std::path::{Path, PathBuf};

/// A data set folder whose manifest was read.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Its manifest.
    pub manifest: DatasetManifest,
    /// The manifest's canonical bytes.
    pub bytes: Vec<u8>,
    root: PathBuf,
}

/// Why a data set is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// Nothing there.
    #[error("{path} is missing: make the data set with `essaim-corpus build … --out DIR`, and name DIR in run.toml", path = .path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// A file over its bound.
    #[error("{path} has {got} bytes, at most {max} are read", path = .path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// Its length, bytes.
        got: u64,
        /// The length allowed.
        max: u64,
    },
    /// The manifest is not one.
    #[error("{path}: {source}; build the data set again", path = .path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: DatasetError,
    },
    /// A file that is not what the manifest says.
    #[error("{path} is damaged: it has {got_len} bytes with hash {got}, the data set's manifest says {len} bytes with hash {hash}; build or copy the data set again", path = .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Hash of the file.
        got: Hash,
        /// Length of the file, bytes.
        got_len: u64,
        /// Hash that it should have.
        hash: Hash,
        /// Length that it should have, bytes.
        len: u64,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

fn length(path: &Path, max: u64) -> Result<u64, TakeError> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(TakeError::Missing { path: path.to_owned() }),
        Err(error) => Err(FileError::at("read", path)(error).into()),
        Ok(data) if data.len() > max => Err(TakeError::TooLong { path: path.to_owned(), got: data.len(), max }),
        Ok(data) => Ok(data.len()),
    }
}

/// The BLAKE3 hash of a file, memory-mapped and in parallel.
///
/// # Errors
/// [`FileError`].
pub fn hash_file(path: &Path) -> Result<Hash, FileError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap_rayon(path).map_err(FileError::at("read", path))?;
    Ok(hasher.finalize().into())
}

impl Dataset {
    /// Reads the manifest of a data set folder.
    ///
    /// # Errors
    /// [`TakeError`]: missing, too long, or not a dataset manifest.
    pub fn open(root: &Path) -> Result<Dataset, TakeError> {
        let path = root.join("dataset.manifest");
        length(&path, limits::DATASET_MANIFEST_MAX as u64)?;
        let bytes = std::fs::read(&path).map_err(FileError::at("read", &path))?;
        let manifest = DatasetManifest::from_bytes(&bytes).map_err(|source| TakeError::Manifest { path, source })?;
        Ok(Dataset { manifest, bytes, root: root.to_owned() })
    }

    /// Hash of the manifest's canonical bytes.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.bytes)
    }

    /// Copies manifest, tokenizer and shards into a public folder, each verified against its hash after it was copied.
    /// `progress` is told the bytes done after each file.
    ///
    /// # Errors
    /// [`TakeError`]: a file that is missing or not what the manifest says.
    pub fn take(&self, public: &Path, mut progress: impl FnMut(u64)) -> Result<(), TakeError> {
        let manifest = public.join(layout::DATASET);
        files::create_dir(&public.join("dataset/shards"))?;
        std::fs::write(&manifest, &self.bytes).map_err(FileError::at("write", &manifest))?;
        let tokenizer = self.root.join("tokenizer.json");
        let len = length(&tokenizer, limits::TOKENIZER_MAX)?;
        progress(take_file(&tokenizer, &public.join(layout::TOKENIZER), &self.manifest.tokenizer, len)?);
        for shard in self.manifest.all_shards() {
            let from = self.root.join(format!("shards/{}.shard", shard.hash));
            let to = public.join(layout::shard(&shard.hash));
            progress(take_file(&from, &to, &shard.hash, shard.len_bytes)?);
        }
        Ok(())
    }

    /// Bytes of all its shards.
    pub fn len_bytes(&self) -> u64 {
        self.manifest.all_shards().fold(0, |sum, shard| sum.saturating_add(shard.len_bytes))
    }
}

/// Copies one file and checks the copy; a copy, not a link, so that what happens to the data set's folder later cannot
/// damage the run.
fn take_file(from: &Path, to: &Path, hash: &Hash, len: u64) -> Result<u64, TakeError> {
    let got_len = length(from, limits::SHARD_MAX.max(limits::TOKENIZER_MAX))?;
    if got_len == len {
        std::fs::copy(from, to).map_err(FileError::at("copy", from))?;
    }
    let got = hash_file(if got_len == len { to } else { from })?;
    if got != *hash || got_len != len {
        return Err(TakeError::Damaged { path: from.to_owned(), got, got_len, hash: *hash, len });
    }
    std::fs::File::open(to).and_then(|file| file.sync_all()).map_err(FileError::at("sync", to))?;
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_protocol::dataset::{Mix, ShardInfo};

    fn dataset(root: &Path) -> Hash {
        let [shard, tokenizer] = [b"shard bytes".as_slice(), b"{}"];
        let hash = Hash::of(shard);
        std::fs::create_dir_all(root.join("shards")).unwrap();
        std::fs::write(root.join(format!("shards/{hash}.shard")), shard).unwrap();
        std::fs::write(root.join("tokenizer.json"), tokenizer).unwrap();
        let info = ShardInfo { hash, len_bytes: shard.len() as u64, tokens: 3, documents: 1 };
        let manifest = DatasetManifest {
            version: 1,
            name: "d".into(),
            tokenizer: Hash::of(tokenizer),
            vocab_size: 300,
            mixes: vec![Mix { name: "main".into(), shards: vec![info] }],
            heldout: vec![],
            sources: vec![],
            settings: String::new(),
        };
        std::fs::write(root.join("dataset.manifest"), manifest.to_bytes()).unwrap();
        hash
    }

    #[test]
    fn a_whole_data_set_is_copied_and_a_damaged_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| dir.path().join(name));
        assert!(matches!(Dataset::open(&from), Err(TakeError::Missing { .. })));
        let hash = dataset(&from);
        let taken = Dataset::open(&from).unwrap();
        let mut bytes = 0;
        taken.take(&to, |done| bytes += done).unwrap();
        assert_eq!(bytes, 13);
        assert_eq!(std::fs::read(to.join(layout::shard(&hash))).unwrap(), b"shard bytes");

        let shard = from.join(format!("shards/{hash}.shard"));
        for damage in [b"shard bytez".as_slice(), b"shard"] {
            std::fs::write(&shard, damage).unwrap();
            assert!(matches!(taken.take(&to, |_| ()), Err(TakeError::Damaged { .. })));
        }
        std::fs::remove_file(&shard).unwrap();
        assert!(matches!(taken.take(&to, |_| ()), Err(TakeError::Missing { .. })));
        std::fs::write(from.join("dataset.manifest"), b"not one").unwrap();
        assert!(matches!(Dataset::open(&from), Err(TakeError::Manifest { .. })));
    }
}

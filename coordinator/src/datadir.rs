//! The data directory: where the coordinator keeps everything, one run each.
//!
//! | name | what |
//! |---|---|
//! | `version` | version of this layout; another is refused |
//! | `run.toml` | the settings as given; `[network]` is read again at each start |
//! | `operator.key`, `hash-chain.secret` | secrets, mode 0600 |
//! | `state.sqlite` | signed statements and counters |
//! | `lock` | held while a coordinator serves the run |
//! | `link` | the join link, rewritten at each start |
//! | `temp/` | files being written; emptied at each start |
//! | `blobs/` | updates that are being fetched |
//! | `kept/` | the checkpoint before the last, for members who are fetching it |
//! | `public/` | what anybody may have, laid out by [`essaim_protocol::layout`] |

use crate::files::{self, FileError, SecretError};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// Version of the layout that this build writes and reads.
pub const VERSION: &str = "essaim-coordinator 1";

/// A data directory that holds a run.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
}

/// A held lock; dropped, it is free again.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// Nothing there, or not ours.
    #[error("{path} is no coordinator's data directory: make one with `essaim-coordinator init run.toml --data-dir {path}`", path = .path.display())]
    NotOne {
        /// Which folder.
        path: PathBuf,
    },
    /// Another version.
    #[error("{path} was written by '{got}', this build reads '{VERSION}': use the build that wrote it", path = .path.display())]
    Version {
        /// Which folder.
        path: PathBuf,
        /// What its `version` file says.
        got: String,
    },
    /// Another coordinator serves it.
    #[error("another coordinator is serving {path}: stop it first, since two would contradict each other", path = .path.display())]
    Locked {
        /// Which folder.
        path: PathBuf,
    },
    /// It holds something already.
    #[error("{path} is not empty: give a new folder, since a run is never overwritten", path = .path.display())]
    NotEmpty {
        /// Which folder.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl DataDir {
    /// Opens a data directory of this version.
    ///
    /// # Errors
    /// [`DataDirError::NotOne`], [`DataDirError::Version`].
    pub fn open(root: &Path) -> Result<DataDir, DataDirError> {
        let version = root.join("version");
        if !version.is_file() {
            return Err(DataDirError::NotOne { path: root.to_owned() });
        }
        let got = std::fs::read(&version).map_err(FileError::at("read", &version))?;
        let got = String::from_utf8_lossy(got.get(..got.len().min(200)).unwrap_or_default()).trim().to_owned();
        if got != VERSION {
            return Err(DataDirError::Version { path: root.to_owned(), got });
        }
        Ok(DataDir { root: root.to_owned() })
    }

    /// The layout of a folder that `init` is filling.
    pub(crate) fn at(root: &Path) -> DataDir {
        DataDir { root: root.to_owned() }
    }

    /// Refuses a folder that holds anything.
    ///
    /// # Errors
    /// [`DataDirError::NotEmpty`].
    pub fn require_empty(root: &Path) -> Result<(), DataDirError> {
        match std::fs::read_dir(root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(FileError::at("read", root)(error).into()),
            Ok(mut entries) => match entries.next() {
                None => Ok(()),
                Some(_) => Err(DataDirError::NotEmpty { path: root.to_owned() }),
            },
        }
    }

    /// Takes the lock that keeps a second coordinator out.
    ///
    /// # Errors
    /// [`DataDirError::Locked`].
    pub fn lock(&self) -> Result<Lock, DataDirError> {
        let path = self.root.join("lock");
        let file = File::create(&path).map_err(FileError::at("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::Locked { path: self.root.clone() }),
            Err(TryLockError::Error(error)) => Err(FileError::at("lock", &path)(error).into()),
        }
    }

    /// The operator's secret key.
    ///
    /// # Errors
    /// [`DataDirError::Secret`].
    pub fn operator_secret(&self) -> Result<[u8; 32], DataDirError> {
        Ok(files::read_secret(&self.operator_key())?)
    }

    /// The secret that the hash chain starts from.
    ///
    /// # Errors
    /// [`DataDirError::Secret`].
    pub fn hash_chain_secret(&self) -> Result<[u8; 32], DataDirError> {
        Ok(files::read_secret(&self.hash_chain_file())?)
    }

    /// Empties `temp/`: what a crash left half written.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn clear_temp(&self) -> Result<(), FileError> {
        let temp = self.temp();
        if temp.exists() {
            std::fs::remove_dir_all(&temp).map_err(FileError::at("empty", &temp))?;
        }
        files::create_dir(&temp)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What anybody may have.
    pub fn public(&self) -> PathBuf {
        self.root.join("public")
    }

    /// Files being written.
    pub fn temp(&self) -> PathBuf {
        self.root.join("temp")
    }

    /// The last but one checkpoint.
    pub fn kept(&self) -> PathBuf {
        self.root.join("kept")
    }

    /// Updates being fetched.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The settings.
    pub fn run_toml(&self) -> PathBuf {
        self.root.join("run.toml")
    }

    /// The join link.
    pub fn link(&self) -> PathBuf {
        self.root.join("link")
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.root.join("state.sqlite")
    }

    /// The version file.
    pub(crate) fn version(&self) -> PathBuf {
        self.root.join("version")
    }

    /// The operator's key file.
    pub(crate) fn operator_key(&self) -> PathBuf {
        self.root.join("operator.key")
    }

    /// The hash chain's file.
    pub(crate) fn hash_chain_file(&self) -> PathBuf {
        self.root.join("hash-chain.secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_of_this_version_is_opened_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::NotOne { .. })));
        std::fs::write(dir.path().join("version"), "essaim-coordinator 9\n").unwrap();
        let error = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("'essaim-coordinator 9'"), "{error}");
        std::fs::write(dir.path().join("version"), format!("{VERSION}\n")).unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let lock = data.lock().unwrap();
        assert!(matches!(data.lock(), Err(DataDirError::Locked { .. })));
        drop(lock);
        data.lock().unwrap();
        assert!(matches!(DataDir::require_empty(dir.path()), Err(DataDirError::NotEmpty { .. })));
    }
}

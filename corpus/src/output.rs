//! Writing a folder at once or not at all: files go into `DIR.partial`, which takes DIR's place when all are on disk. A build that
//! was killed leaves DIR as it was; the next one clears what it left.

use crate::publish::FileInfo;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a folder could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// A file operation failed.
    #[error("{path}: {error}{}", mend(.error), path = .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something is there that a build would destroy.
    #[error("{path} exists and holds no data set: choose another --out, or remove it", path = .path.display())]
    NotADataset {
        /// The folder.
        path: PathBuf,
    },
    /// No name for a folder.
    #[error("{path} is no name for a new folder", path = .path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
}

/// How to mend an error of writing, where it is one that wants room.
pub(crate) fn mend(error: &(dyn Error + 'static)) -> &'static str {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(StorageFull | FileTooLarge | QuotaExceeded)) {
            return "; make room and start the same build again: it goes on where it is";
        }
        cause = error.source();
    }
    ""
}

fn io(path: &Path) -> impl Fn(io::Error) -> OutputError + '_ {
    |error| OutputError::Io { path: path.to_owned(), error }
}

/// A folder in the making.
#[derive(Debug)]
pub struct Staging {
    partial: PathBuf,
    old: PathBuf,
    target: PathBuf,
}

fn check_target(target: &Path) -> Result<(), OutputError> {
    let free = match fs::read_dir(target) {
        Ok(mut entries) => target.join(crate::dataset::MANIFEST).is_file() || entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    match free {
        true => Ok(()),
        false => Err(OutputError::NotADataset { path: target.to_owned() }),
    }
}

fn remove(path: &Path) -> Result<(), OutputError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io(path)(error)),
        _ => Ok(()),
    }
}

impl Staging {
    /// Begins a folder that will be at `target`. What is there may be a data set, which will be replaced, or nothing.
    ///
    /// # Errors
    /// [`OutputError`], above all when `target` holds something else.
    pub fn new(target: &Path) -> Result<Staging, OutputError> {
        let Some(name) = target.file_name() else {
            return Err(OutputError::NoName { path: target.to_owned() });
        };
        let with = |suffix: &str| {
            let mut name = name.to_owned();
            name.push(suffix);
            target.with_file_name(name)
        };
        let staging = Staging { partial: with(".partial"), old: with(".old"), target: target.to_owned() };
        check_target(target)?;
        remove(&staging.partial)?;
        fs::create_dir_all(&staging.partial).map_err(io(&staging.partial))?;
        Ok(staging)
    }

    /// Says whether a folder may be written at `target`: see [`Staging::new`].
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn check(target: &Path) -> Result<(), OutputError> {
        match target.file_name() {
            None => Err(OutputError::NoName { path: target.to_owned() }),
            Some(_) => check_target(target),
        }
    }

    /// Begins a file, and its folders. It must be brought to the disk with `sync_all`.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn create(&self, name: &str) -> Result<(File, PathBuf), OutputError> {
        let path = self.begin(name)?;
        let file = File::create(&path).map_err(io(&path))?;
        Ok((file, path))
    }

    /// Makes the folders of a file that is not there yet, and says where it is to be.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn begin(&self, name: &str) -> Result<PathBuf, OutputError> {
        let path = self.partial.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io(folder))?;
        }
        Ok(path)
    }

    /// Where a file of the folder is while the folder is in the making.
    pub fn path(&self, name: &str) -> PathBuf {
        self.partial.join(name)
    }

    /// Writes a file, and its folders, through to the disk.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), OutputError> {
        let (mut file, path) = self.create(name)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io(&path))
    }

    /// Describes files of the folder that were written, those of `names` that are there.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub fn describe(&self, names: &[String]) -> Result<Vec<FileInfo>, OutputError> {
        let there = names.iter().map(|name| (name, self.path(name))).filter(|(_, path)| path.is_file());
        there.map(|(name, path)| FileInfo::read(&path, name).map_err(io(&path))).collect()
    }

    /// Puts the folder in its place.
    ///
    /// # Errors
    /// [`OutputError`]; the folder that was there before is then there still, or beside it as `.old`.
    pub fn commit(self) -> Result<(), OutputError> {
        check_target(&self.target)?;
        remove(&self.old)?;
        match fs::rename(&self.target, &self.old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(&self.target)(error)),
            _ => {}
        }
        fs::rename(&self.partial, &self.target).map_err(io(&self.target))?;
        remove(&self.old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole_and_replaces_only_a_data_set() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("deep/set");
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(folder.path().join("deep")).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        // A build that dies leaves no target; the next one clears what it left.
        let died = Staging::new(&target).unwrap();
        died.write("leftover", b"x").unwrap();
        drop(died);
        assert_eq!(names(), ["set.partial"]);
        for round in [b"one", b"two"] {
            let staging = Staging::new(&target).unwrap();
            staging.write("shards/a.shard", round).unwrap();
            staging.write(crate::dataset::MANIFEST, round).unwrap();
            staging.commit().unwrap();
            assert_eq!(names(), ["set"]);
            assert_eq!(fs::read(target.join("shards/a.shard")).unwrap(), round);
            assert!(!target.join("leftover").exists());
        }
        let precious = folder.path().join("precious");
        fs::create_dir(&precious).unwrap();
        Staging::new(&precious).unwrap();
        fs::write(precious.join("letter.txt"), "mine").unwrap();
        let refusal = Staging::new(&precious).unwrap_err().to_string();
        assert!(refusal.ends_with("precious exists and holds no data set: choose another --out, or remove it"));
        assert!(Staging::new(&precious.join("letter.txt")).is_err());
        assert!(matches!(Staging::new(Path::new("/")), Err(OutputError::NoName { .. })));
        assert_eq!(fs::read(precious.join("letter.txt")).unwrap(), b"mine");
    }
}

//! The `public/` folder: written whole files at a time, each by way of `temp/`, so that a mirror never copies half of one.

use crate::datadir::DataDir;
use crate::files::{self, FileError};
use essaim_protocol::layout;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The folder, and where files are made before they are moved into it.
#[derive(Debug, Clone)]
pub struct PublicFolder {
    root: PathBuf,
    temp: PathBuf,
    kept: PathBuf,
    next: Arc<AtomicU64>,
}

impl PublicFolder {
    /// The public folder of a data directory.
    pub fn new(data: &DataDir) -> PublicFolder {
        PublicFolder { root: data.public(), temp: data.temp(), kept: data.kept(), next: Arc::default() }
    }

    /// Where a file of [`layout`] lies.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A name under `temp/` that nothing else uses while this program runs.
    pub fn temp(&self) -> PathBuf {
        self.temp.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Writes a file whole; the same bytes again change nothing. Gives whether it did. Not synced: what is written so is
    /// also in the store, and compared with it at the next start.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn write(&self, relative: &str, bytes: &[u8]) -> Result<bool, FileError> {
        let path = self.path(relative);
        if self.holds(relative, bytes) {
            return Ok(false);
        }
        if let Some(parent) = path.parent() {
            files::create_dir(parent)?;
        }
        let temp = self.temp();
        std::fs::write(&temp, bytes).map_err(FileError::at("write", &temp))?;
        std::fs::rename(&temp, &path).map_err(FileError::at("rename to", &path))?;
        Ok(true)
    }

    /// Whether a file holds exactly these bytes.
    pub fn holds(&self, relative: &str, bytes: &[u8]) -> bool {
        let path = self.path(relative);
        std::fs::metadata(&path).is_ok_and(|data| data.len() == bytes.len() as u64)
            && std::fs::read(&path).is_ok_and(|stored| stored == bytes)
    }

    /// Gives a synced file a second name here: nothing is copied.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn link(&self, from: &Path, relative: &str) -> Result<(), FileError> {
        let path = self.path(relative);
        if let Some(parent) = path.parent() {
            files::create_dir(parent)?;
        }
        let temp = self.temp();
        std::fs::hard_link(from, &temp)
            .or_else(|_| std::fs::copy(from, &temp).map(|_| ()))
            .map_err(FileError::at("link", from))?;
        files::publish(&temp, &path)
    }

    /// Moves a finished folder to its place; what is there is replaced.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn publish_folder(&self, from: &Path, relative: &str) -> Result<(), FileError> {
        let path = self.path(relative);
        if let Some(parent) = path.parent() {
            files::create_dir(parent)?;
        }
        self.remove_folder(relative)?;
        files::publish(from, &path)
    }

    /// Removes a folder, by way of `temp/`, so that nobody sees half of it.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn remove_folder(&self, relative: &str) -> Result<(), FileError> {
        let path = self.path(relative);
        if !path.exists() {
            return Ok(());
        }
        let temp = self.temp();
        files::publish(&path, &temp)?;
        std::fs::remove_dir_all(&temp).map_err(FileError::at("remove", &temp))
    }

    /// Rounds that have a folder under `rounds/` or `checkpoints/`, rising. Other names are not looked at.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn rounds_in(&self, folder: &str) -> Result<Vec<u64>, FileError> {
        let path = self.path(folder);
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(FileError::at("read", &path))?,
        };
        let mut rounds = Vec::new();
        for entry in entries {
            let name = entry.map_err(FileError::at("read", &path))?.file_name();
            rounds.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        rounds.sort_unstable();
        Ok(rounds)
    }

    /// Takes away checkpoints that are neither of the last round nor keyframes. The last but one moves to `kept/` for one
    /// round more, since somebody may be fetching it. Gives the rounds taken away.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn retire_checkpoints(&self, last: u64, keyframe_every_rounds: u64) -> Result<Vec<u64>, FileError> {
        self.clear_kept()?;
        let mut retired = Vec::new();
        for round in self.rounds_in("checkpoints")? {
            if round == last || round.is_multiple_of(keyframe_every_rounds) {
                continue;
            }
            if round.checked_add(1) == Some(last) {
                files::publish(&self.path(&layout::checkpoint(round)), &self.kept_checkpoint(round))?;
            } else {
                self.remove_folder(&layout::checkpoint(round))?;
            }
            retired.push(round);
        }
        Ok(retired)
    }

    /// Empties `kept/`.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn clear_kept(&self) -> Result<(), FileError> {
        if self.kept.exists() {
            std::fs::remove_dir_all(&self.kept).map_err(FileError::at("empty", &self.kept))?;
        }
        files::create_dir(&self.kept)
    }

    /// Where a checkpoint that was just retired is for a while.
    pub fn kept_checkpoint(&self, round: u64) -> PathBuf {
        self.kept.join(format!("{round:08}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_come_and_go_whole() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path());
        data.clear_temp().unwrap();
        let public = PublicFolder::new(&data);
        public.write("rounds/00000001/record", b"one").unwrap();
        assert!(public.write("rounds/00000001/record", b"two").unwrap());
        assert!(!public.write("rounds/00000001/record", b"two").unwrap());
        assert_eq!(std::fs::read(public.path("rounds/00000001/record")).unwrap(), b"two");
        public.link(&public.path("rounds/00000001/record"), "rounds/00000002/copy").unwrap();
        assert_eq!(public.rounds_in("rounds").unwrap(), [1, 2]);
        for round in 0..=7u64 {
            let temp = public.temp();
            std::fs::create_dir(&temp).unwrap();
            std::fs::write(temp.join("model.safetensors"), [7]).unwrap();
            public.publish_folder(&temp, &layout::checkpoint(round)).unwrap();
        }
        assert_eq!(public.retire_checkpoints(7, 5).unwrap(), [1, 2, 3, 4, 6]);
        assert!(public.kept_checkpoint(6).join("model.safetensors").is_file());
        assert!(!public.kept_checkpoint(4).exists());
        assert_eq!(public.rounds_in("checkpoints").unwrap(), [0, 5, 7]);
        assert_eq!(std::fs::read_dir(data.temp()).unwrap().count(), 0);
    }
}

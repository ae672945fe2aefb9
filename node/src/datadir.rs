//! The data directory: everything a member keeps between starts.
//!
//! ```text
//! key          the Ed25519 secret, mode 0600
//! run          which run, and the version of this layout
//! lock         held while a daemon runs here
//! node.toml    settings, optional
//! status.json  what `essaim status` shows
//! blobs/       the blob store: shards, updates
//! state/       the newest checkpoint applied, outer state, ledger, records
//! claims/      signed claims, written before they are first sent
//! evidence/    what contradicts the chain, if anything ever does
//! ```

use crate::files::{self, FileError};
use essaim_protocol::ids::RunId;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The version of the layout that this build reads and writes.
pub const LAYOUT_VERSION: u32 = 1;

/// The longest `run` or `lock` file read, bytes.
const SMALL_FILE_MAX: u64 = 4096;

/// How long a start waits for another process that is just ending.
const LOCK_WAIT: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunFile {
    version: u32,
    run: String,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// A file or folder in it cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// It belongs to another run.
    #[error("{path} belongs to run {found}, the link is of run {wanted}: give another --data-dir", path = path.display())]
    OtherRun {
        /// The directory.
        path: PathBuf,
        /// The run it belongs to.
        found: String,
        /// The run of the link.
        wanted: String,
    },
    /// Another version of essaim wrote it.
    #[error("{path} has layout version {found}, this build reads {LAYOUT_VERSION}: {mend}", path = path.display(),
            mend = if *found > LAYOUT_VERSION { "update essaim" } else { "give another --data-dir" })]
    OtherVersion {
        /// The directory.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Its `run` file says nothing.
    #[error("{path}/run is damaged: restore it from a copy, or give another --data-dir", path = path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
    },
    /// It holds other things.
    #[error("{path} is not empty and no data directory of essaim: give another --data-dir", path = path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
    /// There is none.
    #[error("{path} is no data directory of essaim: `essaim join LINK --data-dir {path}` makes one", path = path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// Another process runs here.
    #[error("another essaim{who} runs in {path}: stop it first, or give another --data-dir", path = path.display(),
            who = pid.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process, if it said so.
        pid: Option<String>,
    },
    /// Neither `--data-dir` nor a home directory.
    #[error("no home directory is set to keep data in: give --data-dir")]
    NoHome,
}

/// A data directory, locked while this value lives.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    _lock: File,
}

/// Where data of a run goes when no directory is given: `~/.local/share/essaim/RUN`, the run by its first digits.
///
/// # Errors
/// [`DataDirError::NoHome`].
pub fn default_path(run: &RunId) -> Result<PathBuf, DataDirError> {
    Ok(default_parent()?.join(run.short()))
}

/// The folder of the default data directories of all runs.
///
/// # Errors
/// [`DataDirError::NoHome`].
pub fn default_parent() -> Result<PathBuf, DataDirError> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let share = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
    share.map(|share| share.join("essaim")).ok_or(DataDirError::NoHome)
}

impl DataDir {
    /// Opens the data directory of `run` at `root`, makes it if there is none, and locks it.
    ///
    /// # Errors
    /// [`DataDirError`]: among others when it belongs to another run or version, or is in use.
    pub fn open(root: &Path, run: &RunId) -> Result<DataDir, DataDirError> {
        fs::create_dir_all(root).map_err(FileError::of("create", root))?;
        let fresh = match read_run_file(root)? {
            Some(found) if found.version != LAYOUT_VERSION => {
                return Err(DataDirError::OtherVersion { path: root.to_owned(), found: found.version });
            }
            Some(found) if found.run != run.to_string() => {
                let (found, wanted) = (found.run, run.to_string());
                return Err(DataDirError::OtherRun { path: root.to_owned(), found, wanted });
            }
            Some(_) => false,
            None => true,
        };
        if fresh && !may_be_made_ours(root)? {
            return Err(DataDirError::NotOurs { path: root.to_owned() });
        }
        let lock = take_lock(root)?;
        if fresh {
            let text = format!("version = {LAYOUT_VERSION}\nrun = \"{run}\"\n");
            files::write_atomic(&root.join("run"), text.as_bytes(), files::MODE_PUBLIC)?;
        }
        for folder in ["blobs", "state", "claims"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(FileError::of("create", &folder))?;
        }
        // Absolute, so that what is told of it holds elsewhere.
        let root = root.canonicalize().map_err(FileError::of("read", root))?;
        Ok(DataDir { root, _lock: lock })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Keeps something that contradicts the chain, for people; gives its path.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn keep_evidence(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, FileError> {
        let folder = self.path("evidence");
        fs::create_dir_all(&folder).map_err(FileError::of("create", &folder))?;
        let path = folder.join(name);
        files::write_atomic(&path, bytes, files::MODE_PUBLIC)?;
        Ok(path)
    }
}

/// Whether a daemon runs in the data directory `root`.
///
/// # Errors
/// [`DataDirError`].
pub fn is_running(root: &Path) -> Result<bool, DataDirError> {
    let path = root.join("lock");
    let Ok(file) = OpenOptions::new().read(true).open(&path) else {
        return Ok(false);
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(FileError::of("lock", &path)(error).into()),
    }
}

/// The run that the data directory `root` belongs to.
///
/// # Errors
/// [`DataDirError`].
pub fn run_of(root: &Path) -> Result<RunId, DataDirError> {
    let Some(found) = read_run_file(root)? else {
        return Err(DataDirError::Missing { path: root.to_owned() });
    };
    found.run.parse().map_err(|_| DataDirError::Damaged { path: root.to_owned() })
}

fn read_run_file(root: &Path) -> Result<Option<RunFile>, DataDirError> {
    let Some(bytes) = files::read_bounded(&root.join("run"), SMALL_FILE_MAX)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|_| DataDirError::Damaged { path: root.to_owned() })?;
    toml::from_str(&text).map(Some).map_err(|_| DataDirError::Damaged { path: root.to_owned() })
}

/// Whether a folder without a `run` file may become a data directory: it is empty, or holds only what a person puts
/// there before the first start, or what a crash in that start left.
fn may_be_made_ours(root: &Path) -> Result<bool, DataDirError> {
    let entries = fs::read_dir(root).map_err(FileError::of("read", root))?;
    for entry in entries {
        let entry = entry.map_err(FileError::of("read", root))?;
        let name = entry.file_name();
        if !["node.toml", "key", "lock", ".run.new"].iter().any(|known| name == *known) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn take_lock(root: &Path) -> Result<File, DataDirError> {
    let path = root.join("lock");
    let io = |error| FileError::of("lock", &path)(error);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
    let begun = Instant::now();
    let locked = loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT => std::thread::sleep(LOCK_WAIT / 20),
            locked => break locked,
        }
    };
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = files::read_bounded(&path, SMALL_FILE_MAX)?.and_then(|bytes| String::from_utf8(bytes).ok());
            let pid = pid.map(|pid| pid.trim().to_owned()).filter(|pid| !pid.is_empty());
            return Err(DataDirError::Locked { path: root.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(FileError::of("lock", &path)(error).into()),
    }
    // For people who wonder who holds it: the lock itself is the system's, and ends with the process.
    let io = |error| FileError::of("write", &path)(error);
    file.set_len(0).map_err(io)?;
    let io = |error| FileError::of("write", &path)(error);
    file.rewind().and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId([7; 32]);

    #[test]
    fn one_daemon_one_run_one_version() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/b");
        assert!(matches!(run_of(&root), Err(DataDirError::Missing { .. })));
        let open = DataDir::open(&root, &RUN).unwrap();
        assert!(is_running(&root).unwrap());
        assert_eq!(run_of(&root).unwrap(), RUN);
        let locked = DataDir::open(&root, &RUN).unwrap_err();
        assert!(locked.to_string().contains(&format!("process {}", std::process::id())), "{locked}");
        drop(open);
        assert!(!is_running(&root).unwrap());
        DataDir::open(&root, &RUN).unwrap();
        let other = DataDir::open(&root, &RunId([8; 32])).unwrap_err();
        assert!(matches!(other, DataDirError::OtherRun { .. }), "{other}");
        fs::write(root.join("run"), format!("version = 2\nrun = \"{RUN}\"\n")).unwrap();
        let newer = DataDir::open(&root, &RUN).unwrap_err();
        assert!(newer.to_string().contains("update essaim"), "{newer}");
        fs::write(root.join("run"), b"\xff\xfe").unwrap();
        assert!(matches!(DataDir::open(&root, &RUN), Err(DataDirError::Damaged { .. })));
    }

    #[test]
    fn a_folder_of_other_things_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        assert!(matches!(DataDir::open(dir.path(), &RUN), Err(DataDirError::NotOurs { .. })));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was written");
        let prepared = tempfile::tempdir().unwrap();
        fs::write(prepared.path().join("node.toml"), "").unwrap();
        DataDir::open(prepared.path(), &RUN).unwrap();
    }
}

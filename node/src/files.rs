//! Files written so that a crash at any moment leaves the old content or the new, never a mixture.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file or folder that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {source}", path = path.display())]
pub struct FileError {
    /// What was tried: `read`, `write`.
    pub action: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    /// Puts the path on an error of the system, for `map_err`.
    pub fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
        let path = path.to_owned();
        move |source| FileError { action, path, source }
    }
}

/// Permissions of files that anybody on the machine may read.
pub const MODE_PUBLIC: u32 = 0o644;
/// Permissions of secrets.
pub const MODE_SECRET: u32 = 0o600;

/// Replaces `path` by a file of `bytes`: a temporary file beside it, fsync, rename, fsync of the folder.
///
/// # Errors
/// [`FileError`]; the old file, if there was one, is then still there.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = folder.join(format!(".{name}.new"));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(FileError::of("write", path))
}

/// The content of `path`, if it is at most `max_bytes` long; `None` if there is no such file.
///
/// # Errors
/// [`FileError`], also for a longer file.
pub fn read_bounded(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>, FileError> {
    let len = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::of("read", path)(error)),
    };
    if len > max_bytes {
        let source = io::Error::other(format!("{len} bytes, where {max_bytes} are allowed"));
        return Err(FileError { action: "read", path: path.to_owned(), source });
    }
    fs::read(path).map(Some).map_err(FileError::of("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn replaces_whole_files_and_keeps_the_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_atomic(&path, b"first, long", MODE_SECRET).unwrap();
        write_atomic(&path, b"second", MODE_SECRET).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_long_file_is_refused_unread_and_a_missing_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("long");
        fs::write(&path, [0; 100]).unwrap();
        assert!(read_bounded(&path, 99).unwrap_err().to_string().contains("100 bytes, where 99"));
        assert_eq!(read_bounded(&path, 100).unwrap().unwrap().len(), 100);
        assert!(read_bounded(&dir.path().join("none"), 1).unwrap().is_none());
    }
}

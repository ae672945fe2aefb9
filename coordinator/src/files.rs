//! Writing files so that a crash leaves the old one or the new one, never half of one; and secrets that only their owner reads.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file operation that failed, with the file's name.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {path}: {source}", path = .path.display())]
pub struct FileError {
    /// `read`, `write`, `create`…
    pub what: &'static str,
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: names the operation and the file.
    pub fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
        let path = path.to_owned();
        move |source| FileError { what, path, source }
    }
}

/// Makes what was done to the entries of a folder durable.
///
/// # Errors
/// [`FileError`].
pub fn sync_dir(path: &Path) -> Result<(), FileError> {
    // The parent of a bare name is the folder that this program runs in.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|dir| dir.sync_all()).map_err(FileError::at("sync", path))
}

/// Creates a folder and those above it, durably.
///
/// # Errors
/// [`FileError`].
pub fn create_dir(path: &Path) -> Result<(), FileError> {
    if path.is_dir() || path.as_os_str().is_empty() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(FileError::at("create", path)(error)),
        _ => path.parent().map_or(Ok(()), sync_dir),
    }
}

/// Writes a file by way of `temp`, which must lie on the same file system and is not served to anybody. When this
/// returns, the file is on disk.
///
/// # Errors
/// [`FileError`].
pub fn write_atomic(temp: &Path, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    let mut file = File::create(temp).map_err(FileError::at("create", temp))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(FileError::at("write", temp))?;
    drop(file);
    publish(temp, path)
}

/// Renames a finished file or folder to its place, durably.
///
/// # Errors
/// [`FileError`].
pub fn publish(temp: &Path, path: &Path) -> Result<(), FileError> {
    std::fs::rename(temp, path).map_err(FileError::at("rename to", path))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Writes 32 secret bytes in hexadecimal to a new file of mode 0600.
///
/// # Errors
/// [`FileError`]; an existing file is never overwritten.
pub fn write_secret(path: &Path, secret: &[u8; 32]) -> Result<(), FileError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).map_err(FileError::at("create", path))?;
    let text = format!("{}\n", essaim_protocol::ids::Hash(*secret));
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(FileError::at("write", path))
}

/// Why a secret was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Others may read it.
    #[error("{path} can be read by others (mode {mode:o}): run `chmod 600 {path}`", path = .path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not 64 hexadecimal digits.
    #[error("{path} is damaged: {source}; restore it from a backup", path = .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: essaim_protocol::ids::ParseIdError,
    },
}

/// Reads 32 secret bytes, and insists that nobody else can.
///
/// # Errors
/// [`SecretError`].
pub fn read_secret(path: &Path) -> Result<[u8; 32], SecretError> {
    let mut file = File::open(path).map_err(FileError::at("read", path))?;
    let mode = file.metadata().map_err(FileError::at("read", path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Open { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    Read::take(&mut file, 256).read_to_string(&mut text).map_err(FileError::at("read", path))?;
    let hash: essaim_protocol::ids::Hash =
        text.trim().parse().map_err(|source| SecretError::Damaged { path: path.to_owned(), source })?;
    Ok(hash.0)
}

/// 32 bytes from the operating system's generator.
///
/// # Errors
/// [`FileError`], as if the generator were the file `/dev/urandom`.
pub fn random_bytes() -> Result<[u8; 32], FileError> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| FileError::at("read", Path::new("/dev/urandom"))(io::Error::other(error.to_string())))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_private_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_secret(&path, &[7; 32]).unwrap();
        assert_eq!(read_secret(&path).unwrap(), [7; 32]);
        assert!(write_secret(&path, &[8; 32]).is_err(), "an existing key is kept");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read_secret(&path).unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "0707").unwrap();
        assert!(read_secret(&path).unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let [temp, path] = ["temp", "deep/er/file"].map(|name| dir.path().join(name));
        write_atomic(&temp, &path, b"one").unwrap();
        write_atomic(&temp, &path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert!(!temp.exists());
    }
}

//! The member's identity: an Ed25519 secret in a file that only its owner may read. Statements are signed with it, and
//! the libp2p peer id derives from it.

use crate::files::{self, FileError};
use essaim_protocol::signing::Keypair;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The longest key file read, bytes: 64 digits and some blanks.
const KEY_FILE_MAX: u64 = 256;

/// A member's secret and key pair.
#[derive(Clone)]
pub struct Identity {
    /// The 32-byte Ed25519 secret.
    pub secret: [u8; 32],
    /// The key pair of it.
    pub keypair: Keypair,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({:?})", self.keypair.member())
    }
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The key file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Others on this machine may read the secret.
    #[error("{path} has mode {mode:o}, so others could read the key: run `chmod 600 {path}`", path = path.display())]
    Readable {
        /// The key file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file does not hold a key.
    #[error("{path} is damaged: it should hold 64 hexadecimal digits; restore it from a copy, or remove it to become \
             a new member", path = path.display())]
    Damaged {
        /// The key file.
        path: PathBuf,
    },
    /// The system gave no random bytes.
    #[error("no random bytes from the system for a new key: {0}")]
    Random(String),
}

impl Identity {
    /// The identity of a secret.
    pub fn from_secret(secret: [u8; 32]) -> Identity {
        Identity { secret, keypair: Keypair::from_secret(&secret) }
    }

    /// The identity in the file at `path`; a new one, written there, if there is no such file.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load_or_create(path: &Path) -> Result<Identity, IdentityError> {
        let Some(bytes) = files::read_bounded(path, KEY_FILE_MAX)? else {
            let mut secret = [0u8; 32];
            getrandom::fill(&mut secret).map_err(|error| IdentityError::Random(error.to_string()))?;
            let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            files::write_atomic(path, format!("{digits}\n").as_bytes(), files::MODE_SECRET)?;
            return Ok(Identity::from_secret(secret));
        };
        let metadata = std::fs::metadata(path).map_err(FileError::of("read", path))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Readable { path: path.to_owned(), mode });
        }
        let damaged = || IdentityError::Damaged { path: path.to_owned() };
        let text = String::from_utf8(bytes).map_err(|_| damaged())?;
        let secret: essaim_protocol::ids::Hash = text.trim().parse().map_err(|_| damaged())?;
        Ok(Identity::from_secret(secret.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn one_identity_for_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let first = Identity::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Identity::load_or_create(&path).unwrap();
        assert_eq!(first.keypair.member(), again.keypair.member());
        let other = Identity::load_or_create(&dir.path().join("other")).unwrap();
        assert_ne!(first.keypair.member(), other.keypair.member());
        assert!(!format!("{first:?}").contains(fs::read_to_string(&path).unwrap().trim()));
    }

    #[test]
    fn a_readable_or_damaged_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        Identity::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Identity::load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        fs::write(&path, "abcd\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::Damaged { .. })));
    }
}

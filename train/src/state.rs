//! The outer state: what a round leaves to the next beside the checkpoint. Its hash stands in the record.
//!
//! All integers and values are little-endian.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `ESSAIMOS` |
//! | 8 | 4 | version: 1 |
//! | 12 | 4 | 1 when the second moments are those of an earlier round, 0 when there was none |
//! | 16 | 8 | parameters |
//! | 24 | 8 | second moments |
//! | 32 | 4 each | outer momentum, float32, in the order of the parameters |
//! | | 4 each | second moments, factored, float32: see [`crate::moments`] |

use crate::codec::UpdateFormat;
use crate::files;
use essaim_protocol::ids::Hash;
use essaim_protocol::manifest::Manifest;
use std::io::{self, Read, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"ESSAIMOS";
const VERSION: u32 = 1;
const HEADER_LEN_BYTES: usize = 32;

/// The outer state after a round.
#[derive(Debug, Clone, PartialEq)]
pub struct OuterState {
    /// Nesterov momentum: one value a parameter.
    pub momentum: Vec<f32>,
    /// The members' weighted mean second moments, factored.
    pub moments: Vec<f32>,
    /// Whether `moments` are those of an earlier round. Before the first contribution they are zero, and AdamW begins as it does
    /// without them, correcting its bias.
    pub seeded: bool,
}

/// Why bytes are no outer state of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file cannot be read.
    #[error("outer state: {0}")]
    Io(#[from] io::Error),
    /// Not as long as the run's outer state is.
    #[error("an outer state of {got} bytes, this run's has {expected}: truncated, or of another run")]
    Length {
        /// Its length, bytes.
        got: u64,
        /// The length of the run's outer state, bytes.
        expected: u64,
    },
    /// The header is not the run's.
    #[error("the outer state's header has another {field}: damaged, or of another run or version")]
    Header {
        /// Which field.
        field: &'static str,
    },
    /// A value is not finite, or a second moment negative.
    #[error("the outer state holds an impossible value at {index}: damaged")]
    Value {
        /// Which, from 0: momentum, then second moments.
        index: usize,
    },
}

impl OuterState {
    /// The outer state of record 0: all zero.
    pub fn initial(manifest: &Manifest) -> OuterState {
        let format = UpdateFormat::of(manifest);
        OuterState { momentum: vec![0.0; format.parameters()], moments: vec![0.0; format.moments()], seeded: false }
    }

    /// Length of the file of any outer state of the run.
    pub fn len_bytes(manifest: &Manifest) -> u64 {
        let format = UpdateFormat::of(manifest);
        file_len_bytes(&format)
    }

    fn header(&self) -> [u8; HEADER_LEN_BYTES] {
        let mut bytes = [0; HEADER_LEN_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&u32::from(self.seeded).to_le_bytes());
        bytes[16..24].copy_from_slice(&(self.momentum.len() as u64).to_le_bytes());
        bytes[24..32].copy_from_slice(&(self.moments.len() as u64).to_le_bytes());
        bytes
    }

    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.header())?;
        files::for_each_le_chunk(&self.momentum, &mut |bytes| out.write_all(bytes))?;
        files::for_each_le_chunk(&self.moments, &mut |bytes| out.write_all(bytes))
    }

    /// The hash of the file that [`OuterState::write`] writes, without writing it.
    pub fn hash(&self) -> Hash {
        let mut hasher = files::HashWriter::new();
        match self.write_to(&mut hasher) {
            Ok(()) => hasher.finish(),
            Err(error) => unreachable!("hashing does no input or output: {error}"),
        }
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN_BYTES + 4 * (self.momentum.len() + self.moments.len()));
        match self.write_to(&mut bytes) {
            Ok(()) => bytes,
            Err(error) => unreachable!("writing to memory: {error}"),
        }
    }

    /// Writes the file, atomically, and returns its hash.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, path: &Path) -> io::Result<Hash> {
        Ok(files::write_atomic(path, |out| self.write_to(out))?.0)
    }

    /// Reads a file of the run. Callers compare [`OuterState::hash`] with the record, or have the file's hash checked already.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn read(path: &Path, manifest: &Manifest) -> Result<OuterState, StateError> {
        let expected = Self::len_bytes(manifest);
        let file = std::fs::File::open(path)?;
        let got = file.metadata()?.len();
        if got != expected {
            return Err(StateError::Length { got, expected });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
        file.take(expected).read_to_end(&mut bytes)?;
        Self::from_bytes(&bytes, manifest)
    }

    /// Reads the bytes of a file of the run.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn from_bytes(bytes: &[u8], manifest: &Manifest) -> Result<OuterState, StateError> {
        let format = UpdateFormat::of(manifest);
        let (got, expected) = (bytes.len() as u64, file_len_bytes(&format));
        if got != expected {
            return Err(StateError::Length { got, expected });
        }
        let (header, values) = bytes.split_at(HEADER_LEN_BYTES);
        let (momentum, moments) = values.split_at(4 * format.parameters());
        let seeded = header[12] == 1;
        let state =
            OuterState { momentum: files::f32s_from_le(momentum), moments: files::f32s_from_le(moments), seeded };
        let wanted = state.header();
        let fields = [
            ("magic", 0..8),
            ("version", 8..12),
            ("flag", 12..16),
            ("number of parameters", 16..24),
            ("number of second moments", 24..32),
        ];
        if let Some((field, _)) = fields.into_iter().find(|(_, range)| header[range.clone()] != wanted[range.clone()]) {
            return Err(StateError::Header { field });
        }
        let parameters = state.momentum.len();
        if let Some(index) = state.momentum.iter().position(|value| !value.is_finite()) {
            return Err(StateError::Value { index });
        }
        match state.moments.iter().position(|value| !value.is_finite() || *value < 0.0) {
            Some(index) => Err(StateError::Value { index: parameters + index }),
            None => Ok(state),
        }
    }
}

fn file_len_bytes(format: &UpdateFormat) -> u64 {
    HEADER_LEN_BYTES as u64 + 4 * (format.parameters() as u64 + format.moments() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selfcheck::tiny_manifest;
    use essaim_protocol::manifest::Optimizer;

    fn filled(manifest: &Manifest) -> OuterState {
        let mut state = OuterState::initial(manifest);
        state.seeded = true;
        state.momentum.iter_mut().enumerate().for_each(|(i, value)| *value = i as f32 * -1e-3);
        state.moments.iter_mut().enumerate().for_each(|(i, value)| *value = i as f32 * 1e-9);
        state
    }

    #[test]
    fn a_file_comes_back_and_hashes_as_its_bytes() {
        let manifest = tiny_manifest(Optimizer::Muon);
        let state = filled(&manifest);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outer.state");
        let hash = state.write(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(hash, Hash::of(&bytes));
        assert_eq!(hash, state.hash());
        assert_eq!(bytes, state.to_bytes());
        assert_eq!(bytes.len() as u64, OuterState::len_bytes(&manifest));
        assert_eq!(OuterState::read(&path, &manifest).unwrap(), state);
    }

    #[test]
    fn damage_is_named() {
        let manifest = tiny_manifest(Optimizer::Muon);
        let bytes = filled(&manifest).to_bytes();
        let error = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = bytes.clone();
            change(&mut bytes);
            OuterState::from_bytes(&bytes, &manifest).unwrap_err().to_string()
        };
        assert!(error(&|bytes| bytes.truncate(100)).contains("100 bytes"));
        assert!(error(&|bytes| bytes.push(0)).contains("truncated"));
        assert!(error(&|bytes| bytes[0] ^= 1).contains("magic"));
        assert!(error(&|bytes| bytes[8] = 2).contains("version"));
        assert!(error(&|bytes| bytes[12] = 2).contains("flag"));
        assert!(error(&|bytes| bytes[17] ^= 1).contains("parameters"));
        assert!(error(&|bytes| bytes[32..36].copy_from_slice(&f32::NAN.to_le_bytes())).contains("at 0"));
        assert!(error(&|bytes| *bytes.last_mut().unwrap() |= 0x80).contains("impossible"));
        let other = Manifest {
            model: essaim_protocol::manifest::ModelConfig { layers: 3, ..manifest.model.clone() },
            ..manifest.clone()
        };
        assert!(OuterState::from_bytes(&bytes, &other).unwrap_err().to_string().contains("another run"));
    }
}

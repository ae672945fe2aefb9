//! Reads numbers from a model's file, none more than it holds.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// The largest model that is read, bytes. GlotLID has 1.7 GB.
const FILE_MAX: u64 = 16 << 30;
/// The longest word or label, bytes.
const NAME_MAX: usize = 1 << 12;

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// It could not be read.
    #[error("language.model: {path}: {error}", path = .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is no model, or damaged.
    #[error("language.model: {path}: not a whole fastText model: {reason}; get it again", path = .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A file and how much of it is left.
pub(super) struct ModelFile {
    path: PathBuf,
    reader: BufReader<File>,
    left: u64,
}

impl ModelFile {
    pub(super) fn open(path: &Path) -> Result<ModelFile, ModelError> {
        let failed = |error| ModelError::Read { path: path.to_owned(), error };
        let file = File::open(path).map_err(failed)?;
        let left = file.metadata().map_err(failed)?.len();
        let file = ModelFile { path: path.to_owned(), reader: BufReader::with_capacity(1 << 20, file), left };
        match left > FILE_MAX {
            true => Err(file.malformed(&format!("{left} bytes, at most {FILE_MAX}"))),
            false => Ok(file),
        }
    }

    pub(super) fn malformed(&self, reason: &str) -> ModelError {
        ModelError::Malformed { path: self.path.clone(), reason: reason.to_owned() }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), ModelError> {
        let length = buffer.len() as u64;
        if length > self.left {
            return Err(self.malformed(&format!("it ends where {length} bytes should follow")));
        }
        self.left -= length;
        self.reader.read_exact(buffer).map_err(|error| ModelError::Read { path: self.path.clone(), error })
    }

    pub(super) fn byte(&mut self) -> Result<u8, ModelError> {
        let mut buffer = [0];
        self.fill(&mut buffer)?;
        Ok(buffer[0])
    }

    pub(super) fn int(&mut self) -> Result<i32, ModelError> {
        let mut buffer = [0; 4];
        self.fill(&mut buffer)?;
        Ok(i32::from_le_bytes(buffer))
    }

    pub(super) fn ints<const N: usize>(&mut self) -> Result<[i32; N], ModelError> {
        let mut values = [0; N];
        for value in &mut values {
            *value = self.int()?;
        }
        Ok(values)
    }

    pub(super) fn long(&mut self) -> Result<i64, ModelError> {
        let mut buffer = [0; 8];
        self.fill(&mut buffer)?;
        Ok(i64::from_le_bytes(buffer))
    }

    pub(super) fn skip(&mut self, bytes: usize) -> Result<(), ModelError> {
        self.bytes(bytes).map(drop)
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<Vec<u8>, ModelError> {
        if length as u64 > self.left {
            return Err(self.malformed(&format!("it ends where {length} bytes should follow")));
        }
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Float32 values, all finite.
    pub(super) fn floats(&mut self, count: usize) -> Result<Vec<f32>, ModelError> {
        if count as u64 * 4 > self.left {
            return Err(self.malformed(&format!("it ends where {count} numbers should follow")));
        }
        let mut values = Vec::with_capacity(count);
        let mut buffer = [0; 1 << 12];
        while values.len() < count {
            let length = (4 * (count - values.len())).min(buffer.len());
            self.fill(&mut buffer[..length])?;
            let number = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            values.extend(buffer[..length].chunks_exact(4).map(number));
        }
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => Err(self.malformed("a weight that is no number")),
        }
    }

    /// A name that ends with a zero.
    pub(super) fn name(&mut self) -> Result<Vec<u8>, ModelError> {
        let mut name = Vec::new();
        loop {
            match self.byte()? {
                0 => return Ok(name),
                _ if name.len() == NAME_MAX => return Err(self.malformed("a word that does not end")),
                byte => name.push(byte),
            }
        }
    }

    /// A number that counts something, from 0 to `most`.
    pub(super) fn count(&self, value: i64, most: usize) -> Result<usize, ModelError> {
        match usize::try_from(value) {
            Ok(value) if value <= most => Ok(value),
            _ => Err(self.malformed(&format!("{value} of something, 0 to {most} are possible"))),
        }
    }
}

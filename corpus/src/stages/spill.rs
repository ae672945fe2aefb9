//! Sorting more than memory holds: items go to a file by ranges of a number, and come back a range at a time.

use crate::bundle;
use crate::output::OutputError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

/// Items of a range, about.
const RANGE_ITEMS: u64 = 1 << 16;
/// Bytes that are gathered before they go to the file.
const PENDING: usize = 8 << 20;
const RANGES_MAX: u64 = 1 << 16;

/// Items on their way through a file, which goes when this does.
#[derive(Debug)]
pub(super) struct Spill {
    file: File,
    path: PathBuf,
    /// For each range: items as bincode, one after the other.
    pending: Vec<Vec<u8>>,
    held: usize,
    /// For each range: where in the file it has packed pieces, and how long they are.
    pieces: Vec<Vec<(u64, u32)>>,
    end: u64,
}

impl Spill {
    /// Begins with a file; `items` will come, about.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub(super) fn new(path: PathBuf, items: u64) -> Result<Spill, OutputError> {
        let ranges = items.div_ceil(RANGE_ITEMS).clamp(1, RANGES_MAX).next_power_of_two() as usize;
        let opened = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        match opened {
            Ok(file) => {
                let (pending, pieces) = (vec![Vec::new(); ranges], vec![Vec::new(); ranges]);
                Ok(Spill { file, path, pending, held: 0, pieces, end: 0 })
            }
            Err(error) => Err(OutputError::Io { path, error }),
        }
    }

    /// Ranges, in the order of heads.
    pub(super) fn ranges(&self) -> usize {
        self.pieces.len()
    }

    /// Adds an item to the range that its head lies in.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub(super) fn push<T: Serialize>(&mut self, head: u64, item: &T) -> Result<(), OutputError> {
        let range = ((u128::from(head) * self.ranges() as u128) >> 64) as usize;
        match bincode::serde::encode_to_vec(item, bincode::config::standard()) {
            Ok(bytes) => {
                self.held += bytes.len();
                self.pending[range].extend(bytes);
            }
            Err(error) => unreachable!("a value that is no bincode: {error}"),
        }
        if self.held >= PENDING {
            self.write().map_err(|error| OutputError::Io { path: self.path.clone(), error })?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.end))?;
        for (pending, pieces) in self.pending.iter_mut().zip(&mut self.pieces) {
            if pending.is_empty() {
                continue;
            }
            let packed = bundle::pack(&std::mem::take(pending));
            self.file.write_all(&packed)?;
            pieces.push((self.end, packed.len() as u32));
            self.end += packed.len() as u64;
        }
        self.held = 0;
        Ok(())
    }

    /// The items of a range, in the order in which they came.
    ///
    /// # Errors
    /// [`OutputError::Io`].
    pub(super) fn take<T: DeserializeOwned>(&mut self, range: usize) -> Result<Vec<T>, OutputError> {
        let read = |spill: &mut Spill| -> io::Result<Vec<T>> {
            let mut items = Vec::new();
            for (at, len) in std::mem::take(&mut spill.pieces[range]) {
                spill.file.seek(SeekFrom::Start(at))?;
                let mut packed = vec![0; len as usize];
                spill.file.read_exact(&mut packed)?;
                let piece: Vec<u8> = bundle::unpack(&packed).map_err(io::Error::other)?;
                decode(&piece, &mut items)?;
            }
            decode(&std::mem::take(&mut spill.pending[range]), &mut items)?;
            Ok(items)
        };
        read(self).map_err(|error| OutputError::Io { path: self.path.clone(), error })
    }
}

fn decode<T: DeserializeOwned>(mut bytes: &[u8], items: &mut Vec<T>) -> io::Result<()> {
    while !bytes.is_empty() {
        let decoded = bincode::serde::decode_from_slice(bytes, bincode::config::standard());
        let (item, read) = decoded.map_err(io::Error::other)?;
        items.push(item);
        bytes = &bytes[read..];
    }
    Ok(())
}

impl Drop for Spill {
    fn drop(&mut self) {
        // It is in a folder that is cleared anyway.
        drop(std::fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_back_in_order_and_the_file_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spill");
        let head = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let count = 5 * RANGE_ITEMS;
        let mut spill = Spill::new(path.clone(), count).unwrap();
        for i in 0..count {
            spill.push(head(i), &(head(i), format!("{i:0100}"))).unwrap();
        }
        assert!(spill.ranges() == 8 && spill.end > 0 && spill.held < PENDING);
        let mut all: Vec<(u64, String)> = Vec::new();
        for range in 0..8 {
            let mut items: Vec<(u64, String)> = spill.take(range).unwrap();
            assert!(items.iter().all(|item| item.0 >> 61 == range as u64));
            items.sort();
            all.extend(items);
        }
        let mut expected: Vec<(u64, String)> = (0..count).map(|i| (head(i), format!("{i:0100}"))).collect();
        expected.sort();
        assert!(all == expected);
        drop(spill);
        assert!(!path.exists());
    }
}

//! A blob on its way here: its pieces are written at their places in one file as they arrive.
//!
//! Which pieces are there is not written down anywhere: after a restart the file is read once, and every piece that
//! matches its value is there. So nothing can disagree with the file, and a crash loses no piece that reached it.

use super::store::{BlobError, BlobStore, io_error, read_outboard, read_range};
use super::tree::{Outboard, piece_range};
use essaim_protocol::ids::Hash;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

/// A partly downloaded blob. One at a time per hash: [`crate::Network::fetch`] sees to that.
#[derive(Debug)]
pub struct PartialBlob {
    store: Arc<BlobStore>,
    outboard: Outboard,
    file: File,
    path: PathBuf,
}

fn outboard_path(store: &BlobStore, hash: &Hash) -> PathBuf {
    store.partial_path(hash).with_extension("outboard")
}

impl PartialBlob {
    /// Begins a download whose outboard and length are proven.
    ///
    /// # Errors
    /// [`BlobError::Full`], [`BlobError::Io`].
    pub fn create(store: Arc<BlobStore>, outboard: Outboard) -> Result<PartialBlob, BlobError> {
        store.check_room(outboard.len_bytes())?;
        let path = store.partial_path(&outboard.hash());
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).open(&path).map_err(io_error("create", &path))?;
        store.write_outboard(&outboard_path(&store, &outboard.hash()), &outboard)?;
        Ok(PartialBlob { store, outboard, file, path })
    }

    /// Goes on with a download that was begun before. Gives it with, for each piece, whether it is there and right; `None` if
    /// there is none, or none that is of use (it is then removed).
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn resume(store: Arc<BlobStore>, hash: &Hash) -> Result<Option<(PartialBlob, Vec<bool>)>, BlobError> {
        let path = store.partial_path(hash);
        let outboard = read_outboard(&outboard_path(&store, hash), *hash);
        let (Some(outboard), true) = (outboard, path.is_file()) else {
            PartialBlob::discard(&store, hash)?;
            return Ok(None);
        };
        let mut have = Vec::with_capacity(outboard.pieces() as usize);
        for index in 0..outboard.pieces() {
            let bytes = read_range(&path, &outboard, index).map_err(io_error("read", &path))?;
            have.push(outboard.verifies(index, &bytes));
        }
        // The last piece is what proves the length; it is written first.
        if have.last() != Some(&true) {
            PartialBlob::discard(&store, hash)?;
            return Ok(None);
        }
        let file = OpenOptions::new().write(true).open(&path).map_err(io_error("open", &path))?;
        Ok(Some((PartialBlob { store, outboard, file, path }, have)))
    }

    /// Removes what was downloaded of a blob, if anything.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn discard(store: &BlobStore, hash: &Hash) -> Result<(), BlobError> {
        for path in [store.partial_path(hash), outboard_path(store, hash)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &path)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The blob's outboard.
    pub fn outboard(&self) -> &Outboard {
        &self.outboard
    }

    /// Writes a piece that has been verified.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn write_piece(&mut self, index: u32, bytes: &[u8]) -> Result<(), BlobError> {
        let start = piece_range(self.outboard.len_bytes(), index).start;
        self.file
            .seek(SeekFrom::Start(start))
            .and_then(|_| self.file.write_all(bytes))
            .map_err(io_error("write", &self.path))
    }

    /// Makes the download a blob of the store, once every piece is written. Returns its path.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub fn finish(self) -> Result<PathBuf, BlobError> {
        let PartialBlob { store, outboard, file, path } = self;
        file.set_len(outboard.len_bytes()).and_then(|()| file.sync_all()).map_err(io_error("sync", &path))?;
        let hash = outboard.hash();
        let placed = store.place(&path, &hash)?;
        store.keep_outboard(outboard)?;
        PartialBlob::discard(&store, &hash)?;
        Ok(placed)
    }
}

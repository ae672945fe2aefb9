//! Float32 values as little-endian bytes, and files that are whole or absent.

use essaim_protocol::ids::Hash;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Values that are converted at a time.
const CHUNK: usize = 1 << 16;

/// Calls `sink` with the little-endian bytes of `values`, in order, in pieces of at most 256 KiB.
pub(crate) fn for_each_le_chunk(values: &[f32], sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    if cfg!(target_endian = "little") {
        return values.chunks(CHUNK).try_for_each(|chunk| sink(bytemuck::cast_slice(chunk)));
    }
    let mut bytes = Vec::with_capacity(4 * CHUNK.min(values.len()));
    values.chunks(CHUNK).try_for_each(|chunk| {
        bytes.clear();
        chunk.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        sink(&bytes)
    })
}

/// The values whose little-endian bytes are `bytes`; a rest of less than four bytes is ignored.
pub(crate) fn f32s_from_le(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// A writer that only hashes.
pub(crate) struct HashWriter(blake3::Hasher);

impl HashWriter {
    /// Nothing hashed yet.
    pub(crate) fn new() -> HashWriter {
        HashWriter(blake3::Hasher::new())
    }

    /// The hash of all that was written.
    pub(crate) fn finish(self) -> Hash {
        Hash::from(self.0.finalize())
    }
}

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a file beside `path`, flushes it to the disk, and renames it to `path`: a crash leaves the old file or the new one. Returns the
/// hash and length of what was written.
pub(crate) fn write_atomic(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<(Hash, u64)> {
    struct Tee<W> {
        out: W,
        hash: blake3::Hasher,
        len_bytes: u64,
    }
    impl<W: Write> Write for Tee<W> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let written = self.out.write(bytes)?;
            self.hash.update(&bytes[..written]);
            self.len_bytes += written as u64;
            Ok(written)
        }
        fn flush(&mut self) -> io::Result<()> {
            self.out.flush()
        }
    }
    let partial = partial_path(path);
    let mut tee = Tee {
        out: BufWriter::with_capacity(1 << 18, File::create(&partial)?),
        hash: blake3::Hasher::new(),
        len_bytes: 0,
    };
    content(&mut tee)?;
    tee.flush()?;
    let file = tee.out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&partial, path)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        sync_folder(folder)?;
    }
    Ok((Hash::from(tee.hash.finalize()), tee.len_bytes))
}

/// Makes a rename inside `folder` durable, where the system can.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_with_their_bits() {
        let values = [0.0f32, -0.0, 1.5, f32::from_bits(1), f32::MAX];
        let mut bytes = Vec::new();
        for_each_le_chunk(&values, &mut |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })
        .unwrap();
        assert_eq!(bytes[8..12], 1.5f32.to_le_bytes());
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&f32s_from_le(&bytes)), bits(&values));
    }

    #[test]
    fn a_file_is_whole_and_its_hash_is_that_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blob");
        std::fs::write(&path, b"old").unwrap();
        let failed = write_atomic(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        let (hash, len_bytes) = write_atomic(&path, |out| out.write_all(b"new content")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new content");
        assert_eq!((hash, len_bytes), (Hash::of(b"new content"), 11));
    }
}

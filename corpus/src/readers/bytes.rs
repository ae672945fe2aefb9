//! Files as streams of bytes, unpacked on the way, and lines of them with a bound.

use super::error::ReadError;
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Bytes read ahead.
const BUFFER: usize = 1 << 18;
/// The largest window of a zstd frame, as a power of two: what `zstd` itself takes unless told otherwise (RFC 8878, 3.1.1.1.2).
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// A file's bytes; gzip (also of several members, as WARC has them) and zstd are unpacked. What a file begins with decides, and
/// a name that ends in `.gz` or `.zst` must hold what it says.
pub(crate) fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::with_capacity(BUFFER, File::open(path)?);
    let start = file.fill_buf()?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    if extension == "gz" || start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file))));
    }
    if extension == "zst" || start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(file)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        return Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)));
    }
    Ok(Box::new(file))
}

/// What reading a file's bytes failed with: where it is packed, most likely it is cut off or damaged.
pub(crate) fn failed(path: &Path) -> impl Fn(io::Error) -> ReadError + '_ {
    |error| match error.raw_os_error() {
        Some(_) => ReadError::Io { path: path.to_owned(), error },
        None => ReadError::Malformed {
            path: path.to_owned(),
            place: String::new(),
            reason: format!("damaged or cut off: {error}"),
        },
    }
}

/// One line was read: its length with its end, all of it in the buffer or, where it is longer than allowed, none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Whole(u64),
    TooLong(u64),
}

/// The next line with its end, into `line`; `None` at the end of the file. One longer than `max` bytes is passed over, unheld.
pub(crate) fn next_line(reader: &mut dyn BufRead, line: &mut Vec<u8>, max: u64) -> io::Result<Option<Line>> {
    line.clear();
    let mut len = reader.take(max + 1).read_until(b'\n', line)? as u64;
    if len == 0 {
        return Ok(None);
    }
    if len <= max {
        return Ok(Some(Line::Whole(len)));
    }
    let mut ended = line.ends_with(b"\n");
    line.clear();
    line.shrink_to(BUFFER);
    while !ended {
        let ahead = reader.fill_buf()?;
        let end = memchr::memchr(b'\n', ahead);
        let used = end.map_or(ahead.len(), |at| at + 1);
        ended = end.is_some() || used == 0;
        reader.consume(used);
        len += used as u64;
    }
    Ok(Some(Line::TooLong(len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_a_bound() {
        let mut bytes: &[u8] = b"ab\nabcdef\n\nabc";
        let mut line = Vec::new();
        let mut next = || next_line(&mut bytes, &mut line, 3).unwrap().map(|kind| (kind, line.clone()));
        assert_eq!(next(), Some((Line::Whole(3), b"ab\n".to_vec())));
        assert_eq!(next(), Some((Line::TooLong(7), vec![])));
        assert_eq!(next(), Some((Line::Whole(1), b"\n".to_vec())));
        assert_eq!(next(), Some((Line::Whole(3), b"abc".to_vec())));
        assert_eq!(next(), None);
        let mut bytes: &[u8] = b"abc\nx";
        assert_eq!(next_line(&mut bytes, &mut Vec::new(), 3).unwrap(), Some(Line::TooLong(4)));
        assert_eq!(bytes, b"x");
        let mut bytes: &[u8] = b"abcdefgh";
        assert_eq!(next_line(&mut bytes, &mut Vec::new(), 3).unwrap(), Some(Line::TooLong(8)));
    }
}

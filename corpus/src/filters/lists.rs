//! Files of words, hosts and addresses, one a line.

use super::FilterSetError;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The largest list that is read, bytes. UT1's largest (`adult/domains`, 4.6 million hosts) has a tenth.
const LIST_MAX: u64 = 1 << 30;

/// The entries of a list: lines without white space around them, without empty ones and those that begin with `#`. Bytes that are no
/// UTF-8 become U+FFFD.
pub(crate) fn read(path: &Path, filter: &'static str) -> Result<Vec<String>, FilterSetError> {
    let failed = |reason: String| FilterSetError::List { filter, path: path.to_owned(), reason };
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut reader = BufReader::new(file.take(LIST_MAX + 1));
    let (mut entries, mut line, mut total) = (Vec::new(), Vec::new(), 0);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|error| failed(error.to_string()))?;
        total += read as u64;
        if read == 0 {
            return Ok(entries);
        }
        if total > LIST_MAX {
            return Err(failed(format!("longer than {LIST_MAX} bytes: not a list of words or hosts")));
        }
        let text = String::from_utf8_lossy(&line);
        let entry = text.trim();
        if !entry.is_empty() && !entry.starts_with('#') {
            entries.push(entry.to_owned());
        }
    }
}

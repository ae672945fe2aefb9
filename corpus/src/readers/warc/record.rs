//! Records of WARC files (ISO 28500; WARC 1.0 and 1.1), one after the other.

use crate::readers::bytes::{Line, next_line};
use std::io::{self, BufRead, Read};

/// One line of a record's header at most, bytes.
const LINE_MAX: u64 = 16 << 10;
/// Header lines of a record at most.
const LINES_MAX: usize = 256;

/// A record, its header's names in lower case.
#[derive(Debug, Default)]
pub(crate) struct Record {
    header: Vec<(String, String)>,
    /// Its block; empty where it was not asked for.
    pub(crate) block: Vec<u8>,
    /// The length that the header states.
    pub(crate) len_bytes: u64,
}

impl Record {
    /// The first value of a header field.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.header.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// What kind of record it is.
    pub(crate) fn kind(&self) -> &str {
        self.get("warc-type").unwrap_or_default()
    }

    /// The address that it is of, without the brackets that some writers put around it.
    pub(crate) fn target(&self) -> Option<&str> {
        self.get("warc-target-uri")
            .map(|uri| uri.trim_start_matches('<').trim_end_matches('>'))
            .filter(|uri| !uri.is_empty())
    }
}

/// What comes next in a WARC file.
#[derive(Debug)]
pub(crate) enum Next {
    /// A record.
    Record(Record),
    /// A header that is none; the reader then looks for the next `WARC/`.
    Broken(String),
}

/// Reads records one after the other.
pub(crate) struct Records<R> {
    file: R,
    /// The line that begins a record was met while looking for one.
    at_header: bool,
}

impl<R: BufRead> Records<R> {
    pub(crate) fn new(file: R) -> Records<R> {
        Records { file, at_header: false }
    }

    /// The next record; its block only where `wants` says so and it is at most `block_max` bytes long. `None`: the end.
    ///
    /// # Errors
    /// Damage, and an end within a record.
    pub(crate) fn next(&mut self, block_max: u64, wants: impl Fn(&Record) -> bool) -> io::Result<Option<Next>> {
        let mut astray = false;
        let mut line = Vec::new();
        while !std::mem::take(&mut self.at_header) {
            if next_line(&mut self.file, &mut line, LINE_MAX)?.is_none() {
                return Ok(astray.then(|| Next::Broken("bytes that are no record".into())));
            }
            self.at_header = line.starts_with(b"WARC/1.") || line.starts_with(b"WARC/0.");
            if self.at_header && astray {
                // The next call goes on from here.
                return Ok(Some(Next::Broken("bytes that are no record".into())));
            }
            astray |= !self.at_header && !line.trim_ascii().is_empty();
        }
        record(&mut self.file, block_max, &wants)
    }
}

fn record(file: &mut dyn BufRead, block_max: u64, wants: &dyn Fn(&Record) -> bool) -> io::Result<Option<Next>> {
    let mut record = Record::default();
    let mut line = Vec::new();
    loop {
        match next_line(file, &mut line, LINE_MAX)? {
            None => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends in the header of a record"));
            }
            Some(Line::TooLong(len)) => return Ok(Some(Next::Broken(format!("a header line of {len} bytes")))),
            Some(Line::Whole(_)) => {}
        }
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        if text.is_empty() {
            break;
        }
        if record.header.len() == LINES_MAX {
            return Ok(Some(Next::Broken(format!("more than {LINES_MAX} header lines"))));
        }
        match (text.split_once(':'), record.header.last_mut()) {
            // A field that goes on in the next line.
            (_, Some((_, value))) if text.starts_with([' ', '\t']) => *value = format!("{value} {}", text.trim()),
            (Some((name, value)), _) => record.header.push((name.trim().to_ascii_lowercase(), value.trim().to_owned())),
            (None, _) => return Ok(Some(Next::Broken("a header line without a colon".into()))),
        }
    }
    let Some(len_bytes) = record.get("content-length").and_then(|len| len.parse().ok()) else {
        return Ok(Some(Next::Broken("no Content-Length".into())));
    };
    record.len_bytes = len_bytes;
    let mut body = file.take(len_bytes);
    let read = match wants(&record) && len_bytes <= block_max {
        true => body.read_to_end(&mut record.block)? as u64,
        false => io::copy(&mut body, &mut io::sink())?,
    };
    match read == len_bytes {
        true => Ok(Some(Next::Record(record))),
        false => {
            let reason = format!("the file ends after {read} of a record's {len_bytes} bytes");
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason))
        }
    }
}

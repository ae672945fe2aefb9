//! Benchmark items from files.

use super::config::DecontaminateConfig;
use super::set::Builder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// A line or paragraph of a benchmark file at most, bytes.
const ITEM_MAX: usize = 16 << 20;

/// Why a set of n-grams cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecontaminateError {
    /// A benchmark file could not be read.
    #[error("decontaminate.benchmarks: {path}: {error}", path = .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A benchmark file that is not what it should be.
    #[error("decontaminate.benchmarks: {path}, line {line}: {reason}", path = .path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Where, counted from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// More n-grams than are held.
    #[error("more than {max} n-grams to keep out of training; hold fewer documents out or name fewer benchmarks")]
    TooMany {
        /// How many are held.
        max: usize,
    },
}

/// Calls `each` with every line of a file and its number; lines are bounded and must be UTF-8.
fn each_line(
    path: &Path,
    mut each: impl FnMut(&str, u64) -> Result<(), DecontaminateError>,
) -> Result<(), DecontaminateError> {
    let failed = |error| DecontaminateError::Read { path: path.to_owned(), error };
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if (&mut reader).take(ITEM_MAX as u64 + 1).read_until(b'\n', &mut bytes).map_err(failed)? == 0 {
            break;
        }
        let malformed = |reason: String| DecontaminateError::Malformed { path: path.to_owned(), line, reason };
        if bytes.len() > ITEM_MAX {
            return Err(malformed(format!("longer than {ITEM_MAX} bytes")));
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| malformed(error.to_string()))?;
        each(text.trim_end_matches(['\n', '\r']), line)?;
    }
    Ok(())
}

/// The text of a JSON item: the values of the named keys.
fn item(line: &str, keys: &[String]) -> Result<String, String> {
    let value: serde_json::Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let mut push = |part: &str| {
        text.push_str(part);
        text.push('\n');
    };
    for key in keys {
        match value.get(key) {
            Some(serde_json::Value::String(part)) => push(part),
            Some(serde_json::Value::Array(parts)) => parts.iter().filter_map(|part| part.as_str()).for_each(&mut push),
            Some(_) => return Err(format!("{key} is neither a string nor a list of strings")),
            None => {}
        }
    }
    match text.is_empty() {
        false => Ok(text),
        true => Err(format!("none of the keys {} is there; name them in decontaminate.keys", keys.join(", "))),
    }
}

fn jsonl(path: &Path, keys: &[String], builder: &mut Builder) -> Result<(), DecontaminateError> {
    each_line(path, |line, number| {
        if line.trim().is_empty() {
            return Ok(());
        }
        let malformed = |reason| DecontaminateError::Malformed { path: path.to_owned(), line: number, reason };
        builder.benchmark(&item(line, keys).map_err(malformed)?)
    })
}

fn paragraphs(path: &Path, builder: &mut Builder) -> Result<(), DecontaminateError> {
    let mut paragraph = String::new();
    each_line(path, |line, number| {
        if line.trim().is_empty() {
            let read = builder.benchmark(&paragraph);
            paragraph.clear();
            return read;
        }
        if paragraph.len() + line.len() > ITEM_MAX {
            let reason = format!("a paragraph longer than {ITEM_MAX} bytes; part the items by blank lines");
            return Err(DecontaminateError::Malformed { path: path.to_owned(), line: number, reason });
        }
        paragraph.push_str(line);
        paragraph.push('\n');
        Ok(())
    })?;
    builder.benchmark(&paragraph)
}

/// Adds the items of all files that settings name.
pub(super) fn add(config: &DecontaminateConfig, builder: &mut Builder) -> Result<(), DecontaminateError> {
    config.benchmarks.iter().try_for_each(|path| {
        let json = path.extension().is_some_and(|extension| extension == "jsonl" || extension == "json");
        if json { jsonl(path, &config.keys, builder) } else { paragraphs(path, builder) }
    })
}

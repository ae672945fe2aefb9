//! What can go wrong with a file, and with one row of it.

use std::path::{Path, PathBuf};

/// Folders within folders at most.
pub(super) const DEPTH_MAX: usize = 32;
pub(super) const LANGUAGE_HINT: &str = ", or give the source a language";
pub(super) const SOURCE_HINT: &str = ", or give the source a name";
pub(super) const ID_HINT: &str = "; id = \"\" there numbers them";

/// Why a file could not be read, or not to its end. Each names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A file or folder that cannot be read.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Nothing to read.
    #[error("{path}: no .parquet, .jsonl, .warc, .wet or .txt file there", path = .path.display())]
    NoFiles {
        /// The file or folder.
        path: PathBuf,
    },
    /// Folders nested deeper than is sensible: a link to itself.
    #[error("{path}: more than {DEPTH_MAX} folders deep; is it a link to itself?", path = .path.display())]
    TooDeep {
        /// The folder.
        path: PathBuf,
    },
    /// A column that is not there.
    #[error("{path}: no column '{column}' (there are: {available}); name it under [source.columns]{hint}", path = .path.display())]
    MissingColumn {
        /// Which file.
        path: PathBuf,
        /// Which column.
        column: String,
        /// The columns that it has.
        available: String,
        /// Another way to mend it.
        hint: &'static str,
    },
    /// A column of another type.
    #[error("{path}: column '{column}' has type {got}, expected strings", path = .path.display())]
    ColumnType {
        /// Which file.
        path: PathBuf,
        /// Which column.
        column: String,
        /// Its type.
        got: String,
    },
    /// Bytes that are not text, in a file that is one document.
    #[error("{path}: not UTF-8 at byte {at}; convert it first (iconv -t UTF-8)", path = .path.display())]
    NotUtf8 {
        /// Which file.
        path: PathBuf,
        /// Where.
        at: u64,
    },
    /// A file that is not what its name says, or damaged.
    #[error("{path}: {place}{reason}", path = .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where, with what separates it from the reason.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A language that nothing names.
    #[error("{path}: its language is unknown; put it in a folder named after it (fr/…) or give language = \"…\"", path = .path.display())]
    NoLanguage {
        /// Which file.
        path: PathBuf,
    },
}

impl ReadError {
    pub(super) fn io(path: &Path) -> impl Fn(std::io::Error) -> ReadError + '_ {
        |error| ReadError::Io { path: path.to_owned(), error }
    }
}

/// A row, line or record that gives no document. The next ones may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Where in the file: `row 3` (from 0), `line 3` (from 1), `record 3` (from 1).
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for BadRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

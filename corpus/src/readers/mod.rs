//! Reading documents from files. Which reader a file gets follows from its name.

mod guard;
mod jsonl;
mod parquet;
mod text;

pub use guard::quiet_guarded_panics;

use crate::config::SourceConfig;
use crate::document::{Document, normalise};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// One document's text at most, bytes; also one line of JSON.
pub const TEXT_MAX: u64 = 256 << 20;
/// Folders within folders at most.
const DEPTH_MAX: usize = 32;
/// Says that nothing is known of a licence (SPDX).
const NO_LICENSE: &str = "NOASSERTION";
const LANGUAGE_HINT: &str = ", or give the source a language";
const SOURCE_HINT: &str = ", or give the source a name";

/// Why documents could not be read. Each names the file.
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
    #[error("{path}: no .parquet, .jsonl or .txt file there", path = .path.display())]
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
    /// A column or key that is not there.
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
    /// A value that is absent in one document.
    #[error("{path}: {place}: '{column}' is missing or null", path = .path.display())]
    MissingValue {
        /// Which file.
        path: PathBuf,
        /// Which row or line.
        place: String,
        /// Which column.
        column: String,
    },
    /// Bytes that are not text.
    #[error("{path}: not UTF-8 at byte {at}; convert it first (iconv -t UTF-8)", path = .path.display())]
    NotUtf8 {
        /// Which file.
        path: PathBuf,
        /// Where.
        at: u64,
    },
    /// A file that is not what its name says.
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
    /// A name that is too long or holds odd characters.
    #[error("{path}: {place}: the {what} {got:?} is not one: {expected}", path = .path.display())]
    BadName {
        /// Which file.
        path: PathBuf,
        /// Which row or line.
        place: String,
        /// What it should name.
        what: &'static str,
        /// The name, shortened.
        got: String,
        /// What is allowed.
        expected: &'static str,
    },
}

impl ReadError {
    fn io(path: &Path) -> impl Fn(std::io::Error) -> ReadError + '_ {
        |error| ReadError::Io { path: path.to_owned(), error }
    }
}

/// What a reader found, before its text has one form.
struct Raw<'a> {
    text: &'a str,
    language: Option<&'a str>,
    source: Option<&'a str>,
    id: &'a str,
    license: Option<String>,
}

/// A file with all that its documents do not say themselves.
struct Input<'a> {
    path: PathBuf,
    /// The source's root, to name files relative to it.
    root: &'a Path,
    config: &'a SourceConfig,
    /// Name of the source where a document does not name its own.
    name: String,
}

impl Input<'_> {
    fn document(&self, raw: Raw<'_>, place: impl Fn() -> String) -> Result<Document, ReadError> {
        let missing = |column: &str| ReadError::MissingValue {
            path: self.path.clone(),
            place: place(),
            column: column.to_owned(),
        };
        let language = raw.language.or(self.config.language.as_deref());
        let language = language.ok_or_else(|| missing(&self.config.columns.language))?;
        let source = raw.source.unwrap_or(&self.name);
        let license = raw.license.or_else(|| self.config.license.clone()).unwrap_or_else(|| NO_LICENSE.into());
        let bad = |what, got: &str, expected| ReadError::BadName {
            path: self.path.clone(),
            place: place(),
            what,
            got: got.chars().take(40).collect(),
            expected,
        };
        let is_language_char =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | ',' | '+' | '#' | '.');
        if language.is_empty() || language.len() > 64 || !language.chars().all(is_language_char) {
            return Err(bad("language", language, "a short code like fr or code:python"));
        }
        for (what, name) in [("source", source), ("license", license.as_str())] {
            if name.is_empty() || name.len() > essaim_protocol::limits::NAME_MAX {
                return Err(bad(what, name, "1 to 256 bytes"));
            }
        }
        if raw.text.len() as u64 > TEXT_MAX {
            let reason = format!("a text of {} bytes, at most {TEXT_MAX} are read", raw.text.len());
            return Err(ReadError::Malformed { path: self.path.clone(), place: format!("{}: ", place()), reason });
        }
        Ok(Document {
            id: raw.id.to_owned(),
            source: source.to_owned(),
            language: language.to_owned(),
            license,
            text: normalise(raw.text),
            meta: Default::default(),
        })
    }
}

/// `license` of a JSON object that a column holds as text.
fn license_of_extra(extra: &str) -> Option<String> {
    let extra: serde_json::Value = serde_json::from_str(extra).ok()?;
    extra.get("license")?.as_str().filter(|license| !license.is_empty()).map(str::to_owned)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Parquet,
    Jsonl,
    Text,
}

fn kind(path: &Path) -> Option<Kind> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "parquet" => Some(Kind::Parquet),
        "jsonl" => Some(Kind::Jsonl),
        "txt" => Some(Kind::Text),
        _ => None,
    }
}

/// Files below a folder, hidden ones left out, in order of their names.
fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), ReadError> {
    if depth > DEPTH_MAX {
        return Err(ReadError::TooDeep { path: folder.to_owned() });
    }
    let failed = ReadError::io(folder);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(&failed)? {
        entries.push(entry.map_err(&failed)?.path());
    }
    entries.sort();
    for path in entries {
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        match std::fs::metadata(&path).map_err(ReadError::io(&path))?.is_dir() {
            true => walk(&path, depth + 1, files)?,
            false if kind(&path).is_some() => files.push(path),
            false => {}
        }
    }
    Ok(())
}

/// The files of a source. Beside parquet or JSON lines, `.txt` files are licences and notes, not documents.
fn files(source: &SourceConfig) -> Result<Vec<PathBuf>, ReadError> {
    let root = &source.path;
    let mut files = Vec::new();
    match std::fs::metadata(root).map_err(ReadError::io(root))?.is_dir() {
        true => walk(root, 0, &mut files)?,
        false if kind(root).is_some() => files.push(root.clone()),
        false => {}
    }
    if files.iter().any(|path| kind(path) != Some(Kind::Text)) {
        files.retain(|path| kind(path) != Some(Kind::Text));
    }
    match files.is_empty() {
        true => Err(ReadError::NoFiles { path: root.clone() }),
        false => Ok(files),
    }
}

fn source_name(source: &SourceConfig) -> String {
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let resolved = std::fs::canonicalize(&source.path).ok();
    source.name.clone().or_else(|| stem(resolved.as_deref().unwrap_or(&source.path))).unwrap_or_else(|| "corpus".into())
}

/// Reads all documents of the sources, several files at a time. Their order means nothing.
///
/// # Errors
/// [`ReadError`] of the first file, in the order of their names, that cannot be read.
pub fn read(sources: &[SourceConfig], progress: impl Fn(&Path, usize) + Sync) -> Result<Vec<Document>, ReadError> {
    let mut inputs = Vec::new();
    for config in sources {
        for path in files(config)? {
            inputs.push(Input { path, root: &config.path, config, name: source_name(config) });
        }
    }
    let read_one = |input: &Input<'_>| {
        let documents = match kind(&input.path) {
            Some(Kind::Parquet) => parquet::read(input),
            Some(Kind::Jsonl) => jsonl::read(input),
            _ => text::read(input),
        }?;
        progress(&input.path, documents.len());
        Ok(documents)
    };
    let results: Vec<Result<Vec<Document>, ReadError>> = inputs.par_iter().map(read_one).collect();
    let mut documents = Vec::new();
    for result in results {
        documents.append(&mut result?);
    }
    Ok(documents)
}

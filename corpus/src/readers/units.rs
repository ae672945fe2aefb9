//! Which files there are to read, and what each of them is.

use super::error::{DEPTH_MAX, ReadError};
use crate::config::{Format, SourceConfig};
use std::path::{Path, PathBuf};

/// One input file: what a task reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Where it is on this machine.
    pub path: PathBuf,
    /// Index of its source in the corpus file.
    pub source: usize,
    /// The path below its source, with `/`: the same on every machine.
    pub name: String,
    /// What it is; never [`Format::Auto`].
    pub format: Format,
    /// Its length as it lies there, packed or not.
    pub len_bytes: u64,
}

/// All files of the sources: the sources in their order, the files of each in the order of their names.
///
/// Beside others, `.txt` files are licences and notes and are left alone, unless a source's format is text.
///
/// # Errors
/// [`ReadError`] when a folder cannot be searched or a source has no file to read.
pub fn units(sources: &[SourceConfig]) -> Result<Vec<Unit>, ReadError> {
    let mut units = Vec::new();
    for (source, config) in sources.iter().enumerate() {
        let mut found = files(config)?;
        found.iter_mut().for_each(|unit| unit.source = source);
        units.append(&mut found);
    }
    Ok(units)
}

/// What a name says of a file.
fn format_of(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let packed = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst"));
    match packed.unwrap_or(&name).rsplit_once('.')?.1 {
        "parquet" if packed.is_none() => Some(Format::Parquet),
        "jsonl" | "ndjson" => Some(Format::Jsonl),
        // Unpacked, it is more often a description of the data.
        "json" if packed.is_some() => Some(Format::Jsonl),
        "txt" => Some(Format::Text),
        "warc" | "wet" => Some(Format::Warc),
        _ => None,
    }
}

/// The format of a file in a folder whose source asks for `wanted`.
fn format_wanted(path: &Path, wanted: Format) -> Option<Format> {
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    match format_of(path) {
        found if wanted.is_auto() => found,
        Some(found) if found == wanted => Some(found),
        _ if wanted == Format::Jsonl && is_json => Some(wanted),
        _ => None,
    }
}

/// Files below a folder, hidden ones left out.
fn walk(folder: &Path, wanted: Format, depth: usize, files: &mut Vec<(PathBuf, Format)>) -> Result<(), ReadError> {
    if depth > DEPTH_MAX {
        return Err(ReadError::TooDeep { path: folder.to_owned() });
    }
    let failed = ReadError::io(folder);
    for entry in std::fs::read_dir(folder).map_err(&failed)? {
        let path = entry.map_err(&failed)?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        match std::fs::metadata(&path).map_err(ReadError::io(&path))?.is_dir() {
            true => walk(&path, wanted, depth + 1, files)?,
            false => files.extend(format_wanted(&path, wanted).map(|format| (path, format))),
        }
    }
    Ok(())
}

fn files(source: &SourceConfig) -> Result<Vec<Unit>, ReadError> {
    let (root, wanted) = (&source.path, source.format);
    let mut files = Vec::new();
    match std::fs::metadata(root).map_err(ReadError::io(root))?.is_dir() {
        true => walk(root, wanted, 0, &mut files)?,
        // A file that is named outright is what the source says, whatever its own name.
        false if !wanted.is_auto() => files.push((root.clone(), wanted)),
        false => files.extend(format_of(root).map(|format| (root.clone(), format))),
    }
    if wanted.is_auto() && files.iter().any(|(_, format)| *format != Format::Text) {
        files.retain(|(_, format)| *format != Format::Text);
    }
    if files.is_empty() {
        return Err(ReadError::NoFiles { path: root.clone() });
    }
    let mut units = Vec::with_capacity(files.len());
    for (path, format) in files {
        let len_bytes = std::fs::metadata(&path).map_err(ReadError::io(&path))?.len();
        units.push(Unit { name: relative(&path, root), path, source: 0, format, len_bytes });
    }
    units.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
    Ok(units)
}

fn relative(path: &Path, root: &Path) -> String {
    let below = match path.strip_prefix(root) {
        Ok(below) if !below.as_os_str().is_empty() => below,
        _ => Path::new(path.file_name().unwrap_or_default()),
    };
    below.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Source of documents that do not name theirs: the source's name, or that of its file or folder.
pub fn source_name(source: &SourceConfig) -> String {
    let stem = |path: &Path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
        Path::new(name).file_stem().map(|stem| stem.to_string_lossy().into_owned())
    };
    let resolved = std::fs::canonicalize(&source.path).ok();
    source.name.clone().or_else(|| stem(resolved.as_deref().unwrap_or(&source.path))).unwrap_or_else(|| "corpus".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats() {
        let of = |name: &str| format_of(Path::new(name));
        for (name, format) in [
            ("a.parquet", Format::Parquet),
            ("a.JSONL", Format::Jsonl),
            ("a.jsonl.gz", Format::Jsonl),
            ("a.jsonl.zst", Format::Jsonl),
            ("a.ndjson", Format::Jsonl),
            ("c4-train.00000-of-01024.json.gz", Format::Jsonl),
            ("a.txt.gz", Format::Text),
            ("a.warc", Format::Warc),
            ("CC-MAIN-1.warc.wet.gz", Format::Warc),
            ("a.wet", Format::Warc),
        ] {
            assert_eq!(of(name), Some(format), "{name}");
        }
        for name in ["a.json", "a.parquet.gz", "CC-MAIN-1.warc.wat.gz", "a.gz", "a", "a.md"] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn units_are_sorted_and_named_relative_to_their_source() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["b/x.jsonl", "a/y.jsonl.gz", "a/x.parquet", "a/.hidden.jsonl", "a/LICENSE.txt", "z.json"] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let names = |format| {
            let config = SourceConfig { path: root.to_owned(), format, ..SourceConfig::default() };
            let units = units(&[config.clone(), config]).unwrap();
            let (first, second) = units.split_at(units.len() / 2);
            assert!(first.iter().all(|unit| unit.source == 0) && second.iter().all(|unit| unit.source == 1));
            assert_eq!(first.iter().map(|unit| unit.len_bytes as usize).sum::<usize>(), names_len(first));
            first.iter().map(|unit| unit.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(Format::Auto), ["a/x.parquet", "a/y.jsonl.gz", "b/x.jsonl"]);
        assert_eq!(names(Format::Jsonl), ["a/y.jsonl.gz", "b/x.jsonl", "z.json"]);
        assert_eq!(names(Format::Text), ["a/LICENSE.txt"]);
        let one = SourceConfig { path: root.join("z.json"), format: Format::Warc, ..SourceConfig::default() };
        let unit = &units(&[one]).unwrap()[0];
        assert_eq!((unit.name.as_str(), unit.format), ("z.json", Format::Warc));
    }

    fn names_len(units: &[Unit]) -> usize {
        units.iter().map(|unit| unit.name.len()).sum()
    }
}

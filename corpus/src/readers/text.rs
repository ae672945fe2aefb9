//! Plain text: a document a file, its id the path below the source, its language the folder that it lies in.

use super::bytes;
use super::error::ReadError;
use super::row::{Input, Row, TEXT_MAX};
use super::{Given, Sink};
use std::io::Read;
use std::path::Path;

pub(super) fn read(input: &Input<'_>, sink: &mut Sink<'_>) -> Result<Given, ReadError> {
    let path = &input.unit.path;
    let failed = bytes::failed(path);
    let mut read = Vec::new();
    bytes::open(path).map_err(&failed)?.take(TEXT_MAX + 1).read_to_end(&mut read).map_err(&failed)?;
    if read.len() as u64 > TEXT_MAX {
        let reason = format!("more than {TEXT_MAX} bytes; cut it into documents");
        return Err(ReadError::Malformed { path: path.clone(), place: String::new(), reason });
    }
    let text = String::from_utf8(read)
        .map_err(|error| ReadError::NotUtf8 { path: path.clone(), at: error.utf8_error().valid_up_to() as u64 })?;
    // The innermost folder named like a language: fr/, pt-br/, gsw/.
    let folder = || input.unit.name.rsplit('/').skip(1).find(|part| is_language(part)).map(str::to_owned);
    let language = input.config.language.clone().or_else(folder).or_else(|| own_folder(&input.config.path));
    let language = language.ok_or_else(|| ReadError::NoLanguage { path: path.clone() })?;
    let row = Row { text, language: Some(language), id: input.unit.name.clone(), ..Row::default() };
    let flow = sink.give(input.document(row), || "the whole file".to_owned());
    Ok(if flow.is_break() { Given::Stopped } else { Given::All })
}

/// Where the source is itself a folder, or a file in one, named like a language.
fn own_folder(root: &Path) -> Option<String> {
    let root = std::fs::canonicalize(root).ok()?;
    let folder = if root.is_dir() { root.as_path() } else { root.parent()? };
    let name = folder.file_name()?.to_str()?;
    is_language(name).then(|| name.to_owned())
}

fn is_language(name: &str) -> bool {
    let base = name.split('-').next().unwrap_or_default();
    (2..=3).contains(&base.len()) && name.len() <= 8 && name.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

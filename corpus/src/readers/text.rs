//! Plain text: a document a file, its id the path below the source, its language the folder that it lies in.

use super::{Input, Raw, ReadError, TEXT_MAX};
use crate::document::Document;

pub(super) fn read(input: &Input<'_>) -> Result<Vec<Document>, ReadError> {
    let failed = ReadError::io(&input.path);
    let len_bytes = std::fs::metadata(&input.path).map_err(&failed)?.len();
    if len_bytes > TEXT_MAX {
        let reason = format!("{len_bytes} bytes, at most {TEXT_MAX} are read; cut it into documents");
        return Err(ReadError::Malformed { path: input.path.clone(), place: String::new(), reason });
    }
    let bytes = std::fs::read(&input.path).map_err(&failed)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| ReadError::NotUtf8 { path: input.path.clone(), at: error.valid_up_to() as u64 })?;
    let relative = match input.path.strip_prefix(input.root) {
        Ok(relative) if !relative.as_os_str().is_empty() => relative.to_owned(),
        _ => input.path.file_name().unwrap_or_default().into(),
    };
    let parts: Vec<String> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let id = parts.join("/");
    // The innermost folder named like a language: fr/, pt-br/, gsw/.
    let language = match &input.config.language {
        Some(language) => Some(language.clone()),
        None => parts.iter().rev().skip(1).find(|part| is_language(part)).cloned().or_else(|| own_folder(input)),
    };
    let language = language.ok_or_else(|| ReadError::NoLanguage { path: input.path.clone() })?;
    let raw = Raw { text, language: Some(&language), source: None, id: &id, license: None };
    Ok(vec![input.document(raw, || "the whole file".to_owned())?])
}

/// Where the source is itself a folder, or a file in one, named like a language.
fn own_folder(input: &Input<'_>) -> Option<String> {
    let root = std::fs::canonicalize(input.root).ok()?;
    let folder = if root.is_dir() { root.as_path() } else { root.parent()? };
    let name = folder.file_name()?.to_str()?;
    is_language(name).then(|| name.to_owned())
}

fn is_language(name: &str) -> bool {
    let base = name.split('-').next().unwrap_or_default();
    (2..=3).contains(&base.len()) && name.len() <= 8 && name.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

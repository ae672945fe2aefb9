//! Which files of a public folder no statement covers.

use crate::files::Files;
use std::path::Path;

/// Most files that are named.
const NAMED_MAX: usize = 5;

/// Notes about files of the source, if it is a folder, that were not read in this verification.
pub fn uncovered(files: &Files) -> Vec<String> {
    let Some(folder) = files.source().folder() else { return Vec::new() };
    let mut found = Vec::new();
    walk(folder, "", &mut |path| {
        if !files.was_read(path) {
            found.push(path.to_owned());
        }
    });
    found.sort_unstable();
    let mut notes: Vec<String> =
        found.iter().take(NAMED_MAX).map(|path| format!("{path} is covered by no statement of this run")).collect();
    if found.len() > NAMED_MAX {
        notes.push(format!("and {} more such files", found.len() - NAMED_MAX));
    }
    notes
}

fn walk(folder: &Path, below: &str, each: &mut dyn FnMut(&str)) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), &path, each),
            Ok(_) => each(&path),
            Err(_) => {}
        }
    }
}

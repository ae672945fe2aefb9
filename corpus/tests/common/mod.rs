//! What the tests share: small texts, files in every format, and the program.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use essaim_corpus::document::Document;
use parquet::arrow::ArrowWriter;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

const WORDS: [(&str, &[&str]); 3] = [
    ("fr", &["l'arbre", "qu’il", "forêt", "à", "déjà", "été", "les", "maison", "œuvre", "rivière\u{a0}:", "« oui »"]),
    ("de", &["der", "Baum", "größer", "Straße", "und", "über", "nicht", "Wälder", "ist", "grün,"]),
    ("en", &["the", "tree", "forest", "don't", "river", "and", "of", "(1789)", "house."]),
];

/// A number that follows from two others, evenly spread.
fn mix(a: u64, b: u64) -> u64 {
    let hash = blake3::hash(&[a.to_le_bytes(), b.to_le_bytes()].concat());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap())
}

/// `count` documents of a language, of up to `words_max` words.
pub fn documents(language: &str, count: u64, words_max: u64) -> Vec<Document> {
    let (_, words) = WORDS.iter().find(|(name, _)| *name == language).unwrap();
    let text = |seed: u64| {
        let mut text = format!("Titre {seed}\n\n");
        for i in 0..20 + mix(seed, 0) % words_max {
            let n = mix(seed, i);
            text += words[n as usize % words.len()];
            text += if n.is_multiple_of(97) { ".\n" } else { " " };
        }
        text
    };
    let document = |i: u64| Document {
        id: format!("{language}-{i}"),
        source: format!("livres-{language}"),
        language: language.into(),
        license: "CC0-1.0".into(),
        text: text(i),
        meta: Default::default(),
    };
    (0..count).map(document).collect()
}

/// A small corpus, French the largest.
pub fn corpus() -> Vec<Document> {
    [documents("fr", 150, 300), documents("de", 60, 200), documents("en", 40, 200)].concat()
}

type Column<'a> = (&'a str, Vec<Option<&'a str>>);

/// Writes parquet with columns of strings.
pub fn write_columns(path: &Path, columns: &[Column<'_>]) {
    let arrays = columns.iter().map(|(name, values)| {
        let array: ArrayRef = Arc::new(StringArray::from(values.clone()));
        (*name, array)
    });
    let batch = RecordBatch::try_from_iter(arrays).unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Writes documents as parquet with the columns of the Lucie-Training-Dataset.
pub fn write_parquet(path: &Path, documents: &[Document]) {
    let column = |get: fn(&Document) -> &str| documents.iter().map(|document| Some(get(document))).collect();
    let extras: Vec<String> =
        documents.iter().map(|document| format!("{{\"license\": \"{}\"}}", document.license)).collect();
    let columns = [
        ("text", column(|document| &document.text)),
        ("language", column(|document| &document.language)),
        ("source", column(|document| &document.source)),
        ("id", column(|document| &document.id)),
        ("url", column(|_| "")),
        ("extra", extras.iter().map(|extra| Some(extra.as_str())).collect()),
    ];
    write_columns(path, &columns);
}

/// Writes documents as JSON lines.
pub fn write_jsonl(path: &Path, documents: &[Document]) {
    let line = |document: &Document| {
        let Document { id, source, language, license, text, .. } = document;
        let value =
            serde_json::json!({"text": text, "language": language, "source": source, "id": id, "license": license});
        format!("{value}\n")
    };
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, documents.iter().map(line).collect::<String>()).unwrap();
}

/// Runs the program.
pub fn program(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_essaim-corpus")).args(arguments).output().unwrap()
}

/// Runs the program, which must succeed; gives what it printed.
pub fn succeed(arguments: &[&str]) -> String {
    let output = program(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program, which must fail; gives the one line that says why.
pub fn fail(arguments: &[&str]) -> String {
    let output = program(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
    // Stages that began are told one a line; the reason is the last.
    let reasons: Vec<&str> = errors.lines().filter(|line| line.starts_with("essaim-corpus: ")).collect();
    assert_eq!((reasons.len(), errors.lines().last()), (1, reasons.last().copied()), "{errors}");
    reasons[0].strip_prefix("essaim-corpus: ").unwrap().to_owned()
}

/// All files below a folder with their bytes, by relative name.
pub fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(files.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap())),
            }
        }
    }
    files
}

/// A path as the program takes it.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

//! A published folder as other programs see it: the packages from PyPI read it, and it holds together.
//!
//! Python is the interpreter named by `ESSAIM_PYTHON`, else `python3`; without the packages that part is skipped, and says so.
#![allow(clippy::unwrap_used)]

mod common;

use common::documents;
use essaim_corpus::bundle::Notes;
use essaim_corpus::document::{Document, Meta, Tdm};
use essaim_corpus::facts::{Facts, LicenseFacts, MixFacts, MixPart};
use essaim_corpus::license::LicenseFrom;
use essaim_corpus::publish::parts::{folder_name, note, part, part_name};
use essaim_corpus::publish::rejected::{Fate, REJECTED, RejectedWriter};
use essaim_corpus::publish::{FileInfo, write};
use essaim_corpus::tally::{KEPT, READ};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const AWKWARD: &str = "a<b>&\"|'`*_[x](y)\n# {{: é";

/// Documents with everything that a column can hold.
fn corpus() -> Vec<Document> {
    let mut all = [documents("fr", 30, 80), documents("de", 12, 60), documents("en", 9, 60)].concat();
    for (i, document) in all.iter_mut().enumerate() {
        document.license =
            ["CC-BY-SA-4.0", "GPL-2.0-or-later OR CC-BY-SA-3.0", "LicenseRef-Public-Domain"][i % 3].into();
        if i % 2 == 0 {
            document.meta = Meta {
                url: Some(format!("https://example.org/{i}?a=\"b\"")),
                title: Some(AWKWARD.into()),
                author: Some(format!("[\"Author {i}\", {{\"name\": \"<i>&\"}}]")),
                date: Some("1789-07-14".into()),
                quality_signals: Some("{\"ocr\": 0.9}".into()),
                extra: Some("{\"zeta\": 1, \"license\": \"wrong\", \"alpha\": [2]}".into()),
                tdm: Some(Tdm { reserved: false, policy: None }),
            };
        }
        if i % 10 == 9 {
            document.source = AWKWARD.into();
        }
        if i == 3 {
            document.language = "code:python".into();
        }
        let license_from = Some([LicenseFrom::Column, LicenseFrom::Source, LicenseFrom::Link][i % 3]);
        note(document, &Notes { license_from, cluster: 1 + i as u64 % 2, ..Notes::default() });
    }
    all
}

fn rejected() -> Vec<Fate> {
    let fate = |i: u64| Fate {
        id: format!("dropped-{i}"),
        source: "livres-fr".into(),
        language: "fr".into(),
        license: "NOASSERTION".into(),
        rule: ["license/not-allowed", "gopher-quality/too-few-words"][i as usize % 2].into(),
        detail: format!("{i} words, at least 50"),
        bytes: 10 + i,
    };
    (0..20).map(fate).collect()
}

fn facts(documents: &[Document]) -> Facts {
    let mut facts = Facts {
        version: 1,
        name: AWKWARD.into(),
        dataset: "0".repeat(64),
        settings: "seed = 1\n".into(),
        ..Facts::default()
    };
    let mut licenses = BTreeMap::<[&str; 3], [u64; 2]>::new();
    for document in documents {
        let bytes = document.text.len() as u64;
        facts.tally.document(&document.source, &document.language, READ, bytes);
        facts.tally.document(&document.source, &document.language, KEPT, bytes);
        facts.credits.document(document);
        let [count, sum] = licenses.entry([&document.license, &document.source, &document.language]).or_default();
        (*count, *sum) = (*count + 1, *sum + bytes);
    }
    for fate in rejected() {
        facts.tally.document(&fate.source, &fate.language, READ, fate.bytes);
        facts.tally.document(&fate.source, &fate.language, &fate.rule, fate.bytes);
    }
    for ([license, source, language], [documents, bytes]) in licenses {
        let [license, source, language] = [license, source, language].map(String::from);
        facts.licenses.push(LicenseFacts { license, source, language, documents, bytes });
    }
    let part = |row: &LicenseFacts| MixPart {
        source: row.source.clone(),
        language: row.language.clone(),
        documents: row.documents,
        copies: row.documents,
        bytes: row.bytes,
        tokens: row.bytes / 3,
        weight: 1.0,
    };
    let parts = facts.licenses.iter().map(part).collect();
    facts.mixes = vec![MixFacts { name: "main".into(), shards: 1, parts }];
    facts.publish.date = "2026-11-24".into();
    facts.publish.repository = "essaim/corpus".into();
    facts.publish.version = "1.0.0".into();
    facts.publish.citation = "@misc{essaim}".into();
    facts
}

/// Writes the folder; gives its files.
fn publish(folder: &Path) -> Vec<FileInfo> {
    let documents = corpus();
    let mut files = Vec::new();
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for language in ["fr", "de", "en", "code:python"] {
        let mine: Vec<&Document> = documents.iter().filter(|document| document.language == language).collect();
        for (i, chunk) in mine.chunks(20).enumerate() {
            let (name, bytes) = (part_name(language, i as u64), part(chunk.iter().copied()).unwrap());
            assert_eq!(bytes, part(chunk.iter().copied()).unwrap());
            files.push(FileInfo::of(&name, Some(language), chunk.len() as u64, &bytes));
            put(&name, &bytes);
        }
    }
    let mut writer = RejectedWriter::new(Vec::new()).unwrap();
    rejected().iter().for_each(|fate| writer.push(fate).unwrap());
    let bytes = writer.finish().unwrap();
    files.push(FileInfo::of(REJECTED, None, 0, &bytes));
    put(REJECTED, &bytes);
    let written = write(&facts(&documents), &files);
    assert_eq!(written, write(&facts(&documents), &files));
    written.iter().for_each(|(name, bytes)| put(name, bytes));
    files
}

/// The interpreter, where it has the packages.
fn python() -> Option<String> {
    let python = std::env::var("ESSAIM_PYTHON").unwrap_or_else(|_| "python3".into());
    let packages = "import mlcroissant, datasets, huggingface_hub, pyarrow";
    let found = Command::new(&python).args(["-c", packages]).output().ok()?;
    found.status.success().then_some(python)
}

fn check(python: &str, folder: &Path) -> Result<Value, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/check_dataset.py");
    let output = Command::new(python).arg(script).arg(folder).output().unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_str(String::from_utf8(output.stdout).unwrap().lines().last().unwrap()).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn packages_from_pypi_read_the_folder() {
    let Some(python) = python() else {
        println!(
            "skipped: no python with mlcroissant, datasets, huggingface_hub and pyarrow; set ESSAIM_PYTHON to one"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    publish(folder.path());
    let seen = check(&python, folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let mut counts = json!({"fr": 29, "de": 12, "en": 9});
    counts[folder_name("code:python")] = json!(1);
    for reader in ["parts", "datasets", "croissant"] {
        assert_eq!(seen[reader], counts, "{reader}");
    }
    let mut clusters = json!({"fr": {"1": 15, "2": 14}, "de": {"1": 6, "2": 6}, "en": {"1": 5, "2": 4}});
    clusters[folder_name("code:python")] = json!({"2": 1});
    assert_eq!(seen["cluster_sizes"], clusters);
    assert_eq!(seen["license_from"], json!({"column": 17, "source": 17, "link": 17}));
    assert_eq!(seen["rejected"], 20);
    assert_eq!(seen["rejected_columns"]["bytes"], "uint64");
    assert_eq!((&seen["pretty_name"], &seen["license"]), (&json!(AWKWARD), &json!("other")));
    assert_eq!(seen["default"], json!(["fr"]));
    assert_eq!(seen["croissant_warnings"], json!([]));
    // A part with another byte is found out.
    let path = folder.path().join(part_name("de", 0));
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(check(&python, folder.path()).is_err());
}

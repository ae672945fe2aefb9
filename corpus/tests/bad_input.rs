//! Bad input gets one clear line and a non-zero exit code, and nothing that was there is lost.
#![allow(clippy::unwrap_used)]

mod common;

use common::{corpus, fail, snapshot, succeed, text, write_columns, write_parquet};
use essaim_corpus::config::SourceConfig;
use essaim_corpus::readers;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

/// Builds `corpus` over a good data set, which must fail and leave that as it was; gives the reason, with the folder as `DIR`.
fn refused(folder: &Path, corpus: &Path, more: &[&str]) -> String {
    let out = folder.join("out");
    let before = snapshot(&out);
    let reason = fail(&[&["build", text(corpus), "--out", text(&out), "--vocab-size", "600"], BROKEN, more].concat());
    assert!(snapshot(&out) == before, "{reason}");
    let reason = reason.replace(text(folder), "DIR");
    reason.split("; 1 files or rows could not be read, at most 0").next().unwrap().to_owned()
}

const BROKEN: &[&str] = &["--broken-max", "0"];

fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_parquet(&folder.path().join("good/x.parquet"), &corpus());
    let (good, out) = (folder.path().join("good"), folder.path().join("out"));
    succeed(&["build", text(&good), "--out", text(&out), "--vocab-size", "600"]);
    folder
}

#[test]
fn a_corpus_that_is_empty_or_absent() {
    let folder = workplace();
    let root = folder.path();
    let empty = root.join("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(refused(root, &empty, &[]), "DIR/empty: no .parquet, .jsonl, .warc, .wet or .txt file there");
    assert!(refused(root, &root.join("absent"), &[]).starts_with("DIR/absent: No such file or directory"));
    fs::write(empty.join("x.jsonl"), "\n\n").unwrap();
    let nothing = "the corpus is empty: 0 documents were read, and every one was refused, mostly by no rule (0)";
    assert_eq!(refused(root, &empty, &[]), nothing);
    fs::write(empty.join("x.jsonl"), r#"{"text":" \r\n\u0000","language":"fr","source":"s","id":"1"}"#).unwrap();
    assert_eq!(
        refused(root, &empty, &[]),
        "the corpus is empty: 1 documents were read, and every one was refused, mostly by empty/no-text (1)"
    );
    write_parquet(&root.join("none/x.parquet"), &[]);
    assert_eq!(refused(root, &root.join("none"), &[]), nothing);
    fs::write(root.join("note.md"), "# Note").unwrap();
    assert_eq!(
        refused(root, &root.join("note.md"), &[]),
        "DIR/note.md: no .parquet, .jsonl, .warc, .wet or .txt file there"
    );
}

#[test]
fn text_that_is_not_utf8() {
    let folder = workplace();
    let root = folder.path();
    fs::create_dir_all(root.join("latin1/fr")).unwrap();
    fs::write(root.join("latin1/fr/a.txt"), b"d\xe9j\xe0 vu").unwrap();
    let reason = "not UTF-8 at byte 1; convert it first (iconv -t UTF-8)";
    assert_eq!(refused(root, &root.join("latin1"), &[]), format!("DIR/latin1/fr/a.txt: {reason}"));
    let line = r#"{"text":"ok","language":"fr","source":"s","id":"1"}"#;
    fs::write(root.join("a.jsonl"), [line.as_bytes(), b"\n{\"text\":\"\xff\"}\n"].concat()).unwrap();
    let at = line.len() + 1 + 9;
    let reason = format!("DIR/a.jsonl: line 2: not UTF-8 at byte {at}; convert it first (iconv -t UTF-8)");
    assert_eq!(refused(root, &root.join("a.jsonl"), &[]), reason);
    // In parquet, where a column of strings holds other bytes.
    let path = root.join("p/x.parquet");
    let marker = "QQQQQQQQQQ";
    write_columns(
        &path,
        &[
            ("text", vec![Some(marker)]),
            ("language", vec![Some("fr")]),
            ("source", vec![Some("s")]),
            ("id", vec![Some("1")]),
        ],
    );
    let mut bytes = fs::read(&path).unwrap();
    let places: Vec<usize> = (0..bytes.len() - 10).filter(|&at| &bytes[at..at + 10] == marker.as_bytes()).collect();
    places.iter().for_each(|&at| bytes[at + 3] = 0xff);
    fs::write(&path, bytes).unwrap();
    assert_eq!(refused(root, &root.join("p"), &[]), "DIR/p/x.parquet: row 0: 'text' is not UTF-8 at its byte 3");
}

#[test]
fn columns_that_are_missing_or_of_another_type() {
    let folder = workplace();
    let root = folder.path();
    let columns = |names: [&'static str; 4]| names.map(|name| (name, vec![Some("fr")]));
    let path = root.join("c/x.parquet");
    write_columns(&path, &columns(["text", "language", "source", "key"]));
    let reason = "DIR/c/x.parquet: no column 'id' (there are: text, language, source, key); name it under [source.columns]; \
         id = \"\" there numbers them";
    assert_eq!(refused(root, &path, &[]), reason);
    write_columns(&path, &columns(["text", "lang", "source", "id"]));
    let reason = refused(root, &path, &[]);
    assert!(reason.ends_with("name it under [source.columns], or give the source a language"), "{reason}");
    write_columns(&path, &[columns(["text", "language", "source", "id"]).as_slice(), &[]].concat());
    write_columns(
        &path,
        &[
            ("text", vec![Some("a"), None]),
            ("language", vec![Some("fr"); 2]),
            ("source", vec![Some("s"); 2]),
            ("id", vec![Some("1"), Some("2")]),
        ],
    );
    assert_eq!(refused(root, &path, &[]), "DIR/c/x.parquet: row 1: 'text' is missing or null");
    let mut documents = corpus();
    documents[3].language = "Français du Québec".into();
    write_parquet(&path, &documents);
    let reason =
        "DIR/c/x.parquet: row 3: the language \"Français du Québec\" is not one: a short code like fr or code:python";
    assert_eq!(refused(root, &path, &[]), reason);

    let line = root.join("x.jsonl");
    fs::write(&line, "{\"text\":\"a\",\"language\":\"fr\",\"id\":1}\n").unwrap();
    let reason = "DIR/x.jsonl: line 1: no column 'source' (there are: ";
    assert!(refused(root, &line, &[]).starts_with(reason));
    fs::write(&line, "{\"text\":[\"a\"],\"language\":\"fr\",\"source\":\"s\",\"id\":1}\n").unwrap();
    assert_eq!(refused(root, &line, &[]), "DIR/x.jsonl: line 1: 'text' is not a string");
    fs::write(&line, "{\"text\":null,\"language\":\"fr\",\"source\":\"s\",\"id\":1}\n").unwrap();
    assert_eq!(refused(root, &line, &[]), "DIR/x.jsonl: line 1: 'text' is missing or null");
    fs::write(&line, "\n{\"text\":\"a\"\n").unwrap();
    assert!(refused(root, &line, &[]).starts_with("DIR/x.jsonl: line 2: EOF while parsing"));
    fs::create_dir_all(root.join("Textes")).unwrap();
    fs::write(root.join("Textes/a.txt"), "Bonjour").unwrap();
    let reason = "its language is unknown; put it in a folder named after it (fr/…) or give language = \"…\"";
    assert_eq!(refused(root, &root.join("Textes"), &[]), format!("DIR/Textes/a.txt: {reason}"));
}

#[test]
fn parquet_that_is_broken() {
    let folder = workplace();
    let root = folder.path();
    let path = root.join("b/x.parquet");
    write_parquet(&path, &common::documents("fr", 12, 60));
    let good = fs::read(&path).unwrap();
    for bytes in [&[][..], &good[..3], &good[..good.len() / 2], &good[..good.len() - 1], &good[9..]] {
        fs::write(&path, bytes).unwrap();
        let reason = refused(root, &path, &[]);
        assert!(reason.starts_with("DIR/b/x.parquet: not a readable parquet file: "), "{reason}");
    }
    // Flipped bytes are refused in one line or, where a page has no checksum, read as other documents: never a panic, not even
    // the ones of the parquet library.
    let config = SourceConfig { path: path.clone(), ..SourceConfig::default() };
    let unit = readers::units(std::slice::from_ref(&config)).unwrap().remove(0);
    readers::quiet_guarded_panics();
    let mut refusals = 0;
    for at in (0..good.len()).step_by(3) {
        let mut bytes = good.clone();
        bytes[at] ^= [0x01, 0x80, 0x55, 0xff][at % 4];
        fs::write(&path, bytes).unwrap();
        let mut bad_rows = 0;
        let read = readers::read_unit(&unit, &config, &mut |item| {
            bad_rows += u32::from(matches!(item, readers::Item::Bad(_)));
            ControlFlow::Continue(())
        });
        refusals += usize::from(read.is_err() || bad_rows > 0);
        if let Err(error) = read {
            assert!(error.to_string().contains("x.parquet: "), "byte {at}: {error}");
        }
    }
    assert!(refusals > good.len() / 60, "{refusals} of {}", good.len());
}

#[test]
fn settings_that_are_wrong() {
    let folder = workplace();
    let root = folder.path();
    let file = root.join("corpus.toml");
    let with = |settings: &str| {
        fs::write(&file, format!("{settings}\n[[source]]\npath = \"good\"\n")).unwrap();
        refused(root, &file, &[])
    };
    let reason = with("sead = 1");
    assert!(
        reason.starts_with("DIR/corpus.toml: line 1: unknown field `sead`, expected one of `name`, `seed`"),
        "{reason}"
    );
    assert!(with("[mix]\nlargest = \"fr\"\nweight = 1").starts_with("DIR/corpus.toml: line 3: unknown field `weight`"));
    assert!(with("seed = \"one\"").starts_with("DIR/corpus.toml: line 1: invalid type: string"));
    assert!(with("seed = = 1").starts_with("DIR/corpus.toml: line 1: "));
    let reason = with("[heldout]\npermille = 501");
    assert_eq!(reason, "corpus settings: heldout.permille is 501, expected 0 to 500");
    assert_eq!(with("[mix]\nweights = { fr = -1.0 }"), "corpus settings: mix.weights is -1, expected 0 to 64");
    assert_eq!(with("[mix]\nweights = { fr = nan }"), "corpus settings: mix.weights is NaN, expected 0 to 64");
    let reason =
        "mix.weights names 'it', which no document has; there are: de, en, fr, livres-de, livres-en, livres-fr";
    assert_eq!(with("[mix]\nweights = { it = 1.0 }"), reason);
    assert!(with("[mix]\nlargest = \"de\"").starts_with("de is not the largest language of mix main: de has "));
    // Settings of a source that no document needs are checked all the same.
    fs::write(&file, "[[source]]\npath = \"good\"\nlicense = \"CC-BY\"\n").unwrap();
    let reason =
        "corpus settings: source.license is \"CC-BY\", expected an SPDX expression such as CC-BY-4.0, or NOASSERTION";
    assert_eq!(refused(root, &file, &[]), reason);
    fs::write(&file, "[license]\nallow = [\"MIT\"]\n[[source]]\npath = \"good\"\n").unwrap();
    let reason = refused(root, &file, &[]);
    assert!(
        reason.ends_with("mostly by license/not-allowed (250); license.allow has the licences that are taken"),
        "{reason}"
    );
    fs::write(&file, "seed = 1\n").unwrap();
    let reason = refused(root, &file, &[]);
    assert_eq!(reason, "corpus settings: source is absent, expected at least one [[source]] with path = …");
    let (good, out) = (root.join("good"), root.join("out"));
    let reason = fail(&["build", text(&good), "--out", text(&out), "--vocab-size", "511"]);
    assert_eq!(reason, "corpus settings: tokenizer.vocab_size is 511, expected 512 to 1048576");
    assert!(fail(&["build", text(&good), "--out", text(&out), "--threads", "0"]).contains("expected 1 to 1024"));
}

#[test]
fn a_tokenizer_that_is_none_and_an_output_that_is_in_use() {
    let folder = workplace();
    let root = folder.path();
    let (good, file) = (root.join("good"), root.join("tokenizer.json"));
    fs::write(&file, "{}").unwrap();
    let reason = refused(root, &good, &["--tokenizer", text(&file)]);
    assert!(reason.starts_with("DIR/tokenizer.json: not a tokenizer.json: "), "{reason}");
    let without = fs::read_to_string(root.join("out/tokenizer.json")).unwrap().replace("\"</s>\"", "\"</x>\"");
    fs::write(&file, without).unwrap();
    let reason = refused(root, &good, &["--tokenizer", text(&file)]);
    assert_eq!(reason, "the tokenizer has no token '</s>', which every document begins or ends with");
    let used = root.join("used");
    fs::create_dir(&used).unwrap();
    fs::write(used.join("thesis.txt"), "mine").unwrap();
    let reason = fail(&["build", text(&good), "--out", text(&used)]);
    assert!(reason.ends_with("used exists and holds no data set: choose another --out, or remove it"), "{reason}");
    assert_eq!(fs::read(used.join("thesis.txt")).unwrap(), b"mine");
    assert!(fail(&["inspect", text(&used)]).contains("dataset.manifest: No such file"));
    fs::write(used.join("dataset.manifest"), b"not one").unwrap();
    assert!(fail(&["inspect", text(&used)]).contains("dataset.manifest: dataset manifest: malformed"));
}

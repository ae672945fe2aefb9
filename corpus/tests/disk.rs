//! Builds that run out of disk: told in a line, nothing half-written is taken for whole, and they go on when there is room.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use common::{snapshot, text, write_jsonl};
use essaim_corpus::document::Document;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// A build whose files may have so many blocks of 512 bytes each. Writing more is an error as it is on a full disk: of a file, the part that
/// had room is there.
fn build(texts: &Path, out: &Path, blocks: Option<u32>) -> Output {
    let limit = blocks.map_or_else(String::new, |blocks| format!("trap '' XFSZ; ulimit -f {blocks} && "));
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limit}exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_essaim-corpus")]);
    command.args(["build", text(texts), "--out", text(out), "--vocab-size", "640", "--tokens-max", "30000", "--json"]);
    command.output().unwrap()
}

/// The stage that a line names: the folder of the object that was not written, or `out` for the data set's folder.
fn stage(line: &str, root: &Path) -> String {
    let rest = line.split_once(text(root)).unwrap().1;
    match rest.split_once(".work: ") {
        Some((_, object)) => object.split('/').next().unwrap().to_owned(),
        None => "out".into(),
    }
}

#[test]
fn a_build_without_room_says_so_and_goes_on_when_there_is_some() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    // What the stages write at most: sketches of 60 documents, shards of 60 KB, texts of more, and a list of duplicates with long ids that is
    // longer than all.
    let mut documents = [("fr", 600, 300), ("de", 60, 200), ("en", 40, 200)]
        .map(|(language, count, words)| common::documents(language, count, words))
        .concat();
    for i in 0..900u32 {
        let digits = |j: u32| blake3::hash(&(8 * i + j).to_le_bytes()).to_hex();
        let id = (0..8).map(|j| digits(j).to_string()).collect();
        documents.push(Document { id, ..documents[i as usize % 50].clone() });
    }
    let texts = root.join("texts");
    for (i, part) in documents.chunks(60).enumerate() {
        write_jsonl(&texts.join(format!("{i}.jsonl")), part);
    }
    let whole = root.join("whole");
    assert!(build(&texts, &whole, None).status.success());
    let whole = snapshot(&whole);
    let mut stages = BTreeSet::new();
    for blocks in [0, 16, 64, 96, 112, 200, 300, 400, 2000] {
        let out = root.join(format!("out-{blocks}"));
        let limited = build(&texts, &out, Some(blocks));
        if limited.status.success() {
            assert!(snapshot(&out) == whole, "{blocks} blocks gave other bytes");
            continue;
        }
        let said = String::from_utf8(limited.stderr).unwrap();
        assert!(said.starts_with("essaim-corpus: ") && said.trim_end().lines().count() == 1, "{said}");
        assert!(said.contains("make room"), "{said}");
        assert!(limited.status.code() == Some(1) && limited.stdout.is_empty() && !out.exists());
        stages.insert(stage(&said, root));
        let resumed = build(&texts, &out, None);
        assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
        assert!(snapshot(&out) == whole, "what was continued after {blocks} blocks gave other bytes");
        fs::remove_dir_all(&out).unwrap();
    }
    let expected = ["export", "ingest", "out", "shards"].map(str::to_owned);
    assert_eq!(stages, BTreeSet::from(expected));
}

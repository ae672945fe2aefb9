//! Building a data set with the program: what comes out, and that it depends on documents and settings alone.
#![allow(clippy::unwrap_used)]

mod common;

use common::{corpus, fail, program, snapshot, succeed, text, write_jsonl, write_parquet};
use essaim_corpus::dataset::Dataset;
use essaim_corpus::document::Document;
use essaim_protocol::dataset::DatasetManifest;
use essaim_protocol::ids::Hash;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const SMALL: [&str; 4] = ["--vocab-size", "640", "--tokens-max", "4096"];

fn build(corpus: &Path, out: &Path, more: &[&str]) -> String {
    succeed(&[&["build", text(corpus), "--out", text(out)], SMALL.as_slice(), more].concat())
}

#[test]
fn the_bytes_depend_on_documents_and_settings_alone() {
    let folder = tempfile::tempdir().unwrap();
    let documents = corpus();
    let one = folder.path().join("1/texts");
    write_parquet(&one.join("all.parquet"), &documents);
    // The same documents: in other files and formats, in another order, with decomposed accents and carriage returns.
    let two = folder.path().join("2/texts");
    let mut others = documents.clone();
    others.reverse();
    for document in &mut others {
        document.text = document.text.replace('é', "e\u{301}").replace('\n', "\r\n");
    }
    write_parquet(&two.join("z/b.parquet"), &others[..90]);
    write_jsonl(&two.join("a/c.jsonl"), &others[90..170]);
    write_parquet(&two.join("m.parquet"), &others[170..]);
    fs::write(two.join("NOTES.txt"), [0xff, 0xfe]).unwrap();
    fs::write(two.join(".hidden.jsonl"), "{").unwrap();

    let out = |name: &str| folder.path().join(name);
    build(&one, &out("a"), &["--threads", "1"]);
    build(&two, &out("b"), &["--threads", "3", "--json"]);
    let (a, b) = (snapshot(&out("a")), snapshot(&out("b")));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    assert!(a == b, "the same documents gave other bytes");

    build(&one, &out("c"), &["--seed", "1"]);
    let c = snapshot(&out("c"));
    let shards = |files: &BTreeMap<_, _>| {
        files.keys().filter(|path: &&std::path::PathBuf| path.starts_with("shards")).cloned().collect::<BTreeSet<_>>()
    };
    assert_ne!(shards(&a), shards(&c));
    assert_eq!(a[Path::new("tokenizer.json")], c[Path::new("tokenizer.json")]);
}

#[test]
fn a_data_set_is_what_its_manifest_says() {
    let folder = tempfile::tempdir().unwrap();
    let (texts, out) = (folder.path().join("texts"), folder.path().join("out"));
    let documents = corpus();
    write_parquet(&texts.join("x.parquet"), &documents);
    let report: Value = serde_json::from_str(&build(&texts, &out, &["--json"])).unwrap();
    let bytes = fs::read(out.join("dataset.manifest")).unwrap();
    let manifest = DatasetManifest::from_bytes(&bytes).unwrap();
    assert_eq!(report["dataset"], Hash::of(&bytes).to_string());
    assert_eq!((manifest.vocab_size, report["documents"].as_u64()), (640, Some(250)));

    // Held out: 2 % of each language, those whose BLAKE3(id) is smallest.
    let dataset = Dataset::open(&out).unwrap();
    let encoder = dataset.encoder().unwrap();
    let mut heldout_texts = BTreeSet::new();
    for (language, wanted) in [("de", 2), ("en", 1), ("fr", 3)] {
        let mut ids: Vec<_> = documents.iter().filter(|document| document.language == language).collect();
        ids.sort_by_key(|document| document.id_hash());
        let heldout = manifest.heldout.iter().find(|heldout| heldout.language == language).unwrap();
        let lines = dataset.heldout(heldout, &encoder).unwrap();
        let got: Vec<&str> = lines.iter().map(|line| line.id.as_str()).collect();
        let expected: Vec<&str> = ids[..wanted].iter().map(|document| document.id.as_str()).collect();
        assert_eq!(got, expected);
        assert_eq!(heldout.text_bytes, lines.iter().map(|line| line.text.len() as u64).sum::<u64>());
        heldout_texts.extend(lines.into_iter().map(|line| line.text));
    }
    // Trained on: every other document once, whole, and the tokens give back its text.
    let mut trained = Vec::new();
    let shards = &manifest.mix("main").unwrap().shards;
    assert!(shards.len() > 3 && shards.iter().all(|shard| shard.tokens <= 4096));
    for info in shards {
        let mut shard = dataset.shard(info).unwrap();
        for i in 0..shard.documents() {
            let tokens = shard.document(i).unwrap();
            assert_eq!((tokens.first(), tokens.last()), (Some(&0), Some(&1)));
            assert!(tokens[1..tokens.len() - 1].iter().all(|&token| token > 3));
            trained.push(encoder.decode(&tokens).unwrap());
        }
    }
    trained.sort();
    let mut expected: Vec<&Document> =
        documents.iter().filter(|document| !heldout_texts.contains(&document.text)).collect();
    expected.sort_by(|a, b| a.text.cmp(&b.text));
    assert_eq!(trained, expected.iter().map(|document| document.text.as_str()).collect::<Vec<_>>());
    let total: u64 = manifest.sources.iter().map(|source| source.text_bytes).sum();
    assert_eq!(total, trained.iter().map(|text| text.len() as u64).sum::<u64>());
    let tokens: u64 = manifest.sources.iter().map(|source| source.tokens).sum();
    assert_eq!(tokens, shards.iter().map(|shard| shard.tokens).sum::<u64>());
    assert!(manifest.sources.iter().all(|source| source.licenses == ["CC0-1.0"]));
    // Settings name no folder of this machine.
    assert!(!manifest.settings.contains(text(folder.path())) && manifest.settings.contains("path = \"texts\""));
}

#[test]
fn a_corpus_file_decides_and_text_files_are_documents() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for document in common::documents("fr", 30, 200) {
        let path = root.join(format!("livres/fr/{}.txt", document.id));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &document.text).unwrap();
    }
    let renamed: String = common::documents("en", 12, 100)
        .iter()
        .map(|document| format!("{}\n", serde_json::json!({"content": document.text, "key": 7, "id": document.id})))
        .collect();
    fs::write(root.join("web.jsonl"), renamed).unwrap();
    let settings = "name = \"essai\"\nseed = 9\n[tokenizer]\nvocab_size = 600\n[heldout]\npermille = 100\n\
        [mix]\nweights = { en = 2.0 }\n\
        [license]\nallow = [\"CC-BY-4.0\", \"NOASSERTION\"]\n\
        [[source]]\npath = \"livres\"\nlicense = \"CC-BY-4.0\"\n\
        [[source]]\npath = \"web.jsonl\"\nname = \"toile\"\nlanguage = \"en\"\ncolumns = { text = \"content\" }\n";
    let file = root.join("corpus.toml");
    fs::write(&file, settings).unwrap();
    let out = root.join("out");
    succeed(&["build", text(&file), "--out", text(&out)]);
    let manifest = Dataset::open(&out).unwrap().manifest;
    assert_eq!((manifest.name.as_str(), manifest.vocab_size), ("essai", 600));
    let sources: Vec<_> = manifest
        .sources
        .iter()
        .map(|s| (s.name.as_str(), s.language.as_str(), s.documents, s.licenses.join(",")))
        .collect();
    assert_eq!(sources, [("livres", "fr", 27, "CC-BY-4.0".to_owned()), ("toile", "en", 10, "NOASSERTION".to_owned())]);
    // English twice: 27 + 2 · 10.
    assert_eq!(manifest.mixes[0].shards.iter().map(|shard| shard.documents).sum::<u64>(), 47);
    let ids = fs::read_to_string(out.join("heldout/fr.jsonl")).unwrap();
    assert!(ids.lines().count() == 3 && ids.contains("\"id\":\"fr/fr-"));

    // A tokenizer that exists is taken as it is, byte for byte.
    let again = root.join("again");
    let tokenizer = out.join("tokenizer.json");
    succeed(&["build", text(&file), "--out", text(&again), "--tokenizer", text(&tokenizer)]);
    assert_eq!(fs::read(tokenizer).unwrap(), fs::read(again.join("tokenizer.json")).unwrap());
    assert_eq!(Dataset::open(&again).unwrap().manifest.mixes, manifest.mixes);
}

#[test]
fn a_build_that_is_killed_leaves_nothing_and_runs_again() {
    let folder = tempfile::tempdir().unwrap();
    let (texts, out) = (folder.path().join("texts"), folder.path().join("out"));
    write_parquet(&texts.join("x.parquet"), &corpus());
    build(&texts, &folder.path().join("reference"), &[]);
    let reference = snapshot(&folder.path().join("reference"));
    for delay_ms in [0, 5, 15, 30, 60] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_essaim-corpus"));
        command.args(["build", text(&texts), "--out", text(&out)]).args(SMALL);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!out.exists() || snapshot(&out) == reference, "half a data set after {delay_ms} ms");
    }
    build(&texts, &out, &[]);
    assert!(snapshot(&out) == reference);
    let names: BTreeSet<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["out", "reference", "texts"].map(Into::into).into());
}

/// Each document of the corpus that was trained on is in one shard of the mix, under its own id and text.
fn inspect_lists_every_document_once(shown: &Value, listed: &dyn Fn(&str) -> Value) {
    let all: BTreeMap<String, Document> =
        corpus().into_iter().map(|document| (document.id.clone(), document)).collect();
    let mut seen = BTreeSet::new();
    for shard in shown["mixes"][0]["shards"].as_array().unwrap() {
        let list = listed(shard["hash"].as_str().unwrap());
        let documents = list["documents"].as_array().unwrap();
        assert_eq!(
            (list["mix"].as_str(), documents.len() as u64),
            (Some("main"), shard["documents"].as_u64().unwrap())
        );
        assert_eq!(list["texts"][0], all[documents[0]["id"].as_str().unwrap()].text);
        assert_eq!(documents.iter().map(|one| one["tokens"].as_u64().unwrap()).sum::<u64>(), shard["tokens"]);
        for one in documents {
            let document = &all[one["id"].as_str().unwrap()];
            assert_eq!(
                (one["license"].as_str(), one["language"].as_str()),
                (Some("CC0-1.0"), Some(&*document.language))
            );
            assert_eq!(
                (one["source"].as_str(), one["text_bytes"].as_u64()),
                (Some(&*document.source), Some(document.text.len() as u64))
            );
            assert!(seen.insert(document.id.clone()), "{} twice", document.id);
        }
    }
    let heldout: u64 =
        shown["heldout"].as_array().unwrap().iter().map(|held| held["shard"]["documents"].as_u64().unwrap()).sum();
    assert_eq!(shown["statistics"]["kept"]["documents"], seen.len() as u64 + heldout);
    assert_eq!(shown["verified"]["entries"], 250);
}

#[test]
fn inspect_and_xz_read_what_build_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let (texts, out) = (folder.path().join("texts"), folder.path().join("out"));
    write_parquet(&texts.join("x.parquet"), &corpus());
    build(&texts, &out, &[]);
    let shown: Value = serde_json::from_str(&succeed(&["inspect", text(&out), "--json", "--documents", "1"])).unwrap();
    assert_eq!((&shown["ok"], &shown["vocab_size"]), (&Value::Bool(true), &Value::from(640)));
    let first = fs::read_to_string(out.join("heldout/fr.jsonl")).unwrap();
    let first: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!(shown["heldout_documents"]["fr"][0], first["text"]);
    assert!(succeed(&["inspect", text(&out.join("dataset.manifest"))]).contains("CC0-1.0"));
    let name = shown["heldout"][2]["shard"]["hash"].as_str().unwrap().to_owned();
    let shard = out.join(format!("shards/{name}.shard"));
    let one: Value = serde_json::from_str(&succeed(&["inspect", text(&shard), "--json", "--documents", "1"])).unwrap();
    assert_eq!((&one["hash"], &one["texts"][0]), (&Value::from(name.as_str()), &first["text"]));

    let listed = |begin: &str| -> Value {
        serde_json::from_str(&succeed(&["inspect", text(&out), "--shard", begin, "--json", "--documents", "1"]))
            .unwrap()
    };
    let held = listed(&name[..12]);
    assert_eq!(
        (&held["hash"], &held["heldout"], &held["texts"][0]),
        (&name.as_str().into(), &true.into(), &first["text"])
    );
    let of_first = &held["documents"][0];
    assert_eq!((&of_first["id"], &of_first["source"]), (&first["id"], &first["source"]));
    inspect_lists_every_document_once(&shown, &listed);
    let reason = fail(&["inspect", text(&out), "--shard", "zz"]);
    assert!(reason.starts_with("no shard of this data set begins with zz"), "{reason}");
    assert!(fail(&["inspect", text(&out), "--shard", ""]).contains("give more of the hash"));

    let xz: Value = serde_json::from_str(&succeed(&["xz", text(&out), "--json"])).unwrap();
    let counted = &xz["languages"]["fr"];
    let bits = 8.0 * counted["xz_bytes"].as_f64().unwrap() / counted["text_bytes"].as_f64().unwrap();
    assert_eq!(xz["xz_bits_per_byte"]["fr"].as_f64(), Some(bits));
    assert!(bits > 0.5 && bits < 8.0);

    // Every file that counts: one flipped byte is found and the file is named.
    for path in snapshot(&out).into_keys() {
        let (file, shown) = (out.join(&path), path.display().to_string());
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        // Of the manifest a byte of the tokenizer's hash: other settings would be another manifest, as good as this one.
        let at = if shown == "dataset.manifest" { 20 } else { bad.len() / 2 };
        bad[at] ^= 1;
        fs::write(&file, bad).unwrap();
        let inspected = program(&["inspect", text(&out)]);
        let reason = String::from_utf8(inspected.stderr).unwrap();
        // A text of the description of files is described nowhere; a hash in it is no longer that of its file.
        if shown != "croissant.json" {
            assert_eq!(inspected.status.code(), Some(1), "{shown}: one flipped byte was not found");
            let name = path.file_name().unwrap().to_str().unwrap();
            let named = if shown == "dataset.manifest" { "tokenizer.json" } else { name };
            assert!(reason.contains(named) && reason.lines().count() == 1, "{shown}: {reason}");
        }
        fs::write(&file, good).unwrap();
    }
    fs::write(&shard, &fs::read(&shard).unwrap()[..100]).unwrap();
    assert!(fail(&["inspect", text(&shard)]).contains(" bytes, where "));
    fs::remove_file(&shard).unwrap();
    assert!(fail(&["xz", text(&out)]).contains(&name));
}

//! Documents are taken out of a finished data set: nothing of them is left, all else is as it was.
#![allow(clippy::unwrap_used)]

mod common;

use common::{documents, fail, program, snapshot, succeed, text};
use essaim_corpus::bundle::{Key, Notes};
use essaim_corpus::dataset::{self, Dataset, HeldoutLine};
use essaim_corpus::document::Document;
use essaim_corpus::facts::{FACTS, Facts, HeldoutFacts, LicenseFacts, MixFacts, MixPart};
use essaim_corpus::publish::index::{self, Entry, INDEX, Index};
use essaim_corpus::publish::parts::{part, part_name};
use essaim_corpus::publish::rejected::{Fate, REJECTED, RejectedWriter};
use essaim_corpus::publish::{FileInfo, scan, write};
use essaim_corpus::shards;
use essaim_corpus::tally::{KEPT, READ};
use essaim_corpus::tokenizer::encode::Encoder;
use essaim_protocol::dataset::{DatasetManifest, HeldoutShard, Mix, ShardInfo, SourceSummary};
use essaim_protocol::ids::Hash;
use essaim_train::shard::ShardWriter;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const TOKENS_MAX: usize = 900;
/// In the mix `main` three times, and in `late` once.
const THRICE: &str = "fr-5";
/// Longer than a shard.
const LONG: &str = "fr-7";
const HELDOUT: [&str; 3] = ["fr-0", "fr-1", "de-0"];

fn corpus() -> Vec<Document> {
    let mut all = [documents("fr", 30, 80), documents("de", 12, 60)].concat();
    for document in &mut all {
        if document.id == LONG {
            document.text = (0..900).map(|i| format!("long {i}, ")).collect();
        }
        let mark = format!("mark-{}-mark", document.id);
        document.text += &format!(" {mark}");
        document.meta.author = Some(mark);
    }
    all
}

/// Lays copies of documents into shards, and notes where.
struct Packer<'a> {
    root: &'a Path,
    encoder: &'a Encoder,
    writer: ShardWriter,
    infos: Vec<ShardInfo>,
    entries: Vec<Entry>,
}

impl Packer<'_> {
    fn push(&mut self, document: &Document, source: u16) {
        let tokens = self.encoder.encode_all(&[&document.text], |_| {}).unwrap().remove(0);
        let pieces: Vec<Vec<u32>> = match tokens.as_slice() {
            [begin, inner @ .., end] if tokens.len() > TOKENS_MAX => {
                inner.chunks(TOKENS_MAX - 2).map(|piece| [&[*begin], piece, &[*end]].concat()).collect()
            }
            whole => vec![whole.to_vec()],
        };
        for (piece, tokens) in pieces.iter().enumerate() {
            if self.writer.tokens() as usize + tokens.len() > TOKENS_MAX {
                self.end();
            }
            self.entries.push(Entry {
                key: Key::of(document),
                shard: self.infos.len() as u32,
                document: self.writer.documents() as u32,
                source,
                piece: piece as u16,
                text_bytes: document.text.len() as u32,
            });
            self.writer.push(tokens).unwrap();
        }
    }

    fn end(&mut self) {
        let empty = ShardWriter::new(self.encoder.vocab_size());
        let shard = shards::finish(std::mem::replace(&mut self.writer, empty));
        let path = self.root.join(dataset::shard_name(&shard.info.hash));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, shard.bytes).unwrap();
        self.infos.push(shard.info);
    }
}

/// A data set with two mixes, held-out documents, texts, rejected documents, an index and facts.
fn dataset(root: &Path, documents: &[Document]) {
    let (texts, built) = (root.with_extension("texts"), root.with_extension("built"));
    common::write_parquet(&texts.join("all.parquet"), documents);
    succeed(&["build", text(&texts), "--out", text(&built), "--vocab-size", "640", "--tokens-max", "4096"]);
    let tokenizer = fs::read(built.join(dataset::TOKENIZER)).unwrap();
    let encoder = Encoder::new(&tokenizer).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), bytes).unwrap();
    };
    let is_held = |document: &&Document| HELDOUT.contains(&document.id.as_str());
    let trained: Vec<&Document> = documents.iter().filter(|document| !is_held(document)).collect();
    let writer = ShardWriter::new(encoder.vocab_size());
    let mut packer = Packer { root, encoder: &encoder, writer, infos: Vec::new(), entries: Vec::new() };
    let source = |document: &Document| u16::from(document.language == "fr");
    for document in &trained {
        for _ in 0..if document.id == THRICE { 3 } else { 1 } {
            packer.push(document, source(document));
        }
    }
    packer.end();
    let main = packer.infos.len();
    // A piece that fills a shard is left out of the second mix: a manifest names no shard twice.
    let some: Vec<_> = trained.iter().skip(2).step_by(3).filter(|document| document.id != LONG).take(6).collect();
    some.iter().rev().for_each(|document| packer.push(document, source(document)));
    trained
        .iter()
        .filter(|document| document.id == THRICE)
        .for_each(|document| packer.push(document, source(document)));
    packer.end();
    let late = packer.infos.len();
    let mut heldout = Vec::new();
    for language in ["de", "fr"] {
        let mine: Vec<&Document> = documents.iter().filter(is_held).filter(|d| d.language == language).collect();
        mine.iter().for_each(|document| packer.push(document, 0));
        packer.end();
        let text_bytes = mine.iter().map(|document| document.text.len() as u64).sum();
        heldout.push(HeldoutShard { language: language.into(), shard: *packer.infos.last().unwrap(), text_bytes });
        let lines = mine.iter().map(|d| serde_json::to_string(&HeldoutLine::new(d, &Notes::default())).unwrap() + "\n");
        put(&dataset::heldout_name(language), lines.collect::<String>().as_bytes());
    }
    let mix = |name: &str, shards: &[ShardInfo]| Mix { name: name.into(), shards: shards.to_vec() };
    let manifest = DatasetManifest {
        version: 1,
        name: "small".into(),
        tokenizer: Hash::of(&tokenizer),
        vocab_size: encoder.vocab_size(),
        mixes: vec![mix("main", &packer.infos[..main]), mix("late", &packer.infos[main..late])],
        heldout,
        sources: sources(&trained, &encoder),
        settings: "seed = 0\n".into(),
    };
    let bytes = manifest.to_bytes();
    DatasetManifest::from_bytes(&bytes).unwrap();
    put(dataset::MANIFEST, &bytes);
    put(dataset::MANIFEST_JSON, b"{}");
    put(dataset::TOKENIZER, &tokenizer);
    put("notes.txt", b"who wrote what");
    put(INDEX, &index::to_bytes(packer.entries.clone()));
    let mut files = Vec::new();
    for language in ["fr", "de"] {
        let mine: Vec<&&Document> = trained.iter().filter(|document| document.language == language).collect();
        for (i, chunk) in mine.chunks(10).enumerate() {
            let (name, bytes) = (part_name(language, i as u64), part(chunk.iter().map(|d| **d)).unwrap());
            files.push(FileInfo::of(&name, Some(language), chunk.len() as u64, &bytes));
            put(&name, &bytes);
        }
    }
    let mut rejected = RejectedWriter::new(Vec::new()).unwrap();
    let [id, source, language, license, rule, detail] =
        ["fr-999", "livres-fr", "fr", "CC0-1.0", "gopher-quality/too-few-words", "3 words, at least 50"]
            .map(String::from);
    rejected.push(&Fate { id, source, language, license, rule, detail, bytes: 9 }).unwrap();
    let bytes = rejected.finish().unwrap();
    files.push(FileInfo::of(REJECTED, None, 1, &bytes));
    put(REJECTED, &bytes);
    let facts = facts(documents, &manifest, &packer.entries[..], main as u32);
    put(FACTS, serde_json::to_string(&facts).unwrap().as_bytes());
    write(&facts, &files).iter().for_each(|(name, bytes)| put(name, bytes));
}

fn sources(trained: &[&Document], encoder: &Encoder) -> Vec<SourceSummary> {
    let mut sources = Vec::new();
    for language in ["de", "fr"] {
        let texts: Vec<&str> = trained.iter().filter(|d| d.language == language).map(|d| d.text.as_str()).collect();
        let tokens = encoder.encode_all(&texts, |_| {}).unwrap();
        sources.push(SourceSummary {
            name: format!("livres-{language}"),
            language: language.into(),
            licenses: vec!["CC0-1.0".into()],
            documents: texts.len() as u64,
            text_bytes: texts.iter().map(|text| text.len() as u64).sum(),
            tokens: tokens.iter().map(|tokens| tokens.len() as u64).sum(),
        });
    }
    sources
}

fn facts(documents: &[Document], manifest: &DatasetManifest, entries: &[Entry], main: u32) -> Facts {
    let hash = Hash::of(&manifest.to_bytes()).to_string();
    let mut facts = Facts { version: 1, name: "small".into(), dataset: hash, ..Facts::default() };
    facts.settings = manifest.settings.clone();
    for document in documents {
        let (source, language, bytes) = (&document.source, &document.language, document.text.len() as u64);
        facts.tally.document(source, language, READ, bytes);
        facts.tally.document(source, language, KEPT, bytes);
        let lengths = facts.lengths.entry(language.clone()).or_insert_with(|| vec![0; 20]);
        lengths[bytes.ilog2() as usize] += 1;
        if !HELDOUT.contains(&document.id.as_str()) {
            facts.credits.document(document);
        }
    }
    for source in &manifest.sources {
        let SourceSummary { name, language, documents, text_bytes, tokens, .. } = source.clone();
        facts.licenses.push(LicenseFacts {
            license: "CC0-1.0".into(),
            source: name.clone(),
            language: language.clone(),
            documents,
            bytes: text_bytes,
        });
        if facts.mixes.is_empty() {
            facts.mixes.push(MixFacts { name: "main".into(), shards: u64::from(main), parts: Vec::new() });
        }
        let number = u16::from(language == "fr");
        let extra = |e: &&Entry| e.shard < main && e.source == number && e.piece == 0;
        let copies = entries.iter().filter(extra).count() as u64;
        let part = MixPart { source: name, language, documents, copies, bytes: text_bytes, tokens, weight: 1.0 };
        facts.mixes[0].parts.push(part);
    }
    for held in &manifest.heldout {
        let (documents, tokens) = (held.shard.documents, held.shard.tokens);
        facts.heldout.insert(held.language.clone(), HeldoutFacts { documents, bytes: held.text_bytes, tokens });
    }
    facts
}

/// How often each document's mark occurs in the training shards of each mix and in the held-out shards.
fn marks(dataset: &Dataset) -> BTreeMap<(String, String), u64> {
    let encoder = dataset.encoder().unwrap();
    let mut marks = BTreeMap::new();
    let manifest = &dataset.manifest;
    let training = manifest.mixes.iter().flat_map(|mix| mix.shards.iter().map(|shard| (mix.name.clone(), shard)));
    let heldout = manifest.heldout.iter().map(|held| (format!("held out: {}", held.language), &held.shard));
    for (mix, info) in training.chain(heldout) {
        let mut shard = dataset.shard(info).unwrap();
        for i in 0..shard.documents() {
            let text = encoder.decode(&shard.document(i).unwrap()).unwrap();
            for id in text.split("mark-").skip(1).filter_map(|rest| rest.strip_suffix("-mark")) {
                *marks.entry((mix.clone(), id.to_owned())).or_default() += 1;
            }
        }
    }
    marks
}

#[test]
fn nothing_of_a_removed_document_is_left_and_all_else_stays() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let documents = corpus();
    dataset(&at("old"), &documents);
    let old = Dataset::open(&at("old")).unwrap();
    let before = marks(&old);
    assert_eq!(before[&("main".into(), THRICE.into())], 3);
    let gone = [THRICE, LONG, "fr-1", "de-0", "fr-20"];
    fs::write(at("ids.txt"), format!("{}\r\nde-0\n\nabsent\n", gone[2])).unwrap();
    let ids = format!("@{}", text(&at("ids.txt")));
    fs::create_dir_all(at("runs/one/public/dataset")).unwrap();
    fs::copy(at("old/dataset.manifest"), at("runs/one/public/dataset/dataset.manifest")).unwrap();
    let remove = |out: &str, from: &str, more: &[&str]| {
        let (out, from) = (at(out), at(from));
        let arguments =
            [&["remove", THRICE, LONG, "fr-20", &ids, "--from", text(&from), "--out", text(&out)], more].concat();
        succeed(&arguments)
    };
    let runs = at("runs");
    let report: Value = serde_json::from_str(&remove("new", "old", &["--json", "--runs", text(&runs)])).unwrap();
    assert_eq!(report["missing"], serde_json::json!(["absent"]));
    assert_eq!(report["removed"].as_array().unwrap().len(), gone.len());
    assert_eq!(report["runs"][0]["name"], "small");
    assert_eq!(report["runs"][0]["shards"].as_u64().unwrap(), report["shards"].as_array().unwrap().len() as u64);
    assert_eq!(report["left_out"], serde_json::json!(["notes.txt"]));

    // Every hash holds, and the shards hold the other documents as often as before.
    succeed(&["inspect", text(&at("new"))]);
    let new = Dataset::open(&at("new")).unwrap();
    assert_eq!(report["to"], new.hash.to_string());
    let mut expected = before.clone();
    expected.retain(|(_, id), _| !gone.contains(&id.as_str()));
    assert_eq!(marks(&new), expected);
    assert!(new.manifest.heldout.iter().all(|held| held.language == "fr"), "de has no held-out document left");
    let left: Vec<&Document> = documents.iter().filter(|document| !gone.contains(&document.id.as_str())).collect();
    let trained: Vec<&Document> = left.iter().filter(|d| !HELDOUT.contains(&d.id.as_str())).copied().collect();
    assert_eq!(new.manifest.sources, sources(&trained, &new.encoder().unwrap()));

    // Shards without these documents are the same files.
    let changed: BTreeSet<String> =
        report["shards"].as_array().unwrap().iter().map(|s| s[0].as_str().unwrap().to_owned()).collect();
    let same: Vec<&ShardInfo> = old.manifest.all_shards().filter(|s| !changed.contains(&s.hash.to_string())).collect();
    assert!(!same.is_empty() && !changed.is_empty());
    for info in same {
        let inode = |root: &str| fs::metadata(at(root).join(dataset::shard_name(&info.hash))).unwrap().ino();
        assert_eq!(inode("old"), inode("new"));
    }

    // No file has its text; texts and facts are those of the others.
    let files = snapshot(&at("new"));
    for (path, bytes) in &files {
        for id in gone {
            let mark = format!("mark-{id}-mark");
            assert!(!bytes.windows(mark.len()).any(|window| window == mark.as_bytes()), "{id} in {}", path.display());
        }
    }
    let mut ids = BTreeSet::new();
    for path in scan::part_paths(&at("new")).unwrap() {
        scan::documents(&path, |document| {
            assert_eq!(&document.text, &documents.iter().find(|d| d.id == document.id).unwrap().text);
            ids.insert(document.id);
            Ok(())
        })
        .unwrap();
    }
    assert_eq!(ids, trained.iter().map(|document| document.id.clone()).collect());
    let facts: Facts = serde_json::from_slice(&files[Path::new(FACTS)]).unwrap();
    assert_eq!(facts.tally.sum(|key| key.rule == KEPT).documents, left.len() as u64);
    assert_eq!(facts.tally.sum(|key| key.rule == "removed/request").documents, gone.len() as u64);
    let kept: u64 = left.iter().map(|document| document.text.len() as u64).sum();
    assert_eq!(facts.tally.sum(|key| key.rule == KEPT).bytes, kept);
    assert_eq!(facts.lengths.values().flatten().sum::<u64>(), left.len() as u64);
    let licensed: u64 = facts.licenses.iter().map(|row| row.documents).sum();
    assert_eq!((licensed, facts.heldout.len()), (trained.len() as u64, 1));
    assert_eq!(facts.mixes[0].parts.iter().map(|part| part.copies).sum::<u64>(), trained.len() as u64);

    // The new index finds every document where it is.
    let encoder = new.encoder().unwrap();
    let shards: Vec<&ShardInfo> = new.manifest.all_shards().collect();
    let mut index = Index::open(&at("new").join(INDEX)).unwrap();
    for document in &left {
        let entries = index.find(&document.id).unwrap();
        assert!(!entries.is_empty());
        for entry in entries.iter().filter(|_| document.id != LONG) {
            let tokens = new.shard(shards[entry.shard as usize]).unwrap().document(entry.document.into()).unwrap();
            assert_eq!(encoder.decode(&tokens).unwrap(), document.text);
        }
    }
    gone.iter().for_each(|id| assert_eq!(index.find(id).unwrap(), []));

    // The same removal gives the same bytes; out of the new data set nothing is left to remove.
    remove("again", "old", &[]);
    assert!(snapshot(&at("again")) == files);
    let (new, third) = (at("new"), at("third"));
    let nothing = fail(&["remove", THRICE, "--from", text(&new), "--out", text(&third)]);
    assert!(nothing.contains("holds none of these documents"), "{nothing}");
    assert!(
        fail(&["remove", "fr-2", "--from", text(&new), "--out", text(&new)]).contains("--out is the data set itself")
    );
    assert!(!third.exists());

    explain_and_diff(&at("old"), &at("new"));
}

fn explain_and_diff(old: &Path, new: &Path) {
    let explain = |root: &Path, id: &str| -> Value {
        serde_json::from_str(&succeed(&["explain", text(root), id, "--json"])).unwrap()
    };
    let kept = explain(old, THRICE);
    let copies: Vec<u64> = kept["places"].as_array().unwrap().iter().map(|p| p["copies"].as_u64().unwrap()).collect();
    assert_eq!(copies.iter().sum::<u64>(), 4);
    assert_eq!((&kept["kept"][0]["license"], &kept["kept"][0]["source"]), (&"CC0-1.0".into(), &"livres-fr".into()));
    assert_eq!(explain(old, "fr-1")["kept"][0]["heldout"], true);
    assert_eq!(explain(old, "fr-999")["rejected"][0]["detail"], "3 words, at least 50");
    assert_eq!(explain(new, THRICE)["rejected"][0]["rule"], "removed/request");
    assert_eq!(explain(new, THRICE)["places"], serde_json::json!([]));
    let never = explain(old, "FR-2");
    assert_eq!((&never["seen"], &never["similar"][0]), (&false.into(), &"fr-2".into()));
    assert!(succeed(&["explain", text(old), "nothing-like-it"]).starts_with("never seen"));
    let summary = succeed(&["summary", text(new)]);
    assert!(summary.lines().any(|line| line.starts_with("removed ") && line.contains(" 5 ")), "{summary}");
    let card = succeed(&["summary", text(old), "--markdown"]);
    assert!(card.starts_with("---\npretty_name: \"small\"\nlicense: cc0-1.0\n"), "{card}");

    let diff = |a: &Path, b: &Path| program(&["diff", text(a), text(b)]);
    assert_eq!(diff(old, old).status.code(), Some(0));
    let output = diff(old, new);
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("removed/request: 0 → 5 (+5) documents"), "{shown}");
    assert!(shown.contains("livres-fr fr CC0-1.0: 28 → 25 (−3) documents"), "{shown}");
    assert_eq!(diff(old, Path::new("nowhere")).status.code(), Some(2));
}

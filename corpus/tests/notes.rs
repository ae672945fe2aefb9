//! What a build found out about a document is published with it: its licence's place, the size of its cluster of duplicates.
#![allow(clippy::unwrap_used)]

mod common;

use common::{documents, fail, succeed, text, write_jsonl};
use essaim_corpus::document::Document;
use essaim_corpus::publish::scan;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const TAIL: &str = "[tokenizer]\nvocab_size = 600\n[mix]\nlargest = \"any\"\n[license]\nlinks = \"any\"\n";

/// Each German document twice; of `fr-5` three copies of the same text and one that is nearly the same.
fn write_texts(root: &Path) {
    let mut own = documents("fr", 60, 200);
    let five = own.iter().find(|document| document.id == "fr-5").unwrap().clone();
    for (i, end) in ["", "", "Fin."].iter().enumerate() {
        own.push(Document { id: format!("five-{i}"), text: format!("{}{end}", five.text), ..five.clone() });
    }
    let german = documents("de", 30, 200);
    let again = german.iter().map(|document| Document { id: format!("{}-again", document.id), ..document.clone() });
    let twice: Vec<Document> = german.iter().cloned().chain(again).collect();
    let mut linked = documents("en", 20, 200);
    for document in &mut linked {
        document.text += "\nhttps://creativecommons.org/licenses/by/4.0/";
    }
    let bare = |documents: &[Document]| -> Vec<Document> {
        documents.iter().cloned().map(|document| Document { license: String::new(), ..document }).collect()
    };
    write_jsonl(&root.join("own.jsonl"), &own);
    write_jsonl(&root.join("twice.jsonl"), &bare(&twice));
    write_jsonl(&root.join("linked.jsonl"), &bare(&linked));
    // A field that a source happens to call the same is not what this build found out; others stay.
    let path = root.join("own.jsonl");
    let lines: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    let with_extra = lines.iter().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line["extra"] = json!({"page": 7, "cluster_size": 99, "license_from": "hearsay"});
        format!("{line}\n")
    });
    fs::write(&path, with_extra.collect::<String>()).unwrap();
}

/// `extra` of all published documents, by id.
fn extras(root: &Path) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for path in scan::part_paths(root).unwrap() {
        scan::documents(&path, |document| {
            found.insert(document.id, serde_json::from_str(&document.meta.extra.unwrap()).unwrap());
            Ok(())
        })
        .unwrap();
    }
    found
}

fn explain(root: &Path, id: &str) -> Value {
    serde_json::from_str(&succeed(&["explain", text(root), id, "--json"])).unwrap()
}

#[test]
fn cluster_sizes_and_the_places_of_licences_are_published() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_texts(root);
    let settings = format!(
        "{TAIL}[[source]]\npath = \"own.jsonl\"\n[[source]]\npath = \"linked.jsonl\"\n\
         [[source]]\npath = \"twice.jsonl\"\nlicense = \"MIT\"\n"
    );
    let (file, out) = (root.join("corpus.toml"), root.join("out"));
    fs::write(&file, settings).unwrap();
    succeed(&["build", text(&file), "--out", text(&out)]);
    let extras_of = extras(&out);
    assert!(extras_of.len() > 90, "{}", extras_of.len());
    let mut fives = 0;
    for (id, extra) in &extras_of {
        let size = match id {
            five if five == "fr-5" || five.starts_with("five-") => 4,
            german if german.starts_with("de-") => 2,
            _ => 1,
        };
        fives += u32::from(size == 4);
        let expected = match &id[..2] {
            "de" => json!({"license": "MIT", "license_from": "source", "cluster_size": size}),
            "en" => json!({"license": "CC-BY-4.0", "license_from": "link", "cluster_size": size}),
            _ => json!({"license": "CC0-1.0", "license_from": "column", "cluster_size": size, "page": 7}),
        };
        assert_eq!(*extra, expected, "{id}");
        let kept = &explain(&out, id)["kept"][0];
        assert_eq!((&kept["cluster_size"], &kept["license_from"]), (&extra["cluster_size"], &extra["license_from"]));
    }
    let heldout = fs::read_to_string(out.join("heldout/de.jsonl")).unwrap();
    let heldout: Value = serde_json::from_str(heldout.lines().next().unwrap()).unwrap();
    assert_eq!((&heldout["cluster_size"], &heldout["license_from"]), (&json!(2), &json!("source")));
    let kept = &explain(&out, heldout["id"].as_str().unwrap())["kept"][0];
    assert_eq!(
        (&kept["heldout"], &kept["cluster_size"], &kept["license_from"]),
        (&json!(true), &json!(2), &json!("source"))
    );
    // Unless all four of one cluster are held out, which the hashes of their ids decide once and for all.
    assert_eq!(fives, 1);
    let five = extras_of.keys().find(|id| extras_of[*id]["cluster_size"] == 4).unwrap();
    let told = succeed(&["explain", text(&out), five]);
    assert!(told.contains("licence from: the document's own column or field"), "{told}");
    assert!(told.contains("duplicates: it stands for 4 documents like it"), "{told}");
    assert!(succeed(&["explain", text(&out), "fr-6"]).contains("duplicates: none"));

    // Documents that stay keep what is known of them when others go.
    let new = root.join("new");
    succeed(&["remove", "fr-6", "--from", text(&out), "--out", text(&new)]);
    let mut left = extras_of.clone();
    assert!(left.remove("fr-6").is_some());
    assert_eq!(extras(&new), left);

    // Built from what was published, documents stand for themselves alone and say their licence themselves.
    let (file, again) = (root.join("again.toml"), root.join("again"));
    fs::write(&file, format!("{TAIL}[[source]]\npath = \"out/data\"\n")).unwrap();
    succeed(&["build", text(&file), "--out", text(&again)]);
    let rebuilt = extras(&again);
    assert!(rebuilt.len() > 80 && rebuilt.values().any(|extra| extra["page"] == 7));
    for (id, extra) in &rebuilt {
        let mut expected = extras_of[id].clone();
        (expected["cluster_size"], expected["license_from"]) = (json!(1), json!("column"));
        assert_eq!(*extra, expected, "{id}");
    }
}

#[test]
fn a_licence_that_nobody_knows_was_found_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let unknown: Vec<Document> = documents("fr", 40, 200)
        .into_iter()
        .map(|document| Document { license: "NOASSERTION".into(), ..document })
        .collect();
    write_jsonl(&root.join("texts.jsonl"), &unknown);
    let settings = "[tokenizer]\nvocab_size = 600\n[license]\nallow = [\"NOASSERTION\"]\n[dedup]\nexact = false\n\
        minhash = false\n[[source]]\npath = \"texts.jsonl\"\n";
    let (file, out) = (root.join("corpus.toml"), root.join("out"));
    fs::write(&file, settings).unwrap();
    succeed(&["build", text(&file), "--out", text(&out)]);
    let extras = extras(&out);
    assert!(extras.len() > 30);
    assert!(extras.values().all(|extra| *extra == json!({"license": "NOASSERTION", "cluster_size": 1})));
    fs::write(&file, settings.replace("NOASSERTION", "MIT")).unwrap();
    assert!(fail(&["build", text(&file), "--out", text(&root.join("none"))]).contains("license"));
}

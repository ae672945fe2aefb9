//! A build as stages: spread over processes, killed and resumed, on any number of threads and with any memory, always the same bytes.
#![allow(clippy::unwrap_used)]

mod common;

use common::{corpus, documents, fail, snapshot, succeed, text, write_jsonl, write_parquet};
use essaim_corpus::document::Document;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SMALL: [&str; 6] = ["--vocab-size", "640", "--tokens-max", "4096", "--minimum", "none"];

/// Several files, with duplicates, near-duplicates and rows that are broken.
fn texts(root: &Path) -> PathBuf {
    let texts = root.join("texts");
    let mut all = corpus();
    for i in 0..20 {
        let copy = all[i].clone();
        all.push(Document { id: format!("copy-{i}"), ..copy.clone() });
        all.push(Document { id: format!("near-{i}"), text: format!("{} fin.", copy.text), ..copy });
    }
    for (i, part) in all.chunks(40).enumerate() {
        match i % 2 {
            0 => write_parquet(&texts.join(format!("{i}.parquet")), part),
            _ => write_jsonl(&texts.join(format!("{i}.jsonl")), part),
        }
    }
    let broken = texts.join("1.jsonl");
    let whole = fs::read_to_string(&broken).unwrap();
    fs::write(broken, format!("{whole}{{\"text\": 3\n")).unwrap();
    texts
}

fn start(texts: &Path, out: &Path, more: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_essaim-corpus"));
    command.args(["build", text(texts), "--out", text(out)]).args(SMALL).args(more);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn reference(root: &Path, texts: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let out = root.join("reference");
    let report = succeed(&[&["build", text(texts), "--out", text(&out), "--json"], SMALL.as_slice()].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["documents"], &report["broken"]), (&Value::from(290), &Value::from(1)));
    assert!(report["duplicates"].as_u64().unwrap() >= 40, "{report}");
    assert!(!root.join("reference.work").exists());
    snapshot(&out)
}

#[test]
fn four_processes_that_meet_in_a_folder_give_the_bytes_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let texts = texts(root);
    let reference = reference(root, &texts);
    let (out, work) = (root.join("out"), root.join("work"));
    let task = |i: usize| start(&texts, &out, &["--work", text(&work), "--task", &format!("{i}/4"), "--wait", "120"]);
    // The last ones first: those that come later find work done, and those that are early wait.
    let tasks: Vec<Child> = (0..4).rev().map(task).collect();
    for mut task in tasks {
        assert!(task.wait().unwrap().success());
    }
    assert!(snapshot(&out) == reference, "four tasks gave other bytes than one");
    // What they left is taken as done: one process more needs no other.
    let again = root.join("again");
    assert!(start(&texts, &again, &["--work", text(&work)]).wait().unwrap().success());
    assert!(snapshot(&again) == reference);
}

#[test]
fn a_task_whose_others_never_come_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let texts = texts(folder.path());
    let (out, work) = (folder.path().join("out"), folder.path().join("work"));
    let tail = ["--work", text(&work), "--task", "1/2", "--wait", "1"];
    let reason = fail(&[&["build", text(&texts), "--out", text(&out)], tail.as_slice()].concat());
    assert!(reason.contains("was not done by another of the 2 tasks within 1 s; start the missing tasks"), "{reason}");
    let reason = fail(&["build", text(&texts), "--out", text(&out), "--task", "1/2"]);
    assert_eq!(reason, "--task needs --work: where the tasks meet");
}

#[test]
fn a_build_killed_anywhere_goes_on_and_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let texts = texts(root);
    let reference = reference(root, &texts);
    let (out, work) = (root.join("out"), root.join("work"));
    let mut done = 0;
    for kill in 0..60 {
        let mut child = start(&texts, &out, &["--work", text(&work)]);
        std::thread::sleep(Duration::from_millis(10 + kill % 7 * 15));
        if child.try_wait().unwrap().is_some() {
            done += 1;
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!out.exists() || snapshot(&out) == reference, "half a data set at kill {kill}");
    }
    if done == 0 {
        assert!(start(&texts, &out, &["--work", text(&work)]).wait().unwrap().success());
    }
    assert!(snapshot(&out) == reference, "a resumed build gave other bytes");
    // What is damaged in the work is found, or does not matter: never other bytes.
    let objects = snapshot(&work);
    for path in objects.keys().filter(|path| path.to_string_lossy().ends_with(".docs")).take(3) {
        let file = work.join(path);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        fs::write(&file, &bytes).unwrap();
    }
    fs::remove_dir_all(&out).unwrap();
    let child = start(&texts, &out, &["--work", text(&work)]).wait().unwrap();
    assert!(!child.success() || snapshot(&out) == reference);
}

#[test]
fn threads_memory_and_files_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let reference = reference(root, &texts(root));
    for (i, more) in [["--threads", "1"], ["--threads", "5"], ["--memory", "1"]].iter().enumerate() {
        let out = root.join(format!("out{i}"));
        assert!(start(&root.join("texts"), &out, more).wait().unwrap().success());
        assert!(snapshot(&out) == reference, "{more:?} changed the bytes");
    }
}

#[test]
fn what_many_documents_share_is_no_leak() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    // A licence of 30 words at the end of 60, in two thirds of the documents.
    let licence = documents("en", 1, 100)[0].text.split_whitespace().take(30).collect::<Vec<_>>().join(" ");
    let others = documents("fr", 160, 60).split_off(100);
    let licensed = |id: &str| !id[3..].parse::<u32>().unwrap().is_multiple_of(3);
    let all: Vec<Document> = documents("fr", 60, 20)
        .into_iter()
        .zip(others)
        .map(|(document, other)| {
            let words = other.text.split_whitespace().chain(document.text.split_whitespace());
            let own = words.take(60).collect::<Vec<_>>().join(" ");
            let end = if licensed(&document.id) { licence.as_str() } else { "" };
            Document { text: format!("{own} {end}"), ..document }
        })
        .collect();
    write_parquet(&root.join("texts/x.parquet"), &all);
    let file = root.join("corpus.toml");
    let dropped = |documents_max: u32, out: &str| -> u64 {
        let settings = format!(
            "[language]\nidentify = false\n[tokenizer]\nvocab_size = 600\n[heldout]\npermille = 100\n[decontaminate]\ndocuments_max = {documents_max}\n\
             [[source]]\npath = \"texts\"\n"
        );
        fs::write(&file, settings).unwrap();
        let report = succeed(&["build", text(&file), "--out", text(&root.join(out)), "--json"]);
        let report: Value = serde_json::from_str(&report).unwrap();
        let steps = report["funnel"]["steps"].as_array().unwrap();
        let step = steps.iter().find(|step| step["filter"] == "decontamination");
        step.map_or(0, |step| step["dropped"]["documents"].as_u64().unwrap())
    };
    assert_eq!(dropped(10, "default"), 0);
    let heldout = fs::read_to_string(root.join("default/heldout/fr.jsonl")).unwrap();
    let heldout = heldout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let heldout = heldout.filter(|line| licensed(line["id"].as_str().unwrap())).count() as u64;
    assert!(heldout > 0, "no licence is held out, by the hashes of these ids");
    // Training documents with the licence: it is common when fewer may have it, and else too much that is shared.
    let trained = 40 - heldout;
    assert_eq!((dropped(trained as u32 - 1, "fewer"), dropped(trained as u32, "as-many")), (0, trained));
    assert_eq!(dropped(0, "none"), trained);
}

#[test]
fn every_document_is_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut all = documents("fr", 80, 300);
    all[0].license = "CC-BY-NC-4.0".into();
    all[1].license = "NOASSERTION".into();
    all[2].text = "Écrivez à Jeanne@Dupont.fr ou au 01 42 68 53 00 avant midi. ".to_owned() + &all[2].text;
    all[3].text = all[4].text.clone();
    all.push(Document { id: "gone".into(), ..all[9].clone() });
    write_parquet(&root.join("texts/x.parquet"), &all);
    fs::write(root.join("removed.txt"), "# requests\ngone\n").unwrap();
    let settings = "remove = \"removed.txt\"\n[tokenizer]\nvocab_size = 600\n[[source]]\npath = \"texts\"\n\
        [[phase]]\nname = \"pretraining\"\nweights = { fr = 2.0 }\n\
        [[phase]]\nname = \"annealing\"\nshares = { livres-fr = 1.0 }\ntokens = 3000\n";
    let file = root.join("corpus.toml");
    fs::write(&file, settings).unwrap();
    let out = root.join("out");
    let report = succeed(&["build", text(&file), "--out", text(&out), "--explain", "fr-0", "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["explained"]["rejected"][0]["rule"], "license/non-commercial", "{report}");
    let facts: Value = serde_json::from_slice(&fs::read(out.join("facts.json")).unwrap()).unwrap();
    let count = |rule: &str| -> u64 {
        let rows = facts["tally"].as_array().unwrap().iter().filter(|row| row[0]["rule"] == rule);
        rows.map(|row| row[1]["documents"].as_u64().unwrap()).sum()
    };
    let rules = ["license/non-commercial", "license/unknown", "removed/request", "dedup/exact"];
    assert_eq!(rules.map(count), [1, 1, 1, 1]);
    let all_rules: u64 =
        facts["tally"].as_array().unwrap().iter().map(|row| row[1]["documents"].as_u64().unwrap()).sum();
    assert_eq!(all_rules, 2 * 81, "read once, and once kept or refused");
    assert_eq!((&facts["masked"]["email"]["fr"], &facts["masked"]["phone"]["fr"]), (&Value::from(1), &Value::from(1)));
    let names: Vec<&str> = facts["mixes"].as_array().unwrap().iter().map(|mix| mix["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["pretraining", "annealing"]);
    let part = &facts["mixes"][0]["parts"][0];
    assert_eq!(part["copies"].as_u64(), part["documents"].as_u64().map(|documents| 2 * documents));
    let tokens = facts["mixes"][1]["parts"][0]["tokens"].as_u64().unwrap();
    assert!((1500..5000).contains(&tokens), "{tokens} tokens of 3000");
    // No text that was refused or masked is in the folder.
    for (path, bytes) in snapshot(&out) {
        assert!(!bytes.windows(16).any(|window| window == b"Jeanne@Dupont.fr"), "{}", path.display());
    }
}

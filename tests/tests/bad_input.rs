//! Bad input gets one clear line and a non-zero exit code, and loses nothing.
#![allow(clippy::unwrap_used)]

use essaim_tests::process::child::program;
use essaim_tests::process::run::path;
use essaim_tests::process::small::{found, settings};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

fn run(dir: &Path, name: &str, arguments: &[&str]) -> Output {
    Command::new(program(name).unwrap()).args(arguments).current_dir(dir).output().unwrap()
}

/// That the program fails, and that the last line it says has each of `words` and no debug output.
fn refuses(dir: &Path, name: &str, arguments: &[&str], words: &[&str]) {
    let output = run(dir, name, arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    let line = text.trim_end().lines().last().unwrap_or_default();
    assert!(!output.status.success(), "{name} {arguments:?} succeeds");
    for word in words {
        assert!(line.contains(word), "{name} {arguments:?} does not say '{word}': {text}");
    }
    for word in ["panicked", "RUST_BACKTRACE", "Some(", "Err("] {
        assert!(!text.contains(word), "{name} {arguments:?} says {text}");
    }
    let half = line.len() / 2;
    let tail = line.get(half..).unwrap_or_default();
    let repeated =
        tail.len() > 30 && line.get(..half).unwrap_or_default().contains(tail.trim_start_matches([':', ' ']));
    assert!(!repeated, "{name} {arguments:?} says it twice: {line}");
}

#[test]
fn a_corpus_that_is_empty_or_damaged_or_lacks_a_column() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::create_dir(dir.join("empty")).unwrap();
    std::fs::write(dir.join("latin.jsonl"), b"{\"text\":\"caf\xe9\"}\n").unwrap();
    std::fs::write(dir.join("column.jsonl"), b"{\"language\":\"fr\"}\n").unwrap();
    std::fs::write(dir.join("broken.parquet"), b"PAR1 and no more").unwrap();
    std::fs::write(dir.join("unknown.toml"), b"wallet = 1\n[[source]]\npath = \"empty\"\n").unwrap();
    for (input, words) in [
        ("empty", ["empty", "no .parquet"]),
        ("latin.jsonl", ["latin.jsonl", "not UTF-8"]),
        ("column.jsonl", ["column.jsonl", "no column 'text'"]),
        ("broken.parquet", ["broken.parquet", ""]),
        ("unknown.toml", ["unknown.toml", "wallet"]),
        ("nowhere", ["nowhere", ""]),
    ] {
        refuses(dir, "essaim-corpus", &["build", input, "--out", "out"], &words);
        assert!(!dir.join("out").exists(), "{input}: nothing half-made is left");
    }
}

#[test]
fn settings_that_no_run_can_have() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    found(dir, 2, 1).unwrap();
    let good = settings(&dir.join("dataset"), 2, 1);
    for (from, to, word) in [
        ("name = \"small\"", "name = \"small\"\nwallet = 1", "wallet"),
        ("steps = 6", "steps = 0", "inner.steps is 0"),
        ("batch = 4", "batch = 0", "inner.batch is 0"),
        ("heads = 2", "heads = 3", "model.d_model"),
        ("rounds = 2", "rounds = 0", "rounds is 0"),
        ("rounds = 2", "rounds = two", "run.toml:3"),
        ("context = 32", "context = 100000", "batch"),
        ("dataset\"", "nothing-there\"", "nothing-there"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "the settings have no {from}");
        let file = dir.join("bad").join("run.toml");
        std::fs::create_dir_all(dir.join("bad")).unwrap();
        std::fs::write(&file, text).unwrap();
        refuses(dir, "essaim-coordinator", &["init", "bad/run.toml", "--data-dir", "other"], &[word]);
        assert!(!dir.join("other/state.sqlite").exists(), "{to}: nothing half-made is left");
    }
    refuses(dir, "essaim-coordinator", &["init", "run.toml", "--data-dir", "coordinator"], &["not empty"]);
}

#[test]
fn links_data_directories_and_ports() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut swarm = found(dir, 50, 1).unwrap();
    swarm.start_coordinator(1).unwrap();
    let link = swarm.link().unwrap();
    let join = |link: &str, more: &[&str], words: &[&str]| {
        let mut arguments = vec!["join", link, "--data-dir", "me", "--no-mdns", "--give-up-after", "20"];
        arguments.extend(more);
        refuses(dir, "essaim", &arguments, words);
    };
    join("essaim:00ff", &[], &["run id", "cut off"]);
    join("https://example.org", &[], &["essaim:"]);
    join(&link[..60], &[], &["run id"]);
    join(&format!("{link}&wallet=1"), &[], &["wallet"]);

    // A link of another run to the same coordinator: it does not have that run.
    let run_id = &link["essaim:".len()..][..64];
    let other = link.replace(run_id, &"ab".repeat(32));
    let arguments = ["join", &other, "--data-dir", "lost", "--no-mdns", "--give-up-after", "60"];
    refuses(dir, "essaim", &arguments, &["run"]);

    swarm.start_node(1, 1).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    swarm.check_alive().unwrap();
    refuses(dir, "essaim", &["join", &link, "--data-dir", "node-1", "--no-mdns"], &["node-1"]);
    refuses(dir, "essaim-coordinator", &["serve", "--data-dir", "coordinator"], &["coordinator"]);
    swarm.kill_node(1).unwrap();
    refuses(dir, "essaim", &["join", &other, "--data-dir", "node-1", "--no-mdns"], &["node-1", "belongs to run"]);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    join(&link, &["--listen", &address], &["in use"]);
    let key = dir.join("node-1/key");
    let chmod =
        |mode: &str| assert!(Command::new("chmod").args([mode, path(&key).unwrap()]).status().unwrap().success());
    chmod("644");
    refuses(dir, "essaim", &["join", &link, "--data-dir", "node-1", "--no-mdns"], &["chmod 600"]);
    chmod("600");

    swarm.kill_coordinator().unwrap();
    let http: u16 = swarm.http().rsplit(':').next().unwrap().parse().unwrap();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", http)).unwrap();
    refuses(dir, "essaim-coordinator", &["serve", "--data-dir", "coordinator"], &["in use", &http.to_string()]);
    std::fs::write(dir.join("coordinator/version"), "999\n").unwrap();
    refuses(dir, "essaim-coordinator", &["serve", "--data-dir", "coordinator"], &["written by", "999"]);
}

#[test]
fn a_verifier_without_anchor_or_source() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, code) in [
        (vec!["nowhere", "--run", "00"], 2),
        (vec!["nowhere"], 2),
        (vec!["http://127.0.0.1:9/", "--run", &"00".repeat(32)], 2),
        (vec![".", "--run", &"00".repeat(32)], 2),
    ] {
        let output = run(dir.path(), "essaim-verify", &arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

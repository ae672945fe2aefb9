//! Real processes over QUIC on loopback: the demo's path in small, and SIGKILL in every phase.
#![allow(clippy::unwrap_used)]

use essaim_tests::process::run::{LocalRun, call, path};
use essaim_tests::process::small::{found, last_round, verify_all, wait_for_round};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that stays when the test fails, so that its logs can be read.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let dir = std::env::temp_dir().join(format!("essaim-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Folder(dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("logs and data are kept in {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn public(run: &LocalRun) -> String {
    path(&run.coordinator_dir().join("public")).unwrap().to_owned()
}

#[test]
fn a_run_from_text_to_a_verified_model_with_a_node_lost_and_one_gained() {
    let folder = Folder::new("run");
    let mut run = found(&folder.0, 5, 3).unwrap();
    run.start_coordinator(1).unwrap();
    for number in 1..=3 {
        run.start_node(number, 1).unwrap();
    }
    wait_for_round(&mut run, 2, PATIENCE).unwrap();
    run.kill_node(3).unwrap();
    run.start_node(4, 1).unwrap();
    wait_for_round(&mut run, 5, PATIENCE).unwrap();

    let link = run.link().unwrap();
    for source in [run.http(), public(&run)] {
        let report = verify_all(&source, &link).unwrap();
        assert_eq!(report["ok"], true, "{report}");
        assert_eq!(report["records"], 6);
        assert_eq!(report["checkpoints_rebuilt"], 6);
        assert!(report["contributions_replayed"].as_u64().unwrap() >= 10, "{report}");
        assert_eq!(report["warnings"], serde_json::json!([]), "every public file is covered");
    }
    let from =
        call("essaim-verify", &[&public(&run), "--run", &link, "--from", "3", "--replay", "1", "--json"]).unwrap();
    let from: serde_json::Value = serde_json::from_str(&from).unwrap();
    assert_eq!((from["checkpoints_rebuilt"].as_u64(), from["contributions_replayed"].as_u64()), (Some(2), Some(1)));

    let rounds = run.rounds().unwrap();
    let newcomer =
        rounds.iter().any(|round| round["included"].as_u64() >= Some(3) && round["round"].as_u64() > Some(2));
    assert!(newcomer, "the node that came takes part: {rounds:?}");
    let loss = |index: usize| rounds[index]["heldout_bits_per_byte"]["fr"].as_f64().unwrap();
    assert!(loss(5) < loss(0), "{} bits a byte at first, {} at last", loss(0), loss(5));

    let checkpoint = run.coordinator_dir().join("public/checkpoints/00000005");
    let model = std::fs::read(checkpoint.join("model.safetensors")).unwrap();
    assert_eq!(rounds[5]["checkpoint"], blake3::hash(&model).to_hex().as_str(), "b3sum of the model is in the record");
    let checkpoint = path(&checkpoint).unwrap();
    read_with_python(checkpoint);
    let text =
        call("essaim", &["generate", "--checkpoint", checkpoint, "--prompt", "le chat", "--tokens", "8"]).unwrap();
    assert!(text.starts_with("le chat") && text.len() > 10, "{text}");
    let dataset = folder.0.join("dataset");
    let all = call("essaim", &["evaluate", "--checkpoint", checkpoint, "--dataset", path(&dataset).unwrap(), "--json"]);
    let all: serde_json::Value = serde_json::from_str(&all.unwrap()).unwrap();
    assert!(all["heldout_bits_per_byte"]["fr"].as_f64().unwrap() > 0.0, "{all}");
    run.stop();
}

/// That the packages of PyPI read a checkpoint. Says so where `ESSAIM_PYTHON` names no interpreter that has them.
fn read_with_python(checkpoint: &str) {
    let Ok(python) = std::env::var("ESSAIM_PYTHON") else {
        eprintln!("skipped: ESSAIM_PYTHON names no python with safetensors and tokenizers");
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../train/tests/python/check_checkpoint.py");
    let output = std::process::Command::new(python).args([script, checkpoint]).output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("tokenizers"), "{out}{error}");
}

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        let hash = blake3::hash(&self.0.to_le_bytes());
        self.0 = u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap());
        self.0 % bound
    }
}

/// Kills the coordinator and nodes at moments drawn from `seed`, and starts them again.
fn chaos(seed: u64) {
    eprintln!("seed {seed}");
    let folder = Folder::new(&format!("chaos-{seed}"));
    let mut dice = Dice(seed);
    let rounds = 8;
    let mut run = found(&folder.0, rounds, 2).unwrap();
    run.start_coordinator(1).unwrap();
    for number in 1..=3 {
        run.start_node(number, 1).unwrap();
    }
    let started = Instant::now();
    let mut kills = 0;
    while last_round(&run) < rounds {
        assert!(started.elapsed() < Duration::from_secs(150), "seed {seed}: round {} of {rounds}", last_round(&run));
        // Rounds take about half a second, so that such pauses fall into joins, work, claims, fetches and records alike.
        std::thread::sleep(Duration::from_millis(dice.below(900)));
        run.check_alive().unwrap();
        if kills < 14 {
            kills += 1;
            if dice.below(2) == 0 {
                run.kill_coordinator().unwrap();
                std::thread::sleep(Duration::from_millis(dice.below(300)));
                run.start_coordinator(1).unwrap();
            } else {
                let number = 1 + dice.below(3) as u32;
                run.kill_node(number).unwrap();
                std::thread::sleep(Duration::from_millis(dice.below(300)));
                run.start_node(number, 1).unwrap();
            }
        }
    }
    assert!(kills > 3, "seed {seed}: the run was over after {kills} kills");
    let report = verify_all(&public(&run), &run.link().unwrap()).unwrap();
    assert_eq!(report["ok"], true, "seed {seed}: {report}");
    assert_eq!(report["records"].as_u64(), Some(rounds + 1), "seed {seed}: one record a round");
    run.stop();
}

#[test]
fn sigkill_at_any_moment_neither_forks_nor_stops_the_run() {
    chaos(1);
    chaos(2);
}

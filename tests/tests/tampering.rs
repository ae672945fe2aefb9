//! One byte is flipped, or one file is taken away, in each kind of public file: the verifier finds every one and names it.
//! Then the operator itself misbehaves, with its own key.
#![allow(clippy::unwrap_used)]

use essaim_kernels::Exec;
use essaim_protocol::ids::{Hash, RunId};
use essaim_protocol::layout;
use essaim_protocol::link::JoinLink;
use essaim_protocol::manifest::F64Bits;
use essaim_protocol::signing::{Keypair, Signed};
use essaim_protocol::statements::{Head, Record};
use essaim_tests::process::run::path;
use essaim_tests::process::small::{copy_folder, found, wait_for_round};
use essaim_verifier::draw::Replays;
use essaim_verifier::report::Report;
use essaim_verifier::source::Source;
use essaim_verifier::{Progress, Request, verify};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

const ROUNDS: u64 = 4;

/// A finished run: its public folder, its run id, and the operator's secret.
struct Finished {
    _dir: tempfile::TempDir,
    public: PathBuf,
    run: RunId,
    operator: Keypair,
}

fn finished() -> &'static Finished {
    static RUN: OnceLock<Finished> = OnceLock::new();
    RUN.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let mut run = found(dir.path(), ROUNDS, 2).unwrap();
        run.start_coordinator(1).unwrap();
        run.start_node(1, 1).unwrap();
        run.start_node(2, 1).unwrap();
        wait_for_round(&mut run, ROUNDS, Duration::from_secs(60)).unwrap();
        let link: JoinLink = run.link().unwrap().parse().unwrap();
        run.stop();
        let secret: Hash =
            std::fs::read_to_string(run.coordinator_dir().join("operator.key")).unwrap().trim().parse().unwrap();
        let public = run.coordinator_dir().join("public");
        Finished { _dir: dir, public, run: link.run, operator: Keypair::from_secret(secret.as_bytes()) }
    })
}

struct Silent;

impl Progress for Silent {
    fn at(&mut self, _: &'static str, _: u64, _: u64) {}
}

fn exec() -> &'static Exec {
    static EXEC: OnceLock<Exec> = OnceLock::new();
    EXEC.get_or_init(|| Exec::detect(1).unwrap())
}

fn check(folders: &[&Path], anchor: Option<RunId>, replays: Replays) -> Report {
    let sources = folders.iter().map(|folder| Source::parse(path(folder).unwrap()).unwrap()).collect();
    let request = Request { sources, anchor, replays, from: 0, seed: [1; 32], memory_bytes: 1 << 28, device: None };
    verify(request, exec(), &mut Silent)
}

/// A copy of the finished run's public folder.
fn copy() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let public = dir.path().join("public");
    copy_folder(&finished().public, &public).unwrap();
    (dir, public)
}

/// One file of every kind there is, by relative path.
fn one_of_each_kind(public: &Path) -> Vec<String> {
    let mut all = Vec::new();
    list(public, public, &mut all);
    all.sort();
    let kind = |path: &str| {
        let name = path.rsplit('/').next().unwrap().to_owned();
        let is_last = path.contains("00000004");
        match name.rsplit_once('.') {
            Some((_, "claim" | "join" | "update" | "shard")) => name.rsplit('.').next().unwrap().to_owned(),
            _ => format!("{name} {}", if is_last { "last" } else { "" }),
        }
    };
    let mut seen = std::collections::BTreeSet::new();
    all.into_iter().filter(|path| seen.insert(kind(path))).collect()
}

fn list(root: &Path, dir: &Path, out: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(root, &path, out);
        } else {
            out.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

/// Whether a finding names the file or the statement in it.
fn names(finding: &str, path: &str) -> bool {
    let round = path.split('/').nth(1).and_then(|part| part.parse::<u64>().ok());
    let member =
        path.rsplit('/').next().and_then(|name| name.split('.').next()).map(|hex| hex.chars().take(8).collect());
    let member: String = member.unwrap_or_default();
    let statement = match (path.rsplit('/').next().unwrap(), round) {
        ("run.manifest", _) => finding.contains("manifest"),
        ("record", Some(round)) => finding.contains(&format!("record {round}")),
        ("claims.list", Some(round)) => finding.contains(&format!("list of claims of round {round}")),
        ("ledger", Some(round)) => finding.contains(&format!("the ledger after round {round}")),
        (name, Some(_)) if name.ends_with(".claim") || name.ends_with(".join") => finding.contains(&member),
        _ => false,
    };
    statement || finding.contains(path)
}

#[test]
fn an_untouched_copy_holds_and_without_anchor_it_says_so() {
    let run = finished();
    let report = check(&[&run.public], Some(run.run), Replays::All);
    assert_eq!((report.exit_code(), report.ok), (0, true), "{}", report.text());
    assert_eq!((report.records, report.checkpoints_rebuilt, report.heldout_checked), (5, 5, 5));
    assert!(report.contributions_replayed >= 4 && report.warnings.is_empty(), "{}", report.text());
    let report = check(&[&run.public], None, Replays::Count(0));
    assert_eq!(report.exit_code(), 2);
    assert!(report.text().contains("UNANCHORED") && report.text().contains(&run.run.to_string()));
    let report = check(&[&run.public], Some(RunId([9; 32])), Replays::Count(0));
    assert_eq!(report.exit_code(), 1, "another run: {}", report.text());
}

#[test]
fn every_flipped_byte_is_found_and_named() {
    let run = finished();
    let (_dir, public) = copy();
    let kinds = one_of_each_kind(&public);
    assert!(kinds.len() >= 20, "only {} kinds of file: {kinds:?}", kinds.len());
    for relative in kinds {
        let file = public.join(&relative);
        let good = std::fs::read(&file).unwrap();
        let last = good.len() - 1;
        for at in [0, 1, last / 3, last / 2, 2 * last / 3, last - last.min(40), last] {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            std::fs::write(&file, &bad).unwrap();
            let report = check(&[&public], Some(run.run), Replays::Count(0));
            assert_eq!(report.exit_code(), 1, "{relative}, byte {at} of {last}: {}", report.text());
            let finding = report.failures[0].to_string();
            assert!(names(&finding, &relative), "{relative}, byte {at}, is blamed on: {finding}");
        }
        let truncated = &good[..good.len() / 2];
        std::fs::write(&file, truncated).unwrap();
        let report = check(&[&public], Some(run.run), Replays::Count(0));
        assert_ne!(report.exit_code(), 0, "{relative}, cut in half: {}", report.text());
        std::fs::write(&file, &good).unwrap();
    }
    assert_eq!(check(&[&public], Some(run.run), Replays::Count(0)).exit_code(), 0, "put back, all holds again");
}

#[test]
fn every_missing_file_is_named() {
    let run = finished();
    let (_dir, public) = copy();
    for relative in one_of_each_kind(&public) {
        let file = public.join(&relative);
        let good = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        let report = check(&[&public], Some(run.run), Replays::Count(0));
        assert_eq!(report.exit_code(), 2, "{relative}: {}", report.text());
        assert!(names(&report.failures[0].to_string(), &relative), "{relative} is called {}", report.failures[0]);
        std::fs::write(&file, &good).unwrap();
    }
    let stray = public.join("rounds/00000001/extra");
    std::fs::write(stray, b"?").unwrap();
    let report = check(&[&public], Some(run.run), Replays::Count(0));
    assert_eq!(report.exit_code(), 0);
    assert!(report.warnings.iter().any(|note| note.contains("rounds/00000001/extra")), "{}", report.text());
}

/// The last record of `public`, changed and signed anew, with a head to match.
fn resign(public: &Path, change: impl Fn(&mut Record)) {
    let operator = &finished().operator;
    let file = public.join(layout::record(ROUNDS));
    let mut record = Signed::<Record>::from_bytes(&std::fs::read(&file).unwrap()).unwrap().value;
    change(&mut record);
    let record = operator.sign(record);
    std::fs::write(&file, record.to_bytes()).unwrap();
    let head = Head { run: finished().run, round: ROUNDS, record: record.id(), claims: None };
    std::fs::write(public.join(layout::HEAD), operator.sign(head).to_bytes()).unwrap();
}

#[test]
fn an_operator_that_misstates_arithmetic_is_caught() {
    let run = finished();
    type Change = fn(&mut Record);
    let changes: [(&str, Change); 6] = [
        ("checkpoint", |record| record.checkpoint = Hash([1; 32])),
        ("outer state", |record| record.outer_state = Hash([2; 32])),
        ("ledger", |record| record.ledger = Hash([3; 32])),
        ("held-out", |record| record.heldout[0].nats = F64Bits(record.heldout[0].nats.0 + 1)),
        ("record 4", |record| record.contributions[0].tokens += 1),
        ("record 4", |record| {
            record.contributions.remove(0);
        }),
    ];
    for (what, change) in changes {
        let (_dir, public) = copy();
        resign(&public, change);
        let report = check(&[&public], Some(run.run), Replays::Count(0));
        assert_eq!(report.exit_code(), 1, "{what}: {}", report.text());
        let finding = report.failures[0].to_string();
        assert!(finding.contains(what), "{what} is called {finding}");
    }
}

#[test]
fn two_records_of_one_round_are_a_fork() {
    let run = finished();
    let (_dir, public) = copy();
    resign(&public, |record| record.checkpoint = Hash([1; 32]));
    let report = check(&[&run.public, &public], Some(run.run), Replays::Count(0));
    assert_eq!(report.exit_code(), 1);
    assert!(report.failures[0].reason.contains("FORK"), "{}", report.text());
    let (_dir, twin) = copy();
    let report = check(&[&run.public, &twin], Some(run.run), Replays::Count(0));
    assert_eq!(report.exit_code(), 0, "{}", report.text());
}

//! Golden vectors: one value of each kind and its bytes, in `vectors/`. They never change for a protocol version. A new
//! kind is added with `ESSAIM_BLESS=1 cargo test --release -p essaim-protocol vectors`.
//!
//! For each, too: `wincode`, an independent writer of the same form, writes the same bytes and reads them back.

use crate::assignment::Assignment;
use crate::encoding;
use crate::fixtures::{bits, dataset, hash_chain, manifest, member_key, operator};
use crate::ids::{Hash, MemberId, RunId};
use crate::ledger::{Ledger, Span, Standing};
use crate::manifest::Extension;
use crate::messages::{BlobRef, Refused, Reply, Request, Status};
use crate::statements::*;
use std::fmt::Debug;
use std::path::PathBuf;

fn run() -> RunId {
    RunId([0x11; 32])
}

fn member(digit: u8) -> MemberId {
    MemberId([digit; 32])
}

pub(crate) fn join() -> Join {
    Join { run: run(), member: member(2), head: Hash([3; 32]) }
}

pub(crate) fn claim() -> Claim {
    Claim {
        run: run(),
        round: 7,
        member: member(2),
        base: Hash([4; 32]),
        assignment: Hash([5; 32]),
        steps: 15,
        skipped: 1,
        tokens: 960,
        loss: bits(3.25),
        update: Hash([6; 32]),
        update_len_bytes: 123_456,
        state_digests: None,
        residual: Some(Hash([7; 32])),
    }
}

pub(crate) fn receipt() -> Receipt {
    Receipt { run: run(), round: 7, claim: Hash([8; 32]) }
}

pub(crate) fn list() -> ClaimList {
    let listed = |digit| ListedClaim { member: member(digit), claim: Hash([digit + 16; 32]) };
    ClaimList { run: run(), round: 7, previous: Hash([4; 32]), claims: vec![listed(2), listed(3)] }
}

pub(crate) fn record() -> Record {
    Record {
        run: run(),
        round: 7,
        previous: Hash([4; 32]),
        claims: Hash([9; 32]),
        contributions: vec![Contribution {
            member: member(2),
            claim: Hash([8; 32]),
            update: Hash([6; 32]),
            update_len_bytes: 123_456,
            steps: 15,
            tokens: 960,
            loss: bits(3.25),
        }],
        refusals: vec![Refusal { member: member(3), claim: Hash([19; 32]), reason: RefusalReason::NonFinite }],
        admitted: vec![Admitted { member: member(4), join: Hash([10; 32]) }],
        preimage: Hash([11; 32]),
        tokens_total: 9_600,
        ledger: Hash([12; 32]),
        checkpoint: Hash([13; 32]),
        outer_state: Hash([14; 32]),
        heldout: vec![HeldoutLoss { language: "fr".into(), nats: bits(1234.5), tokens: 400, text_bytes: 1_700 }],
        audits: Vec::new(),
        withdrawals: vec![Hash([15; 32])],
        slices: Vec::new(),
    }
}

pub(crate) fn head() -> Head {
    Head { run: run(), round: 7, record: Hash([4; 32]), claims: Some(Hash([9; 32])) }
}

pub(crate) fn ledger() -> Ledger {
    Ledger {
        run: run(),
        next_round: 8,
        tokens_total: 9_600,
        next_position: 200,
        returned: vec![Span { start: 3, len: 4 }, Span { start: 90, len: 1 }],
        members: vec![
            Standing {
                member: member(2),
                joined_round: 1,
                accepted_rounds: 6,
                granted_steps: 20,
                accepted_steps: 15,
                absent_rounds: 0,
            },
            Standing::new(member(4), 8),
        ],
    }
}

fn assignment() -> Assignment {
    let spans = vec![Span { start: 3, len: 4 }, Span { start: 200, len: 11 }];
    Assignment { run: run(), round: 8, member: member(2), spans }
}

fn replies() -> Vec<Reply> {
    let status = Status { head: Some(vec![1, 2]), claims: None, elapsed_ms: 5, remaining_ms: 6, finished: true };
    vec![
        Reply::Manifest(vec![1]),
        Reply::Status(status),
        Reply::Record { record: vec![1, 2, 3], claims: Some(vec![4]) },
        Reply::Joined,
        Reply::Receipt(vec![9; 40]),
        Reply::Refused(Refused::WrongSender),
        Reply::NotFound,
        Reply::Busy,
    ]
}

fn requests() -> Vec<Request> {
    vec![
        Request::Manifest { run: run() },
        Request::Status { run: run() },
        Request::Record { run: run(), round: 7 },
        Request::Join(vec![1, 2]),
        Request::Claim(vec![3]),
    ]
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(format!("{name}.hex"))
}

fn hex(bytes: &[u8]) -> String {
    let line = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(32).map(line).collect()
}

fn golden(name: &str, bytes: &[u8]) {
    let text = format!("{}blake3 {}\n", hex(bytes), Hash::of(bytes));
    if std::env::var_os("ESSAIM_BLESS").is_some() && !path(name).exists() {
        std::fs::write(path(name), &text).unwrap();
    }
    let kept = std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{}: {error}", path(name).display()));
    assert_eq!(text, kept, "the bytes of {name} changed: that is another protocol version");
}

/// The bytes of a value are the golden ones, bincode and wincode agree on them, and both read them back.
macro_rules! vector {
    ($name:literal, $type:ty, $value:expr) => {{
        let value: $type = $value;
        let bytes = encoding::encode(&value);
        golden($name, &bytes);
        assert_eq!(wincode::serialize(&value).unwrap(), bytes, "wincode writes {} otherwise", $name);
        assert_eq!(wincode::deserialize_exact::<$type>(&bytes).unwrap(), value);
        assert_eq!(encoding::decode::<$type>(&bytes, bytes.len()), Ok(value));
        truncations_and_extensions_are_refused::<$type>(&bytes);
    }};
}

fn truncations_and_extensions_are_refused<T>(bytes: &[u8])
where
    T: serde::Serialize + serde::de::DeserializeOwned + Debug,
{
    for len in (0..bytes.len()).step_by(1 + bytes.len() / 97) {
        assert!(encoding::decode::<T>(&bytes[..len], 1 << 20).is_err(), "cut to {len}");
    }
    let longer = [bytes, &[0]].concat();
    assert!(encoding::decode::<T>(&longer, 1 << 20).is_err());
    assert!(encoding::decode::<T>(bytes, bytes.len() - 1).is_err());
}

#[test]
fn statements_have_their_golden_bytes() {
    let mut full = manifest();
    full.extensions = vec![Extension { name: "later".into(), value: vec![1, 2, 3] }];
    vector!("manifest", crate::manifest::Manifest, full);
    vector!("join", Join, join());
    vector!("claim", Claim, claim());
    vector!("receipt", Receipt, receipt());
    vector!("claim_list", ClaimList, list());
    vector!("record", Record, record());
    vector!("head", Head, head());
}

#[test]
fn derived_values_have_their_golden_bytes() {
    let mut dataset = dataset();
    let shard = dataset.mixes[0].shards[0];
    dataset.heldout = vec![crate::dataset::HeldoutShard { language: "fr".into(), shard, text_bytes: 77 }];
    dataset.sources = vec![crate::dataset::SourceSummary {
        name: "source".into(),
        language: "fr".into(),
        licenses: vec!["CC0-1.0".into()],
        documents: 3,
        text_bytes: 1_000,
        tokens: 300,
    }];
    vector!("dataset_manifest", crate::dataset::DatasetManifest, dataset);
    vector!("ledger", Ledger, ledger());
    vector!("assignment", Assignment, assignment());
    vector!("requests", Vec<Request>, requests());
    vector!("replies", Vec<Reply>, replies());
    vector!("blob", BlobRef, BlobRef { hash: Hash([1; 32]), len_bytes: 2 });
}

#[test]
fn signatures_hash_chain_and_seed_have_their_golden_bytes() {
    golden("signed_join", &member_key(0).sign(join()).to_bytes());
    golden("signed_head", &operator().sign(head()).to_bytes());
    golden("hash_chain", &(0..4).flat_map(|index| hash_chain().value(index).unwrap().0).collect::<Vec<u8>>());
    golden("assignment_seed", &crate::assignment::seed(run(), 8, Hash([11; 32]), Hash([4; 32])));
    golden("assignment_digest", assignment().digest().as_bytes());
}

#[test]
fn a_run_has_its_golden_chain() {
    let mut world = crate::fixtures::World::new(3);
    world.run(1_000_000, |world| world.finished);
    let ids: Vec<u8> =
        world.store.records.keys().flat_map(|round| world.store.record(*round).unwrap().id().0).collect();
    golden("chain", &ids);
    let (_, ledger) = world.store.records.last_key_value().unwrap().1;
    golden("chain_ledger", ledger);
}

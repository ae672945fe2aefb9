//! Ten seeds of the simulation. A thousand: `cargo run --release -p essaim-tests --bin simulate -- --seeds 1000`.
#![allow(clippy::unwrap_used)]

use essaim_tests::sim::{self, Plan, Sabotage};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs `plan` for each of `seeds`, on every core, and gives the failures.
fn failures(seeds: std::ops::Range<u64>, plan: impl Fn(u64) -> Plan + Sync) -> Vec<String> {
    let next = AtomicU64::new(seeds.start);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Err(why) = sim::run(plan(seed)) {
                        failures.lock().unwrap().push(why);
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

#[test]
fn ten_seeds_of_two_hundred_members_over_fifty_rounds() {
    assert_eq!(failures(0..10, Plan::standard), Vec::<String>::new());
}

#[test]
fn forty_small_runs() {
    assert_eq!(
        failures(1000..1040, |seed| Plan { loss_permille: (seed % 5) as u32 * 100, ..Plan::small(seed) }),
        Vec::<String>::new()
    );
}

#[test]
fn one_seed_is_one_run() {
    let runs: Vec<_> = (0..2).map(|_| sim::play(Plan::small(5)).0.summary()).collect();
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], sim::play(Plan::small(6)).0.summary());
}

/// A fault that is built in is found, by the checker that watches for it.
#[test]
fn built_in_faults_are_found() {
    let faults: [(Sabotage, &[&str]); 7] = [
        (Sabotage::ForgetsLists, &["one of each: two ", "receipts: "]),
        (Sabotage::ForgetsClaims, &["receipts: "]),
        (Sabotage::ReceiptsFirst, &["receipts: "]),
        (Sabotage::ForgetfulMembers, &["one of each: two claims"]),
        (Sabotage::ServesEarly, &["served after the list: "]),
        (Sabotage::WrongArithmetic, &["agreement: "]),
        (Sabotage::Silence, &["progress: "]),
    ];
    for (sabotage, found_by) in faults {
        let plan = |seed| Plan {
            members: 20,
            coordinator_crash_every_ms: 60_000,
            member_crash_every_ms: 60_000,
            byzantine_permille: 0,
            share_permille: 0,
            sabotage: Some(sabotage),
            ..Plan::small(seed)
        };
        let found = failures(0..6, plan);
        let by_whom = |why: &String| found_by.iter().any(|by| why.contains(by));
        assert!(found.iter().any(by_whom), "{sabotage:?}: {found:?}");
        let honest = failures(0..6, |seed| Plan { sabotage: None, ..plan(seed) });
        assert!(!honest.iter().any(by_whom), "{sabotage:?} is found where there is none: {honest:?}");
    }
}

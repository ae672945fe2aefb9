//! Ten seeds of the simulation. A thousand: `cargo run --release -p essaim-tests --bin simulate -- --seeds 1000`.
#![allow(clippy::unwrap_used)]

use essaim_tests::sim::{self, Plan};
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

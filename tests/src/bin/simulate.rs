//! Runs many seeds of the simulation; a failure prints its seed.

use clap::Parser;
use essaim_tests::sim::{self, Plan};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Simulates whole runs: the real state machines over a virtual clock, with losses, crashes and members that break the
/// rules. Exit code 1 and the seed if a promise is broken.
///
/// Example: simulate --seeds 1000. One seed, seen closely: simulate --from 17 --seeds 1 --verbose
#[derive(Debug, Parser)]
struct Options {
    /// How many seeds.
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// The first.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Members of each run.
    #[arg(long, default_value_t = 200)]
    members: usize,
    /// Rounds of each run.
    #[arg(long, default_value_t = 50)]
    rounds: u64,
    /// Messages lost, in thousandths.
    #[arg(long, default_value_t = 300)]
    loss_permille: u32,
    /// Threads; 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Prints what each run came to.
    #[arg(long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let start = Instant::now();
    let next = AtomicU64::new(options.from);
    let end = options.from + options.seeds;
    let failures = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if options.threads == 0 { cores } else { options.threads };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    if let Err(why) = one(seed, &options) {
                        eprintln!("FAILED {why}");
                        failures.lock().expect("no thread panics with the lock").push(seed);
                    } else if (seed + 1).is_multiple_of(50) {
                        eprintln!("{} seeds, {:.0} s", seed + 1 - options.from, start.elapsed().as_secs_f64());
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panics with the lock");
    println!("{} seeds, {} failed, {:.1} s", options.seeds, failures.len(), start.elapsed().as_secs_f64());
    if failures.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed seeds: {failures:?}; see one again with: simulate --from SEED --seeds 1 --verbose");
    ExitCode::FAILURE
}

fn one(seed: u64, options: &Options) -> Result<(), String> {
    let plan = Plan {
        members: options.members,
        rounds: options.rounds,
        loss_permille: options.loss_permille,
        share_permille: if options.members < 50 { 333 } else { 650 },
        ..Plan::standard(seed)
    };
    let start = Instant::now();
    let (world, referee) = sim::play(plan);
    let summary = world.summary();
    if options.verbose {
        println!("seed {seed}: {summary:?} {:?} in {:.2} s", world.refusals(), start.elapsed().as_secs_f64());
    }
    referee.finish(&summary).map_err(|why| format!("seed {seed}: {why}"))
}

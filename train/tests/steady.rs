//! A steady inner step allocates nothing and faults no page.
#![allow(clippy::unwrap_used)]

use essaim_kernels::{Exec, Path};
use essaim_protocol::ids::RunId;
use essaim_protocol::manifest::{Manifest, Optimizer};
use essaim_train::inner::InnerLoop;
use essaim_train::round::{Base, RoundContext};
use essaim_train::selfcheck::tiny_manifest;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::sync::Barrier;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Steps of a window, and windows after the warm-up.
const STEPS: usize = 5;
const WINDOWS: usize = 12;
/// Windows one after the other without a page fault, at least.
const QUIET: usize = 6;

/// Large enough that sums take several blocks, attention several blocks of queries, and products several threads. Rows of at most 512
/// elements are read where they lie; a larger vocabulary has the head's gradients copied, on every path when `d_model` is above 128.
fn manifest(optimizer: Optimizer, d_model: u32, vocab_size: u32) -> Manifest {
    let mut manifest = tiny_manifest(optimizer);
    let model = &mut manifest.model;
    (model.d_model, model.heads, model.kv_heads, model.ffn) = (d_model, 4, 2, 160);
    (model.context, model.vocab_size) = (150, vocab_size);
    manifest
}

/// Page faults of this process that needed no disk; none on a system that has another way to say so.
fn minor_faults() -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux says in /proc how many pages were faulted");
    Some(stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(7).unwrap().parse().unwrap())
}

/// Allocations of this process during `work`, and page faults.
fn count(work: impl FnOnce()) -> (usize, u64) {
    let before = minor_faults();
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    let faults = minor_faults().zip(before).map_or(0, |(after, before)| after - before);
    (change.allocations + change.reallocations, faults)
}

/// Steps until every thread's buffers are as large as they get, then what each window of some steps allocates and faults.
fn windows(exec: &Exec, manifest: &Manifest) -> Vec<(usize, u64)> {
    let context = RoundContext { exec, manifest, run: RunId([6; 32]), round: 1 };
    let base = Base::initial(exec, manifest);
    let length = manifest.inner.batch as usize * (manifest.model.context as usize + 1);
    let tokens: Vec<u32> = (0..length as u32).map(|i| i * 7919 % manifest.model.vocab_size).collect();
    // A thread's buffers grow when it takes a task larger than any before, and which it takes is a matter of time. So each thread does a whole step
    // by itself: within a task nothing is shared out, and none is done with its own before all have begun.
    let all_began = Barrier::new(exec.threads());
    exec.for_each_task(exec.threads(), |_| {
        all_began.wait();
        InnerLoop::new(context, &base, 0, 2).step(&tokens).unwrap();
    });
    let mut inner = InnerLoop::new(context, &base, 0, 2);
    let mut steps = || (0..STEPS).for_each(|_| assert!(!inner.step(&tokens).unwrap().skipped));
    steps();
    (0..WINDOWS).map(|_| count(&mut steps)).collect()
}

/// The path that this machine takes, and the others with instructions of their own.
fn fast_paths() -> impl Iterator<Item = Path> {
    let fast = |path: &Path| *path == Path::detect() || !matches!(path, Path::Scalar | Path::Portable);
    Path::available().into_iter().filter(fast)
}

#[test]
fn a_steady_inner_step_allocates_nothing_and_faults_no_page() {
    // What is counted can be seen.
    let (allocations, faults) = count(|| drop(std::hint::black_box(vec![1u8; 1 << 22])));
    assert!(allocations == 1 && (faults > 0 || !cfg!(target_os = "linux")), "{allocations}, {faults}");
    for optimizer in [Optimizer::AdamW, Optimizer::Muon] {
        for (d_model, vocab_size) in [(96, 512), (144, 1000)] {
            for (path, threads) in fast_paths().flat_map(|path| [(path, 1), (path, 2)]) {
                let exec = Exec::new(path, threads).unwrap();
                let windows = windows(&exec, &manifest(optimizer, d_model, vocab_size));
                let what = format!(
                    "{path}, {optimizer:?}, d_model {d_model}, vocabulary {vocab_size}, {threads} threads: {windows:?}"
                );
                assert!(windows.iter().all(|&(allocations, _)| allocations == 0), "{what}");
                // The system may take pages away, or move them, whenever it wants to; it does not do so step after step.
                let quiet = windows.windows(QUIET).any(|run| run.iter().all(|&(_, faults)| faults == 0));
                assert!(quiet, "{what}");
            }
        }
    }
}

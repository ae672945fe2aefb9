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

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Large enough that sums take several blocks, attention several blocks of queries, and products several threads.
fn manifest(optimizer: Optimizer) -> Manifest {
    let mut manifest = tiny_manifest(optimizer);
    let model = &mut manifest.model;
    (model.d_model, model.heads, model.kv_heads, model.ffn) = (96, 4, 2, 160);
    (model.context, model.vocab_size) = (150, 512);
    manifest
}

/// Page faults of this process that needed no disk.
fn minor_faults() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(7)?.parse().ok()
}

#[test]
fn a_steady_inner_step_allocates_nothing_and_faults_no_page() {
    for optimizer in [Optimizer::AdamW, Optimizer::Muon] {
        for threads in [1, 2] {
            let manifest = manifest(optimizer);
            let exec = Exec::new(Path::detect(), threads).unwrap();
            let context = RoundContext { exec: &exec, manifest: &manifest, run: RunId([6; 32]), round: 1 };
            let base = Base::initial(&exec, &manifest);
            let mut inner = InnerLoop::new(context, &base, 0, 2);
            let length = manifest.inner.batch as usize * (manifest.model.context as usize + 1);
            let tokens: Vec<u32> = (0..length as u32).map(|i| i * 7919 % manifest.model.vocab_size).collect();
            // A thread's buffers grow the first time that it takes so large a task, which with several threads may be a few steps
            // late; each can grow only so often.
            let steady = (0..20).find(|_| {
                let faults = minor_faults();
                let region = Region::new(ALLOCATOR);
                for _ in 0..5 {
                    assert!(!inner.step(&tokens).unwrap().skipped);
                }
                let change = region.change();
                let quiet = change.allocations + change.reallocations == 0;
                // Reading /proc itself may touch a page or two.
                quiet && faults.zip(minor_faults()).is_none_or(|(before, after)| after - before <= 4)
            });
            assert!(
                steady.is_some_and(|round| round <= 1 || threads > 1),
                "{optimizer:?}, {threads} threads: {steady:?}"
            );
        }
    }
}

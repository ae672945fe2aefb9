//! An inner loop holds as much memory as its formula says.
#![allow(clippy::unwrap_used)]

use essaim_kernels::{Exec, Path};
use essaim_protocol::ids::RunId;
use essaim_protocol::manifest::Optimizer;
use essaim_train::codec::UpdateFormat;
use essaim_train::inner::{self, InnerLoop};
use essaim_train::round::{Base, RoundContext};
use essaim_train::selfcheck::tiny_manifest;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Memory held after two inner steps on one thread, and what the formula gives without the update. Attention takes much scratch, and
/// so does the packed head.
fn held_and_formula(optimizer: Optimizer, micro_batch: u32) -> (usize, usize) {
    let mut manifest = tiny_manifest(optimizer);
    let model = &mut manifest.model;
    (model.d_model, model.heads, model.kv_heads, model.ffn) = (64, 2, 1, 160);
    (model.context, model.vocab_size, model.layers) = (600, 1000, 1);
    let length = manifest.inner.batch as usize * (manifest.model.context as usize + 1);
    let tokens: Vec<u32> = (0..length as u32).map(|i| i * 7919 % manifest.model.vocab_size).collect();
    let manifest = &manifest;
    // A fresh thread holds nothing yet.
    let held = move || {
        let region = Region::new(ALLOCATOR);
        let exec = Exec::new(Path::detect(), 1).unwrap();
        let context = RoundContext { exec: &exec, manifest, run: RunId([6; 32]), round: 1 };
        let base = Base::initial(&exec, manifest);
        let mut inner = InnerLoop::new(context, &base, 0, micro_batch);
        (0..2).for_each(|_| assert!(!inner.step(&tokens).unwrap().skipped));
        let change = region.change();
        change.bytes_allocated - change.bytes_deallocated
    };
    let held = std::thread::scope(|scope| scope.spawn(held).join().unwrap());
    let formula = inner::memory_bytes(manifest, micro_batch, 1) - UpdateFormat::of(manifest).len_bytes() as u64;
    (held, formula as usize)
}

#[test]
fn an_inner_loop_holds_what_its_formula_says() {
    for optimizer in [Optimizer::AdamW, Optimizer::Muon] {
        for micro_batch in [1, 2] {
            let (held, formula) = held_and_formula(optimizer, micro_batch);
            // Numbers of tokens, losses, names: the formula leaves out what is small.
            assert!(
                held <= formula + (64 << 10),
                "{optimizer:?}, {micro_batch}: {held} held, {formula} by the formula"
            );
            assert!(formula <= held + held / 5, "{optimizer:?}, {micro_batch}: {held} held, {formula} by the formula");
        }
    }
}

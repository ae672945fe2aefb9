//! Small runs with known results: what a program computes before it takes part in a real one.
//!
//! The kernels test themselves for every thread of an [`Exec`]; this goes further up, to whole inner steps and a whole round of
//! a tiny model. The hashes below are golden: a change of any of them is a new numerics id.

use crate::aggregate::next_checkpoint;
use crate::contribute::{ContributeError, Work, contribute};
use crate::engine::{AnyInnerLoop, Engine, StepError};
use crate::round::{Base, RoundContext};
use essaim_kernels::Exec;
use essaim_kernels::cuda::DeviceError;
use essaim_protocol::ids::{Hash, MemberId, RunId};
use essaim_protocol::manifest::{
    Admission, Codec, F64Bits, InnerConfig, Manifest, MixWeight, ModelConfig, Optimizer, OuterConfig, PROTOCOL_VERSION,
    Phase, Timing,
};
use essaim_protocol::statements::Contribution;
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;

/// A result with its name and golden hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Golden {
    /// What was computed.
    pub what: String,
    /// The hash that it has here.
    pub got: String,
    /// The hash that it has everywhere.
    pub expected: &'static str,
}

/// This machine, or its device, cannot be said to compute as the numerics id demands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelfCheckError {
    /// It computes something else.
    #[error("this machine computes {what} to other bits: {got} instead of {expected}; it cannot take part", what = .0.what, got = .0.got, expected = .0.expected)]
    Differs(Golden),
    /// The device failed.
    #[error("the device fails in the self-check: {0}")]
    Device(#[from] DeviceError),
}

const INITIAL: &str = "7fdaa5f7858d1476108d92bc5ceed85b10543ec9f44e840a03a18463ab14bc77";
const STEPS: [(Optimizer, &str); 2] = [
    (Optimizer::Muon, "4642ecc6888345c07b11405d9ba7f0178b9a283ba8e688432a1d2e034ff45ae7"),
    (Optimizer::AdamW, "53d3d99df3f11d792906e8e28e168ff03f25a72a3e55490d824915b65cb64416"),
];
const ROUNDS: [(Optimizer, &str); 2] = [
    (Optimizer::Muon, "b527638df499a032baffdbdb22c38b1c83b88724e35e449f44d692c841880b80"),
    (Optimizer::AdamW, "1b4cf918b2f22fb840422ca8a5bb34f8539beb5f07e5053967b21408f7c94d35"),
];

/// Computes an initial checkpoint, inner steps and rounds of a tiny model, and compares them with their golden hashes. Takes milliseconds.
///
/// # Errors
/// [`SelfCheckError`]: the first that differs.
pub fn self_check(exec: &Exec) -> Result<(), SelfCheckError> {
    self_check_on(exec, Engine::Cpu)
}

/// As [`self_check`], with the inner steps on `engine`.
///
/// # Errors
/// [`SelfCheckError`]: the first that differs, or a device that fails.
pub fn self_check_on(exec: &Exec, engine: Engine<'_>) -> Result<(), SelfCheckError> {
    match goldens_on(exec, engine)?.into_iter().find(|golden| golden.got != golden.expected) {
        Some(golden) => Err(SelfCheckError::Differs(golden)),
        None => Ok(()),
    }
}

/// The results that [`self_check`] compares.
pub fn goldens(exec: &Exec) -> Vec<Golden> {
    match goldens_on(exec, Engine::Cpu) {
        Ok(goldens) => goldens,
        Err(error) => unreachable!("a device where there is none: {error}"),
    }
}

/// The results that [`self_check_on`] compares.
///
/// # Errors
/// When the device fails.
pub fn goldens_on(exec: &Exec, engine: Engine<'_>) -> Result<Vec<Golden>, DeviceError> {
    let manifest = tiny_manifest(Optimizer::Muon);
    let initial = Base::initial(exec, &manifest).checkpoint_hash(&manifest).to_string();
    let mut goldens = vec![Golden { what: "the initial checkpoint".into(), got: initial, expected: INITIAL }];
    for (optimizer, expected) in STEPS {
        let got = inner_step(exec, engine, &tiny_manifest(optimizer))?.to_string();
        goldens.push(Golden { what: format!("an inner step with {optimizer:?}"), got, expected });
    }
    for (optimizer, expected) in ROUNDS {
        let got = two_rounds(exec, engine, &tiny_manifest(optimizer))?.to_string();
        goldens.push(Golden { what: format!("two rounds with {optimizer:?}"), got, expected });
    }
    Ok(goldens)
}

const RUN: RunId = RunId([6; 32]);

/// The hash of the checkpoint that one inner step would leave.
fn inner_step(exec: &Exec, engine: Engine<'_>, manifest: &Manifest) -> Result<Hash, DeviceError> {
    let base = Base::initial(exec, manifest);
    let context = RoundContext { exec, manifest, run: RUN, round: 1 };
    let mut inner = AnyInnerLoop::new(engine, context, &base, 0, manifest.inner.batch)?;
    match inner.step(&tiny_unit(manifest, 0)) {
        Ok(_) => Ok(crate::checkpoint::model_file_hash(&manifest.model, &inner.params()?)),
        Err(StepError::Device(error)) => Err(error),
        Err(error) => unreachable!("the tiny run's own data: {error}"),
    }
}

/// The hash over updates, checkpoint and outer state of two rounds of two members, the second of whom does a prefix.
fn two_rounds(exec: &Exec, engine: Engine<'_>, manifest: &Manifest) -> Result<Hash, DeviceError> {
    let mut base = Base::initial(exec, manifest);
    let mut tokens_total = 0;
    let mut hasher = blake3::Hasher::new();
    for round in 1..=2 {
        let context = RoundContext { exec, manifest, run: RUN, round };
        let mut updates = BTreeMap::new();
        let mut contributions = Vec::new();
        for (member, steps) in [(MemberId([1; 32]), 3), (MemberId([2; 32]), 2)] {
            let work =
                Work { context, engine, member, base: &base, base_tokens_total: tokens_total, steps, micro_batch: 2 };
            let first = u32::from(member.0[0]) * 10;
            let mut units = |step: u32| Ok(tiny_unit(manifest, first + step));
            let done = match contribute(&work, &mut units, &mut |_| ControlFlow::Continue(())) {
                Ok(done) => done,
                Err(ContributeError::Device(error)) => return Err(error),
                Err(error) => unreachable!("the tiny run's own data: {error}"),
            };
            hasher.update(done.update_hash.as_bytes());
            hasher.update(&done.loss.0.to_le_bytes());
            contributions.push(Contribution {
                member,
                claim: Hash([0; 32]),
                update: done.update_hash,
                update_len_bytes: done.update.len() as u64,
                steps,
                tokens: done.tokens,
                loss: done.loss,
            });
            updates.insert(member, done.update);
        }
        let mut fetch = |contribution: &Contribution| {
            updates.get(&contribution.member).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        if let Err(error) = next_checkpoint(&context, &contributions, &mut fetch, &mut base) {
            unreachable!("the tiny run's own updates: {error}");
        }
        tokens_total += contributions.iter().map(|contribution| contribution.tokens).sum::<u64>();
        hasher.update(base.checkpoint_hash(manifest).as_bytes());
        hasher.update(base.outer_hash().as_bytes());
    }
    Ok(Hash::from(hasher.finalize()))
}

fn bits(value: f64) -> F64Bits {
    F64Bits(value.to_bits())
}

/// A run of a model so small that a round takes milliseconds: two blocks of width 24, grouped heads, 70 tokens, an untied head.
pub fn tiny_manifest(optimizer: Optimizer) -> Manifest {
    Manifest {
        protocol: PROTOCOL_VERSION,
        name: "tiny".into(),
        numerics: essaim_kernels::NUMERICS_ID.into(),
        model: ModelConfig {
            vocab_size: 70,
            d_model: 24,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            ffn: 40,
            context: 12,
            tied: false,
            rope_theta: bits(10_000.0),
            norm_eps: bits(1e-5),
            init_std: bits(0.02),
        },
        tokenizer: Hash([1; 32]),
        dataset: Hash([2; 32]),
        dataset_len_bytes: 1,
        phases: vec![Phase {
            name: "pre-training".into(),
            tokens: 1 << 20,
            weights: vec![MixWeight { mix: "main".into(), weight: 1 }],
        }],
        seed: [3; 32],
        inner: InnerConfig {
            optimizer,
            steps: 4,
            batch: 3,
            grad_segments: 1,
            peak_lr: bits(4e-3),
            final_lr_fraction: bits(0.1),
            warmup_tokens: 60,
            total_tokens: 2000,
            beta1: bits(0.9),
            beta2: bits(0.95),
            eps: bits(1e-8),
            weight_decay: bits(0.1),
            clip_norm: bits(1.0),
            muon_momentum: bits(0.95),
            muon_iterations: 5,
        },
        codec: Codec::Q4 { block: 64 },
        outer: OuterConfig { lr: bits(0.7), momentum: bits(0.9), clip_to_median: true },
        rounds: 8,
        admission: Admission {
            members_min: 1,
            members_max: 8,
            probation_steps: 2,
            probation_rounds: 1,
            member_share_max_permille: 1000,
            newcomer_share_max_permille: 1000,
            absent_rounds_max: 3,
        },
        timing: Timing { round_min_ms: 0, round_max_ms: 60_000, fetch_max_ms: 10_000 },
        audit_permille: 0,
        keyframe_every_rounds: 4,
        heldout_tokens_max: 4096,
        operators: vec![MemberId([4; 32])],
        threshold: 1,
        hash_chain_anchor: Hash([5; 32]),
        hash_chain_len: 9,
        extensions: Vec::new(),
    }
}

/// Data for the tiny run: `[batch, context + 1]` tokens that follow each other in a pattern, another for each `step`.
pub fn tiny_unit(manifest: &Manifest, step: u32) -> Vec<u32> {
    let vocab_size = manifest.model.vocab_size;
    let len = manifest.inner.batch * (manifest.model.context + 1);
    let token = |index: u32| (index * (step + 3) + index * index / 5 + step) % vocab_size;
    (0..len).map(token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_kernels::Path;

    #[test]
    fn every_path_and_thread_count_comes_to_the_golden_hashes() {
        for path in Path::available() {
            for threads in [1, 2] {
                let exec = Exec::new(path, threads).unwrap();
                for golden in goldens(&exec) {
                    assert_eq!(golden.got, golden.expected, "{} on {path}, {threads} threads", golden.what);
                }
                assert_eq!(self_check(&exec), Ok(()));
            }
        }
    }

    #[test]
    fn tiny_manifests_are_valid() {
        assert_eq!(tiny_manifest(Optimizer::Muon).check(), Ok(()));
        assert_eq!(tiny_manifest(Optimizer::AdamW).check(), Ok(()));
    }
}

//! One round of the `2m` configuration: its model, with batches that a test can afford.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use essaim_kernels::Exec;
use essaim_protocol::ids::{Hash, MemberId, RunId};
use essaim_protocol::manifest::{F64Bits, InnerConfig, Manifest, ModelConfig, Optimizer};
use essaim_protocol::statements::Contribution;
use essaim_train::aggregate::next_checkpoint;
use essaim_train::contribute::{Work, contribute};
use essaim_train::engine::Engine;
use essaim_train::round::{Base, RoundContext};
use essaim_train::selfcheck::tiny_manifest;
use std::error::Error;
use std::ops::ControlFlow;

const RUN: RunId = RunId([2; 32]);
const MEMBER: MemberId = MemberId([3; 32]);

/// What of a round a test chooses.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    pub optimizer: Optimizer,
    /// Tokens of a sequence.
    pub context: u32,
    /// Inner steps.
    pub steps: u32,
    /// Sequences of a batch.
    pub batch: u32,
}

/// The `2m` model over 4,096 tokens.
fn manifest(round: Round) -> Manifest {
    let Round { optimizer, context, steps, batch } = round;
    let bits = |value: f64| F64Bits(value.to_bits());
    let tiny = tiny_manifest(optimizer);
    let model = ModelConfig {
        vocab_size: 4096,
        d_model: 128,
        layers: 4,
        heads: 4,
        kv_heads: 2,
        ffn: 384,
        context,
        tied: false,
        rope_theta: bits(10_000.0),
        norm_eps: bits(1e-5),
        init_std: bits(0.02),
    };
    let inner = InnerConfig { steps, batch, warmup_tokens: 100, total_tokens: 100_000, ..tiny.inner };
    let manifest = Manifest { name: "2m".into(), model, inner, ..tiny };
    assert_eq!(manifest.check(), Ok(()));
    manifest
}

/// `[batch, context + 1]` tokens of an inner step: half of them random, half the successor of the one before.
fn unit(manifest: &Manifest, step: u32) -> Vec<u32> {
    let len = (manifest.inner.batch * (manifest.model.context + 1)) as usize;
    let mut bytes = vec![0u8; 4 * len];
    blake3::Hasher::new().update(b"2m").update(&step.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let mut token = 0;
    let random = bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let vocab_size = manifest.model.vocab_size;
    let next = |word: u32| {
        token = if word & 1 == 0 { word >> 1 } else { token + 1 } % vocab_size;
        token
    };
    random.map(next).collect()
}

/// The hash over the update, its loss, the next checkpoint and the outer state.
pub fn round_hash(exec: &Exec, round: Round, micro_batch: u32) -> String {
    let manifest = &manifest(round);
    let mut base = Base::initial(exec, manifest);
    let context = RoundContext { exec, manifest, run: RUN, round: 1 };
    let (engine, member) = (Engine::Cpu, MEMBER);
    let work = Work { context, engine, member, base: &base, base_tokens_total: 0, steps: round.steps, micro_batch };
    let mut units = |step: u32| -> Result<Vec<u32>, Box<dyn Error + Send + Sync>> { Ok(unit(manifest, step)) };
    let done = contribute(&work, &mut units, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((done.steps, done.skipped), (round.steps, 0));
    let contribution = Contribution {
        member: MEMBER,
        claim: Hash([0; 32]),
        update: done.update_hash,
        update_len_bytes: done.update.len() as u64,
        steps: done.steps,
        tokens: done.tokens,
        loss: done.loss,
    };
    next_checkpoint(&context, &[contribution], &mut |_| Ok(done.update.clone()), &mut base).unwrap();
    let mut hasher = blake3::Hasher::new();
    hasher.update(done.update_hash.as_bytes()).update(&done.loss.0.to_le_bytes());
    hasher.update(base.checkpoint_hash(manifest).as_bytes()).update(base.outer_hash().as_bytes());
    hasher.finalize().to_hex().to_string()
}

//! Small runs with known results.

use essaim_protocol::ids::{Hash, MemberId};
use essaim_protocol::manifest::{
    Admission, Codec, F64Bits, InnerConfig, Manifest, MixWeight, ModelConfig, Optimizer, OuterConfig, PROTOCOL_VERSION,
    Phase, Timing,
};

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

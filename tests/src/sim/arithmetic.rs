//! Toy arithmetic, and signatures that are verified once.

use essaim_protocol::ids::{Hash, MemberId};
use essaim_protocol::manifest::F64Bits;
use essaim_protocol::round::{OuterResult, WorkDone, WorkOrder};
use essaim_protocol::signing::{Kind, Signature, SignatureCheck, Strict};
use essaim_protocol::statements::{Contribution, HeldoutLoss};
use std::collections::HashMap;
use std::sync::Mutex;

/// Length of every update, bytes.
pub const UPDATE_LEN_BYTES: u64 = 1234;

/// A checkpoint: the hash of the one before and of what went in. Without contributions it stays.
pub fn outer_step(base: Option<&OuterResult>, round: u64, contributions: &[Contribution]) -> OuterResult {
    if let Some(base) = base
        && contributions.is_empty()
    {
        return base.clone();
    }
    let mut hasher = blake3::Hasher::new();
    if let Some(base) = base {
        hasher.update(base.checkpoint.as_bytes());
        hasher.update(base.outer_state.as_bytes());
    }
    for contribution in contributions {
        hasher.update(contribution.member.as_bytes());
        hasher.update(contribution.update.as_bytes());
        hasher.update(&contribution.tokens.to_le_bytes());
    }
    let checkpoint = Hash::from(hasher.finalize());
    let nats = F64Bits(((20_000 / (round + 2)) as f64 / 1000.0).to_bits());
    let heldout = vec![HeldoutLoss { language: "fr".to_owned(), nats, tokens: 7, text_bytes: 31 }];
    OuterResult { checkpoint, outer_state: Hash::of(checkpoint.as_bytes()), heldout }
}

/// Inner steps: the update is the hash of all that it must depend on.
pub fn inner_steps(order: &WorkOrder, member: MemberId, steps: u32) -> WorkDone {
    let mut hasher = blake3::Hasher::new();
    hasher.update(order.base.as_bytes());
    hasher.update(order.assignment.digest().as_bytes());
    hasher.update(member.as_bytes());
    hasher.update(&steps.to_le_bytes());
    WorkDone {
        round: order.round,
        steps,
        skipped: 0,
        loss: F64Bits(3.25f64.to_bits()),
        update: hasher.finalize().into(),
        update_len_bytes: UPDATE_LEN_BYTES,
    }
}

/// Strict verification that remembers its verdicts.
#[derive(Debug, Default)]
pub struct Remembered {
    verdicts: Mutex<HashMap<[u8; 32], bool>>,
}

impl SignatureCheck for Remembered {
    fn check(&self, kind: Kind, payload: &[u8], signature: &Signature) -> bool {
        let mut hasher = blake3::Hasher::new();
        hasher.update(kind.domain());
        hasher.update(signature.key.as_bytes());
        hasher.update(&signature.r);
        hasher.update(&signature.s);
        hasher.update(payload);
        let key = *hasher.finalize().as_bytes();
        let known = self.verdicts.lock().expect("no panic holds the lock").get(&key).copied();
        known.unwrap_or_else(|| {
            let verdict = Strict.check(kind, payload, signature);
            self.verdicts.lock().expect("no panic holds the lock").insert(key, verdict);
            verdict
        })
    }
}

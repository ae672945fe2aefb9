//! Members that break the rules, each in a way of its own.

use super::arithmetic;
use super::rng::Rng;
use essaim_protocol::chain::ChainState;
use essaim_protocol::encoding;
use essaim_protocol::ids::{Hash, MemberId};
use essaim_protocol::manifest::F64Bits;
use essaim_protocol::round::WorkOrder;
use essaim_protocol::signing::Keypair;
use essaim_protocol::statements::{Claim, Join};

/// How a member breaks the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vice {
    /// Sends its claim of an earlier round again.
    Stale,
    /// Claims twice, with different updates.
    Duplicate,
    /// Claims more inner steps than it was assigned.
    Oversized,
    /// Claims another assignment than its own.
    WrongAssignment,
    /// Claims against another base.
    WrongBase,
    /// Sends a claim whose signature is not its own.
    Unsigned,
    /// Sends random bytes, cut statements and flipped bits.
    Garbage,
    /// Sends claims and joins in the name of others.
    Impersonator,
    /// Claims, and never hands out its update.
    Withhold,
    /// Claims, and hands out something malformed.
    Malformed,
    /// Claims, and hands out values that are not finite.
    NonFinite,
    /// Claims a loss that is not finite, or tokens it cannot have seen.
    Impossible,
}

/// Every vice.
pub const VICES: [Vice; 12] = [
    Vice::Stale,
    Vice::Duplicate,
    Vice::Oversized,
    Vice::WrongAssignment,
    Vice::WrongBase,
    Vice::Unsigned,
    Vice::Garbage,
    Vice::Impersonator,
    Vice::Withhold,
    Vice::Malformed,
    Vice::NonFinite,
    Vice::Impossible,
];

impl Vice {
    /// Whether it claims as others do, and sins with the update only.
    pub fn claims_honestly(self) -> bool {
        matches!(self, Vice::Withhold | Vice::Malformed | Vice::NonFinite)
    }
}

/// The claims (as bytes) and joins that a member with such a vice sends in place of its claim. `earlier`: the claim that it
/// would have made in the round before.
pub fn misdeeds(
    vice: Vice,
    keypair: &Keypair,
    chain: &ChainState,
    order: &WorkOrder,
    earlier: Option<&Vec<u8>>,
    rng: &mut Rng,
) -> Misdeeds {
    let honest = claim(keypair.member(), chain, order);
    let sign = |claim: Claim| keypair.sign(claim).to_bytes();
    let other = chain.ledger().members.iter().map(|standing| standing.member).find(|m| *m != keypair.member());
    let claims = match vice {
        Vice::Stale => {
            vec![earlier.cloned().unwrap_or_else(|| sign(Claim { round: honest.round + 1, ..honest.clone() }))]
        }
        Vice::Duplicate => vec![sign(honest.clone()), sign(Claim { update: Hash(rng.bytes()), ..honest.clone() })],
        Vice::Oversized => {
            let steps = honest.steps + 1;
            vec![sign(Claim {
                steps,
                tokens: honest.tokens / u64::from(honest.steps) * u64::from(steps),
                ..honest.clone()
            })]
        }
        Vice::WrongAssignment => vec![sign(Claim { assignment: Hash(rng.bytes()), ..honest.clone() })],
        Vice::WrongBase => vec![sign(Claim { base: Hash(rng.bytes()), ..honest.clone() })],
        Vice::Unsigned => vec![Keypair::from_secret(&rng.bytes()).sign(honest.clone()).to_bytes()],
        Vice::Garbage => garbage(sign(honest.clone()), rng),
        Vice::Impersonator => {
            let member = other.unwrap_or(MemberId([7; 32]));
            vec![
                sign(Claim { member, ..honest.clone() }),
                Keypair::from_secret(&[77; 32]).sign(honest.clone()).to_bytes(),
            ]
        }
        Vice::Impossible => vec![
            sign(Claim { loss: F64Bits(f64::NAN.to_bits()), ..honest.clone() }),
            sign(Claim { tokens: honest.tokens + 1, ..honest.clone() }),
            sign(Claim { steps: 0, tokens: 0, ..honest.clone() }),
            sign(Claim { update_len_bytes: u64::MAX, ..honest.clone() }),
        ],
        Vice::Withhold | Vice::Malformed | Vice::NonFinite => Vec::new(),
    };
    let joins = match (vice, other) {
        (Vice::Impersonator, Some(member)) => {
            vec![keypair.sign(Join { run: chain.run(), member, head: chain.head_id() }).to_bytes()]
        }
        _ => Vec::new(),
    };
    Misdeeds { claims, joins, honest: sign(honest) }
}

/// What a byzantine member sends.
#[derive(Debug)]
pub struct Misdeeds {
    /// Sent as claims.
    pub claims: Vec<Vec<u8>>,
    /// Sent as joins.
    pub joins: Vec<Vec<u8>>,
    /// The claim that an honest member would have made.
    pub honest: Vec<u8>,
}

fn claim(member: MemberId, chain: &ChainState, order: &WorkOrder) -> Claim {
    let done = arithmetic::inner_steps(order, member, order.assignment.steps());
    Claim {
        run: chain.run(),
        round: order.round,
        member,
        base: order.base,
        assignment: order.assignment.digest(),
        steps: done.steps,
        skipped: 0,
        tokens: u64::from(done.steps) * chain.manifest().tokens_per_step(),
        loss: done.loss,
        update: done.update,
        update_len_bytes: done.update_len_bytes,
        state_digests: None,
        residual: None,
    }
}

fn garbage(mut bytes: Vec<u8>, rng: &mut Rng) -> Vec<Vec<u8>> {
    let cut = bytes[..rng.range(0, bytes.len() as u64 - 1) as usize].to_vec();
    let flip = rng.range(0, bytes.len() as u64 - 1) as usize;
    bytes[flip] ^= 1 << rng.range(0, 7);
    let huge = encoding::encode(&(u64::MAX, rng.bytes()));
    vec![cut, bytes, huge, vec![0; 1 << 16], rng.bytes().to_vec()]
}

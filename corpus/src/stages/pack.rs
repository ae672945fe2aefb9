//! Tokens in their places to shards.

use super::place;
use super::runner::{Fingerprint, Item, Runner, fingerprint};
use crate::build::BuildError;
use crate::bundle::{self, BundleInfo, Key};
use crate::mix::Plan;
use crate::shards::{self, Shard};
use essaim_protocol::dataset::ShardInfo;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Name of the stage.
pub const STAGE: &str = "pack";

/// A document, or a piece of one, in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The document.
    pub key: Key,
    /// Its language and source: a number in the order of [`crate::mix::Parts`].
    pub part: u16,
    /// 0, or which piece of a document that is longer than a shard.
    pub piece: u16,
    /// Bytes of the whole document's text.
    pub text_bytes: u32,
}

/// Which documents lie in which shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// For each shard of a range: its documents, in their order. A document longer than a shard is several.
    pub shards: Vec<Vec<Piece>>,
}

/// The shards of a range of places. Their hashes as bytes: what a shard says of itself is in its object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Packed {
    /// The shards, in order.
    pub shards: Vec<ShardInfo>,
}

/// What is packed.
pub struct Packing<'a> {
    /// The bundles that were placed.
    pub bundles: &'a [BundleInfo],
    /// The mixes.
    pub plans: &'a [Plan],
    /// Ranges of each mix.
    pub ranges: &'a [u64],
    /// Tokens in a shard at most.
    pub tokens_max: u32,
    /// Tokens that the vocabulary has.
    pub vocab_size: u32,
}

impl Packing<'_> {
    /// Number of mix and range of each item.
    fn items(&self) -> Vec<(usize, usize)> {
        let mixes = self.ranges.iter().enumerate();
        mixes.flat_map(|(mix, &ranges)| (0..ranges as usize).map(move |range| (mix, range))).collect()
    }
}

/// Packs all ranges; gives the shards of each mix.
///
/// # Errors
/// [`BuildError`].
pub fn run(runner: &Runner<'_>, packing: &Packing<'_>, before: Fingerprint) -> Result<Vec<Vec<ShardInfo>>, BuildError> {
    let ranges = packing.items();
    let item = |&(mix, range): &(usize, usize)| Item {
        name: item_name(&packing.plans[mix].name, range),
        weight: 1,
        fingerprint: fingerprint(STAGE, &(before, mix, range)),
    };
    let items: Vec<Item> = ranges.iter().map(item).collect();
    let packed = runner.run(STAGE, "writing shards", &items, |i, _| pack(runner, packing, ranges[i]))?;
    let mut mixes: Vec<Vec<ShardInfo>> = packing.plans.iter().map(|_| Vec::new()).collect();
    for ((mix, _), packed) in ranges.into_iter().zip(packed) {
        mixes[mix].extend(packed.shards);
    }
    Ok(mixes)
}

fn item_name(mix: &str, range: usize) -> String {
    format!("{mix}-{range:06}")
}

/// Where a shard lies in the store.
pub fn shard_name(info: &ShardInfo) -> String {
    format!("shards/{}", info.hash)
}

fn pack(runner: &Runner<'_>, packing: &Packing<'_>, (mix, range): (usize, usize)) -> Result<Packed, BuildError> {
    let name = packing.plans[mix].name.as_str();
    let placed = place::read(&runner.store, packing.bundles, name, range as u64)?;
    let (mut packed, mut contents) = (Packed::default(), Contents::default());
    let cut: Vec<(Piece, Cow<'_, [u32]>)> = placed
        .iter()
        .flat_map(|copy| {
            let pieces = shards::cut(&copy.tokens, packing.tokens_max, copy.copy).into_iter().enumerate();
            pieces.map(|(n, tokens)| {
                (Piece { key: copy.key, part: copy.part, piece: n as u16, text_bytes: copy.text_bytes }, tokens)
            })
        })
        .collect();
    let mut pieces = cut.iter().map(|(piece, _)| *piece);
    let documents = cut.iter().map(|(_, tokens)| &**tokens);
    shards::pack(documents, packing.vocab_size, packing.tokens_max, |shard: Shard| -> Result<(), BuildError> {
        contents.shards.push(pieces.by_ref().take(shard.info.documents as usize).collect());
        runner.store.put(&shard_name(&shard.info), shard.bytes)?;
        packed.shards.push(shard.info);
        Ok(())
    })?;
    bundle::put(&runner.store, &contents_name(name, range), &contents)?;
    Ok(packed)
}

/// Where the [`Contents`] of a range lie.
pub fn contents_name(mix: &str, range: usize) -> String {
    format!("{STAGE}/{}.contents", item_name(mix, range))
}

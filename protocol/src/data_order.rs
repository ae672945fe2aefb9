//! Which text a position is. Position `p` of a run is one inner step's batch: `batch` sequences in a row, a **unit**, of one
//! shard. A pure function of manifest and dataset manifest, computed for any position without the ones before.
//!
//! 1. *Phase.* Phase `i` covers `ceil(tokens / tokens_per_step)` positions, one after the other; the last goes on.
//! 2. *Mix.* In a phase, mixes alternate by a cycle of slots, one position a slot. The weights, divided by their greatest
//!    common divisor, are the slots of each mix; a cycle longer than 4096 is brought down to 4096 by largest remainders, at
//!    least one slot each. Slot by slot, the mix with the largest deficit (`slots · i − cycle · given`, ties to the first in
//!    the manifest's order) is next.
//! 3. *Unit.* The positions of a mix, counted over all phases, walk through its epochs. In each epoch its shards lie end to
//!    end in a shuffled order (sort by the keyed BLAKE3 of the shard's hash, with a key derived from the manifest's seed, the
//!    mix's name and the epoch), and each shard's units follow in order. A shard of `n` tokens has
//!    `floor(floor((n − 1) / context) / batch)` units; its remainder is not read.

use crate::dataset::{DatasetManifest, ShardInfo};
use crate::ids::Hash;
use crate::manifest::{Manifest, Phase};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// The longest cycle of slots.
const CYCLE_MAX: u64 = 4096;
/// Shuffled epochs kept.
const EPOCHS_KEPT: usize = 16;

/// A unit: the batch of one inner step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitRef<'a> {
    /// Name of its mix.
    pub mix: &'a str,
    /// The shard it lies in.
    pub shard: &'a ShardInfo,
    /// Which unit of the shard: its sequences are `unit · batch` and the `batch - 1` after.
    pub unit: u64,
    /// Which pass over the mix.
    pub epoch: u64,
}

/// Why there is no order of the data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataOrderError {
    /// Not the data set that the manifest names.
    #[error("the dataset manifest has the hash {got}, the run's manifest names {expected}")]
    OtherDataset {
        /// Its hash.
        got: Hash,
        /// The hash that the manifest names.
        expected: Hash,
    },
    /// Made with another tokenizer.
    #[error("the data set was made with the tokenizer {got}, the run has {expected}")]
    OtherTokenizer {
        /// The data set's.
        got: Hash,
        /// The run's.
        expected: Hash,
    },
    /// Token ids that the model does not know.
    #[error("the data set's vocabulary has {got} tokens, the model's {model}")]
    Vocabulary {
        /// The data set's.
        got: u32,
        /// The model's.
        model: u32,
    },
    /// A phase names a mix that the data set does not have.
    #[error("phase '{phase}' draws on the mix '{mix}', which the data set does not have")]
    UnknownMix {
        /// The phase.
        phase: String,
        /// The mix.
        mix: String,
    },
    /// A phase names one mix twice.
    #[error("phase '{phase}' names the mix '{mix}' twice")]
    MixTwice {
        /// The phase.
        phase: String,
        /// The mix.
        mix: String,
    },
    /// No shard of a mix is long enough for a batch.
    #[error("no shard of the mix '{mix}' has the {tokens} tokens of one batch")]
    EmptyMix {
        /// The mix.
        mix: String,
        /// Tokens of a batch.
        tokens: u64,
    },
}

#[derive(Debug)]
struct MixOrder {
    name: String,
    shards: Vec<(ShardInfo, u64)>,
    units: u64,
}

#[derive(Debug)]
struct PhaseOrder {
    /// The first position.
    start: u64,
    /// Each slot: its mix, and how many slots of that mix come before it in the cycle.
    slots: Vec<(usize, u64)>,
    /// For each mix of the run: positions of it before this phase, and slots of it in a cycle.
    mixes: Vec<(u64, u64)>,
}

/// A shuffled epoch of a mix.
#[derive(Debug)]
struct EpochOrder {
    mix: usize,
    epoch: u64,
    /// Index of the shard, and the units before it in the epoch.
    shards: Vec<(usize, u64)>,
}

/// The order of a run's data.
#[derive(Debug)]
pub struct DataOrder {
    seed: [u8; 32],
    mixes: Vec<MixOrder>,
    phases: Vec<PhaseOrder>,
    epochs: Mutex<VecDeque<Arc<EpochOrder>>>,
}

impl DataOrder {
    /// The order of `dataset` under `manifest`, which was checked ([`Manifest::check`]).
    ///
    /// # Errors
    /// [`DataOrderError`] when the two do not belong together, or there is nothing to read.
    pub fn new(manifest: &Manifest, dataset: &DatasetManifest) -> Result<DataOrder, DataOrderError> {
        let got = Hash::of(&dataset.to_bytes());
        if got != manifest.dataset {
            return Err(DataOrderError::OtherDataset { got, expected: manifest.dataset });
        }
        if dataset.tokenizer != manifest.tokenizer {
            return Err(DataOrderError::OtherTokenizer { got: dataset.tokenizer, expected: manifest.tokenizer });
        }
        let model = manifest.model.vocab_size;
        if dataset.vocab_size > model {
            return Err(DataOrderError::Vocabulary { got: dataset.vocab_size, model });
        }
        let mut mixes: Vec<MixOrder> = Vec::new();
        let mut phases: Vec<PhaseOrder> = Vec::new();
        for phase in &manifest.phases {
            let slots = weights_of(manifest, dataset, phase, &mut mixes)?;
            let next = PhaseOrder::after(phases.last(), manifest, phases.len(), slots);
            phases.push(next);
        }
        Ok(DataOrder { seed: manifest.seed, mixes, phases, epochs: Mutex::new(VecDeque::new()) })
    }

    /// The unit at `position`.
    pub fn locate(&self, position: u64) -> UnitRef<'_> {
        let index = self.phases.partition_point(|phase| phase.start <= position).saturating_sub(1);
        let found = self.phases.get(index).and_then(|phase| phase.rank(position));
        let unit = found.and_then(|(mix, rank)| self.unit_of(mix, rank));
        match unit {
            Some(unit) => unit,
            None => unreachable!("every phase has slots, and every mix of a slot has units"),
        }
    }

    /// Units of one epoch of a mix.
    pub fn units_of_mix(&self, name: &str) -> Option<u64> {
        self.mixes.iter().find(|mix| mix.name == name).map(|mix| mix.units)
    }

    fn unit_of(&self, index: usize, rank: u64) -> Option<UnitRef<'_>> {
        let mix = self.mixes.get(index)?;
        let epoch = rank.checked_div(mix.units)?;
        let within = rank.checked_rem(mix.units)?;
        let order = self.epoch(index, epoch)?;
        let place = order.shards.partition_point(|(_, before)| *before <= within).checked_sub(1)?;
        let (shard, before) = order.shards.get(place)?;
        let (shard, _) = mix.shards.get(*shard)?;
        Some(UnitRef { mix: &mix.name, shard, unit: within.checked_sub(*before)?, epoch })
    }

    fn epoch(&self, index: usize, epoch: u64) -> Option<Arc<EpochOrder>> {
        // A lock poisoned by a panic elsewhere still holds whole entries: each is pushed at once.
        let mut kept = self.epochs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(found) = kept.iter().find(|order| order.mix == index && order.epoch == epoch) {
            return Some(found.clone());
        }
        let mix = self.mixes.get(index)?;
        let mut hasher = blake3::Hasher::new_derive_key("essaim/1 shard order");
        hasher.update(&self.seed);
        hasher.update(&epoch.to_le_bytes());
        hasher.update(mix.name.as_bytes());
        let key = *hasher.finalize().as_bytes();
        let mut order: Vec<(usize, &(ShardInfo, u64))> = mix.shards.iter().enumerate().collect();
        order.sort_by_cached_key(|(_, (shard, _))| *blake3::keyed_hash(&key, shard.hash.as_bytes()).as_bytes());
        let mut before = 0u64;
        let mut shards = Vec::with_capacity(order.len());
        for (shard, (_, units)) in order {
            shards.push((shard, before));
            before = before.saturating_add(*units);
        }
        let made = Arc::new(EpochOrder { mix: index, epoch, shards });
        kept.push_back(made.clone());
        if kept.len() > EPOCHS_KEPT {
            kept.pop_front();
        }
        Some(made)
    }
}

/// The mixes of a phase (index in `mixes`, where new ones are added) and their weights.
fn weights_of(
    manifest: &Manifest,
    dataset: &DatasetManifest,
    phase: &Phase,
    mixes: &mut Vec<MixOrder>,
) -> Result<Vec<(usize, u64)>, DataOrderError> {
    let mut out: Vec<(usize, u64)> = Vec::new();
    for entry in &phase.weights {
        let index = match mixes.iter().position(|mix| mix.name == entry.mix) {
            Some(index) => index,
            None => {
                let unknown = || DataOrderError::UnknownMix { phase: phase.name.clone(), mix: entry.mix.clone() };
                let shards = &dataset.mix(&entry.mix).ok_or_else(unknown)?.shards;
                mixes.push(mix_order(manifest, &entry.mix, shards)?);
                mixes.len().saturating_sub(1)
            }
        };
        if out.iter().any(|(known, _)| *known == index) {
            return Err(DataOrderError::MixTwice { phase: phase.name.clone(), mix: entry.mix.clone() });
        }
        out.push((index, u64::from(entry.weight)));
    }
    Ok(out)
}

/// Units of a shard of `tokens` tokens: full batches of sequences of `context` inputs, whose targets are one token further.
pub fn units_of_shard(tokens: u64, context: u32, batch: u32) -> u64 {
    let sequences = tokens.saturating_sub(1).checked_div(u64::from(context)).unwrap_or(0);
    sequences.checked_div(u64::from(batch)).unwrap_or(0)
}

fn mix_order(manifest: &Manifest, name: &str, shards: &[ShardInfo]) -> Result<MixOrder, DataOrderError> {
    let units = |shard: &ShardInfo| units_of_shard(shard.tokens, manifest.model.context, manifest.inner.batch);
    let shards: Vec<(ShardInfo, u64)> =
        shards.iter().map(|shard| (*shard, units(shard))).filter(|(_, units)| *units > 0).collect();
    let total = shards.iter().fold(0u64, |sum, (_, units)| sum.saturating_add(*units));
    if total == 0 {
        let tokens = manifest.tokens_per_step().saturating_add(1);
        return Err(DataOrderError::EmptyMix { mix: name.to_owned(), tokens });
    }
    Ok(MixOrder { name: name.to_owned(), shards, units: total })
}

impl PhaseOrder {
    fn after(last: Option<&PhaseOrder>, manifest: &Manifest, index: usize, weights: Vec<(usize, u64)>) -> PhaseOrder {
        let length = index.checked_sub(1).and_then(|before| manifest.phases.get(before));
        let length = length.map_or(0, |phase| phase.tokens.div_ceil(manifest.tokens_per_step().max(1)));
        let start = last.map_or(0, |last| last.start.saturating_add(length));
        let counts = slots_of(&weights);
        let slots = cycle(&counts);
        let highest = counts.iter().map(|(mix, _)| *mix).max().unwrap_or(0);
        let known = last.map_or(0, |last| last.mixes.len()).max(highest.saturating_add(1));
        let mixes = (0..known)
            .map(|mix| {
                let before = last.map_or(0, |last| last.given(mix, length));
                let slots = counts.iter().find(|(index, _)| *index == mix).map_or(0, |(_, slots)| *slots);
                (before, slots)
            })
            .collect();
        PhaseOrder { start, slots, mixes }
    }

    /// Positions of `mix` in the run before the `length`-th position of this phase.
    fn given(&self, mix: usize, length: u64) -> u64 {
        let Some((before, slots)) = self.mixes.get(mix) else { return 0 };
        let cycle = self.slots.len() as u64;
        let whole = length.checked_div(cycle).unwrap_or(0).saturating_mul(*slots);
        let part = usize::try_from(length.checked_rem(cycle).unwrap_or(0)).unwrap_or(0);
        let part = self.slots.iter().take(part).filter(|(index, _)| *index == mix).count() as u64;
        before.saturating_add(whole).saturating_add(part)
    }

    /// The mix at `position`, and how many positions of that mix come before it in the run.
    fn rank(&self, position: u64) -> Option<(usize, u64)> {
        let offset = position.checked_sub(self.start)?;
        let cycle = self.slots.len() as u64;
        let slot = usize::try_from(offset.checked_rem(cycle)?).ok()?;
        let (mix, before_in_cycle) = *self.slots.get(slot)?;
        let (before, slots) = *self.mixes.get(mix)?;
        let whole = offset.checked_div(cycle)?.checked_mul(slots)?;
        Some((mix, before.checked_add(whole)?.checked_add(before_in_cycle)?))
    }
}

/// Slots of each mix in a cycle.
fn slots_of(weights: &[(usize, u64)]) -> Vec<(usize, u64)> {
    let divisor = weights.iter().fold(0, |divisor, (_, weight)| gcd(divisor, *weight)).max(1);
    let reduced: Vec<(usize, u64)> =
        weights.iter().map(|(mix, weight)| (*mix, weight.checked_div(divisor).unwrap_or(0))).collect();
    let total = reduced.iter().fold(0u64, |sum, (_, weight)| sum.saturating_add(*weight));
    if total <= CYCLE_MAX {
        return reduced;
    }
    let share = |weight: u64| weight.saturating_mul(CYCLE_MAX);
    let mut slots: Vec<(usize, u64)> =
        reduced.iter().map(|(mix, weight)| (*mix, share(*weight).checked_div(total).unwrap_or(0).max(1))).collect();
    let given = slots.iter().fold(0u64, |sum, (_, slots)| sum.saturating_add(*slots));
    let mut rests: Vec<(u64, usize)> = reduced
        .iter()
        .enumerate()
        .map(|(index, (_, weight))| (share(*weight).checked_rem(total).unwrap_or(0), index))
        .collect();
    rests.sort_by_key(|(rest, index)| (std::cmp::Reverse(*rest), *index));
    let missing = usize::try_from(CYCLE_MAX.saturating_sub(given)).unwrap_or(0);
    for (_, index) in rests.into_iter().take(missing) {
        if let Some((_, slots)) = slots.get_mut(index) {
            *slots = slots.saturating_add(1);
        }
    }
    slots
}

fn gcd(a: u64, b: u64) -> u64 {
    match a.checked_rem(b) {
        None => a,
        Some(rest) => gcd(b, rest),
    }
}

/// The cycle: each slot's mix, and how many slots of that mix come before it.
fn cycle(counts: &[(usize, u64)]) -> Vec<(usize, u64)> {
    let length = counts.iter().fold(0u64, |sum, (_, slots)| sum.saturating_add(*slots));
    let mut given = vec![0u64; counts.len()];
    let mut out = Vec::new();
    for slot in 1..=length {
        let deficit = |slots: u64, given: u64| {
            let due = i128::from(slots).saturating_mul(i128::from(slot));
            due.saturating_sub(i128::from(length).saturating_mul(i128::from(given)))
        };
        let mut best: Option<(i128, usize)> = None;
        for (index, ((_, slots), given)) in counts.iter().zip(&given).enumerate() {
            let deficit = deficit(*slots, *given);
            if best.is_none_or(|(most, _)| deficit > most) {
                best = Some((deficit, index));
            }
        }
        let index = best.map_or(0, |(_, index)| index);
        if let (Some((mix, _)), Some(given)) = (counts.get(index), given.get_mut(index)) {
            out.push((*mix, *given));
            *given = given.saturating_add(1);
        }
    }
    out
}

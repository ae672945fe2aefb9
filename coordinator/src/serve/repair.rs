//! At a start: `public/` is compared with the store. Statements are written anew from it; checkpoints that are missing or
//! damaged are made again from the updates; what cannot be made again (an update, a shard) is named.

use super::persist;
use super::{ServeError, worker};
use crate::checkpoint::{self, CheckpointHashes};
use crate::dataset::hash_file;
use crate::files::FileError;
use crate::public::PublicFolder;
use crate::store::Store;
use essaim_kernels::Exec;
use essaim_network::BlobStore;
use essaim_protocol::dataset::DatasetManifest;
use essaim_protocol::ids::{Hash, RunId};
use essaim_protocol::layout;
use essaim_protocol::manifest::Manifest;
use essaim_protocol::signing::Signed;
use essaim_protocol::statements::{Contribution, Record};
use essaim_train::aggregate::next_checkpoint;
use essaim_train::round::{Base, RoundContext};
use std::path::PathBuf;
use tracing::{info, warn};

/// Bytes of updates that are hashed at a start, the newest first; of older ones only the lengths are compared.
const HASHED_MAX_BYTES: u64 = 16 << 30;

/// A public file that cannot be made again here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepairError {
    /// It is missing.
    #[error("{path} is missing: copy it back from a mirror or a backup (its hash is {hash})", path = .path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
        /// Its hash.
        hash: Hash,
    },
    /// It is not what the chain says.
    #[error("{path} is damaged: its hash is {got}, the chain says {expected}; copy it back from a mirror or a backup", path = .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Hash of the file.
        got: Hash,
        /// Hash that it should have.
        expected: Hash,
    },
    /// A checkpoint made again differs.
    #[error(
        "the checkpoint of round {round}, made again from its updates, has the hashes {got:?}; its record says {expected:?}"
    )]
    Rebuilt {
        /// Of which round.
        round: u64,
        /// What came out.
        got: Box<CheckpointHashes>,
        /// What the record says.
        expected: Box<CheckpointHashes>,
    },
    /// A checkpoint cannot be made again.
    #[error("the checkpoint of round {round} cannot be made again: {reason}")]
    Aggregate {
        /// Of which round.
        round: u64,
        /// Why.
        reason: String,
    },
}

/// What a repair needs.
pub(super) struct Repair<'a> {
    pub(super) public: &'a PublicFolder,
    pub(super) store: &'a Store,
    pub(super) blobs: &'a BlobStore,
    pub(super) exec: &'a Exec,
    pub(super) run: RunId,
    pub(super) manifest: &'a Signed<Manifest>,
    pub(super) records: &'a [Signed<Record>],
}

impl Repair<'_> {
    /// Makes `public/` agree with the store. Gives the dataset manifest.
    pub(super) fn run(&self) -> Result<DatasetManifest, ServeError> {
        if self.public.write(layout::MANIFEST, &self.manifest.to_bytes())? {
            warn!("run.manifest was missing or damaged: written anew");
        }
        let dataset = self.dataset()?;
        self.drop_unrecorded()?;
        for record in self.records {
            let changed = persist::publish_statements(self.public, self.store, record.value.round)?;
            if changed > 0 {
                warn!(
                    round = record.value.round,
                    files = changed,
                    "public statements were missing or damaged: written anew"
                );
            }
        }
        persist::publish_list(self.public, self.store, self.records.len() as u64)?;
        self.updates()?;
        self.checkpoints()?;
        Ok(dataset)
    }

    fn require(&self, relative: &str, expected: Hash) -> Result<(), ServeError> {
        let path = self.public.path(relative);
        if !path.is_file() {
            return Err(RepairError::Missing { path, hash: expected }.into());
        }
        let got = hash_file(&path)?;
        match got == expected {
            true => Ok(()),
            false => Err(RepairError::Damaged { path, got, expected }.into()),
        }
    }

    fn dataset(&self) -> Result<DatasetManifest, ServeError> {
        let manifest = &self.manifest.value;
        self.require(layout::DATASET, manifest.dataset)?;
        self.require(layout::TOKENIZER, manifest.tokenizer)?;
        let path = self.public.path(layout::DATASET);
        let bytes = std::fs::read(&path).map_err(FileError::at("read", &path))?;
        let damaged = |reason: String| ServeError::Stored { what: "the dataset manifest", round: 0, reason };
        let dataset = DatasetManifest::from_bytes(&bytes).map_err(|error| damaged(error.to_string()))?;
        for shard in dataset.all_shards() {
            self.require(&layout::shard(&shard.hash), shard.hash)?;
        }
        Ok(dataset)
    }

    /// Removes what a crash left of rounds that have no record.
    fn drop_unrecorded(&self) -> Result<(), ServeError> {
        let next = self.records.len() as u64;
        for round in self.public.rounds_in("rounds")? {
            if round >= next {
                self.public.remove_folder(&format!("rounds/{round:08}"))?;
            }
        }
        for round in self.public.rounds_in("checkpoints")? {
            if round >= next.max(1) {
                self.public.remove_folder(&layout::checkpoint(round))?;
            }
        }
        Ok(())
    }

    fn updates(&self) -> Result<(), ServeError> {
        let mut budget = HASHED_MAX_BYTES;
        for record in self.records.iter().rev() {
            for one in &record.value.contributions {
                let relative = layout::update(record.value.round, &one.member);
                let path = self.public.path(&relative);
                let len = std::fs::metadata(&path).map_or(0, |data| data.len());
                let hashed = budget >= one.update_len_bytes;
                if len == one.update_len_bytes && !hashed {
                    continue;
                }
                budget = budget.saturating_sub(one.update_len_bytes);
                if len == one.update_len_bytes && hash_file(&path)? == one.update {
                    continue;
                }
                self.restore_update(one, &relative)?;
            }
        }
        Ok(())
    }

    /// Between the store and `public/` a crash leaves an update among the fetched blobs.
    fn restore_update(&self, one: &Contribution, relative: &str) -> Result<(), ServeError> {
        if let Some(from) = self.blobs.path(&one.update)
            && hash_file(&from)? == one.update
        {
            info!(path = relative, "update restored");
            self.public.link(&from, relative)?;
        }
        self.require(relative, one.update)
    }

    /// The checkpoints that must be public, each whole; damaged ones are made again.
    fn checkpoints(&self) -> Result<(), ServeError> {
        let Some(last) = self.records.last().map(|record| record.value.round) else {
            return Ok(());
        };
        let keyframe = self.manifest.value.keyframe_every_rounds;
        let wanted = |round: u64| round == last || round.is_multiple_of(keyframe);
        let mut bad: Vec<u64> = Vec::new();
        for round in (0..=last).filter(|round| wanted(*round)) {
            if !self.checkpoint_holds(round) {
                bad.push(round);
            }
        }
        if let (Some(first), Some(end)) = (bad.first(), bad.last()) {
            warn!(rounds = ?bad, "checkpoints are missing or damaged: made again from the updates");
            self.rebuild(*first, *end, &bad)?;
        }
        self.public.retire_checkpoints(last, keyframe)?;
        self.public.clear_kept()?;
        Ok(())
    }

    fn hashes(&self, round: u64) -> Option<CheckpointHashes> {
        let record = self.records.get(usize::try_from(round).ok()?)?;
        Some(worker::hashes_of(&record.value))
    }

    fn checkpoint_holds(&self, round: u64) -> bool {
        let Some(expected) = self.hashes(round) else {
            return false;
        };
        let holds =
            |relative: String, expected: Hash| hash_file(&self.public.path(&relative)).is_ok_and(|got| got == expected);
        holds(layout::model_file(round), expected.model)
            && holds(layout::outer_state(round), expected.outer)
            && checkpoint::small_files_hold(self.public, &self.manifest.value, round)
    }

    /// Makes the checkpoints `bad` again, from the nearest whole one before the first.
    fn rebuild(&self, first: u64, end: u64, bad: &[u64]) -> Result<(), ServeError> {
        let manifest = &self.manifest.value;
        let start = (0..first).rev().find_map(|round| {
            let folder = self.public.path(&layout::checkpoint(round));
            Some((round, checkpoint::read(&folder, manifest, self.hashes(round)?).ok()?))
        });
        let (start, mut base) = start.unwrap_or_else(|| (0, Base::initial(self.exec, manifest)));
        for round in start..=end {
            if round > start {
                self.advance(round, &mut base)?;
            }
            if !bad.contains(&round) {
                continue;
            }
            let (folder, got) = checkpoint::write(self.public, manifest, &base)?;
            match self.hashes(round) {
                Some(expected) if expected == got => {
                    self.public.publish_folder(&folder, &layout::checkpoint(round))?;
                    info!(round, "checkpoint made again");
                }
                expected => {
                    let expected = expected.unwrap_or(got);
                    return Err(RepairError::Rebuilt { round, got: Box::new(got), expected: Box::new(expected) }.into());
                }
            }
        }
        Ok(())
    }

    fn advance(&self, round: u64, base: &mut Base) -> Result<(), ServeError> {
        let failed = |reason: String| ServeError::from(RepairError::Aggregate { round, reason });
        let index = usize::try_from(round).unwrap_or(usize::MAX);
        let record = self.records.get(index).ok_or_else(|| failed("it has no record".to_owned()))?;
        let context = RoundContext { exec: self.exec, manifest: &self.manifest.value, run: self.run, round };
        let mut fetch = |one: &Contribution| std::fs::read(self.public.path(&layout::update(round, &one.member)));
        next_checkpoint(&context, &record.value.contributions, &mut fetch, base)
            .map_err(|error| failed(error.to_string()))?;
        Ok(())
    }
}

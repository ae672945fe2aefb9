//! What the driver does with a signed statement: into the store, then under `public/`; and what is taken away once a new
//! head is public.

use super::ServeError;
use super::driver::{Driver, unix_ms};
use super::persist;
use super::worker::hashes_of;
use essaim_protocol::chain::Evidence;
use essaim_protocol::encoding;
use essaim_protocol::ids::{Hash, MemberId};
use essaim_protocol::layout;
use essaim_protocol::round::Stored;
use essaim_protocol::signing::Signed;
use essaim_protocol::statements::{ClaimList, Record};
use tracing::{debug, info};

impl Driver {
    /// Keeps what the machine signed: the store first, then `public/`.
    pub(super) fn keep(&mut self, stored: &Stored) -> Result<(), ServeError> {
        self.store.put(&persist::rows(stored))?;
        match stored {
            Stored::Claim { round, member, .. } => {
                debug!(round, member = %member.short(), "claim receipted");
                self.claimed.insert(*member);
            }
            Stored::ClaimList { round, list } => {
                let claims = Signed::<ClaimList>::from_bytes(list).map_or(0, |list| list.value.claims.len());
                info!(round, claims, "round closed");
                persist::publish_list(&self.public, &self.store, *round)?;
            }
            Stored::Record { round, record, .. } => self.keep_record(*round, record)?,
        }
        Ok(())
    }

    fn keep_record(&mut self, round: u64, bytes: &[u8]) -> Result<(), ServeError> {
        let unreadable = |error: String| ServeError::Stored { what: "the record", round, reason: error };
        let record = Signed::<Record>::from_bytes(bytes).map_err(|error| unreadable(error.to_string()))?;
        let fetched = self.fetches.stop();
        persist::publish_updates(&self.public, &self.blobs, &record.value)?;
        self.drop_unused(&fetched)?;
        persist::publish_statements(&self.public, &self.store, round)?;
        match self.staged.take() {
            Some((of, folder)) if of == round => {
                self.public.publish_folder(&folder, &layout::checkpoint(round))?;
            }
            _ => return Err(ServeError::Round { round, reason: "its checkpoint is not there".to_owned() }),
        }
        if round > 0
            && let Some(time) = self.store.round_time(round)?
        {
            self.store.round_closed(round, unix_ms().saturating_sub(time.opened_unix_ms) as f64 / 1000.0)?;
        }
        let hashes = hashes_of(&record.value);
        self.checkpoints.push(hashes);
        self.blobs.register_external(record.value.ledger, self.public.path(&layout::ledger(round)))?;
        self.blobs.register_external(hashes.model, self.public.path(&layout::model_file(round)))?;
        self.blobs.register_external(hashes.outer, self.public.path(&layout::outer_state(round)))?;
        self.aggregation = None;
        self.claimed.clear();
        self.late.clear();
        self.note_record(&record)
    }

    /// Removes fetched updates that the record does not include. Public files, which a claim may have named, stay.
    fn drop_unused(&self, fetched: &[(MemberId, Hash)]) -> Result<(), ServeError> {
        for (_, update) in fetched {
            if self.blobs.path(update).is_some_and(|path| path.starts_with(self.blobs.dir())) {
                self.blobs.remove(update)?;
            }
        }
        Ok(())
    }

    /// Takes away checkpoints that are no longer needed, once the head that replaces them is public.
    pub(super) fn retire(&mut self) -> Result<(), ServeError> {
        let Some(last) = self.machine.chain().round() else {
            return Ok(());
        };
        let keyframe = self.machine.chain().manifest().keyframe_every_rounds;
        let retired = self.public.retire_checkpoints(last, keyframe)?;
        let hashes = |round: u64| usize::try_from(round).ok().and_then(|index| self.checkpoints.get(index).copied());
        for round in &retired {
            let folder = self.public.kept_checkpoint(*round);
            let Some(hashes) = hashes(*round) else { continue };
            for (hash, name) in [(hashes.model, layout::MODEL_FILE), (hashes.outer, "outer.state")] {
                self.blobs.remove(&hash)?;
                if folder.join(name).is_file() {
                    self.blobs.register_external(hash, folder.join(name))?;
                }
            }
        }
        if retired.is_empty() {
            return Ok(());
        }
        // A round without contributions has the hashes of the one before.
        for round in self.public.rounds_in("checkpoints")? {
            if let Some(hashes) = hashes(round) {
                self.blobs.register_external(hashes.model, self.public.path(&layout::model_file(round)))?;
                self.blobs.register_external(hashes.outer, self.public.path(&layout::outer_state(round)))?;
            }
        }
        Ok(())
    }

    pub(super) fn keep_evidence(&self, member: &MemberId, evidence: &Evidence) -> Result<(), ServeError> {
        let statements: Vec<Vec<u8>> = evidence.statements().into_iter().map(|(_, bytes)| bytes).collect();
        let round = self.machine.chain().open_round();
        self.store.set_meta(&format!("misconduct {round} {member}"), &encoding::encode(&statements))?;
        Ok(())
    }
}

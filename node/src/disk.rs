//! What a member has on disk of the run: the manifest, the newest checkpoint with its record and ledger, claims, and which
//! updates are kept.
//!
//! ```text
//! manifest                    the signed manifest
//! state/NNNNNNNN/             checkpoint and outer state after a round, as a loader reads them
//! state/head                  the record adopted last and the ledger after it: what makes a folder of state/ count
//! checkpoint                  a link to the folder of that record
//! claims/NNNNNNNN.claim       the signed claim for a round
//! updates                     a line a kept update: round and hash
//! ```

use crate::files::{self, FileError};
use essaim_protocol::ids::{Hash, RunId};
use essaim_protocol::layout::MODEL_FILE;
use essaim_protocol::ledger::Ledger;
use essaim_protocol::limits;
use essaim_protocol::manifest::Manifest;
use essaim_protocol::signing::{Signed, StatementError};
use essaim_protocol::statements::{Claim, Record};
use essaim_train::checkpoint::{self, CheckpointError};
use essaim_train::round::Base;
use essaim_train::state::{OuterState, StateError};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The longest index of updates read, bytes: some 100,000 lines.
const INDEX_MAX: u64 = 8 << 20;
/// Length of a signed envelope beyond its payload.
const ENVELOPE: usize = limits::SIGNATURES_MAX * 96 + 16;

/// Why something is not on disk, or could not be put there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A model file is not one of this run.
    #[error("{path}: {source}", path = path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CheckpointError,
    },
    /// A file is no outer state of this run.
    #[error("{path}: {source}", path = path.display())]
    Outer {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: StateError,
    },
}

/// `state/head`: the length of the record (u64, little-endian), the signed record, the ledger.
fn head_file(record: &[u8], ledger: &[u8]) -> Vec<u8> {
    [&(record.len() as u64).to_le_bytes(), record, ledger].concat()
}

fn parse_head_file(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<8>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)
}

/// The round of a claim on disk, and the claim if it can be read.
pub type SavedClaim = (u64, Result<Signed<Claim>, StatementError>);

/// What a start finds.
#[derive(Debug, Default)]
pub struct Found {
    /// The record adopted last, its ledger, and the checkpoint and outer state after it, whose hashes are the record's.
    pub head: Option<(Signed<Record>, Ledger, Base)>,
    /// The newest claim.
    pub claim: Option<Signed<Claim>>,
    /// A round for which a claim was signed that cannot be read any more: nothing else may be claimed in it.
    pub unreadable_claim: Option<u64>,
    /// What was there and is of no use, for people.
    pub damaged: Vec<String>,
}

/// The run's files under a data directory.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    /// Rounds and hashes of the updates kept.
    updates: Mutex<Vec<(u64, Hash)>>,
}

impl Disk {
    /// The files under `root`, which is a data directory.
    ///
    /// # Errors
    /// [`DiskError::File`].
    pub fn open(root: &Path) -> Result<Disk, DiskError> {
        let index = files::read_bounded(&root.join("updates"), INDEX_MAX)?.unwrap_or_default();
        // A line cut off by a crash is skipped: its update is then kept a little longer than needed.
        let updates = String::from_utf8_lossy(&index)
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(round, hash)| Some((round.parse().ok()?, hash.parse().ok()?)))
            .collect();
        Ok(Disk { root: root.to_owned(), updates: Mutex::new(updates) })
    }

    /// The manifest of `run`, if it is here and undamaged.
    ///
    /// # Errors
    /// [`DiskError::File`].
    pub fn manifest(&self, run: &RunId) -> Result<Option<Signed<Manifest>>, DiskError> {
        let bytes = files::read_bounded(&self.root.join("manifest"), (limits::MANIFEST_MAX + ENVELOPE) as u64)?;
        let manifest = bytes.and_then(|bytes| Signed::<Manifest>::from_bytes(&bytes).ok());
        Ok(manifest.filter(|manifest| manifest.id().0 == run.0))
    }

    /// Keeps the manifest.
    ///
    /// # Errors
    /// [`DiskError::File`].
    pub fn write_manifest(&self, manifest: &Signed<Manifest>) -> Result<(), DiskError> {
        Ok(files::write_atomic(&self.root.join("manifest"), &manifest.to_bytes(), files::MODE_PUBLIC)?)
    }

    /// The folder of the checkpoint after `round`.
    pub fn folder(&self, round: u64) -> PathBuf {
        self.root.join("state").join(format!("{round:08}"))
    }

    /// The model file and the outer state's file after `round`.
    pub fn state_files(&self, round: u64) -> (PathBuf, PathBuf) {
        let folder = self.folder(round);
        (folder.join(MODEL_FILE), folder.join("outer.state"))
    }

    /// Writes the checkpoint and outer state after `round`, with the small files that loaders want; gives their hashes.
    ///
    /// # Errors
    /// [`DiskError::File`].
    pub fn write_state(&self, manifest: &Manifest, round: u64, base: &Base) -> Result<(Hash, Hash), DiskError> {
        let folder = self.folder(round);
        fs::create_dir_all(&folder).map_err(FileError::of("create", &folder))?;
        for (name, bytes) in checkpoint::checkpoint_files(manifest) {
            files::write_atomic(&folder.join(name), &bytes, files::MODE_PUBLIC)?;
        }
        let (model, outer) = self.state_files(round);
        let checkpoint = checkpoint::write_model_file(&model, &manifest.model, &base.params)
            .map_err(FileError::of("write", &model))?;
        let outer_state = base.outer.write(&outer).map_err(FileError::of("write", &outer))?;
        Ok((checkpoint, outer_state))
    }

    /// Reads a model file and an outer state's file of the run.
    ///
    /// # Errors
    /// [`DiskError`] when one of them is none.
    pub fn read_state(manifest: &Manifest, model: &Path, outer: &Path) -> Result<Base, DiskError> {
        let params = checkpoint::read_model_file(model, &manifest.model)
            .map_err(|source| DiskError::Checkpoint { path: model.to_owned(), source })?;
        let state =
            OuterState::read(outer, manifest).map_err(|source| DiskError::Outer { path: outer.to_owned(), source })?;
        Ok(Base { params, outer: state })
    }

    /// Makes the state after `round` count: its folder was written before. The link `checkpoint` points to it, and folders
    /// of other rounds go.
    ///
    /// # Errors
    /// [`DiskError::File`].
    pub fn write_head(&self, round: u64, record: &[u8], ledger: &[u8]) -> Result<(), DiskError> {
        files::write_atomic(&self.root.join("state/head"), &head_file(record, ledger), files::MODE_PUBLIC)?;
        self.settle(round)
    }

    /// What follows when the state after `round` counts: the link to it, and no folder of another round.
    ///
    /// # Errors
    /// [`DiskError::File`].
    pub fn settle(&self, round: u64) -> Result<(), DiskError> {
        let (link, temporary) = (self.root.join("checkpoint"), self.root.join(".checkpoint.new"));
        // Left over from a crash, if it is there at all.
        let _ = fs::remove_file(&temporary);
        std::os::unix::fs::symlink(format!("state/{round:08}"), &temporary)
            .and_then(|()| fs::rename(&temporary, &link))
            .map_err(FileError::of("write", &link))?;
        self.remove_folders_but(round)
    }

    fn remove_folders_but(&self, round: u64) -> Result<(), DiskError> {
        let state = self.root.join("state");
        let keep = format!("{round:08}");
        for entry in fs::read_dir(&state).map_err(FileError::of("read", &state))? {
            let entry = entry.map_err(FileError::of("read", &state))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_round = name.len() >= 8 && name.bytes().all(|byte| byte.is_ascii_digit());
            if is_round && name != keep {
                fs::remove_dir_all(entry.path()).map_err(FileError::of("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    /// Puts the tokenizer into the checkpoint folder of `round`, so that the folder can be used by itself.
    ///
    /// # Errors
    /// [`DiskError::File`].
    pub fn add_tokenizer(&self, round: u64, tokenizer: &Path) -> Result<(), DiskError> {
        let target = self.folder(round).join("tokenizer.json");
        if !target.parent().is_some_and(Path::is_dir) || target.exists() {
            return Ok(());
        }
        let copied = fs::copy(tokenizer, &target).map(|_| ());
        Ok(copied.map_err(FileError::of("write", &target))?)
    }

    /// Keeps the claim for `round`, before it is first sent.
    ///
    /// # Errors
    /// [`DiskError::File`].
    pub fn write_claim(&self, round: u64, claim: &[u8]) -> Result<(), DiskError> {
        Ok(files::write_atomic(&self.claim_path(round), claim, files::MODE_PUBLIC)?)
    }

    fn claim_path(&self, round: u64) -> PathBuf {
        self.root.join("claims").join(format!("{round:08}.claim"))
    }

    fn claim_rounds(&self) -> Result<Vec<u64>, DiskError> {
        let folder = self.root.join("claims");
        let names = fs::read_dir(&folder).map_err(FileError::of("read", &folder))?;
        let round = |name: String| name.strip_suffix(".claim")?.parse().ok();
        let mut rounds: Vec<u64> =
            names.flatten().filter_map(|entry| round(entry.file_name().to_string_lossy().into_owned())).collect();
        rounds.sort_unstable();
        Ok(rounds)
    }

    /// The claim of the newest round that has one.
    ///
    /// # Errors
    /// [`DiskError::File`].
    pub fn newest_claim(&self) -> Result<Option<SavedClaim>, DiskError> {
        let Some(round) = self.claim_rounds()?.last().copied() else { return Ok(None) };
        let bytes = files::read_bounded(&self.claim_path(round), (limits::STATEMENT_MAX + ENVELOPE) as u64)?;
        Ok(Some((round, Signed::<Claim>::from_bytes(&bytes.unwrap_or_default()))))
    }

    /// Notes that `updates` of `round` are about to be kept.
    ///
    /// # Errors
    /// [`DiskError::File`].
    pub fn note_updates(&self, round: u64, updates: &[Hash]) -> Result<(), DiskError> {
        let mut known = self.updates.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.len();
        for update in updates {
            if !known.contains(&(round, *update)) {
                known.push((round, *update));
            }
        }
        if known.len() == before { Ok(()) } else { self.write_index(&known) }
    }

    fn write_index(&self, updates: &[(u64, Hash)]) -> Result<(), DiskError> {
        let text: String = updates.iter().map(|(round, hash)| format!("{round} {hash}\n")).collect();
        Ok(files::write_atomic(&self.root.join("updates"), text.as_bytes(), files::MODE_PUBLIC)?)
    }

    /// Forgets updates and claims of the rounds before `first_round`; gives the updates that nothing else needs.
    ///
    /// # Errors
    /// [`DiskError::File`].
    pub fn forget_before(&self, first_round: u64) -> Result<Vec<Hash>, DiskError> {
        for round in self.claim_rounds()?.into_iter().filter(|round| *round < first_round) {
            let path = self.claim_path(round);
            fs::remove_file(&path).map_err(FileError::of("remove", &path))?;
        }
        let mut updates = self.updates.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, kept): (Vec<_>, Vec<_>) = updates.iter().partition(|(round, _)| *round < first_round);
        if old.is_empty() {
            return Ok(Vec::new());
        }
        let gone: Vec<Hash> =
            old.into_iter().map(|(_, hash)| hash).filter(|hash| !kept.iter().any(|(_, other)| other == hash)).collect();
        self.write_index(&kept)?;
        *updates = kept;
        Ok(gone)
    }

    /// What the last run of this program left. What is damaged is left out, and will be fetched again.
    ///
    /// # Errors
    /// [`DiskError::File`] when the disk cannot be read at all.
    pub fn find(&self, manifest: &Manifest) -> Result<Found, DiskError> {
        let mut found = Found::default();
        let path = self.root.join("state/head");
        let max = (limits::RECORD_MAX + limits::LEDGER_MAX + ENVELOPE + 64) as u64;
        if let Some(bytes) = files::read_bounded(&path, max)? {
            match self.head_of(manifest, &bytes) {
                Ok(head) => found.head = Some(head),
                Err(reason) => {
                    found.damaged.push(format!("the saved checkpoint cannot be used ({reason}); it is fetched again"));
                }
            }
        }
        match self.newest_claim()? {
            Some((_, Ok(claim))) => found.claim = Some(claim),
            Some((round, Err(error))) => {
                found.unreadable_claim = Some(round);
                found.damaged.push(format!("the saved claim of round {round} cannot be read ({error})"));
            }
            None => {}
        }
        Ok(found)
    }

    fn head_of(&self, manifest: &Manifest, bytes: &[u8]) -> Result<(Signed<Record>, Ledger, Base), String> {
        let (record, ledger) = parse_head_file(bytes).ok_or("state/head is cut off")?;
        let record = Signed::<Record>::from_bytes(record).map_err(|error| error.to_string())?;
        let ledger = Ledger::from_bytes(ledger).map_err(|error| error.to_string())?;
        let (model, outer) = self.state_files(record.value.round);
        let base = Disk::read_state(manifest, &model, &outer).map_err(|error| error.to_string())?;
        for (what, got, expected) in [
            ("checkpoint", base.checkpoint_hash(manifest), record.value.checkpoint),
            ("outer state", base.outer_hash(), record.value.outer_state),
        ] {
            if got != expected {
                return Err(format!("its {what} has hash {got}, the record says {expected}"));
            }
        }
        Ok((record, ledger, base))
    }
}

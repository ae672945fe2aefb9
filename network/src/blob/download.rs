//! A download as a sans-IO state machine: what to ask whom, and what to make of the answers.
//!
//! The machine passes three phases:
//! 1. *Seeking*: every provider is asked whether it has the blob and how long it is.
//! 2. *Claimed*: one provider that has it gives the list of values and then the **last piece**. Only a last piece that
//!    verifies proves the length (see [`super::Outboard`]), so until then nobody else is asked for anything
//!    that a false length would make look wrong. If the claim fails, its maker is dropped and another's is tried.
//! 3. *Proven*: the other pieces come from all providers at once, each with a bounded number of requests outstanding.
//!
//! Invariants: a piece is given out to at most one provider at a time; every piece that [`Download::on_response`]
//! hands over has been verified; whoever is reported as [`PeerFault`] has really sent bytes that do not belong to the
//! hash. The machine has no clock: time-outs come in as [`Failure`].

use super::tree::{MAX_BLOB_LEN, Outboard, piece_count, piece_range};
use super::wire::{BlobRequest, BlobResponse};
use essaim_protocol::ids::Hash;
use std::collections::{BTreeMap, BTreeSet};

/// Failures in a row after which a provider is no longer asked.
const MAX_FAILURES: u32 = 3;

/// Requests that a provider may have outstanding before it has answered any.
const FIRST_WINDOW: usize = 2;

/// What a provider is asked.
pub type Ask = BlobRequest;

/// What a peer did wrong: bytes that do not belong to the hash asked for, or an answer to another question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerFault {
    /// The list of values does not merge to the hash.
    #[error("its list of {len} bytes for a blob of {claimed_len_bytes} bytes does not merge to {hash}")]
    WrongOutboard {
        /// The blob.
        hash: Hash,
        /// The blob's length as this peer claimed it.
        claimed_len_bytes: u64,
        /// The length of the list given.
        len: usize,
    },
    /// The piece does not match its value.
    #[error("its piece {index} of {hash} ({len} bytes) does not verify")]
    WrongPiece {
        /// The blob.
        hash: Hash,
        /// Which piece.
        index: u32,
        /// Its length.
        len: usize,
    },
    /// The answer does not fit the question.
    #[error("it answered {ask:?} with something else")]
    WrongAnswer {
        /// The question.
        ask: Ask,
    },
}

/// Why a request had no answer; no misbehaviour by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It may work the next time: a time-out, a stream that broke.
    Transient,
    /// This peer cannot be reached or does not speak the protocol.
    Gone,
}

/// What an answer led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do for the caller, but to ask on.
    Nothing,
    /// The provider will give nothing now: it has not got the blob, may not give it yet, is busy, or claims a length
    /// beyond what was allowed.
    Unavailable(Unavailable),
    /// A verified piece, to be written and then confirmed by [`Download::on_written`].
    Piece {
        /// Which piece.
        index: u32,
        /// Its bytes.
        bytes: Vec<u8>,
    },
}

/// Why a provider gives nothing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// It has not got the blob.
    NotFound,
    /// It may not give it yet.
    NotYet,
    /// It has too much to do.
    Busy,
    /// It claims this length in bytes, which is more than allowed.
    TooLong(u64),
}

#[derive(Debug)]
struct Provider {
    asked_stat: bool,
    claimed_len_bytes: Option<u64>,
    in_flight: BTreeSet<Ask>,
    /// How many requests it may have outstanding: more with every answer, half as many after a failure, so that a
    /// slow link is not asked for more than it can bring within the time-out.
    window: usize,
    failures: u32,
    dropped: bool,
}

impl Default for Provider {
    fn default() -> Self {
        Provider {
            asked_stat: false,
            claimed_len_bytes: None,
            in_flight: BTreeSet::new(),
            window: FIRST_WINDOW,
            failures: 0,
            dropped: false,
        }
    }
}

#[derive(Debug)]
enum Phase<P> {
    Seeking,
    Claimed { by: P, outboard: Option<Outboard>, len_bytes: u64 },
    Proven(Outboard),
}

/// One blob on its way here from any number of providers, named by `P`.
#[derive(Debug)]
pub struct Download<P> {
    hash: Hash,
    max_len_bytes: u64,
    max_in_flight: usize,
    phase: Phase<P>,
    providers: BTreeMap<P, Provider>,
    /// Pieces that nobody is asked for and nobody has given; filled when the length is proven.
    missing: BTreeSet<u32>,
    /// Pieces that are written.
    written: u32,
}

impl<P: Ord + Clone> Download<P> {
    /// A download of `hash`, which may be at most `max_len_bytes` long; each provider has at most `max_in_flight` requests
    /// outstanding.
    pub fn new(hash: Hash, max_len_bytes: u64, max_in_flight: usize) -> Download<P> {
        Download {
            hash,
            max_len_bytes: max_len_bytes.min(MAX_BLOB_LEN),
            max_in_flight: max_in_flight.max(1),
            phase: Phase::Seeking,
            providers: BTreeMap::new(),
            missing: BTreeSet::new(),
            written: 0,
        }
    }

    /// A download that goes on: its outboard is proven, and `have` says which pieces are already written.
    pub fn resume(outboard: Outboard, have: &[bool], max_in_flight: usize) -> Download<P> {
        let mut download = Download::new(outboard.hash(), outboard.len_bytes(), max_in_flight);
        let has = |index: u32| have.get(index as usize).copied().unwrap_or(false);
        download.missing = (0..outboard.pieces()).filter(|&index| !has(index)).collect();
        download.written = outboard.pieces() - download.missing.len() as u32;
        download.phase = Phase::Proven(outboard);
        download
    }

    /// Adds a provider, or gives one that was dropped another chance.
    pub fn add_provider(&mut self, provider: P) {
        let entry = self.providers.entry(provider).or_default();
        if entry.dropped {
            *entry = Provider::default();
        }
    }

    /// Takes a provider out; the pieces that it was asked for go to others.
    pub fn drop_provider(&mut self, provider: &P) {
        let Some(entry) = self.providers.get_mut(provider) else { return };
        entry.dropped = true;
        for ask in std::mem::take(&mut entry.in_flight) {
            self.requeue(ask);
        }
        if matches!(&self.phase, Phase::Claimed { by, .. } if by == provider) {
            self.phase = Phase::Seeking;
        }
    }

    fn requeue(&mut self, ask: Ask) {
        if let (BlobRequest::Piece(_, index), Phase::Proven(_)) = (ask, &self.phase) {
            self.missing.insert(index);
        }
    }

    /// The providers that are still asked.
    pub fn providers(&self) -> Vec<P> {
        self.providers.iter().filter(|(_, entry)| !entry.dropped).map(|(provider, _)| provider.clone()).collect()
    }

    /// The next question for `provider`, if there is one; it counts as outstanding until its answer or failure comes in.
    pub fn next_wanted(&mut self, provider: &P) -> Option<Ask> {
        // A claimant that failed comes after those that did not.
        let claimants = self.providers.values().filter(|other| !other.dropped && other.claimed_len_bytes.is_some());
        let fewest_failures = claimants.map(|other| other.failures).min().unwrap_or(0);
        let entry = self.providers.get_mut(provider)?;
        if entry.dropped || entry.in_flight.len() >= entry.window.min(self.max_in_flight) {
            return None;
        }
        let ask = if !entry.asked_stat {
            entry.asked_stat = true;
            BlobRequest::Stat(self.hash)
        } else {
            let len_bytes = entry.claimed_len_bytes?;
            if matches!(self.phase, Phase::Seeking) {
                if fewest_failures < entry.failures {
                    return None;
                }
                self.phase = Phase::Claimed { by: provider.clone(), outboard: None, len_bytes };
            }
            match &self.phase {
                Phase::Seeking => return None,
                Phase::Claimed { by, .. } if by != provider || !entry.in_flight.is_empty() => return None,
                Phase::Claimed { outboard: None, len_bytes, .. } if piece_count(*len_bytes) > 1 => {
                    BlobRequest::Outboard(self.hash)
                }
                Phase::Claimed { len_bytes, .. } => BlobRequest::Piece(self.hash, piece_count(*len_bytes) - 1),
                Phase::Proven(_) => BlobRequest::Piece(self.hash, self.missing.pop_first()?),
            }
        };
        entry.in_flight.insert(ask);
        Some(ask)
    }

    /// Takes in what `provider` answered to `ask`.
    ///
    /// # Errors
    /// [`PeerFault`] if the peer is wrong: it is dropped, and what it was asked for goes to others.
    pub fn on_response(&mut self, provider: &P, ask: Ask, response: BlobResponse) -> Result<Outcome, PeerFault> {
        let Some(entry) = self.providers.get_mut(provider) else { return Ok(Outcome::Nothing) };
        if !entry.in_flight.remove(&ask) {
            // It was dropped in the meantime; its pieces have gone to others.
            return Ok(Outcome::Nothing);
        }
        entry.failures = 0;
        entry.window = (entry.window + 1).min(self.max_in_flight);
        let outcome = match (ask, response) {
            (BlobRequest::Stat(_), BlobResponse::Stat(len_bytes)) if len_bytes <= self.max_len_bytes => {
                entry.claimed_len_bytes = Some(len_bytes);
                Ok(Outcome::Nothing)
            }
            // Nothing proves this claim wrong, so it is no fault.
            (BlobRequest::Stat(_), BlobResponse::Stat(len_bytes)) => {
                Ok(Outcome::Unavailable(Unavailable::TooLong(len_bytes)))
            }
            (BlobRequest::Outboard(_), BlobResponse::Outboard(bytes)) => self.take_outboard(&bytes),
            (BlobRequest::Piece(_, index), BlobResponse::Piece(bytes)) => self.take_piece(index, bytes),
            (_, BlobResponse::NotFound) => Ok(Outcome::Unavailable(Unavailable::NotFound)),
            (_, BlobResponse::NotYet) => Ok(Outcome::Unavailable(Unavailable::NotYet)),
            (_, BlobResponse::Busy) => Ok(Outcome::Unavailable(Unavailable::Busy)),
            (ask, _) => Err(PeerFault::WrongAnswer { ask }),
        };
        if !matches!(outcome, Ok(Outcome::Nothing | Outcome::Piece { .. })) {
            self.requeue(ask);
            self.drop_provider(provider);
        }
        outcome
    }

    fn take_outboard(&mut self, bytes: &[u8]) -> Result<Outcome, PeerFault> {
        let Phase::Claimed { outboard, len_bytes, .. } = &mut self.phase else { return Ok(Outcome::Nothing) };
        *outboard = Outboard::from_bytes(self.hash, *len_bytes, bytes);
        match outboard {
            Some(_) => Ok(Outcome::Nothing),
            None => Err(PeerFault::WrongOutboard { hash: self.hash, claimed_len_bytes: *len_bytes, len: bytes.len() }),
        }
    }

    fn take_piece(&mut self, index: u32, bytes: Vec<u8>) -> Result<Outcome, PeerFault> {
        let fault = PeerFault::WrongPiece { hash: self.hash, index, len: bytes.len() };
        match &mut self.phase {
            Phase::Seeking => Ok(Outcome::Nothing),
            Phase::Claimed { outboard, len_bytes, .. } => {
                let single = || Outboard::from_bytes(self.hash, *len_bytes, &[]);
                let outboard = outboard.take().or_else(single).ok_or(fault.clone())?;
                if !outboard.verifies(index, &bytes) {
                    return Err(fault);
                }
                // The piece verifies, so it is the last one, and its length is the truth whatever was claimed.
                let proven_len = piece_range(u64::MAX, index).start + bytes.len() as u64;
                if proven_len > self.max_len_bytes {
                    return Ok(Outcome::Unavailable(Unavailable::TooLong(proven_len)));
                }
                self.missing = (0..index).collect();
                self.phase = Phase::Proven(outboard.with_len(proven_len));
                Ok(Outcome::Piece { index, bytes })
            }
            Phase::Proven(outboard) if outboard.verifies(index, &bytes) => Ok(Outcome::Piece { index, bytes }),
            Phase::Proven(_) => Err(fault),
        }
    }

    /// Takes in that `provider` gave no answer to `ask`.
    pub fn on_failure(&mut self, provider: &P, ask: Ask, failure: Failure) {
        let Some(entry) = self.providers.get_mut(provider) else { return };
        if !entry.in_flight.remove(&ask) {
            return;
        }
        entry.failures += 1;
        entry.window = (entry.window / 2).max(1);
        if matches!(ask, BlobRequest::Stat(_)) {
            entry.asked_stat = false;
        }
        let give_up = failure == Failure::Gone || entry.failures >= MAX_FAILURES;
        self.requeue(ask);
        if give_up {
            self.drop_provider(provider);
        } else if matches!(&self.phase, Phase::Claimed { by, .. } if by == provider) {
            // A claimant that stalls makes way for another that has the blob.
            self.phase = Phase::Seeking;
        }
    }

    /// The caller has written a piece.
    pub fn on_written(&mut self) {
        self.written += 1;
    }

    /// The caller could not write a piece: it is asked for again.
    pub fn on_write_failed(&mut self, index: u32) {
        self.missing.insert(index);
    }

    /// The blob's outboard, once its length is proven.
    pub fn proven(&self) -> Option<&Outboard> {
        match &self.phase {
            Phase::Proven(outboard) => Some(outboard),
            Phase::Seeking | Phase::Claimed { .. } => None,
        }
    }

    /// Whether every piece is written.
    pub fn is_complete(&self) -> bool {
        self.proven().is_some_and(|outboard| self.written == outboard.pieces())
    }

    /// Pieces written, and pieces in all (0 until that is proven).
    pub fn progress(&self) -> (u32, u32) {
        (self.written, self.proven().map_or(0, Outboard::pieces))
    }
}

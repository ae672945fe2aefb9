//! Taking what comes in: network events, reports of tasks, outcomes of the worker.

use super::{Driver, End, JoinError, NO_ANSWER, Report};
use crate::events::Event;
use crate::worker::{Job, Outcome, WorkerError};
use essaim_network::{Misbehaviour, NetworkEvent};
use essaim_protocol::encoding;
use essaim_protocol::ids::Hash;
use essaim_protocol::limits;
use essaim_protocol::messages::{Refused, Reply, Request};
use essaim_protocol::round::{AdvanceFailure, WorkDone};
use std::sync::Arc;
use std::time::Instant;

impl Driver {
    pub(super) async fn on_network(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::Gossip { bytes, verdict, .. } => {
                if self.machine.handle_head(self.now_ms(), &bytes) {
                    verdict.accept();
                } else {
                    verdict.reject();
                }
            }
            NetworkEvent::Request { peer, bytes, reply } => match self.answer_to(&bytes) {
                Some(answer) => {
                    // Nobody waits any more if it is not sent.
                    let _ = reply.send(encoding::encode(&answer));
                }
                None => self.network.penalize(peer, Misbehaviour::BadRequest).await,
            },
            NetworkEvent::PeerConnected { .. } | NetworkEvent::PeerDisconnected { .. } => {
                self.reporter.set_peers(self.network.connected_peers().len());
            }
            _ => {}
        }
    }

    /// What this member can say to others: the manifest and its last record. `None`: no request.
    fn answer_to(&self, bytes: &[u8]) -> Option<Reply> {
        let request: Request = encoding::decode(bytes, limits::CONTROL_MAX).ok()?;
        let chain = self.machine.chain();
        Some(match request {
            Request::Manifest { run } | Request::Status { run } | Request::Record { run, .. } if run != chain.run() => {
                Reply::Refused(Refused::WrongRun)
            }
            Request::Manifest { .. } => Reply::Manifest(chain.signed_manifest().to_bytes()),
            _ => Reply::NotFound,
        })
    }

    pub(super) fn on_report(&mut self, report: Report) -> Result<(), JoinError> {
        match report {
            Report::Answer { request, reply } => self.on_answer(&request, reply),
            Report::Updates { round, result } => self.on_updates(round, result)?,
            Report::Downloaded { round, result } => match result {
                Ok(downloaded) => {
                    if let Some(advance) = self.state.advance.as_mut().filter(|advance| advance.round == round) {
                        advance.ledger = Some(downloaded.ledger);
                        let (model, outer) = (downloaded.model, downloaded.outer);
                        self.job(Job::Adopt { round, model, outer })?;
                    }
                }
                Err(why) => self.advance_failed(round, AdvanceFailure::Unavailable, why),
            },
            Report::FeedEnded { round, result: Err(error) } => {
                self.warn(format!("round {round}: the training data cannot be had: {error}"));
            }
            Report::FeedEnded { result: Ok(()), .. } => {}
            Report::Data(Ok(data)) => {
                self.state.data = Some(data);
                self.begin_work()?;
            }
            Report::Data(Err(error)) => self.on_no_data(error)?,
            Report::Tokenizer => self.on_tokenizer(),
        }
        Ok(())
    }

    fn on_answer(&mut self, request: &Request, reply: Result<Reply, String>) {
        match reply {
            Ok(reply) => {
                if self.state.told_unreachable.take().is_some() {
                    self.report(Event::Reached { after_s: self.state.last_answer.elapsed().as_secs_f64() });
                }
                self.state.last_answer = Instant::now();
                NO_ANSWER.clone_into(&mut self.state.last_problem);
                if reply == Reply::Joined && !std::mem::replace(&mut self.state.told_joined, true) {
                    self.report(Event::Joined { after_round: self.machine.chain().round() });
                }
                self.machine.handle_reply(self.now_ms(), request, reply);
            }
            Err(problem) => {
                self.state.last_problem = problem;
                self.machine.handle_request_error(self.now_ms(), request);
            }
        }
    }

    fn on_updates(&mut self, round: u64, result: Result<(), String>) -> Result<(), JoinError> {
        let Some(advance) = self.state.advance.as_mut().filter(|advance| advance.round == round) else { return Ok(()) };
        match result {
            Ok(()) => {
                let contributions = std::mem::take(&mut advance.contributions);
                self.job(Job::Apply { round, contributions })
            }
            Err(why) => {
                self.advance_failed(round, AdvanceFailure::Unavailable, why);
                Ok(())
            }
        }
    }

    /// A data set that does not fit the manifest never will; one that could not be fetched may be later.
    fn on_no_data(&mut self, error: super::data::DataError) -> Result<(), JoinError> {
        use super::data::DataError;
        match error {
            DataError::Fetch(_) => {
                self.warn(format!("the dataset manifest cannot be had: {error}; trying again"));
                self.fetch_data();
                Ok(())
            }
            _ => Err(JoinError::Data(error.to_string())),
        }
    }

    fn on_tokenizer(&self) {
        let tokenizer = self.machine.chain().manifest().tokenizer;
        if let (Some(round), Some(path)) = (self.machine.chain().round(), self.network.store().path(&tokenizer))
            && let Err(error) = self.disk.add_tokenizer(round, &path)
        {
            self.warn(error.to_string());
        }
    }

    pub(super) fn on_outcome(&mut self, outcome: Outcome) -> Result<(), JoinError> {
        match outcome {
            Outcome::Advanced { round, result } => self.on_advanced(round, result),
            Outcome::Worked { round, result } => {
                self.state.working.take_if(|working| working.round == round);
                match result {
                    Ok(Some(done)) if !self.may_claim(&done) => {
                        self.warn(format!("round {round}: what was claimed before could not be made again; sat out"));
                        self.nothing_done(round);
                    }
                    Ok(Some(done)) => {
                        if let Err(error) = self.machine.handle_work_done(self.now_ms(), done) {
                            self.warn(error.to_string());
                        }
                    }
                    Ok(None) => self.nothing_done(round),
                    Err(error @ WorkerError::Restart(_)) => {
                        let reason = error.to_string();
                        self.warn(format!("round {round}: {reason}"));
                        self.state.end = Some(End::Restart { reason });
                    }
                    Err(error) => {
                        self.warn(format!("round {round}: the work cannot be claimed: {error}"));
                        self.nothing_done(round);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether claiming this makes no second, different claim for its round.
    fn may_claim(&self, done: &WorkDone) -> bool {
        let bound = self.state.bound.as_ref().filter(|bound| bound.round == done.round);
        bound.is_none_or(|bound| bound.claim.as_ref().is_some_and(|claim| claim.update == done.update))
    }

    fn on_advanced(&mut self, round: u64, result: Result<(Hash, Hash), WorkerError>) {
        let Some(advance) = self.state.advance.as_ref().filter(|advance| advance.round == round) else { return };
        let now_ms = self.now_ms();
        match result {
            Ok(made) => match advance.ledger.clone() {
                None => self.machine.handle_checkpoint(now_ms, round, made.0, made.1),
                Some(ledger) if made == advance.expected => self.machine.handle_caught_up(now_ms, round, &ledger),
                Some(_) => {
                    let why = "the files that were downloaded are not in the form of this build".to_owned();
                    self.advance_failed(round, AdvanceFailure::Unavailable, why);
                }
            },
            Err(error) => match error.failure() {
                Some(failure) => self.advance_failed(round, failure, error.to_string()),
                // The contributions give no checkpoint at all, so whatever the record names is wrong: no file has this hash.
                None => self.machine.handle_checkpoint(now_ms, round, Hash([0; 32]), Hash([0; 32])),
            },
        }
    }

    /// Fetches the dataset manifest in the background.
    pub(super) fn fetch_data(&self) {
        let (manifest, fetcher, reports) = (self.manifest.clone(), self.fetcher.clone(), self.reports.clone());
        tokio::spawn(async move {
            let data = super::data::Data::fetch(&manifest, &fetcher).await;
            let _ = reports.send(Report::Data(data.map(Arc::new)));
        });
    }

    /// Fetches the tokenizer in the background: training does not need it, whoever uses the checkpoint does.
    pub(super) fn fetch_tokenizer(&self) {
        let (hash, fetcher, reports) = (self.manifest.tokenizer, self.fetcher.clone(), self.reports.clone());
        tokio::spawn(async move {
            if fetcher.fetch(hash, limits::TOKENIZER_MAX, &[], super::fetch::Patience::Long).await.is_ok() {
                let _ = reports.send(Report::Tokenizer);
            }
        });
    }
}

//! Getting the run's manifest, and what it asks of this machine.

use super::error::JoinError;
use super::peers::Asker;
use super::{End, UNREACHABLE_AFTER, UNREACHABLE_EVERY};
use crate::disk::Disk;
use crate::engine::{Engines, Trainer};
use crate::events::Event;
use crate::reporter::Reporter;
use essaim_kernels::Exec;
use essaim_network::NetworkEvent;
use essaim_protocol::chain::ChainState;
use essaim_protocol::ids::RunId;
use essaim_protocol::manifest::Manifest;
use essaim_protocol::messages::{Reply, Request};
use essaim_protocol::signing::{Signed, Strict};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Connections lost before the manifest is known after which the link is thought to be wrong: nodes of another run end a
/// connection as soon as it is made.
const LOST_MAX: u32 = 3;

/// Checks a manifest whose id is the run's, and chooses what can train its model.
pub(super) fn check_manifest(
    manifest: &Signed<Manifest>,
    engines: Engines,
    exec: &Exec,
    reporter: &Reporter,
) -> Result<Trainer, JoinError> {
    ChainState::genesis(manifest, &Strict)?;
    let value = &manifest.value;
    let chosen = engines.choose(exec, value, reporter)?;
    reporter.report(&Event::Manifest {
        name: value.name.clone(),
        parameters: value.model.parameter_count(),
        rounds: value.rounds,
        micro_batch: chosen.micro_batch,
        needed_bytes: chosen.needed_bytes,
    });
    Ok(Trainer::new(engines, chosen))
}

/// Getting the manifest.
pub(super) struct Getting<'a> {
    pub(super) run: RunId,
    pub(super) disk: &'a Disk,
    pub(super) asker: &'a Asker,
    pub(super) reporter: &'a Reporter,
    pub(super) give_up: Option<Duration>,
}

impl Getting<'_> {
    /// The manifest from disk, or from the peers of the link, who are asked until one gives it.
    pub(super) async fn manifest(
        &self,
        events: &mut mpsc::Receiver<NetworkEvent>,
    ) -> Result<Result<Signed<Manifest>, End>, JoinError> {
        if let Some(manifest) = self.disk.manifest(&self.run)? {
            return Ok(Ok(manifest));
        }
        let asking = self.ask();
        tokio::pin!(asking);
        loop {
            tokio::select! {
                asked = &mut asking => return asked,
                // Nothing that comes before the manifest can be judged.
                event = events.recv() => if event.is_none() { return Err(JoinError::NetworkStopped) },
            }
        }
    }

    async fn ask(&self) -> Result<Result<Signed<Manifest>, End>, JoinError> {
        let begun = Instant::now();
        let (mut told, mut unknown, mut lost, mut wait) = (None::<Instant>, 0u32, 0u32, Duration::from_millis(250));
        loop {
            let problem = match self.asker.ask(&Request::Manifest { run: self.run }).await {
                Ok(Reply::Manifest(bytes)) => match Signed::<Manifest>::from_bytes(&bytes) {
                    Ok(manifest) if manifest.id().0 == self.run.0 => {
                        if told.is_some() {
                            self.reporter.report(&Event::Reached { after_s: begun.elapsed().as_secs_f64() });
                        }
                        self.disk.write_manifest(&manifest)?;
                        return Ok(Ok(manifest));
                    }
                    Ok(_) => "it answers with the manifest of another run".to_owned(),
                    Err(error) => error.to_string(),
                },
                Ok(Reply::Busy) => "it is busy".to_owned(),
                Ok(_) => {
                    unknown += 1;
                    if unknown >= 3 {
                        return Err(JoinError::UnknownRun { run: self.run });
                    }
                    "it does not know the run".to_owned()
                }
                Err(problem) => {
                    lost += u32::from(problem.is_lost);
                    if lost >= LOST_MAX {
                        return Err(JoinError::SentAway { run: self.run });
                    }
                    problem.text
                }
            };
            let silent = begun.elapsed();
            if self.give_up.is_some_and(|limit| silent >= limit) {
                return Ok(Err(End::GaveUp { reason: problem }));
            }
            if silent >= UNREACHABLE_AFTER && told.is_none_or(|told| told.elapsed() >= UNREACHABLE_EVERY) {
                told = Some(Instant::now());
                self.reporter.report(&Event::Unreachable { tried_s: silent.as_secs_f64(), reason: problem });
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        }
    }
}

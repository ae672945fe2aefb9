//! The status file: what a member does now, folded from its events, for `essaim status` and for scripts.

use crate::events::Event;
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a member is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Looking for the coordinator.
    #[default]
    Connecting,
    /// Waiting for a record, or for the next round.
    Waiting,
    /// Doing inner steps.
    Training,
    /// The run is over.
    Finished,
    /// Ended by request.
    Stopped,
    /// Ended because the operator broke the rules.
    Halted,
}

/// The content of `status.json`. Times are seconds, losses nats a token.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusFile {
    /// The run.
    pub run: String,
    /// The run's name, once known.
    pub name: Option<String>,
    /// This member.
    pub member: String,
    /// What it is at.
    pub activity: Activity,
    /// What trains: `cpu` or `cuda:N`.
    #[serde(default)]
    pub device: Option<String>,
    /// Addresses it listens on.
    pub addresses: Vec<String>,
    /// Peers connected.
    pub peers: usize,
    /// The round it works in or worked in last.
    pub round: Option<u64>,
    /// Rounds of the run, once known.
    pub rounds: Option<u64>,
    /// Inner steps done in it.
    pub step: u32,
    /// Inner steps assigned in it.
    pub steps: u32,
    /// Loss of the last inner step.
    pub loss: Option<f64>,
    /// Tokens a second.
    pub tokens_per_s: Option<f64>,
    /// Claims that the operator received since the start.
    pub receipts: u64,
    /// Contributions of this member in records, since the start.
    pub included: u64,
    /// Round of the newest checkpoint held.
    pub checkpoint_round: Option<u64>,
    /// Hash of the newest checkpoint held.
    pub checkpoint: Option<String>,
    /// From the start to the first inner step done.
    pub first_inner_step_s: Option<f64>,
    /// Most memory that the process had, bytes.
    pub peak_memory_bytes: Option<u64>,
    /// Since the start.
    pub elapsed_s: f64,
    /// When this was written, since 1970.
    pub updated_unix_s: u64,
    /// The last thing that went wrong, if any.
    pub last_problem: Option<String>,
}

impl StatusFile {
    /// Notes `event`, which happened `elapsed_s` after the start.
    pub fn observe(&mut self, event: &Event, elapsed_s: f64) {
        self.elapsed_s = elapsed_s;
        self.updated_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        match event {
            Event::Started { run, member, .. } => {
                self.run.clone_from(run);
                self.member.clone_from(member);
            }
            Event::Engine { device, .. } => self.device = Some(device.clone()),
            Event::Listening { addresses } => self.addresses.clone_from(addresses),
            Event::Manifest { name, rounds, .. } => {
                self.name = Some(name.clone());
                self.rounds = Some(*rounds);
                self.activity = Activity::Waiting;
            }
            Event::Joined { .. } => self.activity = Activity::Waiting,
            Event::RoundStarted { round, steps, .. } => {
                self.activity = Activity::Training;
                (self.round, self.step, self.steps) = (Some(*round), 0, *steps);
            }
            Event::InnerStep { round, step, steps, loss, tokens_per_s, .. } => {
                self.activity = Activity::Training;
                (self.round, self.step, self.steps) = (Some(*round), *step, *steps);
                (self.loss, self.tokens_per_s) = (Some(*loss), Some(*tokens_per_s));
                self.first_inner_step_s.get_or_insert(elapsed_s);
            }
            Event::Claimed { .. } | Event::Closed { .. } => self.activity = Activity::Waiting,
            Event::Receipt { .. } => self.receipts += 1,
            Event::Applied { round, mine, checkpoint, .. } => {
                self.included += u64::from(*mine);
                (self.checkpoint_round, self.checkpoint) = (Some(*round), Some(checkpoint.clone()));
            }
            Event::CaughtUp { round, checkpoint, .. } => {
                (self.checkpoint_round, self.checkpoint) = (Some(*round), Some(checkpoint.clone()));
            }
            Event::Finished { .. } => self.activity = Activity::Finished,
            Event::Stopped => self.activity = Activity::Stopped,
            Event::Admitted { .. } | Event::Reached { .. } => {}
            Event::Halted { .. } => {
                self.activity = Activity::Halted;
                self.last_problem = Some(event.to_string());
            }
            Event::Refused { .. } | Event::Unreachable { .. } | Event::Warning { .. } => {
                self.last_problem = Some(event.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_fold_into_the_status() {
        let mut status = StatusFile::default();
        status.observe(&Event::InnerStep { round: 2, step: 1, steps: 4, loss: 3.5, tokens_per_s: 10.0, peers: 0 }, 7.5);
        status.observe(&Event::InnerStep { round: 2, step: 2, steps: 4, loss: 3.0, tokens_per_s: 11.0, peers: 0 }, 8.5);
        assert_eq!((status.activity, status.step, status.first_inner_step_s), (Activity::Training, 2, Some(7.5)));
        status.observe(&Event::Warning { message: "a peer lied".into() }, 9.0);
        assert_eq!(status.last_problem.as_deref(), Some("a peer lied"));
        let back: StatusFile = serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap();
        assert_eq!(back, status);
    }
}

//! What people see of the driver: the view, a line for each record, the join link.

use super::ServeError;
use super::driver::Driver;
use super::open::Opened;
use crate::files;
use crate::init::join_link;
use crate::view::{MemberView, Phase, RoundSummary, refusal_name};
use essaim_network::{PeerId, peer_id_of};
use essaim_protocol::round::CoordinatorPhase;
use essaim_protocol::signing::Signed;
use essaim_protocol::statements::Record;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tracing::{info, warn};

impl Driver {
    /// Shows a new record.
    pub(super) fn note_record(&mut self, record: &Signed<Record>) -> Result<(), ServeError> {
        let round = record.value.round;
        for refusal in &record.value.refusals {
            warn!(round, member = %refusal.member.short(), reason = refusal_name(refusal.reason), "claim not included");
            self.count(refusal_name(refusal.reason));
        }
        let seconds = self.store.round_time(round)?.and_then(|time| time.seconds);
        let members = self.view.read(|view| if round == 0 { 0 } else { view.members.len() as u64 });
        let parameters = self.view.read(|view| view.info.parameters);
        let row = RoundSummary::new(&record.value, &record.id(), parameters, members, seconds);
        info!(
            round, included = row.included, refused = row.refused, admitted = row.admitted, tokens = row.tokens,
            train_loss = row.train_loss, heldout_bits_per_byte = ?row.heldout_bits_per_byte, seconds = row.seconds,
            checkpoint = %record.value.checkpoint.short(), "recorded"
        );
        self.view.write(|view| view.rounds.push(row));
        Ok(())
    }

    /// Copies what people want to see out of the machine.
    pub(super) fn renew_view(&mut self) {
        let now_ms = self.now_ms();
        let machine = self.machine.view(now_ms);
        let status = self.machine.status(now_ms);
        let connected: BTreeSet<PeerId> = self.network.connected_peers().into_iter().collect();
        let chain = self.machine.chain();
        let members = chain.ledger().members.iter().map(|standing| MemberView {
            member: standing.member.to_string(),
            joined_round: standing.joined_round,
            accepted_rounds: u64::from(standing.accepted_rounds),
            assigned_steps: chain.assignment_of(&standing.member).map_or(0, |one| u64::from(one.steps())),
            absent_rounds: standing.absent_rounds,
            claimed: self.claimed.contains(&standing.member),
            connected: peer_id_of(&standing.member).is_some_and(|peer| connected.contains(&peer)),
        });
        let members: Vec<MemberView> = members.collect();
        let phase = match machine.phase {
            CoordinatorPhase::Opening => Phase::Waiting,
            CoordinatorPhase::Collecting if members.is_empty() => Phase::Waiting,
            CoordinatorPhase::Collecting => Phase::Training,
            CoordinatorPhase::Fetching => Phase::Collecting,
            CoordinatorPhase::Aggregating => Phase::Aggregating,
            CoordinatorPhase::Finished => Phase::Finished,
        };
        let now = Instant::now();
        let timed = matches!(phase, Phase::Training | Phase::Collecting | Phase::Aggregating);
        let round = if phase == Phase::Finished { chain.round().unwrap_or(0) } else { machine.round };
        let network = self.network.metrics().entries();
        self.view.write(|view| {
            view.phase = phase;
            view.round = round;
            view.opened = timed.then(|| now.checked_sub(Duration::from_millis(status.elapsed_ms))).flatten();
            view.deadline = timed.then(|| now + Duration::from_millis(status.remaining_ms));
            view.joins_waiting = machine.pending_joins as u64;
            view.members = members;
            view.peers = connected.len() as u64;
            view.network = network;
        });
    }
}

/// Writes the join link with the addresses that the network really listens on.
pub(super) fn write_link(opened: &Opened) -> Result<String, ServeError> {
    let listen: Vec<String> = opened.network.listen_addrs().iter().map(ToString::to_string).collect();
    let listen = if listen.is_empty() {
        opened.config.network.listen.clone()
    } else {
        given(&opened.config.network.listen, listen)
    };
    let http =
        opened.http.local_addr().map_or_else(|_| opened.config.network.http.clone(), |address| address.to_string());
    let link = join_link(&opened.config, opened.run, &opened.machine.manifest, &listen, &http);
    files::write_atomic(&opened.public.temp(), &opened.data.link(), format!("{link}\n").as_bytes())?;
    Ok(link)
}

/// Addresses as given, unless a port was left to the system: then those that it chose.
fn given(given: &[String], listening: Vec<String>) -> Vec<String> {
    let open =
        |address: &String| address.contains("/udp/0/") || address.ends_with("/tcp/0") || address.contains("/tcp/0/");
    if given.iter().any(open) { listening } else { given.to_vec() }
}

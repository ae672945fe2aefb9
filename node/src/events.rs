//! What happens to a member, as values: written as JSON lines for machines, as text for people, and folded into the
//! status file. The driver reports; it never prints.

use serde::Serialize;
use std::fmt;

/// Something that happened. Times are seconds, losses are nats a token.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The program runs.
    Started {
        /// The run.
        run: String,
        /// This member.
        member: String,
        /// The data directory.
        data_dir: String,
        /// CPU threads that train.
        threads: usize,
        /// Most memory that training may use, bytes.
        memory_bytes: u64,
    },
    /// What trains, chosen at the start and again after a device failed.
    Engine {
        /// `cpu`, or `cuda:N`.
        device: String,
        /// The device's name; of the CPU, threads and kernels.
        name: String,
        /// All of the device's memory, bytes; none for the CPU.
        memory_bytes: Option<u64>,
        /// Why this and nothing else.
        reason: String,
    },
    /// It can be reached.
    Listening {
        /// Multiaddresses.
        addresses: Vec<String>,
    },
    /// No peer of the link answers; it goes on trying.
    Unreachable {
        /// How long it has tried.
        tried_s: f64,
        /// What the last try ended with.
        reason: String,
    },
    /// A peer of the link answers again.
    Reached {
        /// How long none did.
        after_s: f64,
    },
    /// The signed manifest is here and is the link's.
    Manifest {
        /// The run's name.
        name: String,
        /// Parameters of the model.
        parameters: u64,
        /// Rounds of the run.
        rounds: u64,
        /// Sequences at a time that fit the memory.
        micro_batch: u32,
        /// Most memory that training needs with it, bytes.
        needed_bytes: u64,
    },
    /// The operator has this member's request to take part.
    Joined {
        /// Round of the last record then; none before the first.
        after_round: Option<u64>,
    },
    /// This member takes part from a round on.
    Admitted {
        /// The round.
        round: u64,
    },
    /// A round with work for this member began.
    RoundStarted {
        /// The round.
        round: u64,
        /// Inner steps assigned.
        steps: u32,
        /// Until the round closes at the latest.
        remaining_s: f64,
    },
    /// Inner steps go on. Sent for the first one, and then about once a second.
    InnerStep {
        /// The round.
        round: u64,
        /// Inner steps done.
        step: u32,
        /// Inner steps assigned.
        steps: u32,
        /// Loss of the last one.
        loss: f64,
        /// Tokens a second in this round.
        tokens_per_s: f64,
        /// Peers connected.
        peers: usize,
    },
    /// The work is claimed: the signed claim is on disk and on its way.
    Claimed {
        /// The round.
        round: u64,
        /// Inner steps done.
        steps: u32,
        /// Tokens trained on.
        tokens: u64,
        /// Mean loss over them.
        loss: f64,
        /// Length of the update, bytes.
        update_len_bytes: u64,
        /// Whether it is a claim of before a restart, sent again.
        again: bool,
    },
    /// The operator signed that it has the claim.
    Receipt {
        /// The round.
        round: u64,
    },
    /// The operator refused something.
    Refused {
        /// What: `join`, `claim`, `contribution`.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The list of claims is signed: updates are served now.
    Closed {
        /// The round.
        round: u64,
    },
    /// The record's checkpoint was computed again from the updates, to the same hash.
    Applied {
        /// The round.
        round: u64,
        /// Contributions that counted.
        included: usize,
        /// Claims that did not.
        refused: usize,
        /// Whether this member's is among the first.
        mine: bool,
        /// Hash of the checkpoint.
        checkpoint: String,
        /// Tokens of the run so far.
        tokens_total: u64,
        /// Time from the record to the checkpoint.
        took_s: f64,
    },
    /// Checkpoint and outer state of a record were downloaded instead.
    CaughtUp {
        /// The round.
        round: u64,
        /// Hash of the checkpoint.
        checkpoint: String,
        /// Why.
        reason: String,
    },
    /// Something went wrong that the run survives.
    Warning {
        /// What.
        message: String,
    },
    /// Every round of the run is done, and the last checkpoint is here.
    Finished {
        /// Rounds.
        rounds: u64,
        /// Hash of the last checkpoint.
        checkpoint: String,
        /// Folder of the checkpoint.
        path: String,
        /// From the start of the program to its first inner step; none if it did none.
        first_inner_step_s: Option<f64>,
        /// Most memory that the process had, bytes.
        peak_memory_bytes: Option<u64>,
    },
    /// The operator broke the rules of the run: this member goes no further.
    Halted {
        /// What was broken.
        reason: String,
        /// Where the proof is.
        evidence: String,
    },
    /// The program ends by request.
    Stopped,
}

/// A count with thin spaces between thousands: `12 345`.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Bytes for people: `3.2 MiB`.
pub fn bytes_text(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 100.0 { 0 } else { 1 };
    format!("{value:.digits$} {}", units.get(unit).unwrap_or(&"B"))
}

/// `1 peer`, `2 peers`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The first digits of a hash.
fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Started { run, member, data_dir, threads, memory_bytes } => write!(
                f,
                "run {}, member {}: {threads} threads, at most {}, data in {data_dir}",
                short(run),
                short(member),
                bytes_text(*memory_bytes)
            ),
            Event::Engine { device, name, memory_bytes, reason } => {
                let memory = memory_bytes.map(|bytes| format!(", {}", bytes_text(bytes))).unwrap_or_default();
                write!(f, "training on {device} ({name}{memory}): {reason}")
            }
            Event::Listening { addresses } => match addresses.as_slice() {
                [] => write!(f, "listening nowhere: only connections that this member makes are used"),
                [first, ..] => write!(f, "listening on {} addresses, such as {first}", addresses.len()),
            },
            Event::Unreachable { tried_s, reason } => {
                write!(f, "the coordinator cannot be reached for {tried_s:.0} s ({reason}); trying again")
            }
            Event::Reached { after_s } => write!(f, "the coordinator answers, after {after_s:.0} s"),
            Event::Manifest { name, parameters, rounds, micro_batch, needed_bytes } => write!(
                f,
                "{name}: {} parameters, {} rounds; {micro_batch} sequences at a time, about {}",
                grouped(*parameters),
                grouped(*rounds),
                bytes_text(*needed_bytes)
            ),
            Event::Joined { after_round: Some(round) } => {
                write!(f, "asked to take part after round {round}; waiting for the record that admits")
            }
            Event::Joined { after_round: None } => write!(f, "asked to take part; waiting for the run to begin"),
            Event::Admitted { round } => write!(f, "round {round}: this member takes part"),
            Event::RoundStarted { round, steps, remaining_s } => {
                write!(f, "round {round}: {steps} inner steps to do, {remaining_s:.0} s left")
            }
            Event::InnerStep { round, step, steps, loss, tokens_per_s, peers } => write!(
                f,
                "round {round}: inner step {step}/{steps}, loss {loss:.3}, {} tokens/s, {}",
                grouped(*tokens_per_s as u64),
                count(*peers, "peer")
            ),
            Event::Claimed { round, steps, tokens, loss, update_len_bytes, again } => write!(
                f,
                "round {round}: claimed {steps} inner steps, {} tokens, loss {loss:.3}, update of {}{}",
                grouped(*tokens),
                bytes_text(*update_len_bytes),
                if *again { " (the claim of before the restart)" } else { "" }
            ),
            Event::Receipt { round } => write!(f, "round {round}: the operator has the claim"),
            Event::Refused { what, reason } => write!(f, "the operator refused this member's {what}: {reason}"),
            Event::Closed { round } => write!(f, "round {round}: closed; others may have this member's update now"),
            Event::Applied { round, included, refused, mine, checkpoint, tokens_total, took_s } => write!(
                f,
                "round {round}: {}{}{}, checkpoint {} checked in {took_s:.1} s, {} tokens so far",
                count(*included, "contribution"),
                if *mine { ", mine among them" } else { "" },
                if *refused > 0 { format!(", {refused} refused") } else { String::new() },
                short(checkpoint),
                grouped(*tokens_total)
            ),
            Event::CaughtUp { round, checkpoint, reason } => {
                write!(f, "round {round}: downloaded checkpoint {} ({reason})", short(checkpoint))
            }
            Event::Warning { message } => write!(f, "{message}"),
            Event::Finished { rounds, checkpoint, path, .. } => {
                write!(f, "the run is finished after {rounds} rounds; checkpoint {} in {path}", short(checkpoint))
            }
            Event::Halted { reason, evidence } => {
                write!(f, "the operator broke the rules of the run: {reason}; the proof is in {evidence}")
            }
            Event::Stopped => write!(f, "stopped; start again to go on"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_tagged_objects_and_one_line_of_text() {
        let event = Event::InnerStep { round: 3, step: 7, steps: 24, loss: 4.25, tokens_per_s: 12345.6, peers: 2 };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["event"], "inner_step");
        assert_eq!(json["step"], 7);
        let text = event.to_string();
        assert!(text.contains("7/24") && text.contains("12\u{202f}345") && !text.contains('\n'), "{text}");
        let (device, name, reason) = ("cuda:1".into(), "a card".into(), "as asked for".into());
        let text = Event::Engine { device, name, memory_bytes: Some(8 << 30), reason }.to_string();
        assert_eq!(text, "training on cuda:1 (a card, 8.0 GiB): as asked for");
    }

    #[test]
    fn quantities_for_people() {
        assert_eq!(bytes_text(0), "0 B");
        assert_eq!(bytes_text(1536), "1.5 KiB");
        assert_eq!(bytes_text(200 << 20), "200 MiB");
        assert_eq!(grouped(1), "1");
        assert_eq!(grouped(1_000_000), "1\u{202f}000\u{202f}000");
    }
}

//! The verdict, for people and for machines.

use crate::finding::{Finding, Kind};
use serde::Serialize;

/// What was checked, and what was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The run: the hash of the manifest that the source has.
    pub run_id: Option<String>,
    /// Whether a run id or link was given to compare it with.
    pub anchored: bool,
    /// The sources, as they were named.
    pub sources: Vec<String>,
    /// Records whose signatures, links, claims, joins and ledger hold.
    pub records: u64,
    /// The last round.
    pub last_round: u64,
    /// Checkpoints rebuilt to their recorded hash, the first one included.
    pub checkpoints_rebuilt: u64,
    /// Contributions replayed to the same bits.
    pub contributions_replayed: u64,
    /// Records whose held-out loss was measured again, to the same bits.
    pub heldout_checked: u64,
    /// Shards whose hash and form hold.
    pub shards: u64,
    /// Where the draw of replays started: `--seed` makes the same draw again.
    pub replay_seed: String,
    /// What is wrong; empty when all holds.
    pub failures: Vec<Finding>,
    /// What no statement covers, or could not be compared.
    pub warnings: Vec<String>,
    /// Whether all holds and the run is anchored.
    pub ok: bool,
    /// Seconds it took.
    pub seconds: f64,
    /// Of these, seconds for records, checkpoints and replays.
    pub seconds_chain: f64,
    /// Seconds spent rebuilding checkpoints.
    pub seconds_rebuilding: f64,
    /// Seconds spent replaying contributions.
    pub seconds_replaying: f64,
    /// The most memory used, bytes.
    pub peak_memory_bytes: u64,
}

impl Report {
    /// 0: all holds. 1: a contradiction. 2: something is missing, or there is no anchor.
    pub fn exit_code(&self) -> u8 {
        if self.failures.iter().any(|finding| finding.kind == Kind::Contradiction) {
            1
        } else if !self.failures.is_empty() || !self.anchored {
            2
        } else {
            0
        }
    }

    /// The verdict in words.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        if !self.anchored {
            let run = self.run_id.as_deref().unwrap_or("none");
            lines.push(format!(
                "UNANCHORED: no run was named, so a complete false run would pass. The source has run {run};\n\
                 compare it with one from somebody you trust, then: essaim-verify SOURCE --run {run}"
            ));
        }
        for finding in &self.failures {
            let word = if finding.kind == Kind::Contradiction { "CONTRADICTION" } else { "MISSING" };
            lines.push(format!("{word}: {finding}"));
        }
        lines.extend(self.warnings.iter().map(|warning| format!("note: {warning}")));
        lines.push(format!(
            "{}: {} records, {} checkpoints rebuilt, {} contributions replayed and {} held-out losses measured to the \
             same bits, {} shards",
            if self.failures.is_empty() { "all holds" } else { "up to there" },
            self.records,
            self.checkpoints_rebuilt,
            self.contributions_replayed,
            self.heldout_checked,
            self.shards,
        ));
        lines.push(format!(
            "{:.1} s: {:.1} s statements, {:.1} s rebuilding, {:.1} s replaying; replays drawn with --seed {}; {:.0} MB of memory",
            self.seconds,
            self.seconds_chain,
            self.seconds_rebuilding,
            self.seconds_replaying,
            self.replay_seed,
            self.peak_memory_bytes as f64 / 1e6,
        ));
        lines.join("\n")
    }
}

/// The most memory this process has used, bytes; 0 where the system does not tell.
pub fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

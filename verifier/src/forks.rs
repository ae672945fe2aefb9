//! Several sources: their heads and records are compared. Two records of one round prove a fork.

use crate::files::Files;
use crate::finding::Finding;
use crate::source::Source;
use essaim_protocol::chain::{ChainState, Evidence};
use essaim_protocol::layout;
use essaim_protocol::signing::Strict;

/// Compares the records of every other source with those of the first, up to round `last`.
///
/// # Errors
/// A finding for two records of one round, or a source that serves what no operator signed.
pub fn compare(files: &Files, others: Vec<Source>, genesis: &ChainState, last: u64) -> Result<Vec<String>, Finding> {
    let mut notes = Vec::new();
    for source in others {
        let name = source.name();
        let other = Files::new(source);
        let mut common = 0u64;
        for round in 0..=last {
            let Some(theirs) = other.record(round).map_err(|finding| at(&name, finding))? else { continue };
            let Some(ours) = files.record(round)? else { continue };
            common += 1;
            if theirs.id() == ours.id() {
                continue;
            }
            let statement = format!("{name}: {}", layout::record(round));
            genesis.check_detached(&theirs, &Strict).map_err(|error| Finding::contradiction(&statement, error))?;
            let fork = Evidence::of_records(&ours, &theirs).map(|evidence| evidence.describe());
            let reason = format!(
                "FORK: {}, both signed by the operator: {} and {}",
                fork.unwrap_or_else(|| "two different records".to_owned()),
                ours.id(),
                theirs.id()
            );
            return Err(Finding::contradiction(statement, reason));
        }
        notes.push(format!("{name} has {common} of the {} records, all the same", last + 1));
    }
    Ok(notes)
}

fn at(source: &str, finding: Finding) -> Finding {
    Finding { statement: format!("{source}: {}", finding.statement), ..finding }
}

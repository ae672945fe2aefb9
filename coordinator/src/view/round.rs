//! A recorded round, as people and plots want it. Derived from the signed record, so that restarts show the same.

use essaim_protocol::ids::Hash;
use essaim_protocol::statements::{HeldoutLoss, Record, RefusalReason};
use serde::Serialize;
use std::collections::BTreeMap;

/// A round, a row of `/api/rounds`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoundSummary {
    /// The round; 0 is the opening record, which has the first checkpoint and no contribution.
    pub round: u64,
    /// Members that were assigned work.
    pub members: u64,
    /// Contributions that counted.
    pub included: u64,
    /// Claims that did not count.
    pub refused: u64,
    /// Tokens trained on in this round.
    pub tokens: u64,
    /// Mean loss over these tokens, nats a token.
    pub train_loss: Option<f64>,
    /// Of the checkpoint that the round made, by language.
    pub heldout_bits_per_byte: BTreeMap<String, f64>,
    /// Bytes that a member sent for one parameter, mean over the contributions.
    pub upload_bytes_per_parameter: f64,
    /// Bytes that a member fetched for one parameter (the others' updates), mean over the contributions.
    pub download_bytes_per_parameter: f64,
    /// Wall time from opening to record; none for record 0 or when unknown.
    pub seconds: Option<f64>,
    /// Tokens that count so far in the run.
    pub tokens_total: u64,
    /// Members admitted by this record.
    pub admitted: u64,
    /// Hash of the checkpoint's model file.
    pub checkpoint: String,
    /// Id of the record.
    pub record: String,
}

/// A round whole: `/api/rounds/{round}`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoundDetail {
    /// The row.
    #[serde(flatten)]
    pub summary: RoundSummary,
    /// What counted, by member.
    pub contributions: Vec<ContributionView>,
    /// What did not, by member.
    pub refusals: Vec<RefusalView>,
    /// Members admitted.
    pub admitted_members: Vec<String>,
}

/// A contribution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ContributionView {
    /// Whose.
    pub member: String,
    /// Inner steps done.
    pub steps: u32,
    /// Tokens trained on.
    pub tokens: u64,
    /// Mean loss over these tokens, nats.
    pub loss: Option<f64>,
    /// Hash of the update.
    pub update: String,
    /// Its length, bytes.
    pub update_len_bytes: u64,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusalView {
    /// Whose.
    pub member: String,
    /// Why.
    pub reason: &'static str,
}

/// The name of a reason in JSON and metrics.
pub fn refusal_name(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::Withheld => "withheld",
        RefusalReason::Malformed => "malformed_update",
        RefusalReason::NonFinite => "non_finite_update",
        RefusalReason::Mismatch => "mismatch",
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Bits per UTF-8 byte; none for text without bytes.
fn bits_per_byte(heldout: &HeldoutLoss) -> Option<f64> {
    finite(f64::from_bits(heldout.nats.0) / std::f64::consts::LN_2 / heldout.text_bytes as f64)
}

impl RoundSummary {
    /// The row of a record with id `id`, of a run with so many `parameters`, whose round had so many `members`.
    pub fn new(record: &Record, id: &Hash, parameters: u64, members: u64, seconds: Option<f64>) -> RoundSummary {
        let included = record.contributions.len();
        let tokens: u64 = record.contributions.iter().map(|one| one.tokens).sum();
        let nats: f64 = record.contributions.iter().map(|one| f64::from_bits(one.loss.0) * one.tokens as f64).sum();
        let bytes: u64 = record.contributions.iter().map(|one| one.update_len_bytes).sum();
        let upload = bytes as f64 / included.max(1) as f64;
        let per_parameter = |bytes: f64| bytes / parameters.max(1) as f64;
        let heldout = record.heldout.iter();
        RoundSummary {
            round: record.round,
            members,
            included: included as u64,
            refused: record.refusals.len() as u64,
            tokens,
            train_loss: finite(nats / tokens as f64),
            heldout_bits_per_byte: heldout
                .filter_map(|one| bits_per_byte(one).map(|bits| (one.language.clone(), bits)))
                .collect(),
            upload_bytes_per_parameter: per_parameter(upload),
            download_bytes_per_parameter: per_parameter(bytes as f64 - upload),
            seconds,
            tokens_total: record.tokens_total,
            admitted: record.admitted.len() as u64,
            checkpoint: record.checkpoint.to_string(),
            record: id.to_string(),
        }
    }
}

impl RoundDetail {
    /// The whole of a record.
    pub fn new(record: &Record, summary: RoundSummary) -> RoundDetail {
        let contributions = record.contributions.iter().map(|one| ContributionView {
            member: one.member.to_string(),
            steps: one.steps,
            tokens: one.tokens,
            loss: finite(f64::from_bits(one.loss.0)),
            update: one.update.to_string(),
            update_len_bytes: one.update_len_bytes,
        });
        let refusals = record
            .refusals
            .iter()
            .map(|one| RefusalView { member: one.member.to_string(), reason: refusal_name(one.reason) });
        RoundDetail {
            contributions: contributions.collect(),
            refusals: refusals.collect(),
            admitted_members: record.admitted.iter().map(|one| one.member.to_string()).collect(),
            summary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_protocol::ids::{MemberId, RunId};
    use essaim_protocol::manifest::F64Bits;
    use essaim_protocol::statements::{Contribution, NO_CLAIMS};

    #[test]
    fn a_record_becomes_the_row_that_people_read() {
        let one = |member: u8, tokens: u64, loss: f64| Contribution {
            member: MemberId([member; 32]),
            claim: Hash([0; 32]),
            update: Hash([0; 32]),
            update_len_bytes: 530,
            steps: 1,
            tokens,
            loss: F64Bits(loss.to_bits()),
        };
        let heldout = HeldoutLoss {
            language: "fr".into(),
            nats: F64Bits((100.0 * std::f64::consts::LN_2).to_bits()),
            tokens: 10,
            text_bytes: 50,
        };
        let record = Record {
            run: RunId([0; 32]),
            round: 3,
            previous: Hash([0; 32]),
            claims: NO_CLAIMS,
            contributions: vec![one(1, 100, 4.0), one(2, 300, 2.0)],
            refusals: vec![],
            admitted: vec![],
            preimage: Hash([0; 32]),
            tokens_total: 1000,
            ledger: Hash([0; 32]),
            checkpoint: Hash([9; 32]),
            outer_state: Hash([0; 32]),
            heldout: vec![heldout],
            audits: vec![],
            withdrawals: vec![],
            slices: vec![],
        };
        let row = RoundSummary::new(&record, &Hash([8; 32]), 1000, 3, Some(1.5));
        assert_eq!((row.tokens, row.train_loss, row.included), (400, Some(2.5), 2));
        assert_eq!(row.heldout_bits_per_byte.get("fr"), Some(&2.0));
        assert_eq!(row.upload_bytes_per_parameter, 0.53);
        assert_eq!(row.download_bytes_per_parameter, 0.53);
        let empty = Record { contributions: vec![], ..record };
        let row = RoundSummary::new(&empty, &Hash([8; 32]), 1000, 3, None);
        assert_eq!((row.train_loss, row.upload_bytes_per_parameter), (None, 0.0));
    }
}

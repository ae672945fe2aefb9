//! Keeping what proves that the rules were broken: the signed statements as they came, and a line that says why.

use crate::files::{self, FileError};
use essaim_protocol::chain::Evidence;
use essaim_protocol::round::Halt;
use std::path::{Path, PathBuf};

/// A file name and its bytes.
type Statement = (&'static str, Vec<u8>);

/// The statements of a proof.
pub(super) fn statements(evidence: &Evidence) -> Vec<Statement> {
    match evidence {
        Evidence::TwoRecords(a, b) => vec![("record-a", a.to_bytes()), ("record-b", b.to_bytes())],
        Evidence::TwoLists(a, b) => vec![("claims-a.list", a.to_bytes()), ("claims-b.list", b.to_bytes())],
        Evidence::TwoHeads(a, b) => vec![("head-a", a.to_bytes()), ("head-b", b.to_bytes())],
        Evidence::HeadAgainstRecord(head, record) => vec![("head", head.to_bytes()), ("record", record.to_bytes())],
        Evidence::Omitted(claim, receipt, list) => {
            vec![("claim", claim.to_bytes()), ("receipt", receipt.to_bytes()), ("claims.list", list.to_bytes())]
        }
        Evidence::TwoClaims(a, b) => vec![("claim-a", a.to_bytes()), ("claim-b", b.to_bytes())],
        Evidence::WrongArithmetic { record, .. } => vec![("record", record.to_bytes())],
        _ => Vec::new(),
    }
}

/// The statements of what ended the run for this member.
pub(super) fn statements_of_halt(halt: &Halt) -> Vec<Statement> {
    match halt {
        Halt::Evidence(evidence) => statements(evidence),
        Halt::BadRecord { record, .. } | Halt::BadUpdate { record, .. } => vec![("record", record.to_bytes())],
        _ => Vec::new(),
    }
}

/// Writes statements to a new folder under `root/evidence`, named by what is in it; gives the folder.
pub(super) fn keep(root: &Path, reason: &str, statements: &[Statement]) -> Result<PathBuf, FileError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(reason.as_bytes());
    statements.iter().for_each(|(_, bytes)| _ = hasher.update(bytes));
    let name: String = hasher.finalize().to_hex().chars().take(16).collect();
    let folder = root.join("evidence").join(name);
    std::fs::create_dir_all(&folder).map_err(FileError::of("create", &folder))?;
    for (name, bytes) in statements {
        files::write_atomic(&folder.join(name), bytes, files::MODE_PUBLIC)?;
    }
    files::write_atomic(&folder.join("reason.txt"), format!("{reason}\n").as_bytes(), files::MODE_PUBLIC)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_are_kept_side_by_side() {
        let dir = tempfile::tempdir().unwrap();
        let first = keep(dir.path(), "two records", &[("record-a", vec![1]), ("record-b", vec![2])]).unwrap();
        let again = keep(dir.path(), "two records", &[("record-a", vec![1]), ("record-b", vec![2])]).unwrap();
        let other = keep(dir.path(), "two records", &[("record-a", vec![1]), ("record-b", vec![3])]).unwrap();
        assert_eq!(first, again);
        assert_ne!(first, other);
        assert_eq!(std::fs::read(first.join("record-b")).unwrap(), [2]);
        assert_eq!(std::fs::read_to_string(first.join("reason.txt")).unwrap(), "two records\n");
    }
}

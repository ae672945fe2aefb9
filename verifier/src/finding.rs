//! What a verification found wrong: the first statement or file that fails, and why.

use crate::source::SourceError;
use essaim_protocol::chain::ChainError;
use serde::Serialize;

/// Which kind of wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Bytes contradict the chain, or two statements exclude each other. Exit code 1.
    Contradiction,
    /// Bytes that are needed are not there, or cannot be read. Exit code 2.
    Missing,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{statement}: {reason}")]
pub struct Finding {
    /// Contradiction or missing.
    pub kind: Kind,
    /// Which statement or file.
    pub statement: String,
    /// Why, in one line.
    pub reason: String,
}

impl Finding {
    /// Bytes that contradict the chain.
    pub fn contradiction(statement: impl ToString, reason: impl ToString) -> Finding {
        Finding { kind: Kind::Contradiction, statement: statement.to_string(), reason: reason.to_string() }
    }

    /// Bytes that are not there.
    pub fn missing(statement: impl ToString, reason: impl ToString) -> Finding {
        Finding { kind: Kind::Missing, statement: statement.to_string(), reason: reason.to_string() }
    }

    /// A source that gave no bytes for `path`. A file longer than it may be is wrong; any other failure is an absence.
    pub fn unreadable(path: &str, error: &SourceError) -> Finding {
        match error {
            SourceError::TooLong { .. } => Finding::contradiction(path, error),
            _ => Finding::missing(path, error),
        }
    }
}

impl From<ChainError> for Finding {
    fn from(error: ChainError) -> Finding {
        let make = if error.is_missing() { Finding::missing } else { Finding::contradiction };
        make(error.statement.to_string(), error.fault.to_string())
    }
}

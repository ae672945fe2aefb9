//! Files of a run by their layout, from one source, checked against what they must be.

use crate::finding::Finding;
use crate::source::Source;
use essaim_protocol::chain::Sources;
use essaim_protocol::ids::{Hash, MemberId};
use essaim_protocol::signing::{Signed, Statement, StatementError};
use essaim_protocol::statements::{Claim, ClaimList, Head, Join, Record};
use essaim_protocol::{layout, limits};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Read;

/// What is said of a file that the source does not have.
pub const NOT_THERE: &str = "the source does not have this file";

/// The files of a source.
#[derive(Debug)]
pub struct Files {
    source: Source,
    /// Paths that were read, to tell which public files no statement covers.
    seen: RefCell<BTreeSet<String>>,
    /// The first fault of a claim or join: [`Sources`] has no way to return it.
    fault: RefCell<Option<Finding>>,
}

impl Files {
    /// The files of `source`.
    pub fn new(source: Source) -> Files {
        Files { source, seen: RefCell::default(), fault: RefCell::default() }
    }

    /// The source.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Whether `path` was read.
    pub fn was_read(&self, path: &str) -> bool {
        self.seen.borrow().contains(path)
    }

    /// The bytes of a file, if the source has it.
    ///
    /// # Errors
    /// A finding when it is too long, or the source could not be read.
    pub fn optional(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, Finding> {
        self.seen.borrow_mut().insert(path.to_owned());
        self.source.read(path, max).map_err(|error| Finding::unreadable(path, &error))
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// A finding when the source does not have it.
    pub fn read(&self, path: &str, max: u64) -> Result<Vec<u8>, Finding> {
        self.optional(path, max)?.ok_or_else(|| Finding::missing(path, NOT_THERE))
    }

    /// The bytes of a file that must have the hash `expected`.
    ///
    /// # Errors
    /// A finding when it is missing or has another hash.
    pub fn blob(&self, path: &str, max: u64, expected: Hash) -> Result<Vec<u8>, Finding> {
        let bytes = self.read(path, max)?;
        let got = Hash::of(&bytes);
        if got != expected {
            let reason = format!("its {} bytes have the hash {got}, the chain says {expected}", bytes.len());
            return Err(Finding::contradiction(path, reason));
        }
        Ok(bytes)
    }

    /// That a file of `len_bytes` bytes has the hash `expected`, without holding it in memory.
    ///
    /// # Errors
    /// A finding when it is missing or differs.
    pub fn stream_hash(&self, path: &str, len_bytes: u64, expected: Hash) -> Result<(), Finding> {
        self.seen.borrow_mut().insert(path.to_owned());
        let opened = self.source.open(path, len_bytes).map_err(|error| Finding::unreadable(path, &error))?;
        let mut reader = opened.ok_or_else(|| Finding::missing(path, NOT_THERE))?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0u8; 1 << 17];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => hasher.update(&buffer[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                    return Err(Finding::contradiction(path, format!("longer than its {len_bytes} bytes")));
                }
                Err(error) => return Err(Finding::missing(path, error)),
            };
        }
        let got = Hash::from(hasher.finalize());
        if got != expected {
            return Err(Finding::contradiction(path, format!("its hash is {got}, the chain says {expected}")));
        }
        Ok(())
    }

    /// A signed statement, unchecked but for its form, if the source has it.
    ///
    /// # Errors
    /// A finding when it is malformed or the source could not be read.
    pub fn statement<T: Statement>(&self, path: &str) -> Result<Option<Signed<T>>, Finding> {
        let max = T::PAYLOAD_MAX.saturating_add(limits::SIGNATURES_MAX * 96 + 16) as u64;
        let Some(bytes) = self.optional(path, max)? else { return Ok(None) };
        let parsed: Result<Signed<T>, StatementError> = Signed::from_bytes(&bytes);
        parsed.map(Some).map_err(|error| Finding::contradiction(path, error))
    }

    /// The record of a round.
    ///
    /// # Errors
    /// As [`Files::statement`].
    pub fn record(&self, round: u64) -> Result<Option<Signed<Record>>, Finding> {
        self.statement(&layout::record(round))
    }

    /// The list of claims of a round.
    ///
    /// # Errors
    /// As [`Files::statement`].
    pub fn claim_list(&self, round: u64) -> Result<Option<Signed<ClaimList>>, Finding> {
        self.statement(&layout::claim_list(round))
    }

    /// The head.
    ///
    /// # Errors
    /// As [`Files::statement`].
    pub fn head(&self) -> Result<Option<Signed<Head>>, Finding> {
        self.statement(layout::HEAD)
    }

    /// The fault of a claim or join that was asked for through [`Sources`] since the last call.
    ///
    /// # Errors
    /// That fault.
    pub fn take_fault(&self) -> Result<(), Finding> {
        self.fault.borrow_mut().take().map_or(Ok(()), Err)
    }

    fn source_statement<T: Statement>(&self, path: &str) -> Option<Signed<T>> {
        match self.statement(path) {
            Ok(statement) => statement,
            Err(finding) => {
                self.fault.borrow_mut().get_or_insert(finding);
                None
            }
        }
    }
}

impl Sources for Files {
    fn claim(&self, round: u64, member: &MemberId) -> Option<Signed<Claim>> {
        self.source_statement(&layout::claim(round, member))
    }

    fn join(&self, round: u64, member: &MemberId) -> Option<Signed<Join>> {
        self.source_statement(&layout::join(round, member))
    }
}

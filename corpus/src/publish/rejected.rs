//! `rejected.parquet`: the documents that were not kept, by id, with the rule that refused them and its values. No text of them.

use super::PublishError;
use super::columns::Rows;
pub use crate::bundle::Fate;
use std::io::Write;

/// File name in a data set's folder.
pub const REJECTED: &str = "rejected.parquet";
/// The columns, in order. `bytes` is a number, the others are strings.
pub const COLUMNS: [&str; 7] = ["id", "source", "language", "license", "rule", "detail", "bytes"];
/// The rule of documents that `remove` took out.
pub const REMOVED_RULE: &str = "removed/request";

/// The file in the making; holds one row group.
pub struct RejectedWriter<W: Write + Send> {
    rows: Rows<W>,
}

impl<W: Write + Send> std::fmt::Debug for RejectedWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RejectedWriter").finish_non_exhaustive()
    }
}

impl<W: Write + Send> RejectedWriter<W> {
    /// An empty file.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn new(out: W) -> Result<RejectedWriter<W>, PublishError> {
        let (number, strings) = COLUMNS.split_last().map_or(("bytes", &COLUMNS[..]), |(last, rest)| (*last, rest));
        Ok(RejectedWriter { rows: Rows::new(out, strings, Some(number))? })
    }

    /// Adds a document. Callers give them in an order that depends on documents alone.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn push(&mut self, fate: &Fate) -> Result<(), PublishError> {
        let Fate { id, source, language, license, rule, detail, bytes } = fate;
        self.rows.push(&[id, source, language, license, rule, detail], *bytes)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn finish(self) -> Result<W, PublishError> {
        self.rows.finish()
    }
}

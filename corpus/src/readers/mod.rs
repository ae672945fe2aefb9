//! Reading documents from files, one at a time. Which reader a file gets follows from its name or its source's format.
//!
//! A broken row costs that row and is told; a file that is damaged gives the documents before the damage. Memory: one document,
//! the pages of parquet that are open (usually 1 MiB a column), and at most 1 MiB for unpacking (128 MiB for zstd frames that ask
//! for it).

mod bytes;
mod error;
mod guard;
mod jsonl;
mod parquet;
mod row;
mod text;
mod units;
mod warc;

pub(crate) use bytes::{Line, next_line, open as open_bytes};
pub use error::{BadRow, ReadError};
pub use guard::quiet_guarded_panics;
pub use row::{NO_LANGUAGE, NO_LICENSE, TEXT_MAX};
pub use units::{Unit, source_name, units};
pub(crate) use warc::http::Response;
pub(crate) use warc::record::{Next, Records};

use crate::config::{Format, SourceConfig};
use crate::document::Document;
use row::Input;
use std::ops::ControlFlow;

/// What a file gives, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // Documents are the rule.
pub enum Item {
    /// A document.
    Document(Document),
    /// A row, line or record that is broken. The rest of the file is read.
    Bad(BadRow),
}

/// What came out of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Documents given.
    pub documents: u64,
    /// Broken rows given.
    pub bad: u64,
    /// Records of WARC files that are no documents: requests, images, redirections, pages of errors.
    pub other: u64,
    /// Whether the receiver broke off before the end.
    pub stopped: bool,
}

enum Given {
    All,
    Stopped,
}

/// Counts what is given and hands it on.
struct Sink<'a> {
    each: &'a mut dyn FnMut(Item) -> ControlFlow<()>,
    counts: Counts,
}

impl Sink<'_> {
    fn give(&mut self, document: Result<Document, String>, place: impl FnOnce() -> String) -> ControlFlow<()> {
        match document {
            Ok(document) => {
                self.counts.documents += 1;
                (self.each)(Item::Document(document))
            }
            Err(reason) => {
                self.counts.bad += 1;
                // One line, and no more than people read.
                let reason = reason.replace(['\n', '\r'], " ").chars().take(400).collect();
                (self.each)(Item::Bad(BadRow { place: place(), reason }))
            }
        }
    }
}

/// Reads a file, in its order; `each` may break off. The same file gives the same items on every machine.
///
/// # Errors
/// [`ReadError`] for the file as a whole: it cannot be opened, has other columns, or is damaged from some place on. What came before
/// was given.
pub fn read_unit(
    unit: &Unit,
    source: &SourceConfig,
    each: &mut dyn FnMut(Item) -> ControlFlow<()>,
) -> Result<Counts, ReadError> {
    let input = Input::new(unit, source);
    let mut sink = Sink { each, counts: Counts::default() };
    let given = match unit.format {
        Format::Parquet => parquet::read(&input, &mut sink),
        Format::Jsonl => jsonl::read(&input, &mut sink),
        Format::Warc => warc::read(&input, &mut sink),
        Format::Text | Format::Auto => text::read(&input, &mut sink),
    }?;
    Ok(Counts { stopped: matches!(given, Given::Stopped), ..sink.counts })
}

//! Shards: files of tokenised documents, the unit in which training data is hashed, fetched and assigned.
//!
//! All integers little-endian:
//!
//! ```text
//! offset  bytes          what
//! 0       8              "ESSAIMSH"
//! 8       4              version: 1
//! 12      4              token width in bytes: 2 when vocab_size ≤ 65,536, else 4
//! 16      4              vocab_size: every token is below it
//! 20      4              flags: 0
//! 24      8              documents
//! 32      8              tokens
//! 40      4·documents    tokens of each document, at least 1; they sum to `tokens`
//! …       width·tokens   the tokens, documents laid end to end
//! ```
//!
//! A file has one form: width, length and counts follow from one another, and a reader refuses everything else.
//! In a shard of Essaim's corpus tool each document is `<s>`, its tokens, `</s>`.
//!
//! **Sequences.** For a context length `c`, sequence `j` is `tokens[j·c ..= j·c + c]`: `c` inputs and, shifted by one, `c`
//! targets. There are `(tokens − 1) / c` of them; what is left at the end is not trained on.
//!
//! **Units.** A unit is the data of one inner step: `batch` sequences. There are `units = sequences / batch`, and row `b` of
//! unit `u` is sequence `b·units + u`: the rows of a batch come from places far apart, hence from different documents.

use essaim_protocol::limits::SHARD_MAX;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

/// The first bytes of a shard.
pub const MAGIC: [u8; 8] = *b"ESSAIMSH";
/// The version that this build reads and writes.
pub const VERSION: u32 = 1;
/// Bytes before the documents' lengths.
pub const HEADER_LEN: u64 = 40;
/// Bytes read at a time while a shard is checked. A multiple of every token width.
const PIECE_LEN: usize = 64 << 10;

/// Why a shard was not accepted, or a request to one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The file could not be read.
    #[error("shard: {0}")]
    Io(#[from] io::Error),
    /// Shorter than its header, or longer than a shard may be.
    #[error("shard of {len_bytes} bytes, where {HEADER_LEN} to {SHARD_MAX} are allowed")]
    Size {
        /// Length of the file.
        len_bytes: u64,
    },
    /// Not a shard.
    #[error("not a shard: begins with {got:02x?} instead of \"ESSAIMSH\"")]
    Magic {
        /// The first bytes.
        got: [u8; 8],
    },
    /// Another version of the format.
    #[error("shard of version {got}, this build reads {VERSION}")]
    Version {
        /// Its version.
        got: u32,
    },
    /// A header field with a value it cannot have.
    #[error("shard: {field} is {got}, expected {expected}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it holds.
        got: u64,
        /// What it must hold.
        expected: u64,
    },
    /// The length does not follow from the counts: truncated, or with bytes added.
    #[error("shard of {len_bytes} bytes, where {documents} documents and {tokens} tokens take {expected_bytes}")]
    Length {
        /// Length of the file.
        len_bytes: u64,
        /// Length that the header demands.
        expected_bytes: u128,
        /// Documents by the header.
        documents: u64,
        /// Tokens by the header.
        tokens: u64,
    },
    /// A document without tokens.
    #[error("shard: document {document} is empty")]
    EmptyDocument {
        /// Its index.
        document: u64,
    },
    /// A token that the vocabulary does not have.
    #[error("shard: token {position} is {token}, the vocabulary has {vocab_size}")]
    Token {
        /// Its index among the shard's tokens.
        position: u64,
        /// Its value.
        token: u32,
        /// Tokens in the vocabulary.
        vocab_size: u32,
    },
    /// A request for something past the end.
    #[error("shard: {what} {got} asked for, there are {available}")]
    OutOfRange {
        /// What was asked for.
        what: &'static str,
        /// Its index; for a range its end.
        got: u64,
        /// How many there are.
        available: u64,
    },
}

/// The bytes that a token takes in a shard of this vocabulary.
fn token_width(vocab_size: u32) -> u32 {
    if vocab_size <= 65_536 { 2 } else { 4 }
}

/// Sequences of `context` inputs in `tokens` tokens; none for a context of 0.
pub fn sequences(tokens: u64, context: u32) -> u64 {
    tokens.saturating_sub(1).checked_div(u64::from(context)).unwrap_or(0)
}

/// Units of `batch` sequences in `tokens` tokens; none for a batch or context of 0.
pub fn units(tokens: u64, batch: u32, context: u32) -> u64 {
    sequences(tokens, context).checked_div(u64::from(batch)).unwrap_or(0)
}

/// Builds a shard in memory, document by document.
#[derive(Debug, Clone)]
pub struct ShardWriter {
    vocab_size: u32,
    lengths: Vec<u32>,
    tokens: Vec<u32>,
}

impl ShardWriter {
    /// An empty shard for a vocabulary of `vocab_size` tokens.
    pub fn new(vocab_size: u32) -> ShardWriter {
        ShardWriter { vocab_size, lengths: Vec::new(), tokens: Vec::new() }
    }

    /// Documents so far.
    pub fn documents(&self) -> u64 {
        self.lengths.len() as u64
    }

    /// Tokens so far.
    pub fn tokens(&self) -> u64 {
        self.tokens.len() as u64
    }

    /// Length of the file as it stands, bytes.
    pub fn len_bytes(&self) -> u64 {
        HEADER_LEN + 4 * self.documents() + u64::from(token_width(self.vocab_size)) * self.tokens()
    }

    /// Appends a document.
    ///
    /// # Errors
    /// [`ShardError`] for an empty document, a token outside the vocabulary, and a shard that would get too large; the
    /// shard is then as it was.
    pub fn push(&mut self, document: &[u32]) -> Result<(), ShardError> {
        if document.is_empty() {
            return Err(ShardError::EmptyDocument { document: self.documents() });
        }
        let vocab_size = self.vocab_size;
        if let Some((i, &token)) = document.iter().enumerate().find(|&(_, &token)| token >= vocab_size) {
            return Err(ShardError::Token { position: self.tokens() + i as u64, token, vocab_size });
        }
        let added = 4 + u64::from(token_width(vocab_size)) * document.len() as u64;
        let len_bytes = self.len_bytes() + added;
        let length = u32::try_from(document.len()).map_err(|_| ShardError::Size { len_bytes })?;
        if len_bytes > SHARD_MAX {
            return Err(ShardError::Size { len_bytes });
        }
        self.lengths.push(length);
        self.tokens.extend_from_slice(document);
        Ok(())
    }

    /// The bytes of the file.
    pub fn finish(self) -> Vec<u8> {
        let width = token_width(self.vocab_size);
        let mut bytes = Vec::with_capacity(self.len_bytes() as usize);
        bytes.extend_from_slice(&MAGIC);
        for field in [VERSION, width, self.vocab_size, 0] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&self.documents().to_le_bytes());
        bytes.extend_from_slice(&self.tokens().to_le_bytes());
        self.lengths.iter().for_each(|length| bytes.extend_from_slice(&length.to_le_bytes()));
        match width {
            2 => self.tokens.iter().for_each(|&token| bytes.extend_from_slice(&(token as u16).to_le_bytes())),
            _ => self.tokens.iter().for_each(|token| bytes.extend_from_slice(&token.to_le_bytes())),
        }
        bytes
    }
}

/// A shard that was checked whole, read in pieces: its memory is that of the documents' lengths and of what is asked for.
#[derive(Debug)]
pub struct ShardReader<R> {
    source: R,
    vocab_size: u32,
    width: u32,
    /// Where each document ends, in tokens.
    ends: Vec<u64>,
    tokens: u64,
    tokens_at: u64,
}

impl ShardReader<File> {
    /// Opens and checks a file.
    ///
    /// # Errors
    /// [`ShardError`] when it cannot be read or is not a shard.
    pub fn open(path: &Path) -> Result<Self, ShardError> {
        ShardReader::new(File::open(path)?)
    }
}

impl ShardReader<Cursor<Vec<u8>>> {
    /// Checks a shard that is in memory.
    ///
    /// # Errors
    /// [`ShardError`] when the bytes are not a shard.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ShardError> {
        ShardReader::new(Cursor::new(bytes))
    }
}

struct Header {
    vocab_size: u32,
    width: u32,
    documents: u64,
    tokens: u64,
}

/// Checks a header against the file's length. Whatever it allows can be allocated: it is no larger than the file.
fn read_header(bytes: &[u8; HEADER_LEN as usize], len_bytes: u64) -> Result<Header, ShardError> {
    let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let got: [u8; 8] = std::array::from_fn(|i| bytes[i]);
    if got != MAGIC {
        return Err(ShardError::Magic { got });
    }
    if u32_at(8) != VERSION {
        return Err(ShardError::Version { got: u32_at(8) });
    }
    let (width, vocab_size, flags) = (u32_at(12), u32_at(16), u32_at(20));
    let expect = |field, got: u32, expected: u32| match got == expected {
        true => Ok(()),
        false => Err(ShardError::Field { field, got: got.into(), expected: expected.into() }),
    };
    expect("the token width", width, token_width(vocab_size))?;
    expect("the flags field", flags, 0)?;
    let (documents, tokens) = (u64_at(24), u64_at(32));
    let expected_bytes = u128::from(HEADER_LEN) + 4 * u128::from(documents) + u128::from(width) * u128::from(tokens);
    if expected_bytes != u128::from(len_bytes) {
        return Err(ShardError::Length { len_bytes, expected_bytes, documents, tokens });
    }
    Ok(Header { vocab_size, width, documents, tokens })
}

impl<R: Read + Seek> ShardReader<R> {
    /// Checks a shard from its first byte to its last: header, length, documents, every token.
    ///
    /// # Errors
    /// [`ShardError`] when the source cannot be read or is not a shard.
    pub fn new(mut source: R) -> Result<Self, ShardError> {
        let len_bytes = source.seek(SeekFrom::End(0))?;
        if !(HEADER_LEN..=SHARD_MAX).contains(&len_bytes) {
            return Err(ShardError::Size { len_bytes });
        }
        source.rewind()?;
        let mut header = [0u8; HEADER_LEN as usize];
        source.read_exact(&mut header)?;
        let Header { vocab_size, width, documents, tokens } = read_header(&header, len_bytes)?;
        let tokens_at = HEADER_LEN + 4 * documents;
        let mut reader = ShardReader { source, vocab_size, width, ends: Vec::new(), tokens, tokens_at };
        reader.ends = reader.read_ends(documents)?;
        let piece_tokens = (PIECE_LEN / width as usize) as u64;
        let mut piece = Vec::with_capacity(piece_tokens as usize);
        for start in (0..tokens).step_by(piece_tokens as usize) {
            piece.clear();
            reader.read_into(start..tokens.min(start + piece_tokens), &mut piece)?;
        }
        Ok(reader)
    }

    /// The ends of the documents, from their lengths, which follow the header.
    fn read_ends(&mut self, documents: u64) -> Result<Vec<u64>, ShardError> {
        let mut bytes = vec![0u8; 4 * documents as usize];
        self.source.read_exact(&mut bytes)?;
        let mut ends = Vec::with_capacity(documents as usize);
        let mut end = 0u64;
        for (document, length) in bytes.as_chunks::<4>().0.iter().enumerate() {
            let length = u32::from_le_bytes(*length);
            if length == 0 {
                return Err(ShardError::EmptyDocument { document: document as u64 });
            }
            end += u64::from(length);
            ends.push(end);
        }
        match end == self.tokens {
            true => Ok(ends),
            false => {
                Err(ShardError::Field { field: "the sum of the documents' lengths", got: end, expected: self.tokens })
            }
        }
    }

    /// Documents in the shard.
    pub fn documents(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Tokens in the shard.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Tokens in the vocabulary; every token of the shard is below it.
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// Sequences of `context` inputs.
    pub fn sequences(&self, context: u32) -> u64 {
        sequences(self.tokens, context)
    }

    /// Units of `batch` sequences of `context` inputs: the inner steps that the shard has data for.
    pub fn units(&self, batch: u32, context: u32) -> u64 {
        units(self.tokens, batch, context)
    }

    /// Where a document's tokens are.
    ///
    /// # Errors
    /// [`ShardError::OutOfRange`] when there are fewer documents.
    pub fn document_range(&self, document: u64) -> Result<Range<u64>, ShardError> {
        let at = |i: u64| self.ends.get(usize::try_from(i).ok()?).copied();
        let Some(end) = at(document) else {
            return Err(ShardError::OutOfRange { what: "document", got: document, available: self.documents() });
        };
        Ok(document.checked_sub(1).and_then(at).unwrap_or(0)..end)
    }

    /// The tokens of a document.
    ///
    /// # Errors
    /// [`ShardError`] when there are fewer documents, or the file cannot be read or has changed.
    pub fn document(&mut self, document: u64) -> Result<Vec<u32>, ShardError> {
        let range = self.document_range(document)?;
        self.read_tokens(range)
    }

    /// The tokens of a range.
    ///
    /// # Errors
    /// [`ShardError`] when the range goes past the end, or the file cannot be read or has changed.
    pub fn read_tokens(&mut self, range: Range<u64>) -> Result<Vec<u32>, ShardError> {
        let mut out = Vec::new();
        self.read_into(range, &mut out)?;
        Ok(out)
    }

    /// The data of one inner step, `[batch, context + 1]` row by row: in each row the first `context` tokens are inputs, the last
    /// `context` are targets.
    ///
    /// # Errors
    /// [`ShardError`] when the shard has fewer units, or the file cannot be read or has changed.
    pub fn unit_tokens(&mut self, batch: u32, context: u32, unit: u64) -> Result<Vec<u32>, ShardError> {
        let units = self.units(batch, context);
        if unit >= units {
            return Err(ShardError::OutOfRange { what: "unit", got: unit, available: units });
        }
        let mut out = Vec::with_capacity(batch as usize * (context as usize + 1));
        for row in 0..u64::from(batch) {
            let start = (row * units + unit) * u64::from(context);
            self.read_into(start..start + u64::from(context) + 1, &mut out)?;
        }
        Ok(out)
    }

    /// Appends the tokens of a range, each checked against the vocabulary: a file can change after it was opened.
    fn read_into(&mut self, range: Range<u64>, out: &mut Vec<u32>) -> Result<(), ShardError> {
        if range.end > self.tokens {
            return Err(ShardError::OutOfRange { what: "tokens up to", got: range.end, available: self.tokens });
        }
        let width = u64::from(self.width);
        let mut left = range.end.saturating_sub(range.start) * width;
        self.source.seek(SeekFrom::Start(self.tokens_at + range.start.min(range.end) * width))?;
        out.reserve((left / width) as usize);
        let (first, mut buffer) = (out.len(), vec![0u8; (left as usize).min(PIECE_LEN)]);
        while left > 0 {
            let piece_len = (left as usize).min(PIECE_LEN);
            let piece = &mut buffer[..piece_len];
            self.source.read_exact(piece)?;
            match self.width {
                2 => out.extend(piece.as_chunks::<2>().0.iter().map(|&token| u32::from(u16::from_le_bytes(token)))),
                _ => out.extend(piece.as_chunks::<4>().0.iter().map(|&token| u32::from_le_bytes(token))),
            }
            left -= piece_len as u64;
        }
        let vocab_size = self.vocab_size;
        match out[first..].iter().position(|&token| token >= vocab_size) {
            None => Ok(()),
            Some(i) => Err(ShardError::Token { position: range.start + i as u64, token: out[first + i], vocab_size }),
        }
    }
}

#[cfg(test)]
mod tests;

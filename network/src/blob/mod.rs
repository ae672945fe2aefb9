//! Blobs: bytes named by their BLAKE3 hash, kept in files, cut in pieces, and verified wherever they come from.
//!
//! A blob is cut in *pieces* of [`PIECE_LEN`] bytes (256 KiB; the last may be shorter). Each piece is a whole subtree of the
//! blob's BLAKE3 tree, so its chaining value can be checked by itself. The list of these values, in order, is the blob's
//! [`Outboard`]; merged as the tree says, it gives the blob's hash. So nothing but the hash has to be trusted.
//!
//! Nothing in this module is async or knows of sockets: call the store from a blocking thread.

mod download;
mod partial;
mod store;
mod tree;
mod wire;

pub use download::{Ask, Download, Failure, Outcome, PeerFault, Unavailable};
pub use partial::PartialBlob;
pub use store::{BlobError, BlobStore};
pub use tree::{MAX_BLOB_LEN, MAX_PIECES, Outboard, PIECE_LEN, hash_file, piece_count, piece_range};
pub use wire::{BlobRequest, BlobResponse, MAX_BLOB_FRAME_LEN, MAX_BLOB_REQUEST_LEN, WireError};

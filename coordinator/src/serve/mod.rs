//! `serve`: the driver around [`essaim_protocol::round::CoordinatorMachine`].
//!
//! One task owns machine and store ([`driver`]); a thread of its own calculates ([`worker`]); updates are fetched by
//! tasks ([`fetch`]). What the machine wants kept is in the store before anything that follows from it is sent; what anybody
//! may have is then written to `public/` ([`keep`], [`persist`]), the head last. At a start, `public/` is compared with the store and
//! repaired ([`repair`]).

mod driver;
mod fetch;
mod keep;
mod open;
mod persist;
mod repair;
mod requests;
mod restore;
mod show;
mod worker;

use crate::config::ConfigError;
use crate::datadir::DataDirError;
use crate::files::FileError;
use crate::http::HttpError;
use crate::store::StoreError;
use essaim_network::{BlobError, NetworkError};
use std::path::PathBuf;

pub use repair::RepairError;

/// What `serve` is told.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Threads for arithmetic.
    pub threads: usize,
    /// Addresses to listen on instead of those in `run.toml`.
    pub listen: Vec<String>,
    /// HTTP address instead of the one in `run.toml`.
    pub http: Option<String>,
    /// End when every round is done.
    pub exit_when_finished: bool,
}

/// Why `serve` ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Its `run.toml` cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// HTTP cannot be served.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The network cannot start.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Updates cannot be kept.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// An address is none.
    #[error("'{got}' is no multiaddress: {reason}; give one such as /ip4/0.0.0.0/udp/4101/quic-v1")]
    Address {
        /// What was given.
        got: String,
        /// What is wrong.
        reason: String,
    },
    /// A stored statement cannot be read.
    #[error("the store is damaged: {what} of round {round}: {reason}; restore the data directory from a backup")]
    Stored {
        /// What.
        what: &'static str,
        /// Of which round.
        round: u64,
        /// What is wrong.
        reason: String,
    },
    /// The machine refuses what was restored.
    #[error("the data directory contradicts itself: {0}")]
    Machine(#[from] essaim_protocol::round::CoordinatorError),
    /// `public/` cannot be repaired.
    #[error(transparent)]
    Repair(#[from] RepairError),
    /// This machine does not calculate exactly.
    #[error("this machine cannot take part: {0}")]
    Arithmetic(String),
    /// The checkpoint of a round cannot be made.
    #[error("round {round}: {reason}")]
    Round {
        /// Which round.
        round: u64,
        /// Why.
        reason: String,
    },
    /// The thread that calculates is gone.
    #[error("the thread that calculates has ended")]
    WorkerGone,
}

/// Serves the run of a data directory until told to stop.
///
/// # Errors
/// [`ServeError`]; nothing is lost.
pub async fn serve(options: ServeOptions) -> Result<(), ServeError> {
    let opened = open::open(&options).await?;
    driver::Driver::start(opened).await?.run().await
}

#[cfg(test)]
mod tests;

//! With what a member joins, and why it cannot.

use super::peers::LinkPeersError;
use crate::config::Config;
use crate::disk::DiskError;
use crate::engine::EngineError;
use crate::files::FileError;
use essaim_kernels::ExecError;
use essaim_kernels::cuda::DeviceSource;
use essaim_network::{BlobError, NetworkError};
use essaim_protocol::chain::ChainError;
use essaim_protocol::ids::RunId;
use essaim_protocol::link::JoinLink;
use essaim_protocol::round::MemberError;
use essaim_train::selfcheck::SelfCheckError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a member joins with.
#[derive(Debug, Clone)]
pub struct JoinOptions {
    /// The run and where to find it.
    pub link: JoinLink,
    /// The data directory, which the caller holds open.
    pub root: PathBuf,
    /// Settings.
    pub config: Config,
    /// Where devices come from.
    pub devices: Arc<dyn DeviceSource>,
    /// Whether to end when the run does.
    pub exit_when_finished: bool,
    /// How long the coordinator may be silent before the program ends; for ever if none.
    pub give_up_after: Option<Duration>,
}

/// Why a member cannot take part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The link's addresses.
    #[error(transparent)]
    Link(#[from] LinkPeersError),
    /// An address to listen on.
    #[error("'{0}' is no multiaddress to listen on, such as /ip4/0.0.0.0/udp/4101/quic-v1")]
    Listen(String),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// This machine does not calculate as the run demands.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// This machine comes to other bits.
    #[error(transparent)]
    SelfCheck(#[from] SelfCheckError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The run's files.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The blob store.
    #[error(transparent)]
    Store(#[from] BlobError),
    /// The peers of the link do not know the run.
    #[error("the peers of the join link answer, but do not know run {run}; get a new link from the operator")]
    UnknownRun {
        /// The run.
        run: RunId,
    },
    /// The peers of the link end every connection.
    #[error(
        "the peers of the join link end the connection: they serve another run than {run}; get a new link from the operator"
    )]
    SentAway {
        /// The run.
        run: RunId,
    },
    /// The manifest does not hold.
    #[error("the run's manifest: {0}")]
    Manifest(#[from] ChainError),
    /// The machine refuses what it was given.
    #[error(transparent)]
    Machine(#[from] MemberError),
    /// Nothing here can train the model.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The data set does not fit the manifest.
    #[error("the run's data set cannot be used: {0}; tell the operator")]
    Data(String),
    /// The network's task ended.
    #[error("the network stopped unexpectedly; start again to go on")]
    NetworkStopped,
    /// The worker's thread ended.
    #[error("the calculation stopped unexpectedly; start again to go on, and report what is above")]
    WorkerStopped,
    /// Something that cannot be.
    #[error("internal: {0}; please report this")]
    Bug(String),
}

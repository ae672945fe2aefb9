//! Opening a data directory for serving: everything that can be wrong is found here, before anybody hears of the run.

use super::repair::Repair;
use super::restore::{self, Restored};
use super::worker::Worker;
use super::{ServeError, ServeOptions};
use crate::config::RunConfig;
use crate::datadir::{DataDir, Lock};
use crate::files::FileError;
use crate::http;
use crate::public::PublicFolder;
use crate::store::Store;
use essaim_kernels::Exec;
use essaim_network::{BlobStore, Multiaddr, Network, NetworkConfig, NetworkEvent, serve_all};
use essaim_protocol::dataset::DatasetManifest;
use essaim_protocol::hash_chain::HashChain;
use essaim_protocol::ids::{Hash, RunId};
use essaim_protocol::layout;
use essaim_protocol::manifest::Manifest;
use essaim_protocol::round::CoordinatorConfig;
use essaim_protocol::signing::{Keypair, Signed, Strict};
use essaim_train::codec::UpdateFormat;
use essaim_train::eval::TokenBytes;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::mpsc::Receiver;

/// A run that is ready to be driven.
pub(super) struct Opened {
    pub(super) lock: Lock,
    pub(super) data: DataDir,
    pub(super) config: RunConfig,
    pub(super) store: Store,
    pub(super) public: PublicFolder,
    pub(super) blobs: Arc<BlobStore>,
    pub(super) run: RunId,
    pub(super) machine: CoordinatorConfig,
    pub(super) restored: Restored,
    pub(super) worker: Worker,
    pub(super) network: Network,
    pub(super) events: Receiver<NetworkEvent>,
    pub(super) http: TcpListener,
    pub(super) exit_when_finished: bool,
}

/// What is read from disk before any socket is opened.
struct OnDisk {
    store: Store,
    blobs: Arc<BlobStore>,
    restored: Restored,
    worker: Worker,
    machine: CoordinatorConfig,
}

pub(super) async fn open(options: &ServeOptions) -> Result<Opened, ServeError> {
    let data = DataDir::open(&options.data_dir)?;
    let lock = data.lock()?;
    let mut config = RunConfig::read(&data.run_toml())?;
    if !options.listen.is_empty() {
        config.network.listen.clone_from(&options.listen);
    }
    if let Some(http) = &options.http {
        config.network.http.clone_from(http);
    }
    // The ports first: what takes long comes after, and a port in use is the commonest mistake.
    let http = http::bind(&config.network.http, &data.run_toml()).await?;
    let public = PublicFolder::new(&data);
    let threads = options.threads;
    let (disk_data, disk_public) = (data.clone(), public.clone());
    let disk = tokio::task::spawn_blocking(move || read_disk(&disk_data, &disk_public, threads));
    let disk = disk.await.map_err(|error| ServeError::Arithmetic(error.to_string()))??;
    let run = disk.worker.run;
    let mut network_config = NetworkConfig::new(data.operator_secret()?, run.to_string());
    network_config.listen = addresses(&config.network.listen)?;
    network_config.mdns = config.network.mdns;
    let (network, events) = Network::start(network_config, disk.blobs.clone(), serve_all()).await?;
    Ok(Opened {
        lock,
        data,
        config,
        store: disk.store,
        public,
        blobs: disk.blobs,
        run,
        machine: disk.machine,
        restored: disk.restored,
        worker: disk.worker,
        network,
        events,
        http,
        exit_when_finished: options.exit_when_finished,
    })
}

fn addresses(listen: &[String]) -> Result<Vec<Multiaddr>, ServeError> {
    let parse = |got: &String| {
        let wrong = |error: String| ServeError::Address { got: got.clone(), reason: error };
        got.parse::<Multiaddr>().map_err(|error| wrong(error.to_string()))
    };
    listen.iter().map(parse).collect()
}

/// Opens and repairs a data directory without serving it.
#[cfg(test)]
pub(super) fn check(data: &DataDir, threads: usize) -> Result<(), ServeError> {
    read_disk(data, &PublicFolder::new(data), threads).map(|_| ())
}

fn read_disk(data: &DataDir, public: &PublicFolder, threads: usize) -> Result<OnDisk, ServeError> {
    let inexact = |error: String| ServeError::Arithmetic(error);
    let exec = Exec::from_env(threads).map_err(|error| inexact(error.to_string()))?;
    essaim_train::selfcheck::self_check(&exec).map_err(|error| inexact(error.to_string()))?;
    data.clear_temp()?;
    let store = Store::open(&data.store())?;
    let manifest = restore::manifest(&store)?;
    let run = RunId(manifest.id().0);
    let restored = restore::restore(&store, &manifest)?;
    let blobs = Arc::new(BlobStore::open(data.blobs())?);
    let repair = Repair {
        public,
        store: &store,
        blobs: &blobs,
        exec: &exec,
        run,
        manifest: &manifest,
        records: &restored.records,
    };
    let dataset = repair.run()?;
    let update_len_bytes = UpdateFormat::of(&manifest.value).len_bytes() as u64;
    register(public, &blobs, &manifest, &dataset, &restored)?;
    drop_stray_blobs(&blobs, &restored)?;
    let members = u64::from(manifest.value.admission.members_max);
    blobs.set_quota_bytes(update_len_bytes.saturating_mul(members).saturating_mul(2));
    let tokenizer = public.path(layout::TOKENIZER);
    let tokenizer = std::fs::read(&tokenizer).map_err(FileError::at("read", &tokenizer))?;
    let token_bytes = TokenBytes::from_tokenizer_json(&tokenizer).map_err(|error| inexact(error.to_string()))?;
    let worker = Worker {
        exec,
        manifest: Arc::new(manifest.value.clone()),
        run,
        public: public.clone(),
        blobs: blobs.clone(),
        heldout: dataset.heldout,
        token_bytes,
        base: None,
    };
    let machine = CoordinatorConfig {
        keypair: Keypair::from_secret(&data.operator_secret()?),
        hash_chain: HashChain::from_secret(&data.hash_chain_secret()?, manifest.value.hash_chain_len),
        manifest,
        check: Arc::new(Strict),
        update_len_bytes: Some(update_len_bytes),
    };
    Ok(OnDisk { store, blobs, restored, worker, machine })
}

/// Lets the network serve public files in place.
fn register(
    public: &PublicFolder,
    blobs: &BlobStore,
    manifest: &Signed<Manifest>,
    dataset: &DatasetManifest,
    restored: &Restored,
) -> Result<(), ServeError> {
    let add = |hash: Hash, path: &str| blobs.register_external(hash, public.path(path));
    add(manifest.value.dataset, layout::DATASET)?;
    add(manifest.value.tokenizer, layout::TOKENIZER)?;
    for shard in dataset.all_shards() {
        add(shard.hash, &layout::shard(&shard.hash))?;
    }
    for record in restored.records.iter().map(|record| &record.value) {
        add(record.ledger, &layout::ledger(record.round))?;
        for one in &record.contributions {
            blobs.remove(&one.update)?;
            add(one.update, &layout::update(record.round, &one.member))?;
        }
        if public.path(&layout::checkpoint(record.round)).is_dir() {
            add(record.checkpoint, &layout::model_file(record.round))?;
            add(record.outer_state, &layout::outer_state(record.round))?;
        }
    }
    Ok(())
}

/// Removes fetched updates that no claim of the open round names.
fn drop_stray_blobs(blobs: &BlobStore, restored: &Restored) -> Result<(), ServeError> {
    let claimed: Vec<Hash> = restored.machine.claims.iter().map(|held| held.claim.value.update).collect();
    for hash in blobs.hashes()? {
        if !claimed.contains(&hash) {
            blobs.remove(&hash)?;
        }
    }
    Ok(())
}

//! `init`: from a `run.toml` and a data set to a data directory with keys, signed manifest and first checkpoint.
//!
//! Everything is made in a folder beside the data directory, which is renamed at the end: killed at any moment, `init`
//! leaves no half-made data directory, and can simply be run again.

use crate::checkpoint;
use crate::config::{ConfigError, ManifestInput, RunConfig, SettingsError};
use crate::datadir::{DataDir, DataDirError, VERSION};
use crate::dataset::{Dataset, TakeError};
use crate::files::{self, FileError};
use crate::public::PublicFolder;
use crate::store::{Row, Store, StoreError, StoredKind};
use essaim_kernels::Exec;
use essaim_protocol::data_order::{DataOrder, DataOrderError};
use essaim_protocol::hash_chain::HashChain;
use essaim_protocol::ids::{Hash, RunId};
use essaim_protocol::layout;
use essaim_protocol::link::JoinLink;
use essaim_protocol::manifest::Manifest;
use essaim_protocol::signing::{Keypair, Signed};
use essaim_train::eval::{TokenBytes, TokenizerError};
use essaim_train::round::Base;
use std::path::{Path, PathBuf};

/// What `init` made.
#[derive(Debug, Clone)]
pub struct Initialised {
    /// The run's id.
    pub run: RunId,
    /// The join link.
    pub link: String,
    /// The manifest.
    pub manifest: Manifest,
    /// Hash of the first checkpoint's model file.
    pub checkpoint: Hash,
}

/// Why `init` made nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// `run.toml` cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What it says cannot be.
    #[error("{path}: {source}", path = .path.display())]
    Settings {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: SettingsError,
    },
    /// The data set cannot be taken.
    #[error("data set: {0}")]
    Dataset(#[from] TakeError),
    /// The run cannot be trained on this data set.
    #[error("data set: {0}")]
    DataOrder(#[from] DataOrderError),
    /// Its tokenizer is not one that this build understands.
    #[error("data set: tokenizer.json: {0}")]
    Tokenizer(#[from] TokenizerError),
    /// The data directory cannot be made.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The store cannot be made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// An address is none, or the link has no room for all of them.
    #[error("{path}: [network]: {reason}", path = .path.display())]
    Network {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The model does not fit this machine's memory.
    #[error(
        "the model has {parameters} parameters: init needs about {needed_bytes} bytes of memory, {have_bytes} are free"
    )]
    Memory {
        /// Parameters of the model.
        parameters: u64,
        /// Memory needed.
        needed_bytes: u64,
        /// Memory there is.
        have_bytes: u64,
    },
}

/// Told what is being done, and how many bytes of how many.
pub type Progress<'a> = dyn FnMut(&str, u64, u64) + 'a;

/// Makes a data directory.
///
/// # Errors
/// [`InitError`]; nothing is left behind then.
pub fn init(run_toml: &Path, root: &Path, exec: &Exec, progress: &mut Progress<'_>) -> Result<Initialised, InitError> {
    let config = RunConfig::read(run_toml)?;
    DataDir::require_empty(root)?;
    check_addresses(&config, run_toml)?;
    let folder = run_toml.parent().unwrap_or(Path::new("")).join(&config.dataset);
    let dataset = Dataset::open(&folder)?;
    let making = making_folder(root);
    if making.exists() {
        std::fs::remove_dir_all(&making).map_err(FileError::at("remove", &making))?;
    }
    let made = fill(&config, run_toml, &dataset, &DataDir::at(&making), exec, progress);
    if made.is_err() {
        // What went wrong is already told; what cannot be removed is removed by the next `init`.
        let _ = std::fs::remove_dir_all(&making);
    }
    let made = made?;
    if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        files::create_dir(parent)?;
    }
    files::publish(&making, root)?;
    Ok(made)
}

/// A folder on the same file system, which a data directory is made in.
fn making_folder(root: &Path) -> PathBuf {
    let name = root.file_name().map_or_else(|| "essaim".into(), |name| name.to_string_lossy().into_owned());
    root.with_file_name(format!(".{name}.making"))
}

fn fill(
    config: &RunConfig,
    run_toml: &Path,
    dataset: &Dataset,
    data: &DataDir,
    exec: &Exec,
    progress: &mut Progress<'_>,
) -> Result<Initialised, InitError> {
    let chain_secret = files::random_bytes()?;
    let operator_secret = files::random_bytes()?;
    let keypair = Keypair::from_secret(&operator_secret);
    let chain = HashChain::from_secret(&chain_secret, config.hash_chain_len());
    let settings = |source| InitError::Settings { path: run_toml.to_owned(), source };
    let input = ManifestInput {
        dataset: &dataset.manifest,
        dataset_hash: dataset.hash(),
        dataset_len_bytes: dataset.bytes.len() as u64,
        operator: keypair.member(),
        random_seed: files::random_bytes()?,
        hash_chain_anchor: chain.anchor(),
        hash_chain_len: chain.len(),
    };
    let manifest = config.manifest(&input).map_err(settings)?;
    DataOrder::new(&manifest, &dataset.manifest)?;
    check_memory(&manifest)?;

    files::create_dir(&data.public())?;
    data.clear_temp()?;
    let total = dataset.len_bytes();
    let mut done = 0u64;
    dataset.take(&data.public(), |bytes| {
        done = done.saturating_add(bytes);
        progress("copying and verifying the data set", done.min(total), total);
    })?;
    let public = PublicFolder::new(data);
    let tokenizer = public.path(layout::TOKENIZER);
    TokenBytes::from_tokenizer_json(&std::fs::read(&tokenizer).map_err(FileError::at("read", &tokenizer))?)?;
    let signed = keypair.sign(manifest);
    public.write(layout::MANIFEST, &signed.to_bytes())?;
    progress("calculating the first checkpoint", 0, 0);
    let base = Base::initial(exec, &signed.value);
    let (folder, hashes) = checkpoint::write(&public, &signed.value, &base)?;
    public.publish_folder(&folder, &layout::checkpoint(0))?;

    files::write_secret(&data.operator_key(), &operator_secret)?;
    files::write_secret(&data.hash_chain_file(), &chain_secret)?;
    let text = std::fs::read(run_toml).map_err(FileError::at("read", run_toml))?;
    files::write_atomic(&public.temp(), &data.run_toml(), &text)?;
    let mut store = Store::create(&data.store())?;
    store.put(&[Row { kind: StoredKind::Manifest, round: 0, member: None, bytes: signed.to_bytes() }])?;
    let run = RunId(signed.id().0);
    let link = join_link(config, run, &signed, &config.network.listen, &config.network.http);
    files::write_atomic(&public.temp(), &data.link(), format!("{link}\n").as_bytes())?;
    files::write_atomic(&public.temp(), &data.version(), format!("{VERSION}\n").as_bytes())?;
    Ok(Initialised { run, link, manifest: signed.value, checkpoint: hashes.model })
}

/// The join link of a run whose operator listens on these addresses.
pub fn join_link(config: &RunConfig, run: RunId, manifest: &Signed<Manifest>, listen: &[String], http: &str) -> String {
    let peer = manifest.value.operators.first().and_then(essaim_network::peer_id_of);
    let suffix = peer.map(|peer| format!("/p2p/{peer}")).unwrap_or_default();
    let with_peer = |address: String| if address.contains("/p2p/") { address } else { format!("{address}{suffix}") };
    let peers = config.network.advertised(listen).into_iter().map(with_peer).collect();
    JoinLink { run, peers, http: Some(config.network.url(http)) }.to_string()
}

fn check_addresses(config: &RunConfig, run_toml: &Path) -> Result<(), InitError> {
    let wrong = |reason: String| InitError::Network { path: run_toml.to_owned(), reason };
    for address in config.network.listen.iter().chain(&config.network.advertise) {
        let parsed: Result<essaim_network::Multiaddr, _> = address.parse();
        parsed.map_err(|error| {
            wrong(format!("'{address}' is no multiaddress ({error}); give one such as /ip4/0.0.0.0/udp/4101/quic-v1"))
        })?;
    }
    if config.network.listen.is_empty() {
        return Err(wrong("listen is empty: give at least one address".to_owned()));
    }
    let max = essaim_protocol::limits::LINK_PEERS_MAX;
    if config.network.advertise.len() > max {
        return Err(wrong(format!(
            "advertise has {} addresses, at most {max} fit a link",
            config.network.advertise.len()
        )));
    }
    Ok(())
}

/// Refuses a model whose checkpoint and outer state do not fit, before anything is allocated.
fn check_memory(manifest: &Manifest) -> Result<(), InitError> {
    let parameters = manifest.model.parameter_count();
    let needed_bytes = parameters.saturating_mul(9);
    match free_memory_bytes() {
        Some(have_bytes) if needed_bytes > have_bytes => {
            Err(InitError::Memory { parameters, needed_bytes, have_bytes })
        }
        _ => Ok(()),
    }
}

/// Memory that this machine could give, where Linux says so.
fn free_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use essaim_protocol::signing::Strict;

    fn run(run_toml: &Path, root: &Path) -> Result<Initialised, InitError> {
        init(run_toml, root, &Exec::detect(1).unwrap(), &mut |_, _, _| ())
    }

    #[test]
    fn init_makes_a_whole_run_once() {
        let dir = tempfile::tempdir().unwrap();
        let run_toml = testing::run_toml(dir.path(), "");
        let root = dir.path().join("deep/data");
        let made = run(&run_toml, &root).unwrap();
        let data = DataDir::open(&root).unwrap();
        let manifest = std::fs::read(data.public().join(layout::MANIFEST)).unwrap();
        let manifest = Signed::<Manifest>::from_bytes(&manifest).unwrap();
        let operator = Keypair::from_secret(&data.operator_secret().unwrap()).member();
        manifest.require(&Strict, &[operator], 1).unwrap();
        assert_eq!(RunId(manifest.id().0), made.run);
        assert_eq!(crate::dataset::hash_file(&data.public().join(layout::model_file(0))).unwrap(), made.checkpoint);
        let link: JoinLink = std::fs::read_to_string(data.link()).unwrap().parse().unwrap();
        assert_eq!(link.run, made.run);
        assert!(link.peers.iter().all(|peer| peer.contains("/p2p/12D3")), "{link:?}");
        let store = Store::open(&data.store()).unwrap();
        assert_eq!(store.get(StoredKind::Manifest, 0, None).unwrap().unwrap(), manifest.to_bytes());
        let chain = HashChain::from_secret(&data.hash_chain_secret().unwrap(), manifest.value.hash_chain_len);
        assert_eq!(chain.anchor(), manifest.value.hash_chain_anchor);
        assert!(matches!(run(&run_toml, &root), Err(InitError::DataDir(DataDirError::NotEmpty { .. }))));
        assert!(!making_folder(&root).exists());
    }

    #[test]
    fn what_cannot_be_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        for (extra, part) in [
            ("[inner]\nsteps = 0\n", "run.toml: inner.steps is 0: from 1 to 100000"),
            ("[inner]\nbatch = 100\n", "data set:"),
            ("[model]\nd_model = 30\nheads = 4\n", "run.toml: model.d_model is 30: a multiple of model.heads"),
            ("[network]\nlisten = ['nonsense']\n", "'nonsense' is no multiaddress"),
            ("[network]\nlisten = []\n", "listen is empty"),
            ("[model]\npreset = 'lucie-7b'\nlayers = 1000\nbogus = 1\n", "unknown field `bogus`"),
        ] {
            let run_toml = testing::run_toml(dir.path(), extra);
            let error = run(&run_toml, &root).unwrap_err().to_string();
            assert!(error.contains(part) && error.lines().count() == 1, "{extra}: {error}");
            assert!(!root.exists() && !making_folder(&root).exists(), "{extra}");
        }
        let run_toml = testing::run_toml(dir.path(), "");
        let tokenizer = dir.path().join("dataset/tokenizer.json");
        let text = std::fs::read(&tokenizer).unwrap();
        std::fs::write(&tokenizer, [&text[..], b" "].concat()).unwrap();
        let error = run(&run_toml, &root).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json is damaged"), "{error}");
        std::fs::remove_dir_all(dir.path().join("dataset")).unwrap();
        let error = run(&run_toml, &root).unwrap_err().to_string();
        assert!(error.contains("dataset.manifest is missing"), "{error}");
        let error = run(&dir.path().join("none.toml"), &root).unwrap_err().to_string();
        assert!(error.starts_with("cannot read") && error.contains("none.toml"), "{error}");
    }
}

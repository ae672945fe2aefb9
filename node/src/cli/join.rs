//! `essaim join`.

use crate::config::Settings;
use crate::datadir::{self, DataDir};
use crate::driver::{self, End, JoinOptions};
use crate::events::Event;
use crate::files;
use crate::identity::Identity;
use crate::reporter::{Reporter, Show};
use anyhow::Context;
use clap::Args;
use essaim_kernels::cuda::CudaDevices;
use essaim_protocol::limits;
use essaim_protocol::link::JoinLink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long tasks get to end before the program does.
const GRACE: Duration = Duration::from_millis(500);

/// Arguments of `essaim join`.
#[derive(Debug, Args)]
#[command(after_help = "\
The member trains on what the run assigns, checks every record, and serves what others need. Stop it with Ctrl-C at any
moment and start it again with the same command: identity, data and unsent claims are kept in the data directory. It starts itself
again when a GPU failed and the driver wants a new process (exit code 75 if it cannot).

Settings come from DIR/node.toml (threads, device, memory, listen, mdns, keep_rounds) and from flags, which override it.
The newest checkpoint is always in DIR/checkpoint, ready for `essaim generate --checkpoint DIR/checkpoint`.

With --json, one object a line on standard output, with 'event' and 'elapsed_s' since the start: started, engine, listening,
manifest, joined, admitted, round_started, inner_step (about one a second), claimed, receipt, closed, applied, caught_up,
refused, warning, unreachable, reached, finished, halted, stopped.
")]
pub struct JoinArgs {
    /// The join link that the operator gave ('essaim:…'), or a file that holds it
    #[arg(value_name = "LINK")]
    pub link: String,
    /// Where to keep identity and data [default: ~/.local/share/essaim/RUN]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// CPU threads that train [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// What trains: auto, cpu, cuda, cuda:N [default: auto, the first CUDA device that can do it, else the CPU]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Most memory that training may use, such as 4G [default: half of the machine's]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Multiaddress to listen on; may be given several times [default: any free port, QUIC and TCP]
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<String>,
    /// Do not look for members on the local network
    #[arg(long)]
    pub no_mdns: bool,
    /// Keep the updates of so many past rounds, to serve them to others [default: 4]
    #[arg(long, value_name = "N")]
    pub keep_rounds: Option<u64>,
    /// End when the run is finished, instead of serving on
    #[arg(long)]
    pub exit_when_finished: bool,
    /// End when the coordinator is not reached for so long [default: try for ever]
    #[arg(long, value_name = "SECONDS")]
    pub give_up_after: Option<u64>,
    /// Print events as JSON lines
    #[arg(long)]
    pub json: bool,
}

impl JoinArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let start = Instant::now();
        let link = read_link(&self.link)?;
        let root = match self.data_dir {
            Some(root) => root,
            None => datadir::default_path(&link.run)?,
        };
        let data_dir = DataDir::open(&root, &link.run)?;
        let flags = Settings {
            threads: self.threads,
            device: self.device,
            memory: self.memory,
            listen: (!self.listen.is_empty()).then_some(self.listen),
            mdns: self.no_mdns.then_some(false),
            keep_rounds: self.keep_rounds,
        };
        let config = flags.or(Settings::load(&data_dir.path("node.toml"))?).resolve()?;
        let identity = Identity::load_or_create(&data_dir.path("key"))?;
        let show = if self.json { Show::Json } else { Show::Text };
        let reporter = Arc::new(Reporter::new(start, show, Some(data_dir.path("status.json"))));
        let options = JoinOptions {
            link,
            root: data_dir.root().to_owned(),
            config,
            devices: Arc::new(CudaDevices),
            exit_when_finished: self.exit_when_finished,
            give_up_after: self.give_up_after.map(Duration::from_secs),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("cannot start")?;
        let end = runtime.block_on(async {
            tokio::select! {
                end = driver::join(options, identity, reporter.clone(), start) => end,
                () = asked_to_stop() => Ok(End::Stopped),
            }
        });
        runtime.shutdown_timeout(GRACE);
        drop(data_dir);
        match end? {
            End::Finished => Ok(()),
            End::Stopped => {
                reporter.report(&Event::Stopped);
                Ok(())
            }
            End::Halted { reason } => anyhow::bail!("the operator broke the rules of the run: {reason}"),
            End::GaveUp { reason } => anyhow::bail!(
                "the coordinator was not reached in time ({reason}): check the link and the connection, or leave out \
                 --give-up-after"
            ),
            End::Restart { reason } => Err(start_again(reason, start.elapsed()).into()),
        }
    }
}

/// The program was to be started again and could not do it itself: whoever supervises it may.
#[derive(Debug, thiserror::Error)]
#[error("{reason}; that failed: {error}")]
pub struct StartAgain {
    reason: String,
    error: std::io::Error,
}

impl StartAgain {
    /// The code to exit with: `EX_TEMPFAIL` of `sysexits.h`.
    pub const EXIT_CODE: u8 = 75;
}

/// How often the program starts itself again when each process soon fails: a card that opens and then fails must not keep it busy.
const RESTARTS_MAX: u32 = 3;
/// A process that went on for so long was no failure: counting begins anew.
const RESTARTS_FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// Where a process finds how many went before it.
const RESTARTS: &str = "ESSAIM_RESTARTS";

/// How many processes in a row have been started again, with this one's successor.
fn restarts(before: Option<&str>, age: Duration) -> u32 {
    let before = before.and_then(|count| count.parse().ok()).filter(|_| age < RESTARTS_FORGOTTEN);
    before.map_or(1, |before: u32| before.saturating_add(1))
}

/// Puts a new process of this program, with the same arguments, in the place of this one, which is `age` old. Gives why not.
fn start_again(reason: String, age: Duration) -> StartAgain {
    use std::os::unix::process::CommandExt;
    let count = restarts(std::env::var(RESTARTS).ok().as_deref(), age);
    let error = match std::env::current_exe() {
        _ if count > RESTARTS_MAX => std::io::Error::other(format!(
            "started again {RESTARTS_MAX} times within a day each; --device cpu trains without the card"
        )),
        Ok(program) => std::process::Command::new(program)
            .args(std::env::args_os().skip(1))
            .env(RESTARTS, count.to_string())
            .exec(),
        Err(error) => error,
    };
    StartAgain { reason, error }
}

/// The link itself, or the one in the file of that name.
fn read_link(text: &str) -> anyhow::Result<JoinLink> {
    let path = Path::new(text);
    if !text.starts_with("essaim:") && path.is_file() {
        let bytes = files::read_bounded(path, limits::LINK_MAX as u64)?.unwrap_or_default();
        let text = String::from_utf8(bytes).with_context(|| format!("{text} holds no join link: not UTF-8"))?;
        return text.parse().with_context(|| format!("{} holds no join link", path.display()));
    }
    Ok(text.parse::<JoinLink>()?)
}

/// Waits for Ctrl-C or a request to terminate.
async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => _ = signals.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        // Without a handler the default stays, and ends the program.
        result = tokio::signal::ctrl_c() => if result.is_err() { std::future::pending::<()>().await },
        () = terminate => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_protocol::ids::RunId;

    #[test]
    fn a_link_or_a_file_that_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let link = JoinLink { run: RunId([3; 32]), peers: vec!["/ip4/1.2.3.4/tcp/1/p2p/x".into()], http: None };
        assert_eq!(read_link(&link.to_string()).unwrap(), link);
        let path = dir.path().join("link");
        std::fs::write(&path, format!("{link}\n")).unwrap();
        assert_eq!(read_link(path.to_str().unwrap()).unwrap(), link);
        std::fs::write(&path, "hello").unwrap();
        let error = format!("{:#}", read_link(path.to_str().unwrap()).unwrap_err());
        assert!(error.contains("holds no join link") && error.contains("essaim:"), "{error}");
        assert!(read_link("essaim:12").unwrap_err().to_string().contains("cut off"));
    }

    #[test]
    fn processes_that_fail_one_soon_after_the_other_are_counted() {
        let (soon, late) = (Duration::from_secs(60), RESTARTS_FORGOTTEN);
        assert_eq!(restarts(None, soon), 1);
        assert_eq!(restarts(Some("1"), soon), 2);
        assert_eq!(restarts(Some("3"), soon), RESTARTS_MAX + 1);
        assert_eq!(restarts(Some("3"), late), 1);
        assert_eq!(restarts(Some("many"), soon), 1);
    }
}

//! `essaim-coordinator`: the operator's program.

use anyhow::{Result, anyhow};
use clap::{Args, Parser, Subcommand};
use essaim_coordinator::{init, serve};
use essaim_kernels::Exec;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs the operator's side of an Essaim training run: it opens and closes rounds, collects the members' updates,
/// makes the next checkpoint and signs every record.
///
/// First `init` makes a data directory from a run.toml and a data set; then `serve` runs it, as often as needed: killed at
/// any moment, it goes on where it was.
#[derive(Parser)]
#[command(name = "essaim-coordinator", version, about, long_about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a data directory: keys, signed manifest, verified data set, first checkpoint.
    ///
    /// Prints the run's id and the join link. An annotated run.toml is printed by `essaim-coordinator example`.
    Init(InitArgs),
    /// Runs the run: listens for members, and shows it on a web page.
    ///
    /// After the last round it goes on serving, so that members and verifiers can download. Ctrl-C stops it; nothing is
    /// lost. At most the round that is open has to be done again after a crash.
    Serve(ServeArgs),
    /// Prints a run.toml with every setting, its default and what it means.
    Example,
}

#[derive(Args)]
struct InitArgs {
    /// Settings of the run; see `essaim-coordinator example`.
    run_toml: PathBuf,
    /// Folder to make; must be empty or not there yet.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Threads for the first checkpoint; default: all cores.
    #[arg(long)]
    threads: Option<usize>,
    /// Print one JSON object: run_id, link, data_dir, parameters, rounds, checkpoint.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ServeArgs {
    /// Folder made by `init`.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Threads for checking updates, aggregation and held-out loss; default: all cores.
    #[arg(long)]
    threads: Option<usize>,
    /// Listen here instead of where run.toml says; may be repeated.
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<String>,
    /// Serve HTTP here instead of where run.toml says.
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<String>,
    /// Write logs as JSON, an object a line, on standard output.
    #[arg(long)]
    json: bool,
    /// End when every round is done, instead of serving downloads from then on.
    #[arg(long)]
    exit_when_finished: bool,
}

fn threads(given: Option<usize>) -> usize {
    given.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Errors of this crate name their causes themselves: the chain of sources would say them twice.
            eprintln!("essaim-coordinator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Init(args) => run_init(&args),
        Command::Serve(args) => run_serve(args),
        Command::Example => {
            print!("{}", include_str!("../run.example.toml"));
            Ok(())
        }
    }
}

fn run_init(args: &InitArgs) -> Result<()> {
    let exec = Exec::from_env(threads(args.threads)).map_err(|error| anyhow!("cannot start calculating: {error}"))?;
    essaim_train::selfcheck::self_check(&exec)
        .map_err(|error| anyhow!("this machine does not calculate exactly: {error}"))?;
    let bar = progress_bar();
    let made = init::init(&args.run_toml, &args.data_dir, &exec, &mut |what, done, of| {
        bar.set_message(what.to_owned());
        bar.set_length(of.max(1));
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let made = made?;
    let parameters = made.manifest.model.parameter_count();
    if args.json {
        let object = serde_json::json!({
            "run_id": made.run.to_string(), "link": made.link, "data_dir": args.data_dir, "parameters": parameters,
            "rounds": made.manifest.rounds, "checkpoint": made.checkpoint.to_string(),
        });
        println!("{object}");
        return Ok(());
    }
    println!("run  {}", made.run);
    println!("link {}", made.link);
    eprintln!(
        "{parameters} parameters, {} rounds. Next: essaim-coordinator serve --data-dir {}",
        made.manifest.rounds,
        args.data_dir.display()
    );
    eprintln!("Keep {0}/operator.key and {0}/hash-chain.secret safe: they are the run.", args.data_dir.display());
    Ok(())
}

fn progress_bar() -> indicatif::ProgressBar {
    if !std::io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let style = indicatif::ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}");
    indicatif::ProgressBar::new(1).with_style(style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()))
}

fn run_serve(args: ServeArgs) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ESSAIM_LOG").unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new(
            "warn,essaim_coordinator=info,libp2p=error,libp2p_kad=error,libp2p_gossipsub=error",
        )
    });
    let logs = tracing_subscriber::fmt().with_env_filter(filter);
    if args.json {
        logs.json().flatten_event(true).with_writer(std::io::stdout).init();
    } else {
        logs.with_target(false).with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).init();
    }
    let options = serve::ServeOptions {
        data_dir: args.data_dir,
        threads: threads(args.threads),
        listen: args.listen,
        http: args.http,
        exit_when_finished: args.exit_when_finished,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(4).build()?;
    let done = runtime.block_on(serve::serve(options));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    Ok(done?)
}

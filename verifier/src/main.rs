//! The command line of `essaim-verify`.

use clap::Parser;
use essaim_kernels::Exec;
use essaim_kernels::cuda::{CudaDevices, Device, DeviceChoice, DeviceSource};
use essaim_protocol::ids::RunId;
use essaim_protocol::link::JoinLink;
use essaim_train::engine::Engine;
use essaim_train::selfcheck::self_check_on;
use essaim_verifier::draw::Replays;
use essaim_verifier::source::Source;
use essaim_verifier::{Progress, Request, verify};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Checks a training run from public files: who did what, and that every checkpoint follows from the one before.
///
/// Starting from the run id, it checks every signature and link, rebuilds every checkpoint from the members' updates and compares
/// it bit for bit with the recorded hash, does contributions drawn at random again, and measures held-out losses again.
///
/// Exit code 0: all holds. 1: bytes contradict the chain, or there are two records of one round. 2: something is missing, or
/// no --run was given.
#[derive(Debug, Parser)]
#[command(name = "essaim-verify", version, after_help = EXAMPLES)]
struct Arguments {
    /// Where the run's public files are: a coordinator's address, a mirror's URL, a public folder. With several, the first
    /// is checked whole and the others are compared with it: a fork shows.
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<String>,
    /// The run: its id, or a join link, from somebody you trust. Without it the answer is UNANCHORED.
    #[arg(long, value_name = "ID|LINK")]
    run: Option<String>,
    /// Contributions to do again: a number, or 'all'.
    #[arg(long, default_value = "2", value_name = "N|all")]
    replay: Replays,
    /// Rebuild from the public checkpoint of this round on; statements are checked from the beginning all the same.
    #[arg(long, default_value_t = 0, value_name = "R")]
    from: u64,
    /// Draw the same contributions as an earlier verification: 64 hexadecimal digits.
    #[arg(long, value_name = "HEX")]
    seed: Option<String>,
    /// Threads; all cores unless said.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Where replays run: cpu, auto, cuda, cuda:N. The bits do not depend on it.
    #[arg(long, default_value_t = DeviceChoice::Cpu, value_name = "DEVICE")]
    device: DeviceChoice,
    /// The verdict as JSON on standard output.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  essaim-verify https://run.example.org --run essaim:3f0c…?peer=…
  essaim-verify ./mirror https://run.example.org --run 3f0c… --replay all";

/// Bytes a replay may use for activations; the bits do not depend on it.
const REPLAY_MEMORY_BYTES: u64 = 2 << 30;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let anchor = arguments.run.as_deref().map(anchor).transpose()?;
    let sources = arguments.sources.iter().map(|text| Source::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let seed = match &arguments.seed {
        Some(text) => *text.parse::<RunId>().map_err(|error| anyhow::anyhow!("--seed: {error}"))?.as_bytes(),
        None => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed)
                .map_err(|error| anyhow::anyhow!("no random numbers from the system: {error}"))?;
            seed
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let exec = Exec::from_env(arguments.threads.unwrap_or(cores))?;
    essaim_train::selfcheck::self_check(&exec)?;
    let request = Request {
        sources,
        anchor,
        replays: arguments.replay,
        from: arguments.from,
        seed,
        memory_bytes: REPLAY_MEMORY_BYTES,
        device: device(arguments.device, &exec)?,
    };
    let mut terminal = Terminal::new(!arguments.json);
    let report = verify(request, &exec, &mut terminal);
    terminal.clear();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", report.text());
    }
    if report.exit_code() == 1 && arguments.json {
        report.failures.iter().for_each(|finding| eprintln!("{finding}"));
    }
    Ok(report.exit_code())
}

/// The device for replays; none for the CPU.
fn device(choice: DeviceChoice, exec: &Exec) -> anyhow::Result<Option<Device>> {
    let open = |ordinal| -> anyhow::Result<Device> {
        let device = CudaDevices.open(ordinal)?;
        self_check_on(exec, Engine::Device(&device))?;
        Ok(device)
    };
    let (device, reason) =
        choice.pick(&CudaDevices, open).map_err(|reason| anyhow::anyhow!("--device {choice}: {reason}"))?;
    if device.is_none() && choice == DeviceChoice::Auto {
        eprintln!("replays run on the CPU: {reason}");
    }
    Ok(device)
}

/// A run id, from itself or from a join link.
fn anchor(text: &str) -> anyhow::Result<RunId> {
    if text.starts_with("essaim:") {
        return Ok(text.parse::<JoinLink>()?.run);
    }
    text.parse().map_err(|error| anyhow::anyhow!("--run is neither a run id nor a join link: {error}"))
}

/// One line that is rewritten, for people; ten lines a minute where standard error is no terminal.
struct Terminal {
    shown: bool,
    line: bool,
    last: Option<(&'static str, Instant)>,
}

impl Terminal {
    fn new(people: bool) -> Terminal {
        Terminal { shown: people || std::io::stderr().is_terminal(), line: std::io::stderr().is_terminal(), last: None }
    }

    fn clear(&self) {
        if self.line && self.last.is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

impl Progress for Terminal {
    fn at(&mut self, what: &'static str, done: u64, total: u64) {
        let pause = if self.line { Duration::from_millis(100) } else { Duration::from_secs(6) };
        let recent = self.last.is_some_and(|(stage, time)| stage == what && time.elapsed() < pause);
        if !self.shown || recent {
            return;
        }
        self.last = Some((what, Instant::now()));
        if self.line {
            eprint!("\r\x1b[Kchecking {what}: {done} of {total}");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("checking {what}: {done} of {total}");
        }
    }
}

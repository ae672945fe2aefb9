//! A run on this machine: one coordinator and its nodes as real processes, below one folder.

use super::child::{Process, program};
use super::http::{free_port, get_json};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The coordinator and nodes of a run.
#[derive(Debug)]
pub struct LocalRun {
    dir: PathBuf,
    http_port: u16,
    /// The coordinator, while it runs.
    pub coordinator: Option<Process>,
    /// The nodes that run, by number.
    pub nodes: Vec<(u32, Process)>,
}

impl LocalRun {
    /// Writes `run.toml` from `settings` (all but the network section), and initialises `DIR/coordinator`.
    ///
    /// # Errors
    /// What `essaim-coordinator init` says.
    pub fn init(dir: &Path, settings: &str) -> Result<LocalRun> {
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let (p2p_port, http_port) = (free_udp_port()?, free_port()?);
        let tcp_port = free_port()?;
        let network = format!(
            "\n[network]\nlisten = [\"/ip4/127.0.0.1/udp/{p2p_port}/quic-v1\", \"/ip4/127.0.0.1/tcp/{tcp_port}\"]\nhttp = \"127.0.0.1:{http_port}\"\n"
        );
        let config = dir.join("run.toml");
        std::fs::write(&config, format!("{settings}{network}"))
            .with_context(|| format!("writing {}", config.display()))?;
        let run = LocalRun { dir: dir.to_owned(), http_port, coordinator: None, nodes: Vec::new() };
        let data = run.coordinator_dir();
        call("essaim-coordinator", &["init", path(&config)?, "--data-dir", path(&data)?])?;
        Ok(run)
    }

    /// `DIR/coordinator`.
    pub fn coordinator_dir(&self) -> PathBuf {
        self.dir.join("coordinator")
    }

    /// `DIR/node-N`.
    pub fn node_dir(&self, number: u32) -> PathBuf {
        self.dir.join(format!("node-{number}"))
    }

    /// Base of the coordinator's HTTP service, without a slash at the end.
    pub fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// The join link.
    ///
    /// # Errors
    /// When the coordinator has not written it.
    pub fn link(&self) -> Result<String> {
        let path = self.coordinator_dir().join("link");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// Starts the coordinator and waits until its page answers.
    ///
    /// # Errors
    /// When it ends or does not answer within a minute.
    pub fn start_coordinator(&mut self, threads: usize) -> Result<()> {
        let data = self.coordinator_dir();
        let arguments = ["serve", "--data-dir", path(&data)?, "--threads", &threads.to_string()];
        let log = self.dir.join("coordinator.log");
        let mut process = Process::start("coordinator", &program("essaim-coordinator")?, &arguments, &log)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.status().is_err() {
            if process.ended()?.is_some() || Instant::now() > deadline {
                bail!("the coordinator does not serve:\n{}", process.log_tail(5));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.coordinator = Some(process);
        Ok(())
    }

    /// Starts node `number`.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_node(&mut self, number: u32, threads: usize) -> Result<()> {
        let (link, data) = (self.link()?, self.node_dir(number));
        let threads = threads.to_string();
        let arguments = ["join", &link, "--data-dir", path(&data)?, "--threads", &threads, "--no-mdns", "--json"];
        let log = self.dir.join(format!("node-{number}.log"));
        let process = Process::start(&format!("node-{number}"), &program("essaim")?, &arguments, &log)?;
        self.nodes.push((number, process));
        Ok(())
    }

    /// SIGKILL for node `number`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_node(&mut self, number: u32) -> Result<()> {
        let place = self.nodes.iter().position(|(n, _)| *n == number);
        let (_, mut process) = self.nodes.remove(place.with_context(|| format!("node {number} does not run"))?);
        Ok(process.kill()?)
    }

    /// SIGKILL for the coordinator.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_coordinator(&mut self) -> Result<()> {
        Ok(self.coordinator.take().context("the coordinator does not run")?.kill()?)
    }

    /// `/api/status`.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub fn status(&self) -> Result<Value> {
        get_json(&format!("{}/api/status", self.http())).map_err(anyhow::Error::msg)
    }

    /// `/api/rounds`.
    ///
    /// # Errors
    /// When the coordinator does not answer.
    pub fn rounds(&self) -> Result<Vec<Value>> {
        let url = format!("{}/api/rounds", self.http());
        let rounds = get_json(&url).map_err(anyhow::Error::msg)?;
        rounds.as_array().cloned().with_context(|| format!("{url} is no list"))
    }

    /// That every process still runs; the log's end of one that does not.
    ///
    /// # Errors
    /// Names the process that ended.
    pub fn check_alive(&mut self) -> Result<()> {
        let nodes = self.nodes.iter_mut().map(|(_, process)| process);
        for process in self.coordinator.iter_mut().chain(nodes) {
            if let Some(status) = process.ended()? {
                bail!("{} ended ({status}):\n{}", process.name(), process.log_tail(5));
            }
        }
        Ok(())
    }

    /// Ends everything in order: nodes first.
    pub fn stop(&mut self) {
        for (_, mut process) in self.nodes.drain(..) {
            let _ = process.stop(Duration::from_secs(10));
        }
        if let Some(mut process) = self.coordinator.take() {
            let _ = process.stop(Duration::from_secs(10));
        }
    }
}

/// A UDP port of the loopback interface that was free a moment ago.
fn free_udp_port() -> Result<u16> {
    Ok(std::net::UdpSocket::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// `path` as text.
///
/// # Errors
/// When it is not UTF-8.
pub fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Runs a program of this project to its end and gives what it printed.
///
/// # Errors
/// What it said, when it did not exit with 0.
pub fn call(name: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program(name)?).args(arguments).output().with_context(|| format!("running {name}"))?;
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{name} {} ended with {}: {}{}", arguments.join(" "), output.status, err.trim(), out.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

//! `essaim status`.

use crate::datadir::{self, DataDirError};
use crate::files;
use crate::status::{Activity, StatusFile};
use anyhow::Context;
use clap::Args;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The longest status file read, bytes.
const STATUS_MAX: u64 = 1 << 20;

/// Arguments of `essaim status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Reads DIR/status.json, which a running member writes about once a second, and says whether it runs now.
With --json: the fields of that file, 'running' and 'data_dir', as one object.
")]
pub struct StatusArgs {
    /// The data directory of the member [default: the only one in ~/.local/share/essaim]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl StatusArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let root = match self.data_dir {
            Some(root) => root,
            None => only_data_dir()?,
        };
        let run = datadir::run_of(&root)?;
        let running = datadir::is_running(&root)?;
        let path = root.join("status.json");
        let mut status = match files::read_bounded(&path, STATUS_MAX)? {
            Some(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is damaged; a running member writes it anew", path.display()))?,
            None => StatusFile::default(),
        };
        status.run = run.to_string();
        if self.json {
            let mut value = serde_json::to_value(&status)?;
            if let Some(object) = value.as_object_mut() {
                object.insert("running".into(), running.into());
                object.insert("data_dir".into(), root.display().to_string().into());
            }
            println!("{value}");
        } else {
            print!("{}", describe(&status, running, &root));
        }
        Ok(())
    }
}

/// The data directory to show when none is named.
fn only_data_dir() -> anyhow::Result<PathBuf> {
    let parent = datadir::default_parent()?;
    let mut found: Vec<PathBuf> = match std::fs::read_dir(&parent) {
        Ok(entries) => {
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|dir| dir.join("run").is_file()).collect()
        }
        Err(_) => Vec::new(),
    };
    found.sort();
    match found.as_slice() {
        [] => Err(DataDirError::Missing { path: parent }.into()),
        [one] => Ok(one.clone()),
        more => {
            let names: Vec<String> = more.iter().map(|dir| dir.display().to_string()).collect();
            anyhow::bail!("several runs have data here; name one with --data-dir: {}", names.join(", "))
        }
    }
}

/// The status as lines for people.
fn describe(status: &StatusFile, running: bool, root: &Path) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<12} {value}");
    };
    line("run", format!("{}{}", status.name.as_ref().map(|name| format!("{name}  ")).unwrap_or_default(), status.run));
    line("data", root.display().to_string());
    if !status.member.is_empty() {
        line("member", status.member.clone());
    }
    let activity = match (running, status.activity) {
        (false, Activity::Finished) => "the run is finished".to_owned(),
        (_, Activity::Halted) => "stopped: the operator broke the rules of the run".to_owned(),
        (false, _) => "not running: `essaim join LINK` goes on".to_owned(),
        (true, Activity::Connecting) => "looking for the coordinator".to_owned(),
        (true, Activity::Waiting) => "waiting for the next round".to_owned(),
        (true, Activity::Training) => format!("training: inner step {} of {}", status.step, status.steps),
        (true, Activity::Finished) => "the run is finished; still serving what others need".to_owned(),
        (true, Activity::Stopped) => "stopping".to_owned(),
    };
    line("now", activity);
    if let Some(device) = &status.device {
        line("trains on", device.clone());
    }
    if let Some(round) = status.round {
        let of = status.rounds.map(|rounds| format!(" of {rounds}")).unwrap_or_default();
        line("round", format!("{round}{of}"));
    }
    if let (Some(loss), Some(speed)) = (status.loss, status.tokens_per_s) {
        line("speed", format!("{speed:.0} tokens/s, loss {loss:.3}"));
    }
    line(
        "counted",
        format!("{} contributions of {} claims received, since the start", status.included, status.receipts),
    );
    if let (Some(round), Some(hash)) = (status.checkpoint_round, &status.checkpoint) {
        line("checkpoint", format!("of round {round}, {hash}"));
    }
    if running {
        line("peers", status.peers.to_string());
    }
    if let Some(problem) = &status.last_problem {
        line("last problem", problem.clone());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_whether_it_runs() {
        let status = StatusFile { activity: Activity::Training, step: 3, steps: 24, ..StatusFile::default() };
        assert!(describe(&status, true, Path::new("d")).contains("inner step 3 of 24"));
        assert!(describe(&status, false, Path::new("d")).contains("not running"));
    }
}

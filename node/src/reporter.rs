//! Where events go: standard error for people (a progress bar on a terminal, plain lines otherwise), standard output for
//! machines, and the status file.

use crate::bench::peak_memory_bytes;
use crate::events::Event;
use crate::files::{self, FileError};
use crate::status::StatusFile;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// At most one `inner_step` event in this time, and one status file.
const THROTTLE: Duration = Duration::from_millis(900);

/// At most one `inner_step` line of text in this time, where there is no progress bar.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// One JSON object a line on standard output.
    Json,
    /// Text on standard error; a progress bar if that is a terminal.
    Text,
    /// Not at all.
    Nothing,
}

/// Takes events, from any thread.
#[derive(Debug)]
pub struct Reporter {
    start: Instant,
    show: Show,
    bar: Option<ProgressBar>,
    status_path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    status: StatusFile,
    last_step: Option<Instant>,
    last_write: Option<Instant>,
    last_line: Option<Instant>,
    first_inner_step_s: Option<f64>,
}

impl Reporter {
    /// A reporter whose clock starts at `start`; `status_path` is where the status file is kept up to date.
    pub fn new(start: Instant, show: Show, status_path: Option<PathBuf>) -> Reporter {
        let bar = (show == Show::Text && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
            let style = ProgressStyle::with_template("{spinner} {msg} {wide_bar} {pos}/{len} ");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let status = StatusFile::default();
        let state = State { status, last_step: None, last_write: None, last_line: None, first_inner_step_s: None };
        Reporter { start, show, bar, status_path, state: Mutex::new(state) }
    }

    /// Shows `event` and notes it in the status file. Errors of output are ignored: nobody is left to tell.
    pub fn report(&self, event: &Event) {
        let Ok(mut state) = self.state.lock() else { return };
        let elapsed_s = self.start.elapsed().as_secs_f64();
        state.status.observe(event, elapsed_s);
        let is_step = matches!(event, Event::InnerStep { .. });
        if is_step {
            let first = state.first_inner_step_s.is_none();
            state.first_inner_step_s.get_or_insert(elapsed_s);
            let due = state.last_step.is_none_or(|last| last.elapsed() >= THROTTLE);
            if !first && !due {
                return;
            }
            state.last_step = Some(Instant::now());
        }
        match self.show {
            Show::Json => print_json(event, elapsed_s),
            Show::Text
                if is_step && self.bar.is_none() && state.last_line.is_some_and(|l| l.elapsed() < LINE_EVERY) => {}
            Show::Text => {
                if is_step {
                    state.last_line = Some(Instant::now());
                }
                self.print_text(event, elapsed_s, is_step);
            }
            Show::Nothing => {}
        }
        if !is_step || state.last_write.is_none_or(|last| last.elapsed() >= THROTTLE) {
            state.last_write = Some(Instant::now());
            state.status.peak_memory_bytes = peak_memory_bytes();
            let _ = self.write_status(&state.status);
        }
    }

    /// The status so far.
    pub fn status(&self) -> StatusFile {
        self.state.lock().map(|state| state.status.clone()).unwrap_or_default()
    }

    /// Notes the number of connected peers.
    pub fn set_peers(&self, peers: usize) {
        if let Ok(mut state) = self.state.lock() {
            state.status.peers = peers;
        }
    }

    /// The number of connected peers, as noted last.
    pub fn peers(&self) -> usize {
        self.state.lock().map_or(0, |state| state.status.peers)
    }

    fn write_status(&self, status: &StatusFile) -> Result<(), FileError> {
        let Some(path) = &self.status_path else { return Ok(()) };
        let json = serde_json::to_vec_pretty(status).unwrap_or_default();
        files::write_atomic(path, &json, files::MODE_PUBLIC)
    }

    fn print_text(&self, event: &Event, elapsed_s: f64, is_step: bool) {
        let Some(bar) = &self.bar else {
            let mut stderr = std::io::stderr().lock();
            let _ = writeln!(stderr, "{elapsed_s:8.1} s  {event}");
            return;
        };
        match event {
            Event::InnerStep { round, step, steps, loss, tokens_per_s, peers } if is_step => {
                bar.set_length(u64::from(*steps));
                bar.set_position(u64::from(*step));
                bar.set_message(format!("round {round}, loss {loss:.3}, {tokens_per_s:.0} tokens/s, {peers} peers"));
            }
            Event::RoundStarted { round, steps, .. } => {
                bar.set_length(u64::from(*steps));
                bar.set_position(0);
                bar.set_message(format!("round {round}"));
                bar.enable_steady_tick(Duration::from_millis(250));
            }
            Event::Claimed { .. } => {
                bar.set_position(bar.length().unwrap_or(0));
                bar.println(format!("{elapsed_s:8.1} s  {event}"));
            }
            Event::Finished { .. } | Event::Halted { .. } | Event::Stopped => {
                bar.finish_and_clear();
                let _ = writeln!(std::io::stderr().lock(), "{elapsed_s:8.1} s  {event}");
            }
            _ => bar.println(format!("{elapsed_s:8.1} s  {event}")),
        }
    }
}

fn print_json(event: &Event, elapsed_s: f64) {
    let Ok(mut value) = serde_json::to_value(event) else { return };
    if let Some(object) = value.as_object_mut() {
        object.insert("elapsed_s".into(), ((elapsed_s * 1000.0).round() / 1000.0).into());
    }
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{value}").and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_file_follows_the_events() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        let reporter = Reporter::new(Instant::now(), Show::Nothing, Some(path.clone()));
        reporter.set_peers(3);
        reporter.report(&Event::RoundStarted { round: 5, steps: 9, remaining_s: 60.0 });
        let status: StatusFile = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!((status.round, status.steps, status.peers), (Some(5), 9, 3));
        assert_eq!(status, reporter.status());
    }

    #[test]
    fn inner_steps_are_throttled_in_the_file_but_not_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("status.json");
        let reporter = Reporter::new(Instant::now(), Show::Nothing, Some(path.clone()));
        for step in 1..=5 {
            reporter.report(&Event::InnerStep { round: 1, step, steps: 9, loss: 1.0, tokens_per_s: 1.0, peers: 1 });
        }
        let written: StatusFile = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!((written.step, reporter.status().step), (1, 5));
    }
}

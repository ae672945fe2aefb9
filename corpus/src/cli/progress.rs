//! Progress for people, on stderr.

use essaim_corpus::build::Progress;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A bar on a terminal, a line for each stage elsewhere.
#[derive(Debug)]
pub(super) struct Bars {
    began: Instant,
    bar: Mutex<Option<ProgressBar>>,
    terminal: bool,
}

impl Bars {
    pub(super) fn new() -> Bars {
        Bars { began: Instant::now(), bar: Mutex::new(None), terminal: std::io::stderr().is_terminal() }
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Ends the last stage.
    pub(super) fn finish(&self) {
        if let Some(bar) = self.bar.lock().ok().and_then(|mut bar| bar.take()) {
            bar.finish_and_clear();
        }
    }
}

fn style(total: Option<u64>) -> ProgressStyle {
    // Stages that read or write text count its bytes, others their items.
    let template = match total {
        Some(total) if total >= 1 << 16 => {
            "{elapsed:>4} {msg:30} {bar:25} {percent:>3} %  {binary_bytes_per_sec}, {eta} left"
        }
        Some(_) => "{elapsed:>4} {msg:30} {bar:25} {percent:>3} %  {eta} left",
        None => "{elapsed:>4} {msg:30} {spinner} {pos}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Bars {
    fn stage(&self, name: &str, total: Option<u64>) {
        self.finish();
        if !self.terminal {
            eprintln!("{:6.1} s  {name}", self.seconds());
            return;
        }
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        bar.set_style(style(total));
        bar.set_message(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        if let Ok(mut current) = self.bar.lock() {
            *current = Some(bar);
        }
    }

    fn advance(&self, done: u64) {
        if let Ok(bar) = self.bar.lock() {
            bar.iter().for_each(|bar| bar.inc(done));
        }
    }
}

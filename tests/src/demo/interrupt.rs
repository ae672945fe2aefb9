//! Ctrl-C, SIGTERM and SIGHUP: noticed between two waits, so that every process is ended before the demo is.

use anyhow::{Context, Result, bail};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

static STOP: AtomicBool = AtomicBool::new(false);

/// From now on the three signals ask for an orderly end.
pub(super) fn install() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("watching signals")?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(watch()))
        .context("watching signals")?;
    Ok(())
}

async fn watch() {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = signals else { return };
    tokio::select! {
        _ = interrupt.recv() => {},
        _ = terminate.recv() => {},
        _ = hangup.recv() => {},
    }
    STOP.store(true, Ordering::SeqCst);
}

/// Whether an end was asked for.
///
/// # Errors
/// When it was; the error ends the demo on the ordinary way, which ends its processes.
pub(super) fn check() -> Result<()> {
    if STOP.load(Ordering::SeqCst) {
        bail!("interrupted; every process of the demo is stopped");
    }
    Ok(())
}

/// Waits, and notices a request to end within 50 ms.
pub(super) fn sleep(time: Duration) -> Result<()> {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        check()?;
        std::thread::sleep(Duration::from_millis(50).min(time));
    }
    check()
}

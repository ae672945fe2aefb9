//! JSON from the coordinator's HTTP service.

use serde_json::Value;
use std::time::Duration;

/// The JSON at `url`.
///
/// # Errors
/// One line: no answer, an HTTP error, or no JSON.
pub fn get_json(url: &str) -> Result<Value, String> {
    let text = get_text(url)?;
    serde_json::from_str(&text).map_err(|error| format!("{url}: {error}"))
}

/// The text at `url`, at most 16 MiB.
///
/// # Errors
/// One line: no answer or an HTTP error.
pub fn get_text(url: &str) -> Result<String, String> {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build();
    let agent: ureq::Agent = config.into();
    let mut answer = agent.get(url).call().map_err(|error| format!("{url}: {error}"))?;
    answer.body_mut().with_config().limit(16 << 20).read_to_string().map_err(|error| format!("{url}: {error}"))
}

/// A TCP port of the loopback interface that was free a moment ago.
///
/// # Errors
/// When none is.
pub fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

//! Answers cases of robots.txt, a JSON object a line: `{"robots": "…", "url": "…", "agent": "…"}` gives `true` or `false`, whether the
//! agent may fetch the address. `scripts/check_robots.sh` compares the answers with another implementation's.

use essaim_corpus::rights::robots::allows;
use serde::Deserialize;
use std::io::{BufWriter, Write};

#[derive(Deserialize)]
struct Case {
    robots: String,
    url: String,
    agent: String,
}

fn main() -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lines() {
        let case: Case = serde_json::from_str(&line?)?;
        writeln!(out, "{}", allows(case.robots.as_bytes(), &case.agent, &url::Url::parse(&case.url)?))?;
    }
    Ok(())
}

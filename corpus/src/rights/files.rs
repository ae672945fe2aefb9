//! Files that servers were asked for (`robots.txt`, `tdmrep.json`), in the forms in which people have them.

use super::RightsError;
use crate::readers::{Line, Next, Records, Response, next_line, open_bytes};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use url::Url;

/// One line of JSON at most, bytes: a file of 500 KiB, each byte written as `\u00XX`.
const LINE_MAX: u64 = 4 << 20;
/// One record of WARC at most, bytes.
const BLOCK_MAX: u64 = 4 << 20;

/// What a server answered.
pub(super) struct Answer<'a> {
    /// `host` or `host:port`, in lower case.
    pub(super) host: String,
    /// HTTP status; 0 where it could not be reached.
    pub(super) status: u16,
    pub(super) body: &'a [u8],
}

#[derive(Deserialize)]
struct JsonLine {
    host: Option<String>,
    url: Option<String>,
    status: Option<u16>,
    body: Option<String>,
}

/// The host of an address, with its port where that is not the scheme's own.
pub(super) fn host_of(url: &Url) -> Option<String> {
    let host = url.host_str()?.trim_end_matches('.').to_ascii_lowercase();
    Some(url.port().map_or(host.clone(), |port| format!("{host}:{port}")))
}

/// Gives all answers below `path`, in any order: a folder of `HOST.txt` (`extension`) or `HOST/robots.txt` (`name`); JSON lines with
/// `host` or `url`, `status` and `body`; or WARC.
pub(super) fn each(
    path: &Path,
    name: &str,
    give: &mut dyn FnMut(Answer<'_>) -> Result<(), RightsError>,
) -> Result<(), RightsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| RightsError::Read { path, error }
    };
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed(path))? {
            entries.push(entry.map_err(failed(path))?.path());
        }
        entries.sort();
        for entry in entries {
            let file_name = entry.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let inner = entry.join(name);
            match entry.is_dir() {
                true if inner.is_file() => one_file(&inner, &file_name, give)?,
                true => {}
                false => each_of_file(&entry, name, give)?,
            }
        }
        return Ok(());
    }
    each_of_file(path, name, give)
}

fn each_of_file(
    path: &Path,
    name: &str,
    give: &mut dyn FnMut(Answer<'_>) -> Result<(), RightsError>,
) -> Result<(), RightsError> {
    let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let lower = file_name.to_ascii_lowercase();
    let unpacked = lower.strip_suffix(".gz").or_else(|| lower.strip_suffix(".zst")).unwrap_or(&lower);
    let extension = name.rsplit('.').next().unwrap_or_default();
    match unpacked.rsplit_once('.') {
        Some((_, "jsonl" | "ndjson")) => json_lines(path, give),
        Some((_, "warc")) => warc(path, name, give),
        Some((host, ending)) if ending == extension && !host.is_empty() => one_file(path, host, give),
        _ => {
            let reason = format!("neither HOST.{extension} nor JSON lines (.jsonl) nor WARC (.warc)");
            Err(RightsError::Malformed { path: path.to_owned(), place: String::new(), reason })
        }
    }
}

fn one_file(
    path: &Path,
    host: &str,
    give: &mut dyn FnMut(Answer<'_>) -> Result<(), RightsError>,
) -> Result<(), RightsError> {
    use std::io::Read;
    let failed = |error| RightsError::Read { path: path.to_owned(), error };
    let mut body = Vec::new();
    open_bytes(path).map_err(failed)?.take(LINE_MAX).read_to_end(&mut body).map_err(failed)?;
    give(Answer { host: host.to_ascii_lowercase(), status: 200, body: &body })
}

fn json_lines(path: &Path, give: &mut dyn FnMut(Answer<'_>) -> Result<(), RightsError>) -> Result<(), RightsError> {
    let failed = |error| RightsError::Read { path: path.to_owned(), error };
    let mut file = open_bytes(path).map_err(failed)?;
    let (mut line, mut number) = (Vec::new(), 0u64);
    while let Some(kind) = next_line(&mut file, &mut line, LINE_MAX).map_err(failed)? {
        number += 1;
        let bad = |reason: String| RightsError::Malformed {
            path: path.to_owned(),
            place: format!("line {number}: "),
            reason: reason.replace('\n', " "),
        };
        if matches!(kind, Line::TooLong(_)) {
            return Err(bad(format!("longer than {LINE_MAX} bytes")));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let parsed: JsonLine = serde_json::from_slice(&line).map_err(|error| bad(error.to_string()))?;
        let of_url = |url: String| Url::parse(&url).ok().as_ref().and_then(host_of);
        let host = parsed.host.map(|host| host.to_ascii_lowercase()).or_else(|| parsed.url.and_then(of_url));
        let host = host.filter(|host| !host.is_empty() && host.len() <= 1024);
        let host = host.ok_or_else(|| bad("neither a 'host' nor a 'url' with one".into()))?;
        let body = parsed.body.unwrap_or_default();
        give(Answer { host, status: parsed.status.unwrap_or(200), body: body.as_bytes() })?;
    }
    Ok(())
}

fn warc(
    path: &Path,
    name: &str,
    give: &mut dyn FnMut(Answer<'_>) -> Result<(), RightsError>,
) -> Result<(), RightsError> {
    let failed = |error| RightsError::Read { path: path.to_owned(), error };
    let mut records = Records::new(open_bytes(path).map_err(failed)?);
    let mut number = 0u64;
    while let Some(next) = records.next(BLOCK_MAX, |record| record.kind() == "response").map_err(failed)? {
        number += 1;
        let record = match next {
            Next::Record(record) if record.kind() == "response" => record,
            Next::Record(_) => continue,
            Next::Broken(reason) => {
                let place = format!("record {number}: ");
                return Err(RightsError::Malformed { path: path.to_owned(), place, reason });
            }
        };
        let Some(url) = record.target().and_then(|target| Url::parse(target).ok()) else { continue };
        if !url.path().ends_with(name) {
            continue;
        }
        let Some(host) = host_of(&url) else { continue };
        // One that cannot be taken apart is no answer.
        match Response::parse(&record.block) {
            Ok(response) => {
                let body = response.body(BLOCK_MAX as usize).unwrap_or_default();
                give(Answer { host, status: response.status, body: &body })?;
            }
            Err(_) => give(Answer { host, status: 0, body: &[] })?,
        }
    }
    Ok(())
}

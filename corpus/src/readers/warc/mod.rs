//! WARC (ISO 28500) and WET files of web archives: pages of HTML or plain text that were answered with status 200, and texts that
//! others extracted.

mod bounds;
mod charset;
mod html;
pub(crate) mod http;
pub(crate) mod record;

use super::bytes;
use super::error::ReadError;
use super::row::{Input, NO_LANGUAGE, Row};
use super::{Given, Sink};
use crate::document::{Document, Tdm};
use html::Page;
use http::Response;
use record::{Next, Record, Records};
use serde_json::{Map, Value};

/// A record that is read at most, bytes; Common Crawl cuts pages at 1 or 5 MiB.
const BLOCK_MAX: u64 = 32 << 20;
/// A page at most, bytes, unpacked.
const PAGE_MAX: usize = 8 << 20;

pub(super) fn read(input: &Input<'_>, sink: &mut Sink<'_>) -> Result<Given, ReadError> {
    let path = &input.unit.path;
    let failed = bytes::failed(path);
    let mut records = Records::new(bytes::open(path).map_err(&failed)?);
    let wants = |record: &Record| matches!(record.kind(), "response" | "conversion");
    let mut number = 0;
    loop {
        let document = match records.next(BLOCK_MAX, wants).map_err(&failed)? {
            None => return Ok(Given::All),
            Some(Next::Broken(reason)) => Some(Err(reason)),
            Some(Next::Record(record)) if !wants(&record) => None,
            Some(Next::Record(record)) if record.len_bytes > BLOCK_MAX => {
                Some(Err(format!("a record of {} bytes, at most {BLOCK_MAX} are read", record.len_bytes)))
            }
            Some(Next::Record(record)) => document(input, record, number + 1).transpose(),
        };
        number += 1;
        let Some(document) = document else {
            sink.counts.other += 1;
            continue;
        };
        if sink.give(document, || format!("record {number}")).is_break() {
            return Ok(Given::Stopped);
        }
    }
}

/// The document in a record; `None` where it is none: an image, a redirection, a page of an error.
fn document(input: &Input<'_>, record: Record, number: u64) -> Result<Option<Document>, String> {
    let (mut page, tdm) = match record.kind() {
        "conversion" => match record.get("content-type") {
            Some(other) if !other.starts_with("text/plain") => return Ok(None),
            _ => (converted(&record)?, None),
        },
        _ => {
            let response = Response::parse(&record.block)?;
            let media_type = response.media_type();
            let is_html = matches!(media_type.as_str(), "text/html" | "application/xhtml+xml");
            if response.status != 200 || !(is_html || media_type == "text/plain") {
                return Ok(None);
            }
            let body = response.body(PAGE_MAX)?;
            let text = charset::decode(&body, response.charset());
            let page = match is_html {
                true => html::page(&text)?,
                false => Page { text: text.into_owned(), ..Page::default() },
            };
            (page, header_tdm(&response))
        }
    };
    if record.get("warc-truncated").is_some() {
        page.extra.insert("truncated".into(), true.into());
    }
    let url = record.target().map(str::to_owned);
    let id = record.get("warc-record-id").map(|id| id.trim_matches(['<', '>']).to_owned()).filter(|id| !id.is_empty());
    let row = Row {
        text: page.text,
        id: id.or_else(|| url.clone()).unwrap_or_else(|| input.numbered(number)),
        language: input.config.language.clone().or_else(|| Some(NO_LANGUAGE.into())),
        url,
        title: page.title,
        author: page.author,
        date: record.get("warc-date").map(str::to_owned),
        extra: (!page.extra.is_empty()).then(|| Value::Object(page.extra).to_string()),
        tdm: both(tdm, page.tdm),
        ..Row::default()
    };
    input.document(row).map(Some)
}

/// The text of a WET record.
fn converted(record: &Record) -> Result<Page, String> {
    let text = std::str::from_utf8(&record.block);
    let text = text.map_err(|error| format!("a text that is not UTF-8 at its byte {}", error.valid_up_to()))?;
    let mut extra = Map::new();
    if let Some(languages) = record.get("warc-identified-content-language") {
        extra.insert("identified_languages".into(), languages.into());
    }
    Ok(Page { text: text.trim().to_owned(), extra, ..Page::default() })
}

/// `tdm-reservation` and `tdm-policy` of the response (TDMRep, 4.2).
fn header_tdm(response: &Response<'_>) -> Option<Tdm> {
    let reserved = response.get("tdm-reservation")? == "1";
    let policy = response.get("tdm-policy").filter(|policy| !policy.is_empty() && policy.len() <= 512);
    Some(Tdm { reserved, policy: policy.map(str::to_owned) })
}

/// A reservation in the header or in the page is one.
fn both(header: Option<Tdm>, page: Option<Tdm>) -> Option<Tdm> {
    match (header, page) {
        (Some(header), Some(page)) if page.reserved && !header.reserved => Some(page),
        (Some(header), _) => Some(header),
        (None, page) => page,
    }
}

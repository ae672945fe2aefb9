//! JSON lines: an object a line, with the keys of the parquet columns.

use super::bytes::{self, Line, next_line};
use super::error::{ID_HINT, LANGUAGE_HINT, ReadError, SOURCE_HINT};
use super::row::{Input, Row, TEXT_MAX, missing};
use super::{Given, Sink};
use crate::document::Document;
use serde_json::{Map, Value};

pub(super) fn read(input: &Input<'_>, sink: &mut Sink<'_>) -> Result<Given, ReadError> {
    let path = &input.unit.path;
    let failed = bytes::failed(path);
    let mut file = bytes::open(path).map_err(&failed)?;
    let (mut line, mut number, mut at) = (Vec::new(), 0u64, 0u64);
    while let Some(kind) = next_line(&mut file, &mut line, TEXT_MAX).map_err(&failed)? {
        number += 1;
        let (len, document) = match kind {
            Line::TooLong(len) => (len, Some(Err(format!("longer than {TEXT_MAX} bytes")))),
            Line::Whole(len) => (len, document(input, &line, number, at)),
        };
        at += len;
        let place = || format!("line {number}");
        if document.is_some_and(|document| sink.give(document, place).is_break()) {
            return Ok(Given::Stopped);
        }
    }
    Ok(Given::All)
}

/// What a line holds; nothing where it is blank.
fn document(input: &Input<'_>, line: &[u8], number: u64, at: u64) -> Option<Result<Document, String>> {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => {
            let at = at + error.valid_up_to() as u64;
            return Some(Err(format!("not UTF-8 at byte {at}; convert it first (iconv -t UTF-8)")));
        }
    };
    if text.trim().is_empty() {
        return None;
    }
    let object: Result<Map<String, Value>, String> = serde_json::from_str(text).map_err(|error| error.to_string());
    Some(object.and_then(|object| row(input, object, number)).and_then(|row| input.document(row)))
}

fn row(input: &Input<'_>, mut object: Map<String, Value>, number: u64) -> Result<Row, String> {
    let columns = &input.config.columns;
    let absent = |object: &Map<String, Value>, key: &str, hint: &str| {
        let keys: Vec<&str> = object.keys().map(String::as_str).take(32).collect();
        let keys = keys.join(", ");
        format!("no column '{key}' (there are: {keys}); name it under [source.columns]{hint}")
    };
    for (key, needed, hint) in [
        (&columns.text, true, ""),
        (&columns.id, !columns.id.is_empty(), ID_HINT),
        (&columns.language, input.config.language.is_none(), LANGUAGE_HINT),
        (&columns.source, input.config.name.is_none(), SOURCE_HINT),
    ] {
        if needed && !object.contains_key(key) {
            return Err(absent(&object, key, hint));
        }
    }
    let mut string = |key: &str| match object.remove(key) {
        Some(Value::String(text)) => Ok(Some(text)),
        None | Some(Value::Null) => Ok(None),
        Some(_) => Err(format!("'{key}' is not a string")),
    };
    let text = string(&columns.text)?.ok_or_else(|| missing(&columns.text))?;
    let (language, source) = (string(&columns.language)?, string(&columns.source)?);
    let license = string(&columns.license)?;
    // Numbers, lists and objects of these are kept as JSON.
    let mut any = |key: &str| match object.remove(key) {
        Some(Value::String(text)) => Some(text),
        None | Some(Value::Null) => None,
        Some(value) => Some(value.to_string()),
    };
    let id = match columns.id.is_empty() {
        true => input.numbered(number),
        false => any(&columns.id).ok_or_else(|| missing(&columns.id))?,
    };
    Ok(Row {
        text,
        id,
        language,
        source,
        license,
        url: any(&columns.url),
        title: any(&columns.title),
        author: any(&columns.author),
        date: any(&columns.date),
        quality_signals: any(&columns.quality_signals),
        extra: any(&columns.extra),
        tdm: None,
    })
}

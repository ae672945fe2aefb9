//! JSON lines: an object a line, with the keys of the parquet columns.

use super::{Input, Raw, ReadError, TEXT_MAX};
use crate::document::Document;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

pub(super) fn read(input: &Input<'_>) -> Result<Vec<Document>, ReadError> {
    let failed = ReadError::io(&input.path);
    let mut file = BufReader::with_capacity(1 << 20, File::open(&input.path).map_err(&failed)?);
    let mut documents = Vec::new();
    let (mut line, mut number, mut at) = (Vec::new(), 0u64, 0u64);
    loop {
        line.clear();
        let read = (&mut file).take(TEXT_MAX + 1).read_until(b'\n', &mut line).map_err(&failed)? as u64;
        if read == 0 {
            return Ok(documents);
        }
        number += 1;
        let malformed = |reason: String| ReadError::Malformed {
            path: input.path.clone(),
            place: format!("line {number}: "),
            reason,
        };
        if read > TEXT_MAX {
            return Err(malformed(format!("longer than {TEXT_MAX} bytes")));
        }
        let text = std::str::from_utf8(&line)
            .map_err(|error| ReadError::NotUtf8 { path: input.path.clone(), at: at + error.valid_up_to() as u64 })?;
        at += read;
        if !text.trim().is_empty() {
            let object: Map<String, Value> =
                serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
            documents.push(document(input, &object, number)?);
        }
    }
}

fn document(input: &Input<'_>, object: &Map<String, Value>, line: u64) -> Result<Document, ReadError> {
    let columns = &input.config.columns;
    let place = || format!("line {line}");
    let text_of = |key: &str| match object.get(key) {
        Some(Value::String(text)) => Ok(Some(text.clone())),
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) if key == columns.id => Ok(Some(number.to_string())),
        Some(value) if key == columns.id => Ok(Some(value.to_string())),
        Some(_) => Err(ReadError::Malformed {
            path: input.path.clone(),
            place: format!("line {line}: "),
            reason: format!("'{key}' is not a string"),
        }),
    };
    let required = |key: &str, defaulted: bool, hint| match (text_of(key)?, defaulted) {
        (None, false) if !object.contains_key(key) => Err(ReadError::MissingColumn {
            path: input.path.clone(),
            column: key.to_owned(),
            available: object.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
            hint,
        }),
        (value, _) => Ok(value),
    };
    let missing =
        |key: &str| ReadError::MissingValue { path: input.path.clone(), place: place(), column: key.to_owned() };
    let text = required(&columns.text, false, "")?.ok_or_else(|| missing(&columns.text))?;
    let id = required(&columns.id, false, "")?.ok_or_else(|| missing(&columns.id))?;
    let language = required(&columns.language, input.config.language.is_some(), super::LANGUAGE_HINT)?;
    let source = required(&columns.source, input.config.name.is_some(), super::SOURCE_HINT)?;
    let license = text_of(&columns.license)?.or_else(|| match object.get("extra") {
        Some(Value::Object(extra)) => extra.get("license").and_then(Value::as_str).map(str::to_owned),
        Some(Value::String(extra)) => super::license_of_extra(extra),
        _ => None,
    });
    let raw = Raw { text: &text, language: language.as_deref(), source: source.as_deref(), id: &id, license };
    input.document(raw, place)
}

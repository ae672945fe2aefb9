//! Parquet with the columns of the Lucie-Training-Dataset: `text`, `language`, `source`, `id`, all strings, and others.

use super::guard::guarded;
use super::{Input, Raw, ReadError};
use crate::document::Document;
use arrow_array::{Array, ArrayRef, LargeStringArray, RecordBatch, StringArray, StringViewArray};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use std::fs::File;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 1024;

pub(super) fn read(input: &Input<'_>) -> Result<Vec<Document>, ReadError> {
    guarded(|| read_unguarded(input)).unwrap_or_else(|panic| {
        let reason = format!("not a readable parquet file: damaged ({panic})");
        Err(ReadError::Malformed { path: input.path.clone(), place: String::new(), reason })
    })
}

fn read_unguarded(input: &Input<'_>) -> Result<Vec<Document>, ReadError> {
    let file = File::open(&input.path).map_err(ReadError::io(&input.path))?;
    let malformed = |reason: String| ReadError::Malformed {
        path: input.path.clone(),
        place: String::new(),
        reason: format!("not a readable parquet file: {reason}"),
    };
    // Writers store hints for types in their own memory (dictionaries); plain strings are what is wanted here.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
        .map_err(|error| malformed(error.to_string()))?;
    let columns = wanted(input, builder.schema())?;
    let names = columns.iter().flatten().map(String::as_str);
    let mask = ProjectionMask::columns(builder.parquet_schema(), names);
    let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build();
    let mut documents = Vec::new();
    for batch in reader.map_err(|error| malformed(error.to_string()))? {
        let batch = batch.map_err(|error| match error.to_string() {
            reason if reason.to_ascii_lowercase().contains("utf8") || reason.to_ascii_lowercase().contains("utf-8") => {
                malformed(format!("a text that is not UTF-8 ({reason})"))
            }
            reason => malformed(reason),
        })?;
        read_batch(input, &columns, &batch, &mut documents)?;
    }
    Ok(documents)
}

/// The columns to read, in the order text, id, language, source, license, extra; those that may be absent and are, as `None`.
fn wanted(input: &Input<'_>, schema: &arrow_schema::Schema) -> Result<[Option<String>; 6], ReadError> {
    let (columns, config) = (&input.config.columns, input.config);
    let find = |column: &str, needed: bool, hint: &'static str| match schema.index_of(column) {
        Ok(_) => Ok(Some(column.to_owned())),
        Err(_) if !needed => Ok(None),
        Err(_) => Err(ReadError::MissingColumn {
            path: input.path.clone(),
            column: column.to_owned(),
            available: schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", "),
            hint,
        }),
    };
    Ok([
        find(&columns.text, true, "")?,
        find(&columns.id, true, "")?,
        find(&columns.language, config.language.is_none(), super::LANGUAGE_HINT)?,
        find(&columns.source, config.name.is_none(), super::SOURCE_HINT)?,
        find(&columns.license, false, "")?,
        find("extra", false, "")?,
    ])
}

/// A column of strings in any of their in-memory forms.
enum Strings<'a> {
    Small(&'a StringArray),
    Large(&'a LargeStringArray),
    View(&'a StringViewArray),
}

impl<'a> Strings<'a> {
    fn of(array: &'a ArrayRef) -> Option<Strings<'a>> {
        let any = array.as_any();
        let small = any.downcast_ref().map(Strings::Small);
        small.or_else(|| any.downcast_ref().map(Strings::Large)).or_else(|| any.downcast_ref().map(Strings::View))
    }

    fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Strings::Small(array) => array.is_valid(row).then(|| array.value(row)),
            Strings::Large(array) => array.is_valid(row).then(|| array.value(row)),
            Strings::View(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }
}

fn read_batch(
    input: &Input<'_>,
    columns: &[Option<String>; 6],
    batch: &RecordBatch,
    documents: &mut Vec<Document>,
) -> Result<(), ReadError> {
    let strings = |name: &Option<String>| -> Result<Option<Strings<'_>>, ReadError> {
        let Some((name, array)) = name.as_ref().and_then(|name| Some((name, batch.column_by_name(name)?))) else {
            return Ok(None);
        };
        match Strings::of(array) {
            Some(strings) => Ok(Some(strings)),
            // Not a column of strings, and not one that must be.
            None if name == "extra" => Ok(None),
            None => Err(ReadError::ColumnType {
                path: input.path.clone(),
                column: name.clone(),
                got: array.data_type().to_string(),
            }),
        }
    };
    let [text, id, language, source, license, extra] = columns;
    let (texts, ids) = (strings(text)?, strings(id)?);
    let (languages, sources) = (strings(language)?, strings(source)?);
    let (licenses, extras) = (strings(license)?, strings(extra)?);
    let first_row = documents.len();
    for row in 0..batch.num_rows() {
        let get =
            |strings: &Option<Strings<'_>>| strings.as_ref().and_then(|strings| strings.get(row).map(str::to_owned));
        let place = || format!("row {}", first_row + row);
        let required = |strings: &Option<Strings<'_>>, name: &Option<String>| {
            get(strings).ok_or_else(|| ReadError::MissingValue {
                path: input.path.clone(),
                place: place(),
                column: name.clone().unwrap_or_default(),
            })
        };
        let (text, id) = (required(&texts, text)?, required(&ids, id)?);
        let (language, source) = (get(&languages), get(&sources));
        let license = get(&licenses).or_else(|| super::license_of_extra(&get(&extras)?));
        let raw = Raw { text: &text, language: language.as_deref(), source: source.as_deref(), id: &id, license };
        documents.push(input.document(raw, place)?);
    }
    Ok(())
}

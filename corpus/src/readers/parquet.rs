//! Parquet with the columns of the Lucie-Training-Dataset: `text`, `language`, `source`, `id`, all strings, and others. Read column by
//! column as bytes, so that one value that is not UTF-8 costs one row.

use super::error::{ID_HINT, LANGUAGE_HINT, ReadError, SOURCE_HINT};
use super::guard::guarded;
use super::row::{Input, Row, missing};
use super::{Given, Sink};
use ::parquet::basic::Type as Physical;
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use ::parquet::schema::types::SchemaDescriptor;
use std::fs::File;

/// Rows decoded at a time: with texts of a megabyte, 64 MiB.
const BATCH_ROWS: usize = 64;

pub(super) fn read(input: &Input<'_>, sink: &mut Sink<'_>) -> Result<Given, ReadError> {
    let file = File::open(&input.unit.path).map_err(ReadError::io(&input.unit.path))?;
    let reader = whole(input, || SerializedFileReader::new(file))?;
    let metadata = reader.metadata();
    let columns = wanted(input, metadata.file_metadata().schema_descr())?;
    let mut row = 0u64;
    for group in 0..metadata.num_row_groups() {
        let (group, mut left) = whole(input, || {
            let rows = usize::try_from(metadata.row_group(group).num_rows())
                .map_err(|_| ParquetError::General("a negative number of rows".into()))?;
            Ok((reader.get_row_group(group)?, rows))
        })?;
        let mut readers = whole(input, || open(&*group, &columns))?;
        while left > 0 {
            let rows = left.min(BATCH_ROWS);
            let batch =
                whole(input, || readers.iter_mut().map(|reader| reader.next(rows)).collect::<Result<Vec<_>, _>>())?;
            let mut cells = Cells { columns: batch };
            for _ in 0..rows {
                let document = cells.row(input, &columns, row).and_then(|row| input.document(row));
                if sink.give(document, || format!("row {row}")).is_break() {
                    return Ok(Given::Stopped);
                }
                row += 1;
            }
            left -= rows;
        }
    }
    Ok(Given::All)
}

/// What `work` gives; its error, or the panic of the library, becomes one of the file.
fn whole<T>(input: &Input<'_>, work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ReadError> {
    let malformed = |reason: String| {
        let reason = format!("not a readable parquet file: {}", reason.replace('\n', " "));
        ReadError::Malformed { path: input.unit.path.clone(), place: String::new(), reason }
    };
    match guarded(work) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(malformed(error.to_string())),
        Err(panic) => Err(malformed(format!("damaged ({panic})"))),
    }
}

/// Which columns are read, in the order text, id, language, source, license, url, title, author, date, quality_signals, extra.
type Columns = [Option<usize>; 11];

fn wanted(input: &Input<'_>, schema: &SchemaDescriptor) -> Result<Columns, ReadError> {
    let (columns, config) = (&input.config.columns, input.config);
    let available =
        || schema.root_schema().get_fields().iter().map(|field| field.name()).collect::<Vec<_>>().join(", ");
    let wanted = [
        (&columns.text, true, ""),
        (&columns.id, !columns.id.is_empty(), ID_HINT),
        (&columns.language, config.language.is_none(), LANGUAGE_HINT),
        (&columns.source, config.name.is_none(), SOURCE_HINT),
        (&columns.license, false, ""),
        (&columns.url, false, ""),
        (&columns.title, false, ""),
        (&columns.author, false, ""),
        (&columns.date, false, ""),
        (&columns.quality_signals, false, ""),
        (&columns.extra, false, ""),
    ];
    let mut found = [None; 11];
    for (place, (name, needed, hint)) in found.iter_mut().zip(wanted) {
        let exists = schema.root_schema().get_fields().iter().any(|field| field.name() == name);
        *place = schema.columns().iter().position(|column| column.path().parts() == std::slice::from_ref(name));
        let column = place.map(|index| schema.column(index));
        let type_name = column.as_ref().map_or_else(|| "group".to_owned(), |column| column.physical_type().to_string());
        let readable = column.is_some_and(|column| {
            let number = matches!(column.physical_type(), Physical::INT32 | Physical::INT64);
            let required = [&columns.text, &columns.language, &columns.source, &columns.license].contains(&name);
            column.max_rep_level() == 0 && (column.physical_type() == Physical::BYTE_ARRAY || (number && !required))
        });
        match (exists, readable) {
            (true, true) => {}
            (false, _) if !needed => *place = None,
            (false, _) => {
                let (path, column) = (input.unit.path.clone(), name.clone());
                return Err(ReadError::MissingColumn { path, column, available: available(), hint });
            }
            // Lists and groups of what is not needed are left out.
            (true, false) if !needed && name != &columns.license => *place = None,
            (true, false) => {
                let (path, column) = (input.unit.path.clone(), name.clone());
                return Err(ReadError::ColumnType { path, column, got: type_name });
            }
        }
    }
    Ok(found)
}

/// A column, read on and on.
struct Reader {
    kind: Kind,
    def_level_max: i16,
}

enum Kind {
    Absent,
    Bytes(ColumnReaderImpl<ByteArrayType>),
    Int32(ColumnReaderImpl<Int32Type>),
    Int64(ColumnReaderImpl<Int64Type>),
}

fn open(group: &dyn RowGroupReader, columns: &Columns) -> Result<Vec<Reader>, ParquetError> {
    let schema = group.metadata().schema_descr_ptr();
    let open_one = |column: &Option<usize>| {
        let Some(index) = *column else { return Ok(Reader { kind: Kind::Absent, def_level_max: 0 }) };
        let kind = match group.get_column_reader(index)? {
            ColumnReader::ByteArrayColumnReader(reader) => Kind::Bytes(reader),
            ColumnReader::Int32ColumnReader(reader) => Kind::Int32(reader),
            ColumnReader::Int64ColumnReader(reader) => Kind::Int64(reader),
            _ => return Err(ParquetError::General("a column that changes its type".into())),
        };
        Ok(Reader { kind, def_level_max: schema.column(index).max_def_level() })
    };
    columns.iter().map(open_one).collect()
}

impl Reader {
    /// The values of the next rows, the last one first, so that they can be taken from the end.
    fn next(&mut self, rows: usize) -> Result<Vec<Option<ByteArray>>, ParquetError> {
        let text = |number: i64| ByteArray::from(number.to_string().into_bytes());
        let level = self.def_level_max;
        let mut values = match &mut self.kind {
            Kind::Absent => vec![None; rows],
            Kind::Bytes(reader) => next(reader, rows, level, |value| value)?,
            Kind::Int32(reader) => next(reader, rows, level, |number| text(i64::from(number)))?,
            Kind::Int64(reader) => next(reader, rows, level, text)?,
        };
        values.reverse();
        Ok(values)
    }
}

fn next<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    def_level_max: i16,
    convert: impl Fn(T::T) -> ByteArray,
) -> Result<Vec<Option<ByteArray>>, ParquetError> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    let mut read = 0;
    while read < rows {
        let def_levels = (def_level_max > 0).then_some(&mut levels);
        match reader.read_records(rows - read, def_levels, None, &mut values)? {
            (0, ..) => return Err(ParquetError::General(format!("a column ends {} rows early", rows - read))),
            (records, ..) => read += records,
        }
    }
    let mut values = values.into_iter().map(convert);
    let mut take = || values.next().ok_or_else(|| ParquetError::General("a column has too few values".into()));
    match def_level_max {
        0 => (0..rows).map(|_| take().map(Some)).collect(),
        level => levels.iter().map(|&have| if have == level { take().map(Some) } else { Ok(None) }).collect(),
    }
}

/// Some rows, by column.
struct Cells {
    columns: Vec<Vec<Option<ByteArray>>>,
}

impl Cells {
    /// The next row. All its cells are taken, whatever is wrong with one.
    fn row(&mut self, input: &Input<'_>, columns: &Columns, number: u64) -> Result<Row, String> {
        let names = &input.config.columns;
        let mut cells = self.columns.iter_mut().map(|column| column.pop().flatten());
        let mut take = || cells.next().flatten();
        let cells: [Option<ByteArray>; 11] = std::array::from_fn(|_| take());
        let [text, id, language, source, license, url, title, author, date, quality_signals, extra] = cells;
        let string =
            |cell: Option<ByteArray>, name: &str| match cell.as_ref().map(|cell| std::str::from_utf8(cell.data())) {
                None => Ok(None),
                Some(Ok(text)) => Ok(Some(text.to_owned())),
                Some(Err(error)) => Err(format!("'{name}' is not UTF-8 at its byte {}", error.valid_up_to())),
            };
        let id = match columns[1] {
            None => input.numbered(number),
            Some(_) => string(id, &names.id)?.ok_or_else(|| missing(&names.id))?,
        };
        Ok(Row {
            text: string(text, &names.text)?.ok_or_else(|| missing(&names.text))?,
            id,
            language: string(language, &names.language)?,
            source: string(source, &names.source)?,
            license: string(license, &names.license)?,
            url: string(url, &names.url)?,
            title: string(title, &names.title)?,
            author: string(author, &names.author)?,
            date: string(date, &names.date)?,
            quality_signals: string(quality_signals, &names.quality_signals)?,
            extra: string(extra, &names.extra)?,
            tdm: None,
        })
    }
}

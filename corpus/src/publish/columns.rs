//! Parquet files with columns of strings: deterministic bytes, row groups of bounded size.

use super::PublishError;
use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::io::Write;
use std::sync::Arc;

/// Text after which a row group ends, bytes.
const GROUP_TEXT: usize = 32 << 20;
/// Rows after which one ends.
const GROUP_ROWS: usize = 1 << 16;
/// Values after which a batch is handed to the encoder, bytes.
const BATCH_TEXT: usize = 4 << 20;
/// What files say of their writer: no version of a library, so that its next release does not change their bytes for nothing.
const CREATED_BY: &str = "essaim-corpus";

/// Writes rows of strings, and of one number after them where `number` names it.
pub(super) struct Rows<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: Arc<Schema>,
    strings: Vec<StringBuilder>,
    numbers: Option<Vec<u64>>,
    pending: usize,
    group: (usize, usize),
}

impl<W: Write + Send> Rows<W> {
    pub(super) fn new(out: W, names: &[&str], number: Option<&str>) -> Result<Rows<W>, PublishError> {
        let strings = names.iter().map(|name| Field::new(*name, DataType::Utf8, false));
        let numbers = number.iter().map(|name| Field::new(*name, DataType::UInt64, false));
        let schema = Arc::new(Schema::new(strings.chain(numbers).collect::<Vec<_>>()));
        let properties = WriterProperties::builder()
            .set_created_by(CREATED_BY.into())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_max_row_group_row_count(Some(usize::MAX))
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(out, schema.clone(), options)?;
        let strings = names.iter().map(|_| StringBuilder::new()).collect();
        Ok(Rows { writer, schema, strings, numbers: number.map(|_| Vec::new()), pending: 0, group: (0, 0) })
    }

    pub(super) fn push(&mut self, values: &[&str], number: u64) -> Result<(), PublishError> {
        for (builder, value) in self.strings.iter_mut().zip(values) {
            builder.append_value(value);
            self.pending += value.len();
            self.group.1 += value.len();
        }
        self.numbers.iter_mut().for_each(|numbers| numbers.push(number));
        self.group.0 += 1;
        if self.pending >= BATCH_TEXT || self.group.0 >= GROUP_ROWS {
            self.hand_over()?;
        }
        if self.group.0 >= GROUP_ROWS || self.group.1 >= GROUP_TEXT {
            self.hand_over()?;
            self.writer.flush()?;
            self.group = (0, 0);
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), PublishError> {
        let mut columns: Vec<ArrayRef> =
            self.strings.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef).collect();
        if let Some(numbers) = &mut self.numbers {
            columns.push(Arc::new(UInt64Array::from(std::mem::take(numbers))));
        }
        self.pending = 0;
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        match batch.num_rows() {
            0 => Ok(()),
            _ => Ok(self.writer.write(&batch)?),
        }
    }

    pub(super) fn finish(mut self) -> Result<W, PublishError> {
        self.hand_over()?;
        Ok(self.writer.into_inner()?)
    }
}

//! A trace with pseudonyms for names: what becomes of a column stands in `schema/src/tables.rs`.

use super::pseudonyms::Pseudonyms;
use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Int32Type, Schema};
use ipc_schema::manifest::{Part, Session};
use ipc_schema::store::compact;
use ipc_schema::store::log::{BlockWriter, Blocks};
use ipc_schema::store::part::PartWriter;
use ipc_schema::tables::{Redaction, SESSION, Table, arrow_schema};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use rustc_hash::FxHashMap;
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

const CREATED_BY: &str = concat!("ipc-recorder ", env!("CARGO_PKG_VERSION"));
/// Lists in JSON that hold names; other texts in it hold names in paths only.
const LISTS_OF_NAMES: [&str; 2] = ["comms", "cgroups"];
/// Paths that every machine has.
const KERNEL_PATHS: [&str; 2] = ["/proc/", "/sys/"];

/// Replaces names.
pub struct Redactor(pub Pseudonyms);

impl Redactor {
    /// What `trace.json` says of the recording.
    ///
    /// # Errors
    /// Never: it has the same fields.
    pub fn session(&self, session: &Session) -> serde_json::Result<Session> {
        let mut values = serde_json::to_value(session)?;
        for column in SESSION.columns {
            match (column.redaction, values.get_mut(column.name)) {
                (Redaction::Names, Some(Value::String(text))) => *text = self.0.names(text),
                (Redaction::Json, Some(value)) => self.json(value, false),
                _ => {}
            }
        }
        serde_json::from_value(values)
    }

    fn json(&self, value: &mut Value, are_names: bool) {
        match value {
            Value::String(text) => *text = if are_names { self.0.names(text) } else { self.prose(text) },
            Value::Array(values) => values.iter_mut().for_each(|value| self.json(value, are_names)),
            Value::Object(fields) => {
                fields.iter_mut().for_each(|(name, value)| self.json(value, LISTS_OF_NAMES.contains(&name.as_str())));
            }
            _ => {}
        }
    }

    /// A sentence: where a path ends nobody knows, so all from there on becomes one pseudonym.
    fn prose(&self, text: &str) -> String {
        let is_path = |at: &usize| {
            let (before, path) = text.split_at(*at);
            !KERNEL_PATHS.iter().any(|known| path.starts_with(known))
                && before.chars().next_back().is_none_or(|c| !c.is_alphanumeric())
        };
        match text.match_indices('/').map(|(at, _)| at).find(is_path) {
            Some(at) => format!("{}{}", &text[..at], self.0.word(&text[at..])),
            None => text.to_owned(),
        }
    }

    fn text(&self, redaction: Redaction, text: &str) -> Result<String, String> {
        Ok(match redaction {
            Redaction::Plain | Redaction::Key => text.to_owned(),
            Redaction::Names => self.0.names(text),
            Redaction::Symbol => {
                let (function, offset) = text.rsplit_once("+0x").unwrap_or((text, "0"));
                format!("{}+0x{offset}", self.0.names(function))
            }
            Redaction::Json => {
                let mut value =
                    serde_json::from_str(text).map_err(|error| format!("a text that is no JSON: {error}"))?;
                self.json(&mut value, false);
                value.to_string()
            }
        })
    }

    /// Rows of a table, with all of its columns and no other.
    ///
    /// # Errors
    /// They are not those of the table.
    pub fn rows(&self, table: &Table, rows: &RecordBatch) -> Result<RecordBatch, String> {
        let rows = compact::complete(table, rows)?;
        let schema = rows.schema();
        let columns = schema.fields().iter().zip(rows.columns());
        let hide = |(field, values): (&Arc<Field>, &ArrayRef)| match table
            .column(field.name())
            .map_or(Redaction::Plain, |column| column.redaction)
        {
            Redaction::Plain => Ok(values.clone()),
            Redaction::Key => self.keys(values),
            redaction => self.texts(redaction, values),
        };
        let columns = columns.map(hide).collect::<Result<Vec<ArrayRef>, String>>()?;
        RecordBatch::try_new(schema, columns).map_err(|error| error.to_string())
    }

    fn keys(&self, values: &ArrayRef) -> Result<ArrayRef, String> {
        let keys = values.as_primitive_opt::<Int32Type>().ok_or("keys that are no Int32")?;
        let mut known = FxHashMap::default();
        let mut hide = |key: i32| *known.entry(key).or_insert_with(|| self.0.key(key));
        Ok(Arc::new(keys.iter().map(|key| key.map(&mut hide)).collect::<Int32Array>()))
    }

    fn texts(&self, redaction: Redaction, values: &ArrayRef) -> Result<ArrayRef, String> {
        let texts = values.as_dictionary_opt::<Int32Type>().ok_or("names that are no text")?;
        let distinct = texts.values().as_string_opt::<i32>().ok_or("names that are no text")?;
        let hidden = distinct.iter().map(|text| text.map(|text| self.text(redaction, text)).transpose());
        let hidden = hidden.collect::<Result<StringArray, String>>()?;
        Ok(Arc::new(texts.with_values(Arc::new(hidden))))
    }

    /// A part, written anew; what the manifest is to say of it, under its name `file`.
    ///
    /// # Errors
    /// It is not a part of the table.
    pub fn part(&self, table: &'static Table, file: String, from: File, to: File) -> Result<(File, Part), String> {
        let metadata = with_dictionaries(table, &from).map_err(|error| error.to_string())?;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(from, metadata).build();
        let mut writer = PartWriter::new(table, CREATED_BY, to).map_err(|error| error.to_string())?;
        for rows in reader.map_err(|error| error.to_string())? {
            let rows = self.rows(table, &rows.map_err(|error| error.to_string())?)?;
            writer.write(&rows).map_err(|error| error.to_string())?;
        }
        writer.finish(file).map_err(|error| error.to_string())
    }

    /// A segment of a log of so many bytes, written anew. As many bytes as cannot be read follow it: a reader is to see that
    /// something is missing, and how much.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn segment(&self, from: impl Read, bytes: u64, to: &mut File) -> Result<(), String> {
        let mut blocks = Blocks::new(from);
        let mut writer = BlockWriter::new().map_err(|error| error.to_string())?;
        while let Some(Ok(block)) = blocks.next() {
            for rows in block {
                let hidden = self.rows(rows.table, &rows.batch)?;
                let added = writer.add(rows.table, rows.standing, rows.until_ns, &hidden);
                added.map_err(|error| error.to_string())?;
            }
            let block = writer.finish().map_err(|error| error.to_string())?;
            to.write_all(&block).map_err(|error| error.to_string())?;
        }
        let unread = bytes.saturating_sub(blocks.whole_bytes);
        io::copy(&mut io::repeat(0).take(unread), to).map(drop).map_err(|error| error.to_string())
    }
}

/// The footer of a part; text is read as dictionaries, each name once.
fn with_dictionaries(table: &Table, from: &File) -> parquet::errors::Result<ArrowReaderMetadata> {
    let options = || ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let found = ArrowReaderMetadata::load(from, options())?;
    let declared = arrow_schema::schema(table);
    let field = |field: &Arc<Field>| match declared.field_with_name(field.name()) {
        Ok(known) if *known.data_type() == arrow_schema::text() => {
            field.as_ref().clone().with_data_type(arrow_schema::text())
        }
        _ => field.as_ref().clone(),
    };
    let fields: Vec<Field> = found.schema().fields().iter().map(field).collect();
    ArrowReaderMetadata::try_new(found.metadata().clone(), options().with_schema(Arc::new(Schema::new(fields))))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use ipc_schema::manifest::{Attached, Filters, Missing};

    #[test]
    fn a_session_keeps_what_is_no_name() {
        let redactor = Redactor(Pseudonyms::new(b"secret"));
        let hidden = |name: &str| redactor.0.names(name);
        let missing = |reason: &str| Missing { reason: reason.into(), ..missing_nothing() };
        let session = Session {
            host: "db1".into(),
            kernel: "6.18.44 #1 SMP".into(),
            command: Some("./server /etc/secret".into()),
            filters: Filters { comms: vec!["my thread".into()], syscalls: vec!["semop".into()], ..Filters::default() },
            attach: vec![Attached { hook: "4 functions of /opt/a b".into(), way: "uprobe".into(), reason: None }],
            missing: vec![missing("/proc/1/ns/ipc: Permission denied"), missing("semget of /opt/lib: not there")],
            ..Session::default()
        };
        let found = redactor.session(&session).unwrap();
        assert_eq!((found.host, found.kernel), (hidden("db1"), session.kernel.clone()));
        assert_eq!(found.command, Some(hidden("./server /etc/secret")));
        assert_eq!(found.filters.comms, [hidden("my thread")]);
        assert_eq!(found.filters.syscalls, session.filters.syscalls);
        assert_eq!(found.attach[0].hook, format!("4 functions of {}", redactor.0.word("/opt/a b")));
        assert_eq!(found.missing[0], session.missing[0]);
        assert_eq!(found.missing[1].reason, format!("semget of {}", redactor.0.word("/opt/lib: not there")));
    }

    fn missing_nothing() -> Missing {
        Missing { feature: "x".into(), reason: String::new(), remedy: "y".into() }
    }
}

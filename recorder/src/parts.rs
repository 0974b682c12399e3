//! Segments of the log become parts: complete Parquet files.
//!
//! A `*.parquet` is always whole: it is written under a dot-name, synced, renamed, its directory synced, and only then
//! listed in `trace.json`, which is itself replaced atomically, and which says in the same stroke that the segment is done.

use crate::directory::{self, Error, named};
use crate::log;
use ipc_schema::manifest::{self, Manifest, Part, Session};
use ipc_schema::store::log::{Blocks, Rows, Standing};
use ipc_schema::store::part::PartWriter;
use ipc_schema::tables::{TABLES, Table};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A part is closed when it is this large.
const PART_BYTES: u64 = 256 << 20;
const CREATED_BY: &str = concat!("ipc-recorder ", env!("CARGO_PKG_VERSION"));

/// The parts of a trace.
pub struct Parts {
    directory: PathBuf,
    /// What `trace.json` holds.
    pub manifest: Manifest,
}

/// A part that is being written.
struct OpenPart {
    writer: PartWriter<File>,
    hidden: PathBuf,
}

/// The parts of one segment, none of which is listed yet.
struct Conversion<'a> {
    directory: &'a Path,
    /// Of each table, in the order of [`TABLES`].
    open: Vec<Option<OpenPart>>,
    /// How many parts each table has.
    counts: Vec<usize>,
    done: Vec<Part>,
}

impl Parts {
    /// Those of a trace that begins; puts a first `trace.json` there: who waits for it knows that the recording runs.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn begin(directory: &Path, manifest: Manifest) -> Result<Parts, Error> {
        let parts = Parts { directory: directory.to_owned(), manifest };
        parts.write_manifest()?;
        Ok(parts)
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.manifest.parts.iter().map(|part| part.bytes).sum()
    }

    /// Turns a closed segment into parts, and removes it.
    ///
    /// # Errors
    /// The disk refuses: then no part of it is listed, and the segment is still there.
    pub fn convert(&mut self, segment: u32) -> Result<(), Error> {
        let path = log::path_of(&self.directory, segment);
        let mut conversion = Conversion::new(&self.directory, &self.manifest);
        let result = conversion.read(&path).and_then(|()| conversion.finish());
        if let Err(error) = result {
            conversion.abandon();
            return Err(error);
        }
        self.manifest.parts.append(&mut conversion.done);
        self.manifest.log_from = Some(segment + 1);
        self.write_manifest()?;
        fs::remove_file(&path).map_err(named(&path))
    }

    /// Completes the trace, all segments of which were converted; a table without rows gets one empty part, so that every
    /// reader finds it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn complete(&mut self, session: Session) -> Result<(), Error> {
        let mut conversion = Conversion::new(&self.directory, &self.manifest);
        for index in 0..TABLES.len() {
            if conversion.counts[index] == 0 {
                conversion.begin(index)?;
            }
        }
        conversion.finish()?;
        self.manifest.parts.append(&mut conversion.done);
        self.manifest.session = session;
        self.manifest.log_from = None;
        self.manifest.complete = true;
        self.write_manifest()?;
        let folder = self.directory.join(log::FOLDER);
        fs::remove_dir_all(&folder).map_err(named(&folder))?;
        directory::give_to_caller(&self.directory)
    }

    fn write_manifest(&self) -> Result<(), Error> {
        let hidden = self.directory.join(format!(".{}", manifest::FILE_NAME));
        let text = serde_json::to_string_pretty(&self.manifest).map_err(|error| Error::write(&hidden, error))?;
        let _ = fs::remove_file(&hidden); // of a try that failed
        let mut file = directory::create_file(&hidden)?;
        file.write_all(text.as_bytes()).map_err(named(&hidden))?;
        file.sync_all().map_err(named(&hidden))?;
        fs::rename(&hidden, self.directory.join(manifest::FILE_NAME)).map_err(named(&hidden))?;
        directory::sync(&self.directory)
    }
}

impl<'a> Conversion<'a> {
    fn new(directory: &'a Path, manifest: &Manifest) -> Conversion<'a> {
        let count = |table: &&Table| manifest.parts.iter().filter(|part| part.table == table.name).count();
        let open = TABLES.iter().map(|_| None).collect();
        Conversion { directory, open, counts: TABLES.iter().map(count).collect(), done: Vec::new() }
    }

    fn read(&mut self, path: &Path) -> Result<(), Error> {
        let mut blocks = Blocks::new(File::open(path).map_err(named(path))?);
        while let Some(block) = blocks.next() {
            let block = block.map_err(|what| Error::write(path, format!("cannot be read back: {what}")))?;
            for rows in block.iter().filter(|rows| rows.standing == Standing::Final) {
                self.add(rows)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, rows: &Rows) -> Result<(), Error> {
        let Some(index) = TABLES.iter().position(|table| table.name == rows.table.name) else { return Ok(()) };
        let must_close = self.open[index]
            .as_ref()
            .is_some_and(|part| !part.writer.continues_with(&rows.batch) || part.writer.bytes() >= PART_BYTES);
        if must_close {
            self.close(index)?;
        }
        let part = self.begin(index)?;
        part.writer.write(&rows.batch).map_err(|error| Error::write(&part.hidden, error))
    }

    /// The open part of a table.
    fn begin(&mut self, index: usize) -> Result<&mut OpenPart, Error> {
        if self.open[index].is_none() {
            let table = TABLES[index];
            let folder = self.directory.join(table.name);
            directory::create_folder(&folder)?;
            let hidden = folder.join(format!(".{}", self.name(index)));
            let _ = fs::remove_file(&hidden); // of a try that failed
            let file = directory::create_file(&hidden)?;
            let writer = PartWriter::new(table, CREATED_BY, file).map_err(|error| Error::write(&hidden, error))?;
            self.open[index] = Some(OpenPart { writer, hidden });
        }
        match &mut self.open[index] {
            Some(part) => Ok(part),
            None => unreachable!("begun above"),
        }
    }

    fn name(&self, index: usize) -> String {
        format!("part-{:05}.parquet", self.counts[index])
    }

    fn close(&mut self, index: usize) -> Result<(), Error> {
        let Some(OpenPart { writer, hidden }) = self.open[index].take() else { return Ok(()) };
        let (folder, name) = (TABLES[index].name, self.name(index));
        let (file, part) = writer.finish(format!("{folder}/{name}")).map_err(|error| Error::write(&hidden, error))?;
        file.sync_all().map_err(named(&hidden))?;
        fs::rename(&hidden, self.directory.join(folder).join(&name)).map_err(named(&hidden))?;
        directory::sync(&self.directory.join(folder))?;
        self.counts[index] += 1;
        self.done.push(part);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        (0..TABLES.len()).try_for_each(|index| self.close(index))
    }

    /// Removes what was written: the log has it all.
    fn abandon(self) {
        for part in &self.done {
            let _ = fs::remove_file(self.directory.join(&part.file));
        }
        for part in self.open.into_iter().flatten() {
            let _ = fs::remove_file(part.hidden);
        }
    }
}

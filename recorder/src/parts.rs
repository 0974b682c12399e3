//! Segments of the log become parts: complete Parquet files.
//!
//! A `*.parquet` is always whole: it is written under a dot-name, synced, renamed, its directory synced, and only then
//! listed in `trace.json`, which is itself replaced atomically, and which says in the same stroke that the segment is done.

use crate::directory::{Directory, Error, named};
use crate::log;
use ipc_schema::manifest::{self, Manifest, Session};
use ipc_schema::store::convert::{Conversion, Place};
use ipc_schema::store::log::{Blocks, Rows, Standing};
use ipc_schema::store::session;
use ipc_schema::tables::{SESSION, Table};
use std::fs::File;
use std::io::{self, Write};

const CREATED_BY: &str = concat!("ipc-recorder ", env!("CARGO_PKG_VERSION"));

/// The parts of a trace.
pub struct Parts {
    directory: Directory,
    /// What `trace.json` holds.
    pub manifest: Manifest,
}

impl Parts {
    /// Those of a trace that begins; puts a first `trace.json` there: who waits for it knows that the recording runs.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn begin(directory: &Directory, manifest: Manifest) -> Result<Parts, Error> {
        let parts = Parts { directory: directory.clone(), manifest };
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
        let folder = self.directory.folder(log::FOLDER)?;
        let name = log::name_of(segment);
        let path = folder.path().join(&name);
        self.add(|conversion| {
            let mut blocks = Blocks::new(folder.open_file(&name)?);
            while let Some(block) = blocks.next() {
                let block = block.map_err(|what| Error::write(&path, format!("cannot be read back: {what}")))?;
                for rows in block.iter().filter(|rows| rows.standing == Standing::Final) {
                    conversion.add(rows).map_err(named(&path))?;
                }
            }
            Ok(())
        })?;
        self.manifest.log_from = Some(segment + 1);
        self.write_manifest()?;
        folder.remove_file(&name)
    }

    /// Completes the trace, all segments of which were converted; a table without rows gets one empty part, so that every
    /// reader finds it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn complete(&mut self, session: Session) -> Result<(), Error> {
        self.manifest.session = session;
        let path = self.directory.path().to_owned();
        let failed = |what: &dyn std::fmt::Display| Error::write(&path, what);
        let batch = session::row(&self.manifest).map_err(|what| failed(&what))?;
        let row = Rows { table: &SESSION, standing: Standing::Final, until_ns: 0, batch };
        self.add(|conversion| {
            conversion.add(&row).and_then(|()| conversion.fill_up()).map_err(|error| failed(&error))
        })?;
        self.manifest.log_from = None;
        self.manifest.complete = true;
        self.write_manifest()?;
        self.directory.remove_folder(log::FOLDER)
    }

    /// Adds what `fill` adds to the parts, or nothing.
    fn add(&mut self, fill: impl FnOnce(&mut Conversion<Files>) -> Result<(), Error>) -> Result<(), Error> {
        let place = Files { directory: self.directory.clone(), made: Vec::new() };
        let mut conversion = Conversion::new(place, CREATED_BY, &self.manifest.parts);
        let failed = |error| Error::write(self.directory.path(), error);
        match fill(&mut conversion).and_then(|()| conversion.finish().map_err(failed)) {
            Ok(()) => {
                self.manifest.parts.append(&mut conversion.done);
                Ok(())
            }
            Err(error) => {
                conversion.into_place().remove();
                Err(error)
            }
        }
    }

    fn write_manifest(&self) -> Result<(), Error> {
        let hidden = format!(".{}", manifest::FILE_NAME);
        let path = self.directory.path().join(&hidden);
        let text = serde_json::to_string_pretty(&self.manifest).map_err(named(&path))?;
        let _ = self.directory.remove_file(&hidden); // of a try that failed
        let mut file = self.directory.create_file(&hidden)?;
        file.write_all(text.as_bytes()).map_err(named(&path))?;
        file.sync_all().map_err(named(&path))?;
        self.directory.rename(&hidden, manifest::FILE_NAME)?;
        self.directory.sync()
    }
}

/// Parts as files, under a dot-name until they are whole.
struct Files {
    directory: Directory,
    /// What there is of them.
    made: Vec<(Directory, String)>,
}

impl Place for Files {
    type To = File;

    fn begin(&mut self, table: &'static Table, name: &str) -> io::Result<File> {
        let folder = self.directory.folder(table.name).map_err(io::Error::other)?;
        let hidden = format!(".{name}");
        let _ = folder.remove_file(&hidden); // of a try that failed
        let file = folder.create_file(&hidden).map_err(io::Error::other)?;
        self.made.push((folder, hidden));
        Ok(file)
    }

    fn end(&mut self, table: &'static Table, name: &str, written: File) -> io::Result<()> {
        let folder = self.directory.folder(table.name).map_err(io::Error::other)?;
        written.sync_all()?;
        folder.rename(&format!(".{name}"), name).map_err(io::Error::other)?;
        self.made.push((folder.clone(), name.to_owned()));
        folder.sync().map_err(io::Error::other)
    }
}

impl Files {
    /// Removes what was written: the log has it all.
    fn remove(self) {
        for (folder, name) in self.made {
            let _ = folder.remove_file(&name); // it has another name by now
        }
    }
}

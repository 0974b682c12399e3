//! Where the fields of kernel structures lie: read from the kernel's own type description (BTF).

use btfparse::{Offset, Readable, TypeInformation};

/// Where the kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why a kernel's BTF cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{VMLINUX}: {0}")]
    Read(#[from] std::io::Error),
    /// It is not BTF, or a structure has no such field.
    #[error("{VMLINUX}: {0}")]
    Parse(String),
}

/// The types of the running kernel.
pub struct Btf(TypeInformation);

struct Bytes(Vec<u8>);

impl Readable for Bytes {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|o| self.0.get(o..)?.get(..buffer.len()));
        let from = from.ok_or_else(|| btfparse::Error::new(btfparse::ErrorKind::IOError, "the file is cut short"))?;
        buffer.copy_from_slice(from);
        Ok(())
    }
}

impl Btf {
    /// Reads the running kernel's.
    ///
    /// # Errors
    /// The file is missing (a kernel without `CONFIG_DEBUG_INFO_BTF`) or malformed.
    pub fn of_kernel() -> Result<Btf, Error> {
        let bytes = Bytes(std::fs::read(VMLINUX)?);
        let types = TypeInformation::new(&bytes);
        types.map(Btf).map_err(|e| Error::Parse(format!("not readable: {e:?}")))
    }

    /// The byte offset of a field: `("task_struct", "pending.signal.sig")`. Members of anonymous structures count as the
    /// structure's own; a dot goes into a structure, not through a pointer.
    ///
    /// # Errors
    /// The kernel has no such structure or field.
    pub fn offset(&self, structure: &str, path: &str) -> Result<u32, Error> {
        let found = self.0.id_of(structure).map(|id| self.0.offset_of(id, path));
        match found {
            Some(Ok((_, Offset::ByteOffset(bytes)))) => Ok(bytes),
            None | Some(Ok(_) | Err(_)) => Err(Error::Parse(format!("no field {structure}.{path}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn the_running_kernel_has_the_fields() {
        if !std::path::Path::new(VMLINUX).exists() {
            eprintln!("skipped: {VMLINUX} is missing");
            return;
        }
        let btf = Btf::of_kernel().unwrap();
        assert!(btf.offset("task_struct", "pid").unwrap() > 0);
        assert_eq!(btf.offset("pt_regs", "orig_ax").unwrap(), 120);
        assert_eq!(btf.offset("sembuf", "sem_op").unwrap(), 2);
        assert!(matches!(btf.offset("task_struct", "no_such_field"), Err(Error::Parse(_))));
        assert!(matches!(btf.offset("no_such_structure", "x"), Err(Error::Parse(_))));
    }
}

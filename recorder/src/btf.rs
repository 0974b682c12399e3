//! Where the fields of kernel structures lie: read from the kernel's own type description (BTF).
//!
//! A parser of what is needed and no more: <https://docs.kernel.org/bpf/btf.html>. The permissive crates were tried
//! first: they flatten all types of a kernel into strings, which takes 20 times as long.

use std::collections::HashMap;

/// Where the kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const KIND_PTR: u8 = 2;
const KIND_ARRAY: u8 = 3;
const KIND_STRUCT: u8 = 4;
const KIND_UNION: u8 = 5;

/// Why a kernel's BTF cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{VMLINUX}: {0}")]
    Read(#[from] std::io::Error),
    /// It is not BTF.
    #[error("{VMLINUX} is not BTF: {0}")]
    Malformed(&'static str),
    /// A structure has no such field.
    #[error("this kernel has no field {0}")]
    NoField(String),
}

/// One type: its kind, the type it refers to or its size, and where its members stand.
#[derive(Clone, Copy)]
struct Type {
    kind: u8,
    count: u16,
    bitfields: bool,
    refers_to: u32,
    /// Byte position of what follows the common part.
    rest: usize,
}

/// The types of a kernel.
pub struct Btf {
    data: Vec<u8>,
    types: Vec<Type>,
    structs: HashMap<String, u32>,
    strings: usize,
}

impl Btf {
    /// Reads the running kernel's.
    ///
    /// # Errors
    /// The file is missing (a kernel without `CONFIG_DEBUG_INFO_BTF`) or malformed.
    pub fn of_kernel() -> Result<Btf, Error> {
        Btf::parse(std::fs::read(VMLINUX)?)
    }

    fn parse(data: Vec<u8>) -> Result<Btf, Error> {
        let word = |at: usize| read_u32(&data, at).ok_or(Error::Malformed("its header is cut short"));
        if word(0)? as u16 != MAGIC {
            return Err(Error::Malformed("wrong magic number or byte order"));
        }
        let header = word(4)? as usize;
        let (type_offset, type_length, string_offset) = (word(8)? as usize, word(12)? as usize, word(16)? as usize);
        let mut btf = Btf { types: Vec::new(), structs: HashMap::new(), strings: header + string_offset, data };
        btf.read_types(header + type_offset, header + type_offset + type_length)?;
        Ok(btf)
    }

    fn read_types(&mut self, mut at: usize, end: usize) -> Result<(), Error> {
        self.types.push(Type { kind: 0, count: 0, bitfields: false, refers_to: 0, rest: 0 }); // void
        while at < end {
            let word = |at: usize| read_u32(&self.data, at).ok_or(Error::Malformed("a type is cut short"));
            let (name, info, refers_to) = (word(at)?, word(at + 4)?, word(at + 8)?);
            let (kind, count) = ((info >> 24) as u8 & 0x1f, info as u16);
            let new = Type { kind, count, bitfields: info >> 31 != 0, refers_to, rest: at + 12 };
            at += 12 + extra_bytes(kind, count as usize).ok_or(Error::Malformed("unknown kind of type"))?;
            if kind == KIND_STRUCT {
                let id = self.types.len() as u32;
                let name = self.string(name).to_owned();
                self.structs.entry(name).or_insert(id);
            }
            self.types.push(new);
        }
        Ok(())
    }

    fn string(&self, offset: u32) -> &str {
        let from = self.data.get(self.strings + offset as usize..).unwrap_or_default();
        let length = from.iter().position(|b| *b == 0).unwrap_or(0);
        std::str::from_utf8(&from[..length]).unwrap_or_default()
    }

    /// The byte offset of a field: `("task_struct", "pending.signal.sig")`. Members of anonymous structures count as the
    /// structure's own; a dot goes into a structure, not through a pointer.
    ///
    /// # Errors
    /// The kernel has no such structure or field.
    pub fn offset(&self, structure: &str, path: &str) -> Result<u32, Error> {
        let missing = || Error::NoField(format!("{structure}.{path}"));
        let mut id = *self.structs.get(structure).ok_or_else(missing)?;
        let mut offset = 0;
        for name in path.split('.') {
            let (bits, next) = self.member(id, name).ok_or_else(missing)?;
            offset += bits / 8;
            id = next;
        }
        Ok(offset)
    }

    /// The offset in bits and the type of a member, looked for in anonymous members too.
    fn member(&self, id: u32, wanted: &str) -> Option<(u32, u32)> {
        let of = self.types.get(self.resolve(id) as usize)?;
        if of.kind != KIND_STRUCT && of.kind != KIND_UNION {
            return None;
        }
        for i in 0..of.count as usize {
            let at = of.rest + i * 12;
            let (name, kind, raw) =
                (read_u32(&self.data, at)?, read_u32(&self.data, at + 4)?, read_u32(&self.data, at + 8)?);
            let bits = if of.bitfields { raw & 0xff_ffff } else { raw };
            match self.string(name) {
                name if name == wanted => return Some((bits, kind)),
                "" => {
                    if let Some((inner, found)) = self.member(kind, wanted) {
                        return Some((bits + inner, found));
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Through typedefs and qualifiers, not through pointers.
    fn resolve(&self, mut id: u32) -> u32 {
        // typedef 8, volatile 9, const 10, restrict 11, type tag 18; a chain longer than this is no kernel's
        for _ in 0..16 {
            match self.types.get(id as usize) {
                Some(t) if matches!(t.kind, 8..=11 | 18) => id = t.refers_to,
                _ => break,
            }
        }
        id
    }
}

/// How many bytes follow the common 12 of a type, by its kind; `None` for a kind that is not known.
fn extra_bytes(kind: u8, count: usize) -> Option<usize> {
    Some(match kind {
        KIND_PTR | 7..=12 | 16 | 18 => 0, // fwd, typedef, volatile, const, restrict, func, float, type tag
        1 | 14 | 17 => 4,                 // int, var, decl tag
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | 15 | 19 => count * 12, // datasec, enum64
        6 | 13 => count * 8,                              // enum, func proto
        _ => return None,
    })
}

fn read_u32(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn malformed_btf_is_refused() {
        assert!(Btf::parse(vec![]).is_err());
        assert!(Btf::parse(vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0]).is_err());
        let mut bytes = Vec::new();
        for word in [0x0001_eb9fu32, 24, 0, 12, 12, 1, 0, 31 << 24, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.push(0);
        assert!(matches!(Btf::parse(bytes), Err(Error::Malformed(_))));
    }

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
        assert!(matches!(btf.offset("task_struct", "no_such_field"), Err(Error::NoField(_))));
    }
}

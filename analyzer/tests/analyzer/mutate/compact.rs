//! Thrift's compact protocol as a tree that can be changed and written again.

use super::{hostile_number, hostile_text};
use crate::fixture::Random;

/// A value, with what a writer claims of it.
#[derive(Clone, Debug)]
pub enum Node {
    Bool(bool),
    Byte(u8),
    /// The type: 16, 32 or 64 bits.
    Number(u8, i64),
    Double([u8; 8]),
    Text(Vec<u8>),
    /// The type of its elements, the elements, and another number of them to claim.
    List(u8, Vec<Node>, Option<u64>),
    Structure(Vec<(i16, Node)>),
}

/// Reads the structure at the start of `bytes`; returns its length as well.
pub fn read(bytes: &[u8]) -> Option<(Node, usize)> {
    let mut position = 0;
    let node = read_structure(bytes, &mut position)?;
    Some((node, position))
}

fn byte(bytes: &[u8], position: &mut usize) -> Option<u8> {
    *position += 1;
    bytes.get(*position - 1).copied()
}

fn varint(bytes: &[u8], position: &mut usize) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let next = byte(bytes, position)?;
        value |= u64::from(next & 0x7f) << shift;
        if next < 0x80 {
            return Some(value);
        }
    }
    None
}

fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn read_structure(bytes: &[u8], position: &mut usize) -> Option<Node> {
    let (mut fields, mut last) = (Vec::new(), 0i16);
    loop {
        let head = byte(bytes, position)?;
        if head & 15 == 0 {
            return Some(Node::Structure(fields));
        }
        last = match head >> 4 {
            0 => zigzag(varint(bytes, position)?) as i16,
            step => last + i16::from(step),
        };
        let node = match head & 15 {
            1 => Node::Bool(true),
            2 => Node::Bool(false),
            kind => read_value(kind, bytes, position)?,
        };
        fields.push((last, node));
    }
}

fn read_value(kind: u8, bytes: &[u8], position: &mut usize) -> Option<Node> {
    Some(match kind {
        3 => Node::Byte(byte(bytes, position)?),
        4..=6 => Node::Number(kind, zigzag(varint(bytes, position)?)),
        7 => {
            let double = bytes.get(*position..*position + 8)?.try_into().ok()?;
            *position += 8;
            Node::Double(double)
        }
        8 => {
            let length = varint(bytes, position)? as usize;
            let text = bytes.get(*position..*position + length)?.to_vec();
            *position += length;
            Node::Text(text)
        }
        9 => {
            let head = byte(bytes, position)?;
            let length = if head >> 4 == 15 { varint(bytes, position)? } else { u64::from(head >> 4) };
            let elements = (0..length).map(|_| read_value(head & 15, bytes, position)).collect::<Option<_>>()?;
            Node::List(head & 15, elements, None)
        }
        12 => read_structure(bytes, position)?,
        _ => return None,
    })
}

fn write_varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn write_number(value: i64, into: &mut Vec<u8>) {
    write_varint((value << 1 ^ value >> 63) as u64, into);
}

impl Node {
    fn kind(&self) -> u8 {
        match self {
            Node::Bool(true) => 1,
            Node::Bool(false) => 2,
            Node::Byte(_) => 3,
            Node::Number(kind, _) => *kind,
            Node::Double(_) => 7,
            Node::Text(_) => 8,
            Node::List(..) => 9,
            Node::Structure(_) => 12,
        }
    }

    pub fn write(&self, into: &mut Vec<u8>) {
        match self {
            Node::Bool(_) => {}
            Node::Byte(byte) => into.push(*byte),
            Node::Number(_, number) => write_number(*number, into),
            Node::Double(bytes) => into.extend_from_slice(bytes),
            Node::Text(text) => {
                write_varint(text.len() as u64, into);
                into.extend_from_slice(text);
            }
            Node::List(kind, elements, claimed) => {
                into.push(0xf0 | kind);
                write_varint(claimed.unwrap_or(elements.len() as u64), into);
                elements.iter().for_each(|element| element.write(into));
            }
            Node::Structure(fields) => {
                let mut last = 0;
                for (id, node) in fields {
                    match *id as i32 - last as i32 {
                        step @ 1..=15 => into.push((step as u8) << 4 | node.kind()),
                        _ => {
                            into.push(node.kind());
                            write_number((*id).into(), into);
                        }
                    }
                    last = *id;
                    node.write(into);
                }
                into.push(0);
            }
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    /// A field of a structure.
    pub fn field(&mut self, id: i16) -> Option<&mut Node> {
        match self {
            Node::Structure(fields) => fields.iter_mut().find(|(field, _)| *field == id).map(|(_, node)| node),
            _ => None,
        }
    }

    pub fn number(&mut self, id: i16) -> Option<i64> {
        match self.field(id)? {
            Node::Number(_, number) => Some(*number),
            _ => None,
        }
    }

    /// Gives a field that is a number another value; whether there is one.
    pub fn set(&mut self, id: i16, value: i64) -> bool {
        match self.field(id) {
            Some(Node::Number(_, number)) => *number = value,
            _ => return false,
        }
        true
    }

    pub fn elements(&mut self) -> &mut [Node] {
        match self {
            Node::List(_, elements, _) => elements,
            _ => &mut [],
        }
    }

    /// Every node, with the path that leads to it.
    fn visit(&mut self, path: &str, visit: &mut dyn FnMut(&str, &mut Node)) {
        visit(path, self);
        match self {
            Node::List(_, elements, _) => {
                for (i, element) in elements.iter_mut().enumerate() {
                    element.visit(&format!("{path}[{i}]"), visit);
                }
            }
            Node::Structure(fields) => {
                for (id, node) in fields {
                    node.visit(&format!("{path}.{id}"), visit);
                }
            }
            _ => {}
        }
    }

    /// Changes one node; says which and how.
    pub fn mutate(&mut self, random: &mut Random) -> String {
        let mut count = 0;
        self.visit("", &mut |_, _| count += 1);
        let chosen = random.below(count);
        let (mut number, mut what) = (0, String::new());
        self.visit("", &mut |path, node| {
            if number == chosen {
                what = format!("{path} {}", node.change(random));
            }
            number += 1;
        });
        what
    }

    fn change(&mut self, random: &mut Random) -> String {
        // The wrong type.
        if random.below(20) == 0 {
            *self = match random.below(4) {
                0 => Node::Number(6, hostile_number(0, random)),
                1 => Node::Text(hostile_text(random).into_bytes()),
                2 => Node::List(12, Vec::new(), Some(random.next() >> random.below(64))),
                _ => Node::Structure(Vec::new()),
            };
            return format!("is of another type, {}", self.kind());
        }
        match self {
            Node::Bool(value) => *value = !*value,
            Node::Byte(byte) => *byte = random.next() as u8,
            Node::Double(bytes) => *bytes = random.next().to_le_bytes(),
            Node::Number(_, number) => {
                *number = hostile_number(*number, random);
                return format!("= {number}");
            }
            Node::Text(text) => {
                match random.below(3) {
                    0 => *text = hostile_text(random).into_bytes(),
                    1 => *text = vec![0xff; 1 + random.below(64) as usize],
                    _ => text.clear(),
                }
                return format!("is a text of {} bytes", text.len());
            }
            Node::List(_, elements, claimed) => match (random.below(4), elements.len()) {
                (0, 1..) => drop(elements.remove(0)),
                (1, 1..) => {
                    let again = vec![elements[0].clone(); 1 << random.below(17)];
                    elements.extend(again);
                }
                (2, _) => elements.clear(),
                _ => {
                    *claimed = Some(random.next() >> random.below(64));
                    return format!("claims {claimed:?} elements");
                }
            },
            Node::Structure(fields) if fields.is_empty() => {}
            Node::Structure(fields) => {
                let at = random.below(fields.len() as u64) as usize;
                match random.below(4) {
                    0 => drop(fields.remove(at)),
                    1 => {
                        let again = (fields[at].0, fields[at].1.clone());
                        fields.push(again);
                    }
                    2 => fields[at].0 = hostile_number(fields[at].0.into(), random) as i16,
                    // Structures in structures in structures.
                    _ => {
                        let mut deep = Node::Structure(Vec::new());
                        for _ in 0..random.below(4_000) {
                            deep = Node::Structure(vec![(1, deep)]);
                        }
                        fields.push((100, deep));
                    }
                }
            }
        }
        "is changed".to_owned()
    }
}

impl Drop for Node {
    /// Without recursion: some of them are deep on purpose.
    fn drop(&mut self) {
        let mut left: Vec<Node> = Vec::new();
        take_children(self, &mut left);
        while let Some(mut node) = left.pop() {
            take_children(&mut node, &mut left);
        }
    }
}

fn take_children(node: &mut Node, into: &mut Vec<Node>) {
    match node {
        Node::List(_, elements, _) => into.append(elements),
        Node::Structure(fields) => into.extend(std::mem::take(fields).into_iter().map(|(_, node)| node)),
        _ => {}
    }
}

//! A `trace.json` that is wrong.

use super::{Mutation, Source, bytes, hostile_number, hostile_text};
use crate::fixture::Random;
use serde_json::Value;

/// Changes bytes of the text, or one value.
pub fn damage(source: &Source, random: &mut Random) -> Mutation {
    let mut manifest = source.manifest.clone();
    let (what, content) = match random.below(8) {
        0 => {
            let mut text = manifest.to_string().into_bytes();
            let what = bytes::damage(&mut text, random).to_owned();
            (what, text)
        }
        1 => ("deep".to_owned(), [b"[".repeat(1 << random.below(20)), manifest.to_string().into_bytes()].concat()),
        2 => {
            let text = format!("{{\"x\":[{}1],{}", "0,".repeat(1 << random.below(21)), &manifest.to_string()[1..]);
            ("a long list".to_owned(), text.into_bytes())
        }
        _ => {
            let what = mutate(&mut manifest, random);
            (what, manifest.to_string().into_bytes())
        }
    };
    let files = vec![("trace.json".to_owned(), content)];
    Mutation { what: format!("{}: trace.json{what}", source.name), files, checksum_holds: true }
}

/// Changes one value; says which and how.
fn mutate(root: &mut Value, random: &mut Random) -> String {
    let mut count = 0;
    visit(root, "", &mut |_, _| count += 1);
    let chosen = random.below(count);
    let (mut number, mut what) = (0, String::new());
    visit(root, "", &mut |path, value| {
        if number == chosen {
            change(value, random);
            let text: String = value.to_string().chars().take(60).collect();
            what = format!("{path} = {text}");
        }
        number += 1;
    });
    what
}

fn visit(value: &mut Value, path: &str, with: &mut dyn FnMut(&str, &mut Value)) {
    with(path, value);
    match value {
        Value::Array(elements) => {
            elements.iter_mut().enumerate().for_each(|(i, element)| visit(element, &format!("{path}[{i}]"), with));
        }
        Value::Object(fields) => {
            fields.iter_mut().for_each(|(name, field)| visit(field, &format!("{path}.{name}"), with));
        }
        _ => {}
    }
}

fn change(value: &mut Value, random: &mut Random) {
    *value = match (random.below(8), &*value) {
        (0, _) => Value::Null,
        (1, _) => hostile_text(random).into(),
        (2, _) => hostile_number(0, random).into(),
        (3, _) => serde_json::json!([]),
        (_, Value::Number(number)) => hostile_number(number.as_i64().unwrap_or(0), random).into(),
        (_, Value::Bool(value)) => (!value).into(),
        (_, Value::Array(elements)) => {
            let mut elements = elements.clone();
            let again = elements.first().cloned().unwrap_or_else(|| hostile_text(random).into());
            elements.extend(vec![again; 1 << random.below(12)]);
            elements.into()
        }
        (_, Value::Object(fields)) => {
            let mut fields = fields.clone();
            let at = random.below(fields.len().max(1) as u64) as usize;
            if let Some(name) = fields.keys().nth(at).cloned() {
                fields.remove(&name);
            }
            fields.into()
        }
        _ => hostile_text(random).into(),
    };
}

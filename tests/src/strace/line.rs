//! One line of strace, taken apart.

/// `NAME(ARGUMENTS) = RESULT`.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) arguments: Vec<&'a str>,
    pub(super) result: &'a str,
}

impl<'a> Line<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Line<'a>> {
        let (name, rest) = text.split_once('(')?;
        let (arguments, result) = rest.rsplit_once(" = ")?;
        let arguments = arguments.trim_end();
        Some(Line { name, arguments: split(arguments.strip_suffix(')').unwrap_or(arguments)), result })
    }

    /// Whether a signal interrupted it so that the kernel may restart it.
    pub(super) fn is_interrupted(&self) -> bool {
        self.result.starts_with("? ERESTART")
    }

    /// The value returned, the errno; `None` when the thread did not see it.
    pub(super) fn returned(&self) -> Option<(i64, Option<String>)> {
        let mut words = self.result.split([' ', '<']);
        match words.next()? {
            "?" => None,
            "-1" => Some((-1, words.next().map(str::to_owned))),
            value => Some((number(value)?, None)),
        }
    }
}

/// What stands between the commas outside all brackets and comments. Text has no quotes or brackets: it is hexadecimal.
pub(super) fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (place, letter) in text.char_indices() {
        match letter {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[from..place].trim());
                from = place + 1;
            }
            _ => {}
        }
    }
    if !text[from..].trim().is_empty() {
        parts.push(text[from..].trim());
    }
    parts
}

/// A number as strace prints it: decimal, `0x…`, octal with a leading zero, flags with `|` and `<<`; comments do not count.
pub(super) fn number(text: &str) -> Option<i64> {
    let text = without_comments(text);
    text.split('|').try_fold(0, |sum, part| Some(sum | single(part.trim())?))
}

fn single(text: &str) -> Option<i64> {
    if text == "NULL" {
        return Some(0);
    }
    if let Some((value, shift)) = text.split_once("<<") {
        return Some(single(value)? << single(shift)?);
    }
    let parsed = match (text.strip_prefix("0x"), text.strip_prefix('0')) {
        (Some(digits), _) => u64::from_str_radix(digits, 16).map(|value| value as i64),
        (None, Some(digits)) if !digits.is_empty() => i64::from_str_radix(digits, 8),
        _ => text.parse().or_else(|_| text.parse::<u64>().map(|value| value as i64)),
    };
    parsed.ok()
}

fn without_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("/*") {
        kept.push_str(before.trim_end());
        rest = after.split_once("*/").map_or("", |(_, after)| after);
    }
    kept + rest
}

/// The names in the comments: `0x600 /* IPC_CREAT|IPC_EXCL */|0600` has two. Not what strace has no name for.
pub(super) fn names(text: &str) -> Vec<&str> {
    let comments = text.split("/*").skip(1).filter_map(|after| after.split_once("*/"));
    let names = comments.flat_map(|(comment, _)| comment.trim().split('|'));
    names.filter(|name| name.starts_with(|letter: char| letter.is_ascii_alphabetic())).collect()
}

/// `NAME=VALUE` of `{…, NAME=VALUE, …}`.
pub(super) fn field<'a>(structure: &'a str, name: &str) -> Option<&'a str> {
    let inner = structure.strip_prefix('{')?.strip_suffix('}')?;
    split(inner).into_iter().find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

/// The text of `"\x61\x62"` or `<\x61\x62>`.
pub(super) fn hexadecimal(text: &str) -> Option<String> {
    let inner = text.strip_prefix(['"', '<'])?.strip_suffix(['"', '>'])?;
    let bytes = inner.split("\\x").skip(1).map(|digits| u8::from_str_radix(digits, 16).ok());
    Some(String::from_utf8_lossy(&bytes.collect::<Option<Vec<u8>>>()?).into_owned())
}

/// The set of `[10 /* USR1 */ 12 /* USR2 */]` or, complemented, `~[9 /* KILL */]`; bit n-1 = signal n.
pub(super) fn signal_set(text: &str) -> Option<i64> {
    let (inner, is_complement) = match text.strip_prefix('~') {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let inner = without_comments(inner.strip_prefix('[')?.strip_suffix(']')?);
    let bit = |signal: &str| Some(1_u64 << signal.parse::<u32>().ok()?.checked_sub(1)?);
    let set = inner.split_whitespace().try_fold(0, |set, signal| Some(set | bit(signal)?))?;
    Some(if is_complement { !set } else { set } as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names() {
        assert_eq!(number("0x200 /* IPC_CREAT */|0640"), Some(0o1640));
        assert_eq!(number("0x200 /* IPC_CREAT */|21<<26 /* SHM_HUGE_SHIFT */|0600"), Some(0x200 | 21 << 26 | 0o600));
        assert_eq!(number("0xfffffe00|0777").map(|value| value as i32), Some(-1));
        assert_eq!((number("000"), number("-3"), number("NULL"), number("{")), (Some(0), Some(-3), Some(0), None));
        assert_eq!(names("0x600 /* IPC_CREAT|IPC_EXCL */|0600"), ["IPC_CREAT", "IPC_EXCL"]);
        assert_eq!(signal_set("[10 /* USR1 */ 64 /* RT_32 */]"), Some(1 << 9 | i64::MIN));
        assert_eq!((signal_set("~[]"), signal_set("[]"), signal_set("0x7ffc")), (Some(-1), Some(0), None));
        assert_eq!(hexadecimal("\"\\x61\\x2f\""), Some("a/".to_owned()));
    }

    #[test]
    fn a_line_is_taken_apart() {
        let text = "mq_timedreceive(3<\\x2f\\x61>, \"\\x62\", 128, [9], {tv_sec=5, tv_nsec=6}) = 10";
        let line = Line::parse(text).unwrap();
        assert_eq!((line.name, line.arguments.len(), line.returned()), ("mq_timedreceive", 5, Some((10, None))));
        assert_eq!(field(line.arguments[4], "tv_nsec"), Some("6"));
        assert_eq!(Line::parse("msgget(0, 0600) = -1 EEXIST (File exists)").unwrap().returned().unwrap().0, -1);
        assert_eq!(Line::parse("semop(1, [], 0) = ?").unwrap().returned(), None);
    }
}

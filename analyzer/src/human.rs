//! Values as people read them: 1.23 ms, 12,345, dates, bars; and the text of traced programs made harmless.

use chrono::{DateTime, Local, SecondsFormat};
pub use ipc_schema::text::{escape, is_unsafe};

/// In which time zone dates are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Zone {
    /// As the machines of a fleet share it
    #[default]
    Utc,
    /// Of this computer
    Local,
}

/// `812 ns`, `1.23 ms`, `12.3 s`, `3m25s`, `5h02m`, `2d03h`: three digits that matter.
pub fn duration(ns: i128) -> String {
    if ns < 0 {
        return format!("-{}", duration(-ns));
    }
    const UNITS: [(i128, &str); 3] = [(1_000, "µs"), (1_000_000, "ms"), (1_000_000_000, "s")];
    if ns < 1000 {
        return format!("{ns} ns");
    }
    for (unit_ns, unit) in UNITS {
        // What rounds to 1000 of a unit reads better as 1.00 of the next.
        let hundredths = (ns * 100 + unit_ns / 2) / unit_ns;
        let limit_ns = if unit == "s" { unit_ns * 9995 / 100 } else { unit_ns * 9995 / 10 };
        if ns < limit_ns {
            return match hundredths {
                ..1000 => format!("{}.{:02} {unit}", hundredths / 100, hundredths % 100),
                1000..10000 => format!("{}.{} {unit}", hundredths / 100, hundredths % 100 / 10),
                _ => format!("{} {unit}", (ns + unit_ns / 2) / unit_ns),
            };
        }
    }
    let seconds = (ns + 500_000_000) / 1_000_000_000;
    match seconds {
        ..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds / 3600 % 24),
    }
}

/// `1,234,567`.
pub fn count(number: i128) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 2);
    if number < 0 {
        text.push('-');
    }
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Parts of a thousand as `12.3 %`.
pub fn share(permille: i128) -> String {
    let sign = if permille < 0 { "-" } else { "" };
    format!("{sign}{}.{} %", permille.unsigned_abs() / 10, permille.unsigned_abs() % 10)
}

/// `1,234 calls`, `1 call`.
pub fn counted(number: i128, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `1.2 KiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `2026-11-22 14:50:01.123 UTC`.
pub fn instant(ns: i64, zone: Zone) -> String {
    let time = DateTime::from_timestamp_nanos(ns);
    match zone {
        Zone::Utc => time.format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string(),
        Zone::Local => time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S%.3f %:z").to_string(),
    }
}

/// `14:50:01.123456789`.
pub fn time_of_day(ns: i64, zone: Zone) -> String {
    let time = DateTime::from_timestamp_nanos(ns);
    match zone {
        Zone::Utc => time.format("%H:%M:%S%.9f").to_string(),
        Zone::Local => time.with_timezone(&Local).format("%H:%M:%S%.9f").to_string(),
    }
}

/// RFC 3339 with microseconds, as the twin columns hold it.
pub fn rfc3339_us(ns: i64) -> String {
    DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The same with nanoseconds, as options take it.
pub fn rfc3339_ns(ns: i64) -> String {
    DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// One bar: how many values lie in `lower..upper`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// The smallest duration, nanoseconds.
    pub lower: i64,
    /// The next bar's.
    pub upper: i64,
    /// How many.
    pub count: u64,
}

/// Bars beside their bounds, within 80 columns.
pub fn bars(bars: &[Bar]) -> Vec<String> {
    const WIDTH: u64 = 44;
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or(0).max(1);
    let width = bars.iter().map(|bar| count(bar.count.into()).len()).max().unwrap_or(0).max(5);
    let line = |bar: &Bar| {
        let eighths = u128::from(bar.count) * u128::from(WIDTH) * 8 / u128::from(most);
        // What is there must be seen.
        let eighths = if bar.count > 0 { eighths.max(1) as usize } else { 0 };
        let drawn = format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8]);
        let (lower, upper) = (step(bar.lower), step(bar.upper));
        format!("{lower:>7} – {upper:<7} {:>width$}  {drawn}", count(bar.count.into())).trim_end().to_owned()
    };
    bars.iter().map(line).collect()
}

/// A round duration without decimals: `500 ns`, `2 ms`.
fn step(ns: i64) -> String {
    match ns {
        ..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{} s", ns / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_three_digits() {
        let cases = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (1_234, "1.23 µs"),
            (12_345, "12.3 µs"),
            (123_456, "123 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (9_999_999_999, "10.0 s"),
            (99_990_000_000, "1m40s"),
            (205_000_000_000, "3m25s"),
            (18_120_000_000_000, "5h02m"),
            (183_600_000_000_000, "2d03h"),
            (-1_500, "-1.50 µs"),
        ];
        for (ns, text) in cases {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(
            [0, 999, 1000, -1234567].map(count),
            ["0".to_owned(), "999".to_owned(), "1,000".to_owned(), "-1,234,567".to_owned()]
        );
    }
}

//! The dialects of SQL, and what differs between them.

use std::collections::BTreeMap;

/// A dialect of SQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// DuckDB 1.1 or later
    #[default]
    Duckdb,
    /// Spark 3.5 or later
    Spark,
}

/// What [`analyses.sql`](super) writes as `@name(arguments)`; `$1` and `$2` stand for the arguments.
struct Word {
    name: &'static str,
    duckdb: &'static str,
    spark: &'static str,
}

const WORDS: &[Word] = &[
    // Of whole numbers, linear between neighbours, to the nearest.
    Word {
        name: "percentile",
        duckdb: "CAST(round(quantile_cont(CAST($1 AS DOUBLE), $2)) AS BIGINT)",
        spark: "CAST(round(percentile($1, $2)) AS BIGINT)",
    },
    // $1 / $2, half up; neither is negative. NULL where nothing is to be divided.
    Word {
        name: "rounded",
        duckdb: "CAST((2 * $1 + $2) // nullif(2 * $2, 0) AS BIGINT)",
        spark: "CAST((2 * $1 + $2) DIV nullif(2 * $2, 0) AS BIGINT)",
    },
    Word { name: "quotient", duckdb: "(($1) // ($2))", spark: "(($1) DIV ($2))" },
    // $1 of the row with the least $2; of several the least.
    Word { name: "of_least", duckdb: "arg_min($1, row($2, $1))", spark: "min_by($1, struct($2, $1))" },
    Word { name: "of_greatest", duckdb: "arg_max($1, $2)", spark: "max_by($1, $2)" },
    // Products of nanoseconds do not fit 64 bits.
    Word { name: "huge", duckdb: "CAST($1 AS HUGEINT)", spark: "CAST($1 AS DECIMAL(38, 0))" },
    // The last value of $1 that is not NULL.
    Word {
        name: "last_filled",
        duckdb: "last_value($1 IGNORE NULLS) OVER $2",
        spark: "last_value($1) IGNORE NULLS OVER $2",
    },
    // Of an instant since the epoch; a text as RFC 3339 has it is one, too.
    Word {
        name: "nanoseconds",
        duckdb: "epoch_ns(CAST($1 AS TIMESTAMPTZ))",
        spark: "(1000 * unix_micros(CAST($1 AS TIMESTAMP)))",
    },
    Word { name: "time", duckdb: "to_timestamp(($1) / 1e9)", spark: "timestamp_micros(($1) DIV 1000)" },
    // Of a list, counted from 0.
    Word { name: "element", duckdb: "$1[$2 + 1]", spark: "$1[$2]" },
    Word {
        name: "has_signal",
        duckdb: "(($1 >> CAST($2 - 1 AS INTEGER)) & 1) = 1",
        spark: "getbit($1, CAST($2 - 1 AS INT)) = 1",
    },
    // DuckDB refuses to shift into the sign.
    Word {
        name: "signal_bit",
        duckdb: "CASE WHEN $1 = 64 THEN -9223372036854775808 ELSE CAST(1 AS BIGINT) << CAST($1 - 1 AS INTEGER) END",
        spark: "shiftleft(CAST(1 AS BIGINT), CAST($1 - 1 AS INT))",
    },
];

impl Dialect {
    /// What stands before the SELECT of a view; of one with arguments, `(NAME TYPE, …)`, a macro.
    pub fn create(self, name: &str, arguments: &str) -> String {
        match (self, arguments.is_empty()) {
            (Dialect::Duckdb, true) => format!("CREATE OR REPLACE VIEW {name} AS"),
            (Dialect::Spark, true) => format!("CREATE OR REPLACE TEMPORARY VIEW {name} AS"),
            (Dialect::Duckdb, false) => {
                let named = arguments.replace(" TIMESTAMP", "").replace(" BIGINT", "");
                format!("CREATE OR REPLACE MACRO {name}{named} AS TABLE")
            }
            (Dialect::Spark, false) => {
                format!("CREATE OR REPLACE TEMPORARY FUNCTION {name}{arguments} RETURNS TABLE RETURN")
            }
        }
    }

    /// `text` with every `@name` replaced; what is neither a fragment nor a word stays, and a test finds it.
    pub fn expand(self, text: &str, fragments: &BTreeMap<&str, &str>) -> String {
        let Some((before, rest)) = text.split_once('@') else { return text.to_owned() };
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let (meaning, after) = match (fragments.get(name), WORDS.iter().find(|word| word.name == name)) {
            (Some(fragment), _) => (self.expand(fragment, fragments), after),
            (None, Some(word)) => {
                let (arguments, after) = split_arguments(after);
                let arguments: Vec<String> =
                    arguments.into_iter().map(|argument| self.expand(argument.trim(), fragments)).collect();
                (filled_in(self.template(word), &arguments), after)
            }
            (None, None) => (format!("@{name}"), after),
        };
        format!("{before}{meaning}{}", self.expand(after, fragments))
    }

    fn template(self, word: &Word) -> &'static str {
        match self {
            Dialect::Duckdb => word.duckdb,
            Dialect::Spark => word.spark,
        }
    }
}

/// `(a, f(b, c)) rest` → `[a, f(b, c)]` and ` rest`.
fn split_arguments(text: &str) -> (Vec<&str>, &str) {
    let (mut depth, mut begin, mut arguments) = (0, 1, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if (c == ',' && depth == 1) || depth == 0 {
            arguments.extend(text.get(begin..at));
            begin = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    (arguments, text.get(begin..).unwrap_or_default())
}

/// The template with its `$1`, `$2` replaced.
fn filled_in(template: &str, arguments: &[String]) -> String {
    let mut pieces = template.split('$');
    let mut filled = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let number = piece.chars().next().and_then(|digit| digit.to_digit(10)).unwrap_or_default() as usize;
        filled += arguments.get(number.wrapping_sub(1)).map_or("", String::as_str);
        filled += piece.get(1..).unwrap_or_default();
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_fragments_are_replaced_within_each_other() {
        let fragments = BTreeMap::from([("both", "@rounded(sum(a), @huge(b)), c")]);
        let expanded = |dialect: Dialect| dialect.expand("SELECT @both, @quotient(f(x, y), 2) FROM t", &fragments);
        let sum = "CAST((2 * sum(a) + CAST(b AS HUGEINT)) // nullif(2 * CAST(b AS HUGEINT), 0) AS BIGINT)";
        assert_eq!(expanded(Dialect::Duckdb), format!("SELECT {sum}, c, ((f(x, y)) // (2)) FROM t"));
        let sum =
            "CAST((2 * sum(a) + CAST(b AS DECIMAL(38, 0))) DIV nullif(2 * CAST(b AS DECIMAL(38, 0)), 0) AS BIGINT)";
        assert_eq!(expanded(Dialect::Spark), format!("SELECT {sum}, c, ((f(x, y)) DIV (2)) FROM t"));
        assert_eq!(Dialect::Spark.expand("@nonsense(1)", &fragments), "@nonsense(1)");
    }
}

//! Writes a synthetic trace of any size: `cargo run --release --example synthetic_trace -- DIR CALLS [PROCESSES [OBJECTS]]`.
#![expect(dead_code, clippy::unwrap_used, reason = "a tool for measuring, with the fixture of the tests")]

#[path = "../tests/analyzer/fixture.rs"]
mod fixture;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: usize| arguments.get(i).map_or(default, |text| text.parse().unwrap());
    let directory = std::path::PathBuf::from(arguments.first().expect("usage: DIR CALLS [PROCESSES [OBJECTS]]"));
    let calls = number(1, 1_000_000);
    let parameters = fixture::Parameters {
        calls,
        parts: calls.div_ceil(8_000_000),
        row_group_rows: 122_880,
        processes: number(2, 200),
        objects: number(3, 1000),
        ..fixture::Parameters::default()
    };
    fixture::write(&directory, &parameters);
}

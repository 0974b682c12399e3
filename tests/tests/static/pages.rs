//! Pages that are generated stay as generated.

use ipc_tests::format_md;
use std::path::Path;

#[test]
fn format_md_is_what_the_tables_declare() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format.md");
    let page = format_md::page();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let stands = std::fs::read_to_string(&path).unwrap_or_default();
    let first = stands.lines().zip(page.lines()).position(|(a, b)| a != b);
    assert!(
        stands == page,
        "docs/format.md is not what schema/src/tables.rs declares (first difference in line {:?}): \
         UPDATE=1 cargo test -p ipc-tests --test static",
        first.map(|line| line + 1)
    );
}

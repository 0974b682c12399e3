//! What the end-to-end tests share: the programs, the runs, and a reader of traces that is nobody else's code.
//!
//! The environment: `IPC_BIN_DIR` (where the programs are), `IPC_REQUIRE_LIVE=1` (a skipped live test is a
//! failure), `IPC_SOAK=1` (full counts), `IPC_VM=1` (an emulated machine: a tenth of the counts), `IPC_SEED`,
//! `IPC_KEEP` (a folder where the traces of incidents stay), `IPC_TRICKLE_SECONDS` (how long the trickle is
//! recorded), `IPC_PYTHON` (a Python with duckdb, pandas, pyarrow, polars, posix_ipc, sysv_ipc and
//! prometheus_client), `IPC_VM_KERNEL` and `IPC_VM_INITRAMFS` (what a machine boots that is cut off from power).
#![expect(clippy::unwrap_used, reason = "only tests use this crate, and a panic is how they fail")]

pub mod calls;
pub mod cells;
pub mod crashed;
pub mod differences;
pub mod disk;
pub mod environment;
pub mod expected;
pub mod findings;
pub mod foreign;
pub mod format_md;
pub mod logs;
pub mod manager;
pub mod packs;
pub mod planted;
pub mod programs;
pub mod recorded;
pub mod running;
pub mod strace;
pub mod trace;
pub mod usage;
pub mod waits;

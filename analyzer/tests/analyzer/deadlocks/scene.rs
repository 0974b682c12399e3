//! Processes at a semaphore set and at queues, told call by call.

use crate::findings;
use crate::rows::{LASTED_NS, Rows};
use ipc_schema::tables::{CALLS, LIFETIMES, OBJECTS, PROCESSES, SEM_OPS, THREADS};
use serde_json::{Value, json};
use std::path::PathBuf;
use tempfile::TempDir;

/// `SEM_UNDO` of `linux/sem.h`.
pub const UNDO: i32 = 0x1000;

/// A set 5 of semaphores, made in the trace, and processes of one thread each.
pub struct Scene {
    pub calls: Vec<Value>,
    pub processes: Vec<Value>,
    pub threads: Vec<Value>,
    pub lifetimes: Vec<Value>,
    pub objects: Vec<Value>,
    pub sem_ops: Vec<Value>,
    pub now: i64,
}

impl Scene {
    /// Semaphores that process 1 made and set; process 1 does nothing more.
    pub fn new(values: &[i32]) -> Scene {
        let mut scene = Scene::older();
        scene.lifetimes[0]["created_ns"] = json!(1);
        for (number, value) in values.iter().enumerate() {
            scene.set(1, number, *value);
        }
        scene
    }

    /// The same, older than the recording.
    pub fn older() -> Scene {
        let lifetime = json!({ "object_ref": 1, "object_kind": "sem", "object_id": 5, "how_known": "seen" });
        let mut scene = Scene {
            calls: Vec::new(),
            processes: Vec::new(),
            threads: Vec::new(),
            lifetimes: vec![lifetime],
            objects: Vec::new(),
            sem_ops: Vec::new(),
            now: 1000,
        };
        (1..=5).for_each(|process| scene.process(process));
        scene
    }

    pub fn process(&mut self, process: i64) {
        self.processes.push(json!({ "process_id": process, "pid": process, "comm": format!("p{process}") }));
        self.thread(process, process);
    }

    pub fn thread(&mut self, process: i64, thread: i64) {
        self.threads.push(json!({ "thread_id": thread, "process_id": process, "tid": thread }));
    }

    pub fn call(&mut self, process: i64, open: bool, more: Value) -> &mut Value {
        self.now += 100;
        let mut call = json!({
            "process_id": process, "start_ns": self.now, "object_kind": "sem", "object_ref": 1, "object_id": 5,
            "call_id": self.calls.len() + 1
        });
        if !open {
            call["end_ns"] = json!(self.now + 50);
        }
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.calls.push(call);
        self.calls.last_mut().unwrap()
    }

    pub fn set(&mut self, process: i64, number: usize, value: i32) {
        let more = json!({ "syscall": "semctl", "command": "SETVAL", "sem_num": number, "sem_value": value });
        self.call(process, false, more);
    }

    pub fn operation(number: i32, operation: i32, flags: i32) -> Value {
        json!({ "sem_num": number, "sem_op": operation, "sem_flags": flags, "sem_ops_total": 1 })
    }

    /// Adds to a semaphore.
    pub fn add(&mut self, process: i64, number: i32, amount: i32, flags: i32) {
        self.call(process, false, Scene::operation(number, amount, flags));
    }

    /// Waits for a semaphore until the end.
    pub fn wait(&mut self, process: i64, number: i32, amount: i32) -> &mut Value {
        self.call(process, true, Scene::operation(number, amount, UNDO))
    }

    /// Processes 2 and 3 take semaphores 0 and 1, and wait for the other's.
    pub fn cross(&mut self, flags: i32) {
        self.add(2, 0, -1, flags);
        self.add(3, 1, -1, flags);
        self.wait(2, 1, -1);
        self.wait(3, 0, -1);
    }

    /// A process of one thread ends.
    pub fn die(&mut self, process: i64) {
        for (rows, id) in [(&mut self.processes, "process_id"), (&mut self.threads, "thread_id")] {
            rows.iter_mut().find(|row| row[id] == process).unwrap()["exit_ns"] = json!(50_000);
        }
    }

    /// A message queue 1 + `number`, made in the trace.
    pub fn queue(&mut self, number: i64) {
        let reference = 10 + number;
        self.lifetimes.push(json!({
            "object_ref": reference, "object_kind": "msg", "object_id": number, "how_known": "seen", "created_ns": 1
        }));
    }

    pub fn message(&mut self, process: i64, syscall: &str, number: i64, open: bool) -> &mut Value {
        let more = json!({ "syscall": syscall, "object_kind": "msg", "object_ref": 10 + number, "object_id": number });
        self.call(process, open, more)
    }

    pub fn snapshot(&mut self, values: &[i32], waiters: &[i32], last_pids: &[i32]) {
        self.objects.push(json!({
            "snapshot_ns": LASTED_NS + 1, "phase": "end", "object_ref": 1, "object_kind": "sem", "object_id": 5,
            "sem_values": values, "sem_waiters": waiters, "sem_last_pids": last_pids
        }));
    }

    pub fn rows(&self) -> Rows {
        Rows::new()
            .with(&CALLS, json!(self.calls))
            .with(&PROCESSES, json!(self.processes))
            .with(&THREADS, json!(self.threads))
            .with(&LIFETIMES, json!(self.lifetimes))
            .with(&OBJECTS, json!(self.objects))
            .with(&SEM_OPS, json!(self.sem_ops))
    }

    pub fn write(&self) -> (TempDir, PathBuf) {
        let directory = TempDir::new().unwrap();
        let trace = self.rows().write(directory.path(), "t");
        (directory, trace)
    }

    /// The findings, as `deadlock GRADE OBJECT`.
    pub fn found(&self) -> Vec<String> {
        found(&self.rows())
    }

    /// What the only finding has in `column`.
    pub fn said(&self, column: &str) -> String {
        said(&self.rows(), column)
    }
}

pub fn found(rows: &Rows) -> Vec<String> {
    let directory = TempDir::new().unwrap();
    let trace = rows.write(directory.path(), "t");
    findings("deadlocks", &trace, &[]).into_iter().map(|finding| finding.join(" ")).collect()
}

pub fn said(rows: &Rows, column: &str) -> String {
    let directory = TempDir::new().unwrap();
    let trace = rows.write(directory.path(), "t");
    let all = crate::rows("deadlocks", &trace, &[]);
    let found: Vec<&Value> = all.iter().filter(|row| row["section"] == "finding").collect();
    assert_eq!(found.len(), 1, "{found:?}");
    match &found[0][column] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

//! The Trace Event Format of Chrome, as JSON: for chrome://tracing, Speedscope and whatever else reads it. Times are
//! microseconds since the begin of the first recording, with the nanoseconds behind the point.

use super::timeline::{Detail, Process, Slice, Thread, Timeline, Wake};
use crate::curves::Curve;
use crate::error::Error;
use crate::render;
use serde_json::{Map, Value, json};
use std::io::Write;

/// A file in that format.
pub struct Chrome<W> {
    out: W,
    start_ns: i64,
    is_empty: bool,
}

impl<W: Write> Chrome<W> {
    /// A file that begins at `start_ns`.
    pub fn new(out: W, start_ns: i64) -> Chrome<W> {
        Chrome { out, start_ns, is_empty: true }
    }

    fn event(&mut self, event: &Value) -> Result<(), Error> {
        let before = if self.is_empty { "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n" } else { ",\n" };
        self.is_empty = false;
        write!(self.out, "{before}{}", render::harmless(&event.to_string()))?;
        Ok(())
    }

    /// Exact up to a hundred days.
    fn at_us(&self, at_ns: i64) -> f64 {
        at_ns.saturating_sub(self.start_ns) as f64 / 1000.0
    }
}

impl<W: Write> Timeline for Chrome<W> {
    fn process(&mut self, process: &Process) -> Result<(), Error> {
        self.event(&json!({"ph": "M", "name": "process_name", "pid": process.pid, "args": {"name": process.name}}))
    }

    fn thread(&mut self, thread: &Thread) -> Result<(), Error> {
        let Thread { pid, tid, name, .. } = thread;
        self.event(&json!({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}))
    }

    fn slice(&mut self, slice: &Slice<'_>) -> Result<(), Error> {
        let details = slice.details.iter().map(|(name, detail)| {
            let value = match detail {
                Detail::Int(number) => Value::from(*number),
                Detail::Text(text) => Value::from(text.as_ref()),
            };
            ((*name).to_owned(), value)
        });
        let args: Map<String, Value> = details.collect();
        let (Thread { pid, tid, .. }, ts) = (slice.thread, self.at_us(slice.start_ns));
        // One that has not ended has a begin alone.
        let mut event = json!({"ph": "B", "name": slice.name, "pid": pid, "tid": tid, "ts": ts, "args": args});
        if let Some(end_ns) = slice.end_ns {
            event["ph"] = "X".into();
            event["dur"] = (end_ns.saturating_sub(slice.start_ns) as f64 / 1000.0).into();
        }
        self.event(&event)
    }

    fn wake(&mut self, wake: &Wake<'_>) -> Result<(), Error> {
        let ts = self.at_us(wake.at_ns);
        for (ph, thread) in [("s", wake.waker), ("f", wake.woken)] {
            let Thread { pid, tid, .. } = thread;
            let event = json!({"ph": ph, "name": "wakes", "cat": "wakes", "id": wake.number, "bp": "e", "pid": pid,
                "tid": tid, "ts": ts});
            self.event(&event)?;
        }
        Ok(())
    }

    fn curve(&mut self, curve: &Curve) -> Result<(), Error> {
        for (at_ns, value) in curve.points.iter().filter_map(|(at_ns, value)| Some((at_ns, (*value)?))) {
            let ts = self.at_us(*at_ns);
            self.event(&json!({"ph": "C", "name": curve.name, "pid": 0, "ts": ts, "args": {"value": value}}))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        let rest = if self.is_empty { "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n]}\n" } else { "\n]}\n" };
        self.out.write_all(rest.as_bytes())?;
        Ok(self.out.flush()?)
    }
}

//! TrackEvents of Perfetto, as protobuf: https://perfetto.dev/docs/reference/trace-packet-proto. Only the fields that are
//! written are declared. A file is a row of packets; they are written some at a time.

use super::timeline::{DETAILS, Detail, Process, Slice, Thread, Timeline, Wake};
use crate::curves::Curve;
use crate::error::Error;
use hashbrown::HashMap;
use ipc_schema::catalogue;
use prost::Message;
use std::io::Write;

#[derive(Clone, PartialEq, Message)]
struct Trace {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<TracePacket>,
}

#[derive(Clone, PartialEq, Message)]
struct TracePacket {
    #[prost(message, optional, tag = "6")]
    clock_snapshot: Option<ClockSnapshot>,
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    #[prost(uint32, tag = "10")]
    trusted_packet_sequence_id: u32,
    #[prost(message, optional, tag = "11")]
    track_event: Option<TrackEvent>,
    #[prost(message, optional, tag = "12")]
    interned_data: Option<InternedData>,
    #[prost(uint32, tag = "13")]
    sequence_flags: u32,
    #[prost(message, optional, tag = "60")]
    track_descriptor: Option<TrackDescriptor>,
}

#[derive(Clone, PartialEq, Message)]
struct ClockSnapshot {
    #[prost(message, repeated, tag = "1")]
    clocks: Vec<Clock>,
}

#[derive(Clone, PartialEq, Message)]
struct Clock {
    #[prost(uint32, tag = "1")]
    clock_id: u32,
    #[prost(uint64, tag = "2")]
    timestamp: u64,
}

#[derive(Clone, PartialEq, Message)]
struct TrackDescriptor {
    #[prost(uint64, tag = "1")]
    uuid: u64,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(message, optional, tag = "3")]
    process: Option<ProcessDescriptor>,
    #[prost(message, optional, tag = "4")]
    thread: Option<ThreadDescriptor>,
    #[prost(uint64, optional, tag = "5")]
    parent_uuid: Option<u64>,
    #[prost(message, optional, tag = "8")]
    counter: Option<CounterDescriptor>,
    #[prost(string, optional, tag = "14")]
    description: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ProcessDescriptor {
    #[prost(int32, tag = "1")]
    pid: i32,
    #[prost(string, tag = "6")]
    process_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ThreadDescriptor {
    #[prost(int32, tag = "1")]
    pid: i32,
    #[prost(int64, tag = "2")]
    tid: i64,
    #[prost(string, tag = "5")]
    thread_name: String,
}

#[derive(Clone, PartialEq, Message)]
struct CounterDescriptor {
    #[prost(int32, tag = "3")]
    unit: i32,
}

#[derive(Clone, PartialEq, Message)]
struct TrackEvent {
    #[prost(message, repeated, tag = "4")]
    debug_annotations: Vec<DebugAnnotation>,
    #[prost(int32, tag = "9")]
    r#type: i32,
    #[prost(uint64, optional, tag = "10")]
    name_iid: Option<u64>,
    #[prost(uint64, tag = "11")]
    track_uuid: u64,
    #[prost(int64, optional, tag = "30")]
    counter_value: Option<i64>,
    #[prost(fixed64, repeated, packed = "false", tag = "47")]
    flow_ids: Vec<u64>,
    #[prost(fixed64, repeated, packed = "false", tag = "48")]
    terminating_flow_ids: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct DebugAnnotation {
    #[prost(uint64, tag = "1")]
    name_iid: u64,
    #[prost(int64, optional, tag = "4")]
    int_value: Option<i64>,
    #[prost(string, optional, tag = "6")]
    string_value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct InternedData {
    #[prost(message, repeated, tag = "2")]
    event_names: Vec<InternedName>,
    #[prost(message, repeated, tag = "3")]
    debug_annotation_names: Vec<InternedName>,
}

#[derive(Clone, PartialEq, Message)]
struct InternedName {
    #[prost(uint64, tag = "1")]
    iid: u64,
    #[prost(string, tag = "2")]
    name: String,
}

// TrackEvent.Type, TracePacket.SequenceFlags, BuiltinClock, CounterDescriptor.Unit.
const SLICE_BEGIN: i32 = 1;
const SLICE_END: i32 = 2;
const INSTANT: i32 = 3;
const COUNTER: i32 = 4;
const STATE_CLEARED: u32 = 1;
const NEEDS_STATE: u32 = 2;
const REALTIME: u32 = 1;
const BOOTTIME: u32 = 6;
const UNIT_COUNT: i32 = 2;

/// The one sequence of packets.
const SEQUENCE: u32 = 1;
/// Names that are no operations.
const WAKES: &str = "wakes";
const WOKEN: &str = "woken";
/// Packets that are written at a time, and the bytes of their texts.
const PACKETS: usize = 4096;
const TEXT_BYTES: usize = 4 << 20;
/// Tracks are told apart by one number: in its highest bits stands what they are of.
const PROCESS: u64 = 1 << 60;
const THREAD: u64 = 2 << 60;
const CURVE: u64 = 3 << 60;

/// A file of Perfetto.
pub struct Perfetto<W> {
    out: W,
    packets: Vec<TracePacket>,
    /// The numbers of event names.
    names: HashMap<&'static str, u64>,
    /// What is subtracted from an instant to have the boot clock.
    clock_offset_ns: i64,
    curves: u64,
    /// Of the texts in `packets`.
    text_bytes: usize,
}

impl<W: Write> Perfetto<W> {
    /// A file that begins at `start_ns` by the clock of all traces, when the boot clock of the first was as much less as
    /// `clock_offset_ns`.
    pub fn new(out: W, start_ns: i64, clock_offset_ns: i64) -> Perfetto<W> {
        let all: Vec<&str> = catalogue::OPERATIONS.iter().copied().chain([WAKES, WOKEN]).collect();
        let names = all.iter().copied().zip(1..).collect();
        let mut perfetto = Perfetto { out, packets: Vec::new(), names, clock_offset_ns, curves: 0, text_bytes: 0 };
        let clocks = vec![
            Clock { clock_id: BOOTTIME, timestamp: perfetto.boot_ns(start_ns) },
            Clock { clock_id: REALTIME, timestamp: start_ns.max(0).unsigned_abs() },
        ];
        let interned_data = InternedData { event_names: interned(&all), debug_annotation_names: interned(&DETAILS) };
        perfetto.packets.push(TracePacket {
            clock_snapshot: Some(ClockSnapshot { clocks }),
            trusted_packet_sequence_id: SEQUENCE,
            ..TracePacket::default()
        });
        perfetto.packets.push(TracePacket {
            interned_data: Some(interned_data),
            trusted_packet_sequence_id: SEQUENCE,
            sequence_flags: STATE_CLEARED,
            ..TracePacket::default()
        });
        perfetto
    }

    fn boot_ns(&self, at_ns: i64) -> u64 {
        at_ns.saturating_sub(self.clock_offset_ns).max(0).unsigned_abs()
    }

    fn track(&mut self, track: TrackDescriptor) -> Result<(), Error> {
        self.push(TracePacket { track_descriptor: Some(track), ..TracePacket::default() })
    }

    fn event(&mut self, at_ns: i64, event: TrackEvent) -> Result<(), Error> {
        let timestamp = Some(self.boot_ns(at_ns));
        self.push(TracePacket { timestamp, track_event: Some(event), ..TracePacket::default() })
    }

    fn push(&mut self, packet: TracePacket) -> Result<(), Error> {
        let of_sequence = TracePacket { trusted_packet_sequence_id: SEQUENCE, sequence_flags: NEEDS_STATE, ..packet };
        self.packets.push(of_sequence);
        if self.packets.len() < PACKETS && self.text_bytes < TEXT_BYTES { Ok(()) } else { self.write() }
    }

    /// Traces one after the other are a trace.
    fn write(&mut self) -> Result<(), Error> {
        self.text_bytes = 0;
        let packet = std::mem::take(&mut self.packets);
        self.out.write_all(&Trace { packet }.encode_to_vec())?;
        Ok(())
    }
}

fn interned(names: &[&str]) -> Vec<InternedName> {
    names.iter().zip(1..).map(|(name, iid)| InternedName { iid, name: (*name).to_owned() }).collect()
}

fn annotation(name: &str, detail: &Detail<'_>) -> DebugAnnotation {
    let name_iid = DETAILS.iter().zip(1..).find(|(known, _)| **known == name).map_or(0, |(_, iid)| iid);
    match detail {
        Detail::Int(number) => DebugAnnotation { name_iid, int_value: Some(*number), string_value: None },
        Detail::Text(text) => DebugAnnotation { name_iid, int_value: None, string_value: Some(text.to_string()) },
    }
}

impl<W: Write> Timeline for Perfetto<W> {
    fn process(&mut self, process: &Process) -> Result<(), Error> {
        let Process { number, pid, name } = process;
        let process = Some(ProcessDescriptor { pid: *pid, process_name: name.clone() });
        self.track(TrackDescriptor { uuid: PROCESS | number, process, ..TrackDescriptor::default() })
    }

    fn thread(&mut self, thread: &Thread) -> Result<(), Error> {
        let Thread { number, process, pid, tid, name } = thread;
        let thread = Some(ThreadDescriptor { pid: *pid, tid: (*tid).into(), thread_name: name.clone() });
        let parent_uuid = Some(PROCESS | process);
        self.track(TrackDescriptor { uuid: THREAD | number, parent_uuid, thread, ..TrackDescriptor::default() })
    }

    fn slice(&mut self, slice: &Slice<'_>) -> Result<(), Error> {
        let track_uuid = THREAD | slice.thread.number;
        self.text_bytes += slice.details.iter().map(|(_, detail)| detail.bytes()).sum::<usize>();
        let begin = TrackEvent {
            r#type: SLICE_BEGIN,
            track_uuid,
            name_iid: self.names.get(slice.name).copied(),
            debug_annotations: slice.details.iter().map(|(name, detail)| annotation(name, detail)).collect(),
            ..TrackEvent::default()
        };
        self.event(slice.start_ns, begin)?;
        let Some(end_ns) = slice.end_ns else { return Ok(()) };
        self.event(end_ns, TrackEvent { r#type: SLICE_END, track_uuid, ..TrackEvent::default() })
    }

    fn wake(&mut self, wake: &Wake<'_>) -> Result<(), Error> {
        let [wakes, woken] = [WAKES, WOKEN].map(|name| self.names.get(name).copied());
        let instant = |thread: &Thread, name_iid| TrackEvent {
            r#type: INSTANT,
            track_uuid: THREAD | thread.number,
            name_iid,
            ..TrackEvent::default()
        };
        let from = TrackEvent { flow_ids: vec![wake.number], ..instant(wake.waker, wakes) };
        let to = TrackEvent { terminating_flow_ids: vec![wake.number], ..instant(wake.woken, woken) };
        self.event(wake.at_ns, from)?;
        self.event(wake.at_ns, to)
    }

    fn curve(&mut self, curve: &Curve) -> Result<(), Error> {
        self.curves += 1;
        let uuid = CURVE | self.curves;
        self.track(TrackDescriptor {
            uuid,
            name: Some(curve.name.clone()),
            description: Some(curve.how_known.to_owned()),
            counter: Some(CounterDescriptor { unit: UNIT_COUNT }),
            ..TrackDescriptor::default()
        })?;
        for (at_ns, value) in curve.points.iter().filter_map(|(at_ns, value)| Some((at_ns, (*value)?))) {
            let counter_value = Some(value);
            self.event(
                *at_ns,
                TrackEvent { r#type: COUNTER, track_uuid: uuid, counter_value, ..TrackEvent::default() },
            )?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.write()?;
        Ok(self.out.flush()?)
    }
}

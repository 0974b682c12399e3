"""timelines.py ANALYZER TRACE: what `export --to perfetto` and `--to chrome` show is what the trace says.

The Perfetto file is decoded by the descriptors that Perfetto publishes, the trace is read by DuckDB. Compared: calls by
operation and thread, the time in them as the begins and ends of each track add up, who woke whom and when, every step of the
depths of queues, the last values of semaphores, lost calls. Exits with 1 and a line per difference.
"""

import collections
import json
import subprocess
import sys

import duckdb
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

ANALYZER, TRACE = sys.argv[1:]
EVENT = schema.TrackEvent
differences = []


def run(*words):
    done = subprocess.run([ANALYZER, *words], capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{words}: exit code {done.returncode}: {done.stderr.decode()}")
    return done.stdout


def equal(what, found, expected):
    if found != expected:
        differences.append(f"{what}: {found!r}, the trace says {expected!r}")


def views():
    """A database with the views of the trace."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(run("views", "--dialect", "duckdb", TRACE).decode())
    return connection


class Timeline:
    """What a Perfetto file shows."""

    def __init__(self, data):
        self.threads, self.counters, events = {}, {}, []
        names, details, clocks = {}, {}, {}
        trace = schema.Trace.FromString(data)
        for packet in trace.packet:
            clocks.update({clock.clock_id: clock.timestamp for clock in packet.clock_snapshot.clocks})
            names.update({name.iid: name.name for name in packet.interned_data.event_names})
            details.update({name.iid: name.name for name in packet.interned_data.debug_annotation_names})
            track = packet.track_descriptor
            if track.HasField("thread"):
                self.threads[track.uuid] = track.thread.tid
            if track.HasField("counter"):
                self.counters[track.uuid] = (track.name, [])
            if packet.HasField("track_event"):
                events.append((packet.timestamp, packet.track_event))
        # BOOTTIME and REALTIME.
        offset = clocks[1] - clocks[6]
        self.slices, self.flows_from, self.flows_to = [], {}, {}
        open_slices = collections.defaultdict(list)
        for time, event in sorted(events, key=lambda pair: pair[0]):
            time += offset
            if event.type == EVENT.TYPE_COUNTER:
                self.counters[event.track_uuid][1].append((time, event.counter_value))
                continue
            track = self.threads[event.track_uuid]
            if event.type == EVENT.TYPE_SLICE_BEGIN:
                arguments = {details[a.name_iid]: a.string_value if a.HasField("string_value") else a.int_value
                             for a in event.debug_annotations}
                slice_ = {"name": names[event.name_iid], "tid": track, "start": time, "end": None, **arguments}
                self.slices.append(slice_)
                open_slices[track].append(slice_)
            elif event.type == EVENT.TYPE_SLICE_END:
                open_slices[track].pop()["end"] = time
            for flow in event.flow_ids:
                self.flows_from[flow] = (time, track, names[event.name_iid])
            for flow in event.terminating_flow_ids:
                self.flows_to[flow] = (time, track, names[event.name_iid])


def check_perfetto(connection):
    timeline = Timeline(run("export", "--to", "perfetto", TRACE))
    calls = connection.execute(
        "SELECT call_id, syscall, tid, start_ns, end_ns, outcome, return_value, error FROM calls ORDER BY 1").fetchall()
    keys = ("call_id", "name", "tid", "start", "end", "outcome", "return_value", "error")
    found = sorted([tuple(s.get(key) for key in keys) for s in timeline.slices], key=lambda row: row[0])
    equal("number of slices", len(found), len(calls))
    for row, expected in zip(found, calls):
        if row != expected:
            equal(f"call {expected[0]}", row, expected)
    wakes = connection.execute("""
        SELECT c.start_ns + c.wait_ns, w.tid, c.tid FROM calls c
            JOIN threads w ON w.trace_id = c.trace_id AND w.thread_id = c.waker_thread_id WHERE c.wait_ns > 0""").fetchall()
    arrows = [(*timeline.flows_from[flow][:2], timeline.flows_to[flow][1]) for flow in timeline.flows_from]
    equal("arrows", collections.Counter(arrows), collections.Counter(wakes))
    equal("flows that end", set(timeline.flows_to), set(timeline.flows_from))
    curves = collections.defaultdict(list)
    for name, points in timeline.counters.values():
        curves[name].append(points)
    check_curves(connection, curves)
    return len(found), len(arrows), len(timeline.counters)


def steps(points):
    """Without those that change nothing."""
    return [point for before, point in zip([None, *points], points) if before is None or before[1] != point[1]]


def check_curves(connection, curves):
    depths = collections.defaultdict(lambda: collections.defaultdict(list))
    for object_ref, name, from_ns, depth in connection.execute("""
            SELECT s.object_ref, concat(l.object_kind, ':', coalesce(l.name, CAST(l.object_id AS VARCHAR))), from_ns, depth
            FROM queue_depth_steps s JOIN lifetimes l ON l.trace_id = s.trace_id AND l.object_ref = s.object_ref
            ORDER BY s.object_ref, from_ns, to_ns""").fetchall():
        depths[f"depth of {name}"][object_ref].append((from_ns, depth))
    # Changes of the same instant have no order in SQL: the last one is what stayed.
    of_instants = lambda points: steps(list(dict(points).items()))
    for name, of_objects in depths.items():
        equal(name, sorted(map(of_instants, curves.get(name, []))), sorted(map(of_instants, of_objects.values())))
    # Of ids that were used once: the others cannot be told apart by their names.
    last = connection.execute("""
        SELECT object_id, arg_max(sem_values, snapshot_ns) FROM objects
        WHERE object_kind = 'sem' AND phase = 'end'
            AND object_id IN (SELECT object_id FROM lifetimes WHERE object_kind = 'sem' GROUP BY 1 HAVING count(*) = 1)
        GROUP BY ALL""").fetchall()
    for object_id, values in last:
        for number, value in enumerate(values or []):
            for points in curves.get(f"value of sem:{object_id}[{number}]", []):
                equal(f"last value of sem:{object_id}[{number}]", points[-1][1], value)
    lost = connection.execute("SELECT lost_calls FROM session").fetchone()[0]
    equal("lost calls", [points[-1][1] for points in curves.get("lost calls", [])], [lost] if lost else [])


def check_chrome(connection):
    events = json.loads(run("export", "--to", "chrome", TRACE))["traceEvents"]
    found = collections.Counter((e["name"], e["tid"], e["ph"]) for e in events if e["ph"] in "XB")
    calls = connection.execute(
        "SELECT syscall, tid, CASE WHEN end_ns IS NULL THEN 'B' ELSE 'X' END, count(*) FROM calls GROUP BY ALL").fetchall()
    equal("Chrome's slices", dict(found), {tuple(row[:3]): row[3] for row in calls})
    total = connection.execute("SELECT coalesce(sum(duration_ns), 0) FROM calls").fetchone()[0]
    equal("Chrome's time", sum(round(e["dur"] * 1000) for e in events if e["ph"] == "X"), total)
    ids = lambda kind: sorted(e["id"] for e in events if e["ph"] == kind)
    equal("Chrome's arrows", ids("s"), ids("f"))
    return len(ids("s"))


connection = views()
slices, arrows, curves = check_perfetto(connection)
equal("arrows of both", check_chrome(connection), arrows)
for difference in differences[:10]:
    print(difference)
print(f"{slices} slices, {arrows} arrows, {curves} curves")
sys.exit(1 if differences else 0)

"""Shows what came of it: the curve of learning, where the agent's memory is, and one trace from experience to action.

    show.py SERVICE ADMIN JAEGER PROXY PLAYED OUT

JAEGER may be empty: then the trace is what the proxy's page has of it.
"""

import json
import os
import re
import sys
import time
import urllib.request
from pathlib import Path

SERVICE, ADMIN, JAEGER, PROXY, PLAYED, OUT = sys.argv[1:]
PLAYED = json.loads(Path(PLAYED).read_text())
PATIENCE = 15.0  # seconds until all spans of a trace have come
WIDTH, HEIGHT = 72, 10
# What one trace must hold, each with the span that it is a child of.
UPDATE, ACT = f"update {PLAYED['agent']}", f"act {PLAYED['agent']}"
PARENTS = {"send experience": None, "process experience": "send experience", UPDATE: "send experience", "send hot-reload": UPDATE,
           "process hot-reload": UPDATE, ACT: "process hot-reload"}
# The agent's own spans are only where they were sent somewhere.
OWN = {} if JAEGER else {UPDATE, ACT}
COLOURS = {"player": 36, "learner": 33, "tars-agent": 32, "dim": 2, "bold": 1, "bad": 31}
COLOURED = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # an HTTP proxy of the environment is for elsewhere


def get(url):
    with OPENER.open(url, timeout=5) as answer:
        return answer.read().decode()


def paint(style, text):
    return f"\033[{COLOURS[style]}m{text}\033[0m" if COLOURED and style in COLOURS else text


def duration(ns):
    return f"{ns / 1e9:.2f} s" if ns >= 1e9 else f"{ns / 1e6:.1f} ms" if ns >= 1e6 else f"{ns / 1e3:.0f} µs"


# --- The curve ---------------------------------------------------------------------------------------------------


def show_curve():
    points = json.loads(get(f"{SERVICE}/v1/agents/{PLAYED['agent']}/metrics?since=0"))["points"]
    curve = [(point["steps"], point["mean_return"]) for point in points if point["mean_return"] is not None]
    low, high = min(0.0, min(y for _, y in curve)), max(y for _, y in curve)
    scale = (high - low) or 1.0
    last = curve[-1][0]
    columns = []
    for column in range(WIDTH):
        until = last * (column + 1) / WIDTH
        columns.append(([y for x, y in curve if x <= until] or [curve[0][1]])[-1])
    print(paint("bold", "Return, mean of the latest 100 episodes"))
    for row in range(HEIGHT - 1, -1, -1):
        label = f"{low + scale * (row + 1) / HEIGHT:7.0f}" if row % 3 == 0 else " " * 7
        eighths = [min(max(round((y - low) / scale * HEIGHT * 8) - row * 8, 0), 8) for y in columns]
        print(f"{label} │{paint('tars-agent', ''.join(' ▁▂▃▄▅▆▇█'[n] for n in eighths))}")
    print(" " * 7 + " └" + "─" * WIDTH)
    print(" " * 9 + "0" + f"{last:,} steps".rjust(WIDTH - 1) + "\n")
    draw(curve, low, high)


def ticks(most):
    """About five round numbers up to this."""
    step = next(unit * 10**power for power in range(12) for unit in (1, 2, 5) if unit * 10**power * 6 >= most)
    return range(0, int(most) + 1, step)


def draw(curve, low, high):
    """The same as a picture that needs nothing else."""
    left, top, wide, tall = 56, 52, 640, 240
    last, scale = curve[-1][0], (high - low) or 1.0
    at = lambda x, y: (left + wide * x / last, top + tall * (1 - (y - low) / scale))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in curve))
    lines = []
    for y in [low] * (low < 0) + list(ticks(max(high, 0))):
        _, height = at(0, y)
        lines.append(f'<line class="grid" x1="{left}" y1="{height:.1f}" x2="{left + wide}" y2="{height:.1f}"/>'
                     f'<text x="{left - 8}" y="{height + 4:.1f}" text-anchor="end">{y:.0f}</text>')
    for x in ticks(last):
        across, _ = at(x, low)
        lines.append(f'<text x="{across:.1f}" y="{top + tall + 20}" text-anchor="middle">{x:,.0f}</text>')
    Path(OUT).write_text(f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 336" font-family="system-ui, sans-serif" font-size="12">
<style>
  svg {{ --text: #24292f; --muted: #656d76; --line: #d8dee4; --curve: #4a63d8; background: #fff; }}
  @media (prefers-color-scheme: dark) {{ svg {{ --text: #e6edf3; --muted: #8b949e; --line: #30363d; --curve: #8ea2ff; background: #0d1117; }} }}
  text {{ fill: var(--muted); }} .title {{ fill: var(--text); font-size: 15px; font-weight: 600; }}
  .grid {{ stroke: var(--line); }} polyline {{ fill: none; stroke: var(--curve); stroke-width: 2; stroke-linejoin: round; }}
</style>
<text class="title" x="{left}" y="24">{PLAYED["agent"]}, learnt over Redis Streams</text>
<text x="{left}" y="42">mean return of the latest 100 episodes; {PLAYED["steps"]:,} steps in {PLAYED["seconds"]:.0f} seconds</text>
{chr(10).join(lines)}
<text x="{left + wide / 2}" y="{top + tall + 38}" text-anchor="middle">transitions learnt from</text>
<polyline points="{path}"/>
</svg>
""")


# --- Memory ------------------------------------------------------------------------------------------------------


def show_memory():
    metrics = get(f"{ADMIN}/metrics")
    parts, bars = {}, 30
    for labels, value in re.findall(r"^tars_agent_memory_bytes\{([^}]*)\} (\S+)$", metrics, re.M):
        found = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        owner = "" if found["agent"] == "_process" else " of the agent"
        parts[found["component"].replace("_", " ") + owner] = float(value)
    anonymous = float(re.search(r"^tars_agent_rss_anon_bytes (\S+)$", metrics, re.M)[1])
    print(paint("bold", "Memory of tars-agent, by component"))
    for name, size in sorted(parts.items(), key=lambda part: -part[1]):
        if size >= 10_000:
            bar = "█" * max(round(size / max(parts.values()) * bars), 1)
            print(f"  {name:32} {size / 1e6:7.2f} MB  {paint('learner', bar)}")
    total = sum(parts.values())
    print(f"  {'all of it':32} {total / 1e6:7.2f} MB; {anonymous / 1e6:.2f} MB of the process are resident and no file's, as the kernel counts it\n")


# --- The trace ---------------------------------------------------------------------------------------------------


def from_jaeger(trace_id):
    trace = json.loads(get(f"{JAEGER}/api/traces/{trace_id}"))["data"][0]
    for span in trace["spans"]:
        parents = [reference["spanID"] for reference in span["references"] if reference["refType"] == "CHILD_OF"]
        yield {"id": span["spanID"], "parent": (parents or [None])[-1], "name": span["operationName"], "start": span["startTime"] * 1000,
               "ns": span["duration"] * 1000, "service": trace["processes"][span["processID"]]["serviceName"]}


def from_proxy(trace_id):
    traces = json.loads(get(f"{PROXY}/traces.json?limit=1000"))["traces"]
    (trace,) = [trace for trace in traces if trace["trace_id"] == trace_id]
    for span in trace["spans"]:
        yield {"id": span["span_id"], "parent": span["parent"], "name": span["name"], "start": span["offset_ns"], "ns": span["duration_ns"],
               "service": span["service"]}


def wrong(spans):
    """The spans that are missing, or have another parent."""
    names = {span["id"]: span["name"] for span in spans}
    parents = {span["name"]: names.get(span["parent"]) for span in spans}
    return [name for name, parent in PARENTS.items() if name not in OWN and (name not in parents or parents[name] != parent and parent not in OWN)]


def show_trace():
    until, at, spans = time.monotonic() + PATIENCE, 0, []
    # The newest first: an experience that the next update would have begun with is not settled yet.
    while time.monotonic() < until and wrong(spans):
        at = at % len(PLAYED["traces"]) + 1
        trace = PLAYED["traces"][-at]
        try:
            spans = sorted((from_jaeger if JAEGER else from_proxy)(trace), key=lambda span: span["start"])
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            spans = []  # not there yet
        time.sleep(0.05)
    print(paint("bold", "One trace: experience, update, hot reload, action") + paint("dim", f"   {trace}"))
    ids = {span["id"] for span in spans}
    whole = max(span["start"] + span["ns"] for span in spans) - spans[0]["start"] if spans else 1

    def rows(parent, lead):
        children = [span for span in spans if (span["parent"] if span["parent"] in ids else None) == parent]
        for span in children:
            last = span is children[-1]
            branch = "" if parent is None else "└─ " if last else "├─ "
            first = min(int((span["start"] - spans[0]["start"]) * 18 / whole), 17)
            bar = " " * first + paint(span["service"], "█" * min(max(round(span["ns"] * 18 / whole), 1), 18 - first))
            tree = paint("dim", lead + branch) + span["name"] + " " * (40 - len(lead + branch + span["name"]))
            print(f"  {tree}{paint(span['service'], span['service'].ljust(12))}{duration(span['ns']):>9}  {bar}")
            rows(span["id"], lead + ("" if parent is None else "   " if last else "│  "))

    rows(None, "")
    print()
    if wrong(spans):
        print(paint("bad", "These spans are missing, or not where they should be: ") + ", ".join(wrong(spans)))
        return 1
    print("Checked: every span is there, and below the one that it came of.")
    if not JAEGER:
        print("The agent's own spans (update, act) go where OTEL_EXPORTER_OTLP_ENDPOINT says: `scripts/setup jaeger`, and they are shown here.")
    print(f"The curve as a picture: {OUT}\n")
    return 0


show_curve()
show_memory()
sys.exit(show_trace())

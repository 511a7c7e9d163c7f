"""Prints the traces that the proxy made, and checks them against what is in Redis.

    show.py ADMIN SOCKET ORDERS

Each order must be one trace, and nothing may be missing from it:
send orders (shop) > process orders (payment) > send payments (payment) > process payments (shipping).
"""

import json
import os
import sys
import time
import urllib.request

import redis

PATIENCE = 30.0  # seconds in which all orders must have come through
SHOWN = 2  # traces that are printed in full, besides those with a second delivery
TREE, WHO, BAR = 30, 16, 18  # widths of columns

ADMIN, SOCKET, ORDERS = sys.argv[1], sys.argv[2], int(sys.argv[3])
COLOURS = {"shop": 36, "payment": 33, "shipping": 32, "dim": 2, "bold": 1, "bad": 31}
COLOURED = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # an HTTP proxy of the environment is for elsewhere


def get(path):
    with OPENER.open(f"http://{ADMIN}{path}", timeout=5) as answer:
        return answer.read().decode()


def paint(style, text):
    return f"\033[{COLOURS[style]}m{text}\033[0m" if COLOURED and style in COLOURS else text


def duration(ns):
    return f"{ns / 1e9:.2f} s" if ns >= 1e9 else f"{ns / 1e6:.1f} ms" if ns >= 1e6 else f"{ns / 1e3:.0f} µs"


# --- The check ---------------------------------------------------------------------------------------------------


class Broken(Exception):
    """A sentence that says what is wrong with a trace."""


def only(spans, what):
    if len(spans) != 1:
        raise Broken(f"{len(spans)} spans that are {what}, and there must be one")
    return spans[0]


def attempts_of(spans, send, service):
    """The deliveries of the message that was sent: the last acknowledged, each linked to the one before."""
    found = [s for s in spans if (s["operation"], s["stream"], s["service"]) == ("process", send["stream"], service)]
    for before, span in zip([None, *found], found):
        name = f"{span['name']} ({span['consumer']})"
        if span["message_id"] != send["message_id"] or span["parent"] != send["span_id"]:
            raise Broken(f"{name} is no child of the {send['name']} of its message")
        if before and before["span_id"] not in [link["span_id"] for link in span["links"]]:
            raise Broken(f"{name} is not linked to the attempt before")
        if before and before["outcome"] != "superseded":
            raise Broken(f"{before['name']} was delivered again, and has ended as {before['outcome']}")
    if not found or found[-1]["outcome"] != "settled":
        raise Broken(f"no acknowledged process {send['stream']} by {service}")
    return found


def check(trace, orders, payments):
    """The number of the trace's order, and the deliveries of it. Takes the messages it finds out of both streams."""
    spans = trace["spans"]
    order = only([s for s in spans if s["parent"] is None], "a root")
    if (order["name"], order["service"]) != ("send orders", "shop") or order["message_id"] not in orders:
        raise Broken(f"its root is {order['name']} of {order['service']}, and must be the shop's send orders")
    deliveries = attempts_of(spans, order, "payment")
    payment = only([s for s in spans if (s["name"], s["service"]) == ("send payments", "payment")], "payment's send payments")
    if payment["parent"] != deliveries[-1]["span_id"] or payment["message_id"] not in payments:
        raise Broken("send payments is no child of the acknowledged process orders")
    shipments = attempts_of(spans, payment, "shipping")
    if len(spans) != 2 + len(deliveries) + len(shipments):
        raise Broken(f"{len(spans)} spans, some of them nobody's")
    number = orders.pop(order["message_id"])
    if payments.pop(payment["message_id"]) != number:
        raise Broken(f"the payment in the trace of order {number} is another order's")
    return number, deliveries


def check_all(db):
    """Traces by order, and everything that is wrong."""
    orders, payments = ({message: int(entry["order"]) for message, entry in db.xrange(name)} for name in ("orders", "payments"))
    traces, wrong = {}, []
    for counted, name in ((orders, "orders"), (payments, "payments")):
        if len(counted) != ORDERS:
            wrong.append(f"{len(counted)} messages in the stream {name}, and there must be {ORDERS}")
    for trace in json.loads(get("/traces.json?limit=1000"))["traces"]:
        try:
            number, deliveries = check(trace, orders, payments)
            traces[number] = trace, deliveries
        except Broken as error:
            wrong.append(f"trace {trace['trace_id']}: {error}")
    wrong += [f"order {number} has no whole trace" for number in orders.values()]
    wrong += [f"the payment of order {number} is in no whole trace" for number in payments.values()]
    if not wrong and not any(len(deliveries) > 1 for _, deliveries in traces.values()):
        wrong.append("one order must have been delivered twice, and none was")
    return traces, wrong


# --- The picture -------------------------------------------------------------------------------------------------


def bar(span, whole):
    first = min(int(span["offset_ns"] * BAR / whole), BAR - 1)
    length = max(round(span["duration_ns"] * BAR / whole), 1)
    return " " * first + paint(span["service"], "█" * min(length, BAR - first))


def rows(trace, parent=None, lead=""):
    """The spans below a parent, each with the branches that lead to it. A trace is four deep."""
    children = [span for span in trace["spans"] if span["parent"] == parent]
    for span in children:
        last = span is children[-1]
        branch = "" if parent is None else "└─ " if last else "├─ "
        yield lead + branch, span
        yield from rows(trace, span["span_id"], lead + ("" if parent is None else "   " if last else "│  "))


def print_trace(number, trace, deliveries):
    title = paint("bold", f"Order {number}") + f"  {duration(trace['duration_ns'])}"
    print(title + paint("dim", f"  trace {trace['trace_id']}"))
    for branch, span in rows(trace):
        again = f" ×{span['delivery_count']}" if (span["delivery_count"] or 1) > 1 else ""
        who = span["service"] + (f" {span['consumer']}" if span["consumer"] else "")
        tree = paint("dim", branch) + span["name"] + again + " " * (TREE - len(branch + span["name"] + again))
        print(f"  {tree}{paint(span['service'], who.ljust(WHO + 1))} {duration(span['duration_ns']):>8}  {bar(span, trace['duration_ns'])}")
    for before, span in zip(deliveries, deliveries[1:]):
        print(f"  ×{span['delivery_count']}: not acknowledged by {before['consumer']}, claimed by {span['consumer']}, linked to that attempt")
    print()


def print_traces(traces):
    shown = sorted(traces)[:SHOWN] + [number for number in sorted(traces)[SHOWN:] if len(traces[number][1]) > 1]
    for number in shown:
        print_trace(number, *traces[number])
    rest = [trace["duration_ns"] for number, (trace, _) in traces.items() if number not in shown]
    if rest:
        print(f"{len(rest)} more like the first, of {duration(min(rest))} to {duration(max(rest))}.\n")


def print_export(spans):
    """Where else the spans went, if they were to go anywhere."""
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not endpoint:
        return
    sent = lost = 0
    until = time.monotonic() + 5
    while sent + lost < spans and time.monotonic() < until:
        time.sleep(0.1)
        figures = dict(line.rsplit(" ", 1) for line in get("/metrics").splitlines() if not line.startswith("#"))
        sent = int(figures["tars_proxy_spans_exported_total"])
        lost = sum(int(n) for name, n in figures.items() if name.startswith("tars_proxy_spans_dropped_total"))
    if sent >= spans:
        print(f"The same {spans} spans were sent to {endpoint}.\n")
    else:
        print(f"{endpoint} has taken {sent} of the {spans} spans so far; no message waited for it.\n")


def main():
    db = redis.Redis(unix_socket_path=SOCKET, decode_responses=True)
    until = time.monotonic() + PATIENCE
    traces, wrong = check_all(db)
    while wrong and time.monotonic() < until:
        time.sleep(0.1)
        traces, wrong = check_all(db)
    print_traces(traces)
    if wrong:
        print(paint("bad", "Not every message is linked:"), *wrong, sep="\n  ")
        return 1
    spans = sum(trace["span_count"] for trace, _ in traces.values())
    print(f"Checked: {ORDERS} orders are {len(traces)} traces of {spans} spans, and every message is linked:")
    print("send orders > process orders > send payments > process payments.\n")
    print_export(spans)
    if os.environ.get("KEEP"):  # else the proxy is gone in a moment, and its page with it
        page, (again, deliveries) = f"http://{ADMIN}/traces", max(traces.values(), key=lambda found: len(found[1]))
        print("The page with the waterfalls: ", paint("bold", page))
        print("The order delivered twice:    ", paint("bold", f"{page}#{again['trace_id']}/{deliveries[-1]['span_id']}"))
    return 0


try:
    sys.exit(main())
except (OSError, redis.RedisError) as error:
    sys.exit(paint("bad", f"The proxy or Redis does not answer: {error}"))

"""mitmproxy's own reader and writer: mitmproxy_flows.py write FILE | resave FROM TO | load FILE.

`write` makes flows of every kind; `resave` loads a file and saves it, which turns some keys around; `load` prints a line of
JSON for each flow, bytes as {"base64": …}.
"""

import base64
import json
import sys

from mitmproxy import flow, flowfilter, http, io
from mitmproxy.test import tflow


def flows():
    yield from tflow.tflows()
    absent = tflow.tflow(resp=True)
    absent.request.content, absent.response.content = None, b""
    absent.metadata = {"a": 1, "b": [1.5, None, True, b"x"], "c": {"d": "e"}, "n": -12345678901234567890}
    absent.marked, absent.comment = ":grapes:", "two\nlines"
    yield absent
    edited = tflow.tflow(resp=True)
    edited.backup()
    edited.request.path = "/changed"
    yield edited
    times = tflow.tflow(resp=True)
    times.request.timestamp_start, times.request.timestamp_end = 1700000000.1234567, 1700000000.2345678
    times.response.timestamp_start, times.response.timestamp_end = 1700000000.345, None
    times.response.trailers = http.Headers([(b"a", b"b"), (b"A", b"\xff")])
    times.request.http_version, times.request.authority = "HTTP/2.0", "example.org"
    times.server_conn.via = ("http", ("proxy", 8080))
    times.client_conn.peername = ("::1", 1, 0, 0)
    times.is_replay = "response"
    yield times
    messages = tflow.twebsocketflow()
    messages.websocket.messages[0].dropped = True
    messages.websocket.messages[1].injected = True
    yield messages
    yield tflow.tflow(resp=http.Response.make(404, bytes(range(256)) * 4000, {"Content-Type": "text/plain"}))
    stream = tflow.ttcpflow()
    for number in range(300):
        stream.messages.append(type(stream.messages[0])(number % 3 == 0, bytes([number % 256]) * 100 * number, number / 7))
    yield stream


def write(path, flows):
    with open(path, "wb") as file:
        writer = io.FlowWriter(file)
        for each in flows:
            writer.add(each)


def load(path):
    with open(path, "rb") as file:
        return list(io.FlowReader(file).stream())


def plain(value):
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(member) for member in value]
    return value


def main(command, path, *more):
    if command == "write":
        write(path, flows())
    elif command == "resave":
        write(more[0], load(path))
    else:
        everything = flowfilter.parse("~all | ~b x | ~u x | ~comment x | ~meta x")
        for each in load(path):
            assert flow.Flow.from_state(each.get_state()).get_state() == each.get_state()
            assert flowfilter.match(everything, each)
            print(json.dumps(plain(each.get_state())))


main(*sys.argv[1:])

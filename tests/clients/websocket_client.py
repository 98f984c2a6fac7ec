"""WebSockets of every kind through the proxy: websocket_client.py PROXY ORIGIN [CA]. `direct` leaves the proxy out.

With SERVED in the environment, those with compression, of which only the messages come from a store.
"""

import asyncio
import os
import random
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

proxy, origin, *ca = sys.argv[1:]
context = ssl.create_default_context(cafile=ca[0]) if ca else None
LARGE = random.Random(3).randbytes(3 * 2**20)


def opened(path, **more):
    settings = {"proxy": None if proxy == "direct" else proxy, "compression": None, "ping_interval": None}
    settings |= {"max_size": 2**24, "ssl": context, "open_timeout": 20}
    return connect(origin + path, **(settings | more))


async def echoed(ws, *messages):
    for message in messages:
        await ws.send(message)
        assert await ws.recv() == message, message[:100]


async def messages():
    async with opened("/echo?plain") as ws:
        await echoed(ws, "hello", "", "héllo, wörld 😀", b"", bytes(range(256)), "a" * 125, "b" * 126, "c" * 65536)
    assert (ws.close_code, ws.close_reason) == (1000, "")


async def many():
    """All of them before the first answer is read."""
    async with opened("/echo?many") as ws:
        async def send():
            for number in range(500):
                await ws.send(f"message {number}")
        sending = asyncio.create_task(send())
        for number in range(500):
            assert await ws.recv() == f"message {number}"
        await sending


async def large():
    async with opened("/echo?large") as ws:
        await echoed(ws, LARGE, "x" * 2**20)


async def fragments():
    async with opened("/fragments") as ws:
        for pieces in (["foo", "bar"], ["", "a", "", "bc"], [b"\x00\xff", b"", b"\xfe" * 70000]):
            await ws.send(pieces)
            empty = pieces[0][:0]  # the last frame that each side sends
            assert [piece async for piece in ws.recv_streaming()] == [*pieces, empty, empty]


async def pings():
    async with opened("/pings") as ws:
        assert [await ws.recv() for _ in range(3)] == ["answered 0", "answered 7", "answered 125"]
        for payload in (b"", b"mine", b"\xff" * 125):
            await (await ws.ping(payload))
        await ws.pong(b"unasked")
        await echoed(ws, "still there")


SETTINGS = {
    "takeover": {},
    "none": {"server_no_context_takeover": True, "client_no_context_takeover": True},
    "client": {"client_no_context_takeover": True},
    "windows": {"server_max_window_bits": 9, "client_max_window_bits": 10},
}
COMPRESSED = ("compressed " * 50, "compressed " * 50, "", b"\x00" * 100_000, LARGE[:300_000])


async def deflate():
    for name, parameters in SETTINGS.items():
        async with opened(f"/echo?{name}", extensions=[ClientPerMessageDeflateFactory(**parameters)]) as ws:
            assert ws.response.headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate"), name
            await echoed(ws, *COMPRESSED)
    async with opened("/fragments?deflate", extensions=[ClientPerMessageDeflateFactory()]) as ws:
        await ws.send(["in fragments, " * 20, "compressed"])
        assert "".join([piece async for piece in ws.recv_streaming()]) == "in fragments, " * 20 + "compressed"


async def served():
    """What was compressed when it was recorded."""
    for name, parameters in SETTINGS.items():
        async with opened(f"/echo?{name}", extensions=[ClientPerMessageDeflateFactory(**parameters)]) as ws:
            assert "Sec-WebSocket-Extensions" not in ws.response.headers, name
            await echoed(ws, *COMPRESSED)


async def subprotocols():
    async with opened("/echo?subprotocols", subprotocols=["first", "second", "third"]) as ws:
        assert ws.subprotocol == "second"
        await echoed(ws, "agreed")


async def closes():
    for code, reason in ((1000, ""), (1001, "going"), (4000, "ours: ü"), (4999, "x" * 123)):
        async with opened(f"/echo?close={code}") as ws:
            await ws.close(code, reason)
        assert (ws.close_code, ws.close_reason) == (code, reason)
        async with opened(f"/close?{code}") as ws:
            await ws.send(f"{code} {reason}")
            assert await failed(ws) == (code, reason)
    async with opened("/cut") as ws:
        await ws.send("end")
        assert await failed(ws) == (1006, "")


async def failed(ws):
    try:
        message = await ws.recv()
    except ConnectionClosed:
        return ws.close_code, ws.close_reason
    raise AssertionError(f"it is open: {message}")


async def main():
    parts = (messages, many, large, fragments, pings, deflate, subprotocols, closes)
    for part in (served,) if "SERVED" in os.environ else parts:
        await part()


asyncio.run(main())
print("done")

"""A WebSocket server on the `websockets` package: websocket_server.py CERT KEY

Prints its ports as one JSON object, then one object for each connection that has closed: what was agreed, each message that
came and that was sent, in order, and how it ended. The path says what it does. It ends when its standard input has, and all
connections to it.
"""

import asyncio
import base64
import json
import ssl
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory


def shown(message):
    return message if isinstance(message, str) else {"base64": base64.b64encode(message).decode()}


class Connection:
    """One that keeps what passes."""

    def __init__(self, ws):
        self.ws, self.log = ws, []

    async def send(self, message):
        pieces = message if isinstance(message, list) else [message]
        whole = pieces[0][:0].join(pieces)
        self.log.append(["sent", shown(whole)])
        await self.ws.send(message)

    async def echo(self):
        async for message in self.ws:
            self.log.append(["received", shown(message)])
            await self.send(message)

    async def fragments(self):
        """Sends back each message in the fragments in which it came."""
        while True:
            pieces = [piece async for piece in self.ws.recv_streaming()]
            self.log.append(["received", shown(pieces[0][:0].join(pieces))])
            await self.send(pieces)

    async def pings(self):
        """Pings, and tells how each was answered."""
        for payload in (b"", b"payload", b"\x00" * 125):
            await (await self.ws.ping(payload))
            await self.send(f"answered {len(payload)}")
        await self.echo()

    async def close(self):
        """Closes with the code and the reason that the first message names."""
        message = await self.ws.recv()
        self.log.append(["received", shown(message)])
        code, reason = message.split(" ", 1)
        await self.ws.close(int(code), reason)

    async def cut(self):
        """Ends the connection without a close frame."""
        self.log.append(["received", shown(await self.ws.recv())])
        self.ws.transport.abort()


async def handler(ws):
    connection = Connection(ws)
    work = getattr(connection, ws.request.path.split("?")[0].strip("/"))
    try:
        await work()
    except ConnectionClosed:
        pass
    await ws.wait_closed()
    facts = {"path": ws.request.path, "fields": [[n, v] for n, v in ws.request.headers.raw_items()]}
    facts |= {"response_fields": [[n, v] for n, v in ws.response.headers.raw_items()]}
    facts |= {"subprotocol": ws.subprotocol, "log": connection.log}
    facts |= {"close": [ws.close_code, ws.close_reason]}
    print(json.dumps(facts), flush=True)


def choose(ws, offered):
    return next((name for name in offered if name in ("second", "third")), None)


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:])
    context.set_alpn_protocols(["http/1.1"])
    more = {"select_subprotocol": choose, "max_size": 2**24, "ping_interval": None}
    more |= {"compression": None, "extensions": [ServerPerMessageDeflateFactory()]}
    tls = await serve(handler, "127.0.0.1", 0, ssl=context, **more)
    clear = await serve(handler, "127.0.0.1", 0, **more)
    ports = [server.sockets[0].getsockname()[1] for server in (tls, clear)]
    print(json.dumps({"tls": ports[0], "clear": ports[1]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for server in (tls, clear):
        server.close(close_connections=False)
        await server.wait_closed()


asyncio.run(main())

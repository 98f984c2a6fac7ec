"""httpx over HTTP/2 through the proxy: httpx_client.py PROXY CA HTTPS-ORIGIN. `direct` leaves the proxy out."""

import asyncio
import ssl
import sys

import httpx

proxy, ca, origin = sys.argv[1:]
body = bytes(range(255, -1, -1)) * 100


async def pieces():
    yield body[:100]
    yield body[100:]


async def main():
    context = ssl.create_default_context(cafile=ca)
    through = None if proxy == "direct" else proxy
    async with httpx.AsyncClient(http2=True, proxy=through, verify=context, trust_env=False, base_url=origin) as client:

        async def ask(method, path, **more):
            answer = await client.request(method, path, timeout=30, **more)
            assert answer.http_version == "HTTP/2", answer.http_version
            return answer

        answer = await ask("GET", "/hello?n=0", headers=[("x-dup", "a"), ("x-dup", "b")])
        assert answer.content == b"hello, world\n"
        assert answer.headers.get_list("set-cookie") == ["a=1; Path=/", "b=2; Path=/"]
        assert (await ask("GET", "/gzip")).text.startswith("compressed")
        assert (await ask("POST", "/sized", content=body)).text == "received 25600"
        assert (await ask("POST", "/unsized", content=pieces())).text == "received 25600"
        assert (await ask("GET", "/trailers")).text == "first, second"
        assert (await ask("GET", "/early")).text == "after a hint\n"
        answers = await asyncio.gather(*(ask("GET", f"/hello?n={n}") for n in range(1, 31)))
        assert all(answer.content == b"hello, world\n" for answer in answers)
        # A piece, then the word for the next one, on the same connection.
        async with client.stream("GET", "/chunks?name=x") as answer:
            got = []
            async for piece in answer.aiter_raw():
                got.append(piece)
                if len(got) < 3:
                    await ask("POST", f"/ack?name=x&n={len(got)}")
            assert got == [b"alpha", b"beta", b"gamma"], got
        # A stream that is left, and one that the origin resets, take nothing else with them.
        async with client.stream("GET", "/hang") as answer:
            assert await anext(answer.aiter_raw()) == b"begun"
        try:
            await ask("GET", "/reset?code=2")
            raise AssertionError("it was reset")
        except httpx.RemoteProtocolError as error:
            assert "error_code:2" in str(error) or "INTERNAL_ERROR" in str(error), error
        assert (await ask("GET", "/hello?n=31")).content == b"hello, world\n"


asyncio.run(main())
print("done")

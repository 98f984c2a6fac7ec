// Node's own http2 through a CONNECT tunnel: node http2.mjs PART PROXY CA HTTPS-ORIGIN HTTP-ORIGIN
//
// PART is one of the functions under `parts`. A PROXY of `direct` leaves the proxy out, to see that this script is right.
import assert from 'node:assert';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import net from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import tls from 'node:tls';

const [part, proxy, ca, https, http] = process.argv.slice(2);
const body = Buffer.from(Array.from({ length: 25600 }, (_, at) => 255 - (at % 256)));

async function tunnel(origin) {
  const { hostname, port } = new URL(origin);
  if (proxy === 'direct') return net.connect(Number(port), hostname);
  const socket = net.connect(Number(new URL(proxy).port), new URL(proxy).hostname);
  socket.write(`CONNECT ${hostname}:${port} HTTP/1.1\r\nHost: ${hostname}:${port}\r\n\r\n`);
  const [head] = await once(socket, 'data');
  assert.match(head.toString(), /^HTTP\/1\.1 200 [^]*\r\n\r\n$/);
  return socket;
}

async function session(origin) {
  let socket = await tunnel(origin);
  if (origin.startsWith('https')) {
    socket = tls.connect({ socket, servername: 'localhost', ca: readFileSync(ca), ALPNProtocols: ['h2'] });
    await once(socket, 'secureConnect');
    assert.equal(socket.alpnProtocol, 'h2');
  }
  const made = http2.connect(origin, { createConnection: () => socket });
  await once(made, 'connect');
  return made;
}

// The answer's head with what came before it, its body and its trailers.
async function ask(session, headers, pieces = []) {
  const stream = session.request(headers, { endStream: pieces.length === 0 });
  const interim = [];
  stream.on('continue', () => interim.push(100)).on('headers', (fields) => interim.push(fields[':status']));
  let trailers = null;
  stream.on('trailers', (fields) => (trailers = { ...fields }));
  pieces.forEach((piece) => stream.write(piece));
  if (pieces.length > 0) stream.end();
  const [head] = await once(stream, 'response');
  return { status: head[':status'], head, interim, text: await text(stream), trailers };
}

// The code that the stream is reset with, and what had come of it.
async function broken(stream, whenBegun = () => {}) {
  let begun = '';
  stream.on('data', (piece) => (begun += piece, whenBegun()));
  const closed = once(stream, 'close').catch((error) => error); // its error event says the same
  stream.on('error', () => {});
  await closed;
  return { begun, code: stream.rstCode };
}

const parts = {
  async requests() {
    for (const origin of [https, http]) {
      const to = await session(origin);
      const fields = { ':path': '/hello?n=1', 'x-dup': ['a', 'b'], cookie: ['a=1', 'b=2'], 'x-empty': '' };
      assert.equal((await ask(to, fields)).text, 'hello, world\n');
      assert.equal((await ask(to, { ':path': '/hello?n=2', ':method': 'HEAD' })).head['content-length'], '13');
      assert.equal((await ask(to, { ':path': '/nothing' })).status, 204);
      const sized = { ':path': '/sized', ':method': 'POST', 'content-length': body.length };
      assert.equal((await ask(to, sized, [body])).text, 'received 25600');
      const unsized = { ':path': '/unsized', ':method': 'POST' };
      assert.equal((await ask(to, unsized, [body.subarray(0, 100), body.subarray(100)])).text, 'received 25600');
      const answer = await ask(to, { ':path': '/trailers' });
      assert.deepEqual([answer.text, answer.trailers['x-checksum'], answer.trailers['x-more']], ['first, second', '7', '1, 2']);
      to.close();
    }
  },

  async interim() {
    const to = await session(https);
    assert.deepEqual((await ask(to, { ':path': '/early' })).interim, [103]);
    const expecting = to.request({ ':path': '/expect', ':method': 'POST', expect: '100-continue' });
    await once(expecting, 'continue'); // from the origin, before any of the body
    expecting.end('asked for');
    assert.equal(await text(expecting), 'received 9');
    to.close();
  },

  // Each piece is sent when the one before it has come back.
  async duplex() {
    const to = await session(https);
    const stream = to.request({ ':path': '/duplex', ':method': 'POST', te: 'trailers' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '15', 'x-end': 'yes' }));
    let trailers = null;
    stream.on('trailers', (fields) => (trailers = fields));
    await once(stream, 'response');
    for (const piece of ['one', 'two', 'three', 'four', 'five']) {
      stream.write(piece);
      assert.equal(String((await once(stream, 'data'))[0]), piece);
    }
    stream.end();
    await buffer(stream);
    assert.deepEqual([trailers['x-pieces'], trailers['x-trailers']], ['5', '2']);
    to.close();
  },

  async parallel() {
    const to = await session(https);
    const asked = Array.from({ length: 50 }, (_, at) => ask(to, { ':path': at % 5 ? `/hello?n=${at}` : `/binary?n=${at}` }));
    for (const [at, answer] of (await Promise.all(asked)).entries()) {
      assert.equal(answer.text.length, at % 5 ? 13 : answer.text.length, `number ${at}`);
      assert.equal(answer.status, 200);
    }
    to.close();
  },

  async resets() {
    const to = await session(https);
    // INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY, HTTP_1_1_REQUIRED
    for (const code of [2, 8, 11, 12, 13]) {
      assert.deepEqual(await broken(to.request({ ':path': `/reset?code=${code}` })), { begun: '', code });
      const cut = to.request({ ':path': `/cut?code=${code}` });
      const acknowledge = () => ask(to, { ':path': `/ack?name=cut&code=${code}`, ':method': 'POST' });
      assert.deepEqual(await broken(cut, acknowledge), { begun: 'begun', code });
    }
    const left = to.request({ ':path': '/hang' });
    await broken(left, () => left.close(http2.constants.NGHTTP2_CANCEL));
    assert.equal((await ask(to, { ':path': '/hello' })).text, 'hello, world\n', 'the connection lives');
    to.close();
  },

  // The origin ends its connections in order while answers are under way on them.
  async goaway() {
    let to = await session(https);
    for (let round = 0; round < 3; round++) {
      const pieces = to.request({ ':path': `/chunks?name=${round}` })[Symbol.asyncIterator]();
      const next = async () => String((await pieces.next()).value);
      assert.equal(await next(), 'alpha');
      assert.equal((await ask(to, { ':path': `/goaway?${round}` })).text, 'the last one here\n');
      if (to.closed || to.destroyed) to = await session(https);
      await ask(to, { ':path': `/ack?name=${round}&n=1`, ':method': 'POST' });
      assert.equal(await next(), 'beta');
      await ask(to, { ':path': `/ack?name=${round}&n=2`, ':method': 'POST' });
      assert.equal(await next(), 'gamma');
      assert.ok((await pieces.next()).done);
    }
    to.close();
  },
};

await parts[part]();
console.log('done');
process.exit(0);

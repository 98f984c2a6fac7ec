// An HTTP/2 origin on Node's nghttp2: node http2_origin.mjs CERT KEY [extended-connect]
//
// Prints its ports as one JSON object, then one object for each stream that has ended: what came, and what was sent.
// Answers that stream wait for the client's word (`/ack`) before each piece, so that only a proxy that passes pieces on
// as they come gets to the end. With `extended-connect` it offers WebSockets over HTTP/2 (RFC 8441). It ends when its
// standard input has, and all connections to it.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import { gzipSync } from 'node:zlib';
import { page } from './page.mjs';

const [cert, key, extended] = process.argv.slice(2);
// httpx sends one request at a time to an origin that names no limit.
const settings = { enableConnectProtocol: extended === 'extended-connect', maxConcurrentStreams: 100 };
const binary = (len) => Buffer.from(Array.from({ length: len }, (_, at) => 255 - (at % 256)));
const state = { acks: new Map(), received: 0, waiting: [], hold: null };
let sessions = 0;

// [name, value, name, value, …] as pairs.
const paired = (raw) => raw.flatMap((name, at) => (at % 2 ? [] : [[name, raw[at + 1]]]));
const spread = (fields) =>
  Object.entries(fields ?? {}).flatMap(([name, value]) => [value].flat().map((one) => [name, String(one)]));

function onStream(stream, headers, flags, raw) {
  const seen = { request: [], response: [] };
  const trailers = [];
  const connection = stream.session.number;
  let failed = null;
  stream.on('data', (piece) => {
    seen.request.push(piece);
    if (headers[':path'] === '/upload') progress(piece.length);
  });
  stream.on('trailers', (fields, flags, rawTrailers) => trailers.push(...paired(rawTrailers)));
  stream.on('error', (error) => (failed = error.code));
  stream.on('close', () => {
    console.log(JSON.stringify({
      connection,
      request: paired(raw),
      body: Buffer.concat(seen.request).toString('base64'),
      trailers,
      interim: (stream.sentInfoHeaders ?? []).map(spread),
      response: spread(stream.sentHeaders),
      response_body: Buffer.concat(seen.response).toString('base64'),
      response_trailers: spread(stream.sentTrailers),
      reset: stream.rstCode,
      failed,
    }));
  });
  if (headers.expect === '100-continue') stream.additionalHeaders({ ':status': 100 });
  const send = (piece) => {
    seen.response.push(Buffer.from(piece));
    stream.write(piece);
  };
  const reply = new Reply(stream, send);
  const url = new URL(headers[':path'], 'https://localhost');
  if (headers[':protocol'] === 'websocket') {
    reply.head(200);
    echoFrames(stream, send);
  } else if (url.pathname in early) {
    early[url.pathname](reply, url, stream);
  } else {
    stream.on('end', () => late(reply, url, headers[':method'], Buffer.concat(seen.request)));
  }
}

class Reply {
  constructor(stream, send) {
    Object.assign(this, { stream, send });
  }
  head(status, fields = {}, trailers = null) {
    if (trailers) this.stream.once('wantTrailers', () => this.stream.sendTrailers(trailers()));
    this.stream.respond({ ':status': status, ...fields }, { waitForTrailers: trailers !== null, sendDate: false });
  }
  // The whole of it.
  whole(kind, body, fields = {}) {
    const bytes = Buffer.from(body);
    this.head(200, { 'content-type': kind, 'content-length': bytes.length, ...fields });
    if (!this.stream.headRequest) this.send(bytes);
    this.stream.end();
  }
}

// What is answered when the request has been read.
function late(reply, url, method, body) {
  if (method === 'POST' || method === 'PUT') return reply.whole('text/plain', `received ${body.length}`);
  switch (url.pathname) {
    case '/hello':
      return reply.whole('text/plain', 'hello, world\n', { 'set-cookie': ['a=1; Path=/', 'b=2; Path=/'], 'x-odd': 'kept' });
    case '/gzip':
      return reply.whole('text/plain; charset=utf-8', gzipSync(GZIP_TEXT), { 'content-encoding': 'gzip' });
    case '/binary':
      return reply.whole('application/octet-stream', binary(300_000));
    case '/small':
      return reply.whole('application/octet-stream', binary(20_000));
    case '/nothing':
      reply.head(204);
      return reply.stream.end();
    case '/trailers':
      reply.head(200, { 'content-type': 'text/plain', trailer: 'x-checksum' }, () => ({ 'x-checksum': '7', 'x-more': ['1', '2'] }));
      reply.send('first, ');
      reply.send('second');
      return reply.stream.end();
    case '/early':
      reply.stream.additionalHeaders({ ':status': 103, link: '</style.css>; rel=preload' });
      return reply.whole('text/plain', 'after a hint\n');
    case '/page':
      return reply.whole('text/html; charset=utf-8', page);
    default:
      reply.head(404);
      return reply.stream.end();
  }
}

// What is answered before, or while, the request's body comes.
const early = {
  // Each piece goes back as it comes; the request's trailers are counted in those of the answer.
  '/duplex'(reply, url, stream) {
    let pieces = 0;
    let trailers = 0;
    reply.head(200, { 'content-type': 'application/octet-stream' }, () => ({ 'x-pieces': pieces, 'x-trailers': trailers }));
    stream.on('data', (piece) => (pieces++, reply.send(piece)));
    stream.on('trailers', (fields) => (trailers = Object.keys(fields).length));
    stream.on('end', () => stream.end());
  },
  '/reset'(reply, url, stream) {
    stream.close(Number(url.searchParams.get('code')));
  },
  // Breaks off once the client has the beginning.
  '/cut'(reply, url, stream) {
    // Node ends a body before it resets its stream, unless it waits for trailers.
    stream.respond({ ':status': 200 }, { waitForTrailers: true, sendDate: false });
    stream.once('wantTrailers', () => stream.close(Number(url.searchParams.get('code'))));
    reply.send('begun');
    acknowledged('cut', () => stream.end());
  },
  '/hang'(reply) {
    reply.head(200, { 'content-type': 'text/plain' });
    reply.send('begun');
  },
  // A graceful end: what is under way is finished.
  '/goaway'(reply, url, stream) {
    stream.session.close();
    reply.whole('text/plain', 'the last one here\n');
  },
  '/events'(reply, url, stream) {
    const name = url.searchParams.get('name');
    reply.head(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    piecewise(reply, name, ['data: one\n\n', 'id: 2\ndata: two\ndata: lines\n\n', 'event: last\ndata: three\n\n']);
  },
  '/chunks'(reply, url) {
    reply.head(200, { 'content-type': 'application/octet-stream' });
    piecewise(reply, url.searchParams.get('name'), ['alpha', 'beta', 'gamma']);
  },
  '/ack'(reply, url) {
    reply.whole('text/plain', 'ok');
    const name = url.searchParams.get('name');
    const then = state.acks.get(name);
    if (!then) throw new Error(`nobody waits for ${name}`);
    state.acks.delete(name);
    then();
  },
  // A long poll: answered when that many bytes of /upload have come.
  '/received'(reply, url) {
    state.waiting.push({ least: Number(url.searchParams.get('least')), reply });
    progress(0);
  },
  // Keeps the page loading until /report has come.
  '/hold.png'(reply) {
    state.hold = reply;
  },
  '/report'(reply, url, stream) {
    stream.on('end', () => {
      reply.whole('text/plain', 'ok');
      state.hold.whole('image/png', PIXEL);
    });
  },
};

function acknowledged(name, then) {
  state.acks.set(name, then);
}

function piecewise(reply, name, pieces) {
  const [first, ...rest] = pieces;
  if (rest.length === 0) {
    reply.send(first);
    return reply.stream.end();
  }
  acknowledged(name, () => piecewise(reply, name, rest));
  reply.send(first);
}

function progress(len) {
  state.received += len;
  const due = state.waiting.filter(({ least }) => least <= state.received);
  state.waiting = state.waiting.filter(({ least }) => least > state.received);
  due.forEach(({ reply }) => reply.whole('text/plain', String(state.received)));
}

// A WebSocket that sends back each frame, unmasked, the answer to a close frame among them (RFC 6455 §5).
function echoFrames(stream, send) {
  let unread = Buffer.alloc(0);
  stream.on('data', (piece) => {
    unread = Buffer.concat([unread, piece]);
    for (let frame; (frame = takeFrame()); ) {
      if ((frame.first & 15) === 10) continue; // an answer to a ping needs none
      const first = (frame.first & 15) === 9 ? frame.first + 1 : frame.first;
      send(Buffer.concat([unmaskedHead(first, frame.payload.length), frame.payload]));
      if ((frame.first & 15) === 8) stream.end();
    }
  });
  function takeFrame() {
    if (unread.length < 2) return null;
    let len = unread[1] & 127;
    let at = 2;
    if (len === 126) (len = unread.length < 4 ? Infinity : unread.readUInt16BE(2)), (at = 4);
    else if (len === 127) (len = unread.length < 10 ? Infinity : Number(unread.readBigUInt64BE(2))), (at = 10);
    if (unread.length < at + 4 + len) return null;
    const mask = unread.subarray(at, at + 4);
    const payload = Buffer.from(unread.subarray(at + 4, at + 4 + len)).map((byte, i) => byte ^ mask[i % 4]);
    const first = unread[0];
    unread = unread.subarray(at + 4 + len);
    return { first, payload };
  }
}

function unmaskedHead(first, len) {
  if (len < 126) return Buffer.from([first, len]);
  const head = Buffer.alloc(len < 65_536 ? 4 : 10);
  head[0] = first;
  head[1] = len < 65_536 ? 126 : 127;
  if (len < 65_536) head.writeUInt16BE(len, 2);
  else head.writeBigUInt64BE(BigInt(len), 2);
  return head;
}

// A WebSocket over HTTP/1.1 (RFC 6455 §4.2.2).
function onUpgrade(request, socket) {
  const sent = [];
  const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + GUID).digest('base64');
  const fields = [['Upgrade', 'websocket'], ['Connection', 'Upgrade'], ['Sec-WebSocket-Accept', accept]];
  socket.write(`HTTP/1.1 101 Switching Protocols\r\n${fields.map((field) => field.join(': ')).join('\r\n')}\r\n\r\n`);
  socket.on('close', () => {
    const first = [[':method', request.method], [':path', request.url], [':version', `HTTP/${request.httpVersion}`]];
    const response = [[':status', '101'], ...fields];
    console.log(JSON.stringify({
      request: [...first, ...paired(request.rawHeaders)], response, response_body: Buffer.concat(sent).toString('base64'),
    }));
  });
  echoFrames(socket, (piece) => (sent.push(piece), socket.write(piece)));
}

function listen(server) {
  server.on('session', (session) => (session.number = ++sessions)).on('stream', onStream).on('upgrade', onUpgrade);
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
}

const GZIP_TEXT = 'compressed, kompaktiert, ø, compressed, kompaktiert, ø\n';
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
// A PNG of one transparent pixel.
const PIXEL = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAAC0lEQVR4nGNgAAIAAAUAAXpeq78AAAAASUVORK5CYII=', 'base64');

const secure = http2.createSecureServer({ cert: readFileSync(cert), key: readFileSync(key), allowHTTP1: true, settings });
const clear = http2.createServer({ settings });
const [https, http] = await Promise.all([listen(secure), listen(clear)]);
console.log(JSON.stringify({ https, http }));
process.stdin.resume().on('end', () => [secure, clear].forEach((server) => server.close()));

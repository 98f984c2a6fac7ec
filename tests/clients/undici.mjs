// fetch of undici through its proxy agent: node undici.mjs PROXY CA ORIGIN
import assert from 'node:assert';
import { readFileSync } from 'node:fs';
import { ProxyAgent, fetch } from 'undici';

const [proxy, ca, origin] = process.argv.slice(2);
const dispatcher = new ProxyAgent({ uri: proxy, requestTls: { ca: readFileSync(ca) } });
const body = Buffer.from(Array.from({ length: 25600 }, (_, at) => 255 - (at % 256)));

async function ask(path, options = {}) {
  const response = await fetch(origin + path, { dispatcher, ...options });
  return response.text();
}

async function* pieces() {
  yield body.subarray(0, 100);
  yield body.subarray(100);
}

assert.equal(await ask('/hello', { headers: { 'X-oDD': '1' } }), 'hello, world\n');
assert.match(await ask('/gzip'), /^compressed/);
assert.equal(await ask('/echo?n=1', { method: 'POST', body }), 'received 25600');
assert.equal(await ask('/echo?n=2', { method: 'POST', body: pieces(), duplex: 'half' }), 'received 25600');
console.log('done');
process.exit(0);

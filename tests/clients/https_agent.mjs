// Node's own https through a CONNECT agent: node https_agent.mjs PROXY CA ORIGIN
import assert from 'node:assert';
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { text } from 'node:stream/consumers';
import { HttpsProxyAgent } from 'https-proxy-agent';

const [proxy, ca, origin] = process.argv.slice(2);
const agent = new HttpsProxyAgent(proxy, { keepAlive: true });
const body = Buffer.from(Array.from({ length: 25600 }, (_, at) => 255 - (at % 256)));

function ask(path, method = 'GET', pieces = [], headers = {}) {
  return new Promise((resolve, reject) => {
    const options = { agent, method, headers, ca: readFileSync(ca) };
    const request = https.request(origin + path, options, (response) => text(response).then(resolve, reject));
    request.on('error', reject);
    pieces.forEach((piece) => request.write(piece));
    request.end();
  });
}

assert.equal(await ask('/hello', 'GET', [], { 'X-oDD': '1' }), 'hello, world\n');
await ask('/gzip');
assert.equal(await ask('/echo?n=1', 'POST', [body], { 'Content-Length': body.length }), 'received 25600');
assert.equal(await ask('/echo?n=2', 'POST', [body.subarray(0, 100), body.subarray(100)]), 'received 25600');
console.log('done');
process.exit(0);

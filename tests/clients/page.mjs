// The page that Chromium opens: an EventSource, answers and uploads in pieces, and a WebSocket, then a report of all.
const script = `
const log = { version: [] };
const ack = (name) => fetch('/ack?name=' + name, { method: 'POST' });

function events() {
  return new Promise((resolve) => {
    const got = [];
    const source = new EventSource('/events?name=events');
    const note = (event) => (got.push([event.type, event.data, event.lastEventId]), event.type === 'last' || ack('events'));
    source.onmessage = note;
    source.addEventListener('last', note);
    source.onerror = () => (source.close(), resolve(got)); // its end: without the close it would come again
  });
}

function leftEvents() {
  return new Promise((resolve) => {
    const source = new EventSource('/events?name=left');
    source.onmessage = (event) => (source.close(), resolve(event.data));
  });
}

async function download() {
  const got = [];
  const reader = (await fetch('/chunks?name=chunks')).body.getReader();
  for (let part; !(part = await reader.read()).done; ) {
    got.push(new TextDecoder().decode(part.value));
    if (got.length < 3) await ack('chunks');
  }
  return got;
}

async function upload() {
  const pieces = ['12345', '678', '90'];
  const polls = [];
  let sent = 0;
  const body = new ReadableStream({
    async pull(controller) {
      if (sent > 0) polls.push(await (await fetch('/received?least=' + sent)).text());
      const piece = pieces.shift();
      if (piece === undefined) return controller.close();
      sent += piece.length;
      controller.enqueue(new TextEncoder().encode(piece));
    },
  }, { highWaterMark: 0 });
  const answer = await fetch('/upload', { method: 'POST', body, duplex: 'half' });
  return [polls, await answer.text()];
}

function socket() {
  return new Promise((resolve) => {
    const got = [];
    const ws = new WebSocket('wss://' + location.host + '/ws');
    ws.binaryType = 'arraybuffer';
    ws.onopen = () => { ws.send('héllo'); ws.send(new Uint8Array([0, 1, 254, 255])); ws.send('x'.repeat(100000)); };
    ws.onmessage = ({ data }) => {
      got.push(typeof data === 'string' ? (data.length > 10 ? data.length : data) : [...new Uint8Array(data)]);
      if (got.length === 3) ws.close(4001, 'enough');
    };
    ws.onclose = ({ code, reason, wasClean }) => resolve([got, code, reason, wasClean]);
    ws.onerror = () => resolve(['failed', got]);
  });
}

async function all() {
  const parts = { events, leftEvents, download, upload, socket };
  const report = {};
  const run = async ([name, part]) => (report[name] = await part().catch((error) => String(error)));
  await Promise.all(Object.entries(parts).map(run));
  report.protocols = [...new Set(performance.getEntriesByType('resource').map((entry) => entry.nextHopProtocol))];
  document.getElementById('out').textContent = JSON.stringify(report);
  await fetch('/report', { method: 'POST', body: JSON.stringify(report) });
}
all();
`;

export const page = `<!doctype html><html><head><title>page</title><link rel=icon href=data:,></head><body>
<p id=out>waiting</p><img src=/hold.png><script>${script}</script></body></html>
`;

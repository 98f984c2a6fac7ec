// Makes a Node.js that cannot do it by itself send its requests through the proxy in HTTPS_PROXY: every agent of
// http and https, and the built-in fetch. `manent run` names this file in NODE_OPTIONS.
//
// Node.js 22.21 and 24.5 know NODE_USE_ENV_PROXY, which is set too: there this file does nothing. It leaves alone what
// an application does on purpose: agents that make their own connections, Unix sockets, raw sockets, HTTP/2 sessions.
'use strict';

(() => {
  const url = process.env.HTTPS_PROXY;
  if (!url || process.allowedNodeEnvironmentFlags.has('--use-env-proxy')) return;

  const http = require('http');
  const https = require('https');
  const net = require('net');
  const tls = require('tls');
  const proxy = new URL(url);

  // Opens a tunnel to host:port, also for clear text: the proxy finds out what is spoken in it.
  function tunnel(host, port, callback) {
    const authority = `${host.includes(':') ? `[${host}]` : host}:${port}`;
    const socket = net.connect(Number(proxy.port), proxy.hostname);
    let head = Buffer.alloc(0);

    function finish(error) {
      socket.off('readable', read).off('error', finish).off('end', ended);
      if (error) socket.destroy();
      callback(error, error ? undefined : socket);
    }
    function ended() {
      finish(new Error(`the proxy closed the connection to ${authority}`));
    }
    function read() {
      for (let chunk; (chunk = socket.read()) !== null; ) {
        head = Buffer.concat([head, chunk]);
        const end = head.indexOf('\r\n\r\n');
        if (end < 0) continue;
        const [line] = head.toString('latin1', 0, end).split('\r\n');
        if (!/^HTTP\/1\.[01] 2\d\d/.test(line)) return finish(new Error(`CONNECT ${authority}: ${line}`));
        const rest = head.subarray(end + 4);
        if (rest.length > 0) socket.unshift(rest);
        return finish(null);
      }
    }
    socket.on('readable', read).on('error', finish).on('end', ended);
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  }

  function goesDirect(options, callback) {
    const local = typeof options !== 'object' || options === null || options.socketPath || options.path || options.socket;
    const isProxy = () => Number(options.port) === Number(proxy.port) && options.host === proxy.hostname;
    return local || typeof callback !== 'function' || isProxy();
  }

  const connectClear = http.Agent.prototype.createConnection;
  http.Agent.prototype.createConnection = function createConnection(options, callback) {
    if (goesDirect(options, callback)) return connectClear.apply(this, arguments);
    tunnel(options.host || 'localhost', options.port || 80, callback);
  };

  const connectTls = https.Agent.prototype.createConnection;
  https.Agent.prototype.createConnection = function createConnection(options, callback) {
    if (goesDirect(options, callback)) return connectTls.apply(this, arguments);
    tunnel(options.host || 'localhost', options.port || 443, (error, socket) => {
      if (error) return callback(error);
      callback(null, connectTls.call(this, { ...options, socket }));
    });
  };

  // The built-in fetch keeps its dispatcher under this symbol, shared with the undici package. Its class is not
  // exported, but the one that is there knows it, and it takes a function that makes connections.
  function connectForFetch({ hostname: bracketed, protocol, port, servername }, callback) {
    const secure = protocol === 'https:';
    const hostname = bracketed.replace(/^\[|\]$/g, '');
    tunnel(hostname, port || (secure ? 443 : 80), (error, socket) => {
      if (error || !secure) return callback(error, socket);
      // `host` is what the certificate is checked against where there is no name, for an IP address.
      const host = servername || hostname;
      const name = net.isIP(host) ? undefined : host;
      const session = tls.connect({ socket, host, servername: name, ALPNProtocols: ['http/1.1'] });
      const failed = (cause) => callback(cause);
      session.once('error', failed).once('secureConnect', () => {
        session.off('error', failed);
        callback(null, session);
      });
    });
  }
  void globalThis.Headers; // loads it
  const slot = Symbol.for('undici.globalDispatcher.1');
  const Agent = globalThis[slot]?.constructor;
  if (Agent?.name === 'Agent') globalThis[slot] = new Agent({ connect: connectForFetch });
})();

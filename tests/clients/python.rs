//! Python: urllib of its standard library, and requests.

use crate::harness::{Stage, binary, python, succeed, text};

#[tokio::test]
async fn urllib_is_recorded_as_it_was_on_the_wire() {
    drive(URLLIB).await;
}

#[tokio::test]
async fn requests_is_recorded_as_it_was_on_the_wire() {
    drive(REQUESTS).await;
}

/// Runs `script` with proxy, CA and origin as arguments. It makes the same four requests whatever the library.
async fn drive(script: &str) {
    let mut stage = Stage::new().await;
    let mut command = crate::harness::clean(&python(), stage.dir.path());
    command.args(["-c", script, &stage.proxy.url()]).arg(&stage.proxy.ca).arg(stage.https.url(""));
    assert_eq!(text(&succeed(&mut command).await), "done\n");
    let seen = stage.https.seen();
    let targets: Vec<_> = seen.iter().map(|seen| (seen.method.as_str(), seen.target.as_str())).collect();
    assert_eq!(targets, [("GET", "/hello"), ("GET", "/gzip"), ("POST", "/echo?n=1"), ("POST", "/echo?n=2")]);
    assert!(seen[2].body == binary(25_600) && seen[3].body == binary(25_600));
    assert_eq!(seen[3].header("transfer-encoding"), Some("chunked"));
    stage.assert_recorded(&seen).await;
}

const URLLIB: &str = "
import gzip, ssl, sys, urllib.request
proxy, ca, origin = sys.argv[1:]
body = bytes(range(255, -1, -1)) * 100
opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({'http': proxy, 'https': proxy}),
    urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca)))
def ask(path, data=None, **headers):
    return opener.open(urllib.request.Request(origin + path, data, headers), timeout=30).read()
assert ask('/hello') == b'hello, world\\n'
assert gzip.decompress(ask('/gzip')).startswith(b'compressed')
assert ask('/echo?n=1', body) == b'received 25600'
assert ask('/echo?n=2', iter([body[:100], body[100:]]), **{'Transfer-Encoding': 'chunked'}) == b'received 25600'
print('done')
";

const REQUESTS: &str = "
import requests, sys
proxy, ca, origin = sys.argv[1:]
body = bytes(range(255, -1, -1)) * 100
session = requests.Session()
session.proxies, session.verify = {'http': proxy, 'https': proxy}, ca
assert session.get(origin + '/hello', timeout=30).content == b'hello, world\\n'
assert session.get(origin + '/gzip', timeout=30).text.startswith('compressed')
assert session.post(origin + '/echo?n=1', data=body, timeout=30).text == 'received 25600'
assert session.post(origin + '/echo?n=2', data=iter([body[:100], body[100:]]), timeout=30).text == 'received 25600'
print('done')
";

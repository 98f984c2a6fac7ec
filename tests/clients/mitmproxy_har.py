"""mitmproxy's own reader and writer of HAR: mitmproxy_har.py load FILE | write FILE.

`load` prints a line of JSON for each flow; `write` makes flows and saves them as `save.har` does.
"""

import base64
import json
import sys

from mitmproxy import http, io
from mitmproxy.addons.savehar import SaveHar
from mitmproxy.test import tflow


def coded(data):
    return base64.b64encode(data or b"").decode()


def load(path):
    with open(path, "rb") as file:
        for flow in io.FlowReader(file).stream():
            request, response = flow.request, flow.response
            print(
                json.dumps(
                    {
                        "method": request.method,
                        "url": request.url,
                        "request_headers": request.headers.fields and [[n.decode(), v.decode()] for n, v in request.headers.fields],
                        "request_content": coded(request.raw_content),
                        "status": response.status_code,
                        "response_headers": [[n.decode(), v.decode()] for n, v in response.headers.fields],
                        "content": coded(response.content),
                    }
                )
            )


def write(path):
    text = tflow.tflow(resp=http.Response.make(200, "grüße", {"Content-Type": "text/html; charset=iso-8859-1"}))
    zipped = tflow.tflow(resp=http.Response.make(200, b"x" * 5000, {"Content-Type": "text/plain"}))
    zipped.response.encode("gzip")
    binary = tflow.tflow(resp=http.Response.make(404, bytes(range(256)), {"Content-Type": "image/png"}))
    binary.request.port, binary.request.path = 8443, "/i.png?a=%20b"
    post = tflow.tflow(req=http.Request.make("POST", "https://example.org/form", b"a=1&b=%C3%A9", {"Content-Type": "application/x-www-form-urlencoded"}), resp=http.Response.make(302, b"", {"Location": "/next", "Set-Cookie": "a=b; Path=/"}))
    flows = [text, zipped, binary, post, tflow.twebsocketflow()]
    with open(path, "w") as file:
        json.dump(SaveHar().make_har(flows), file, indent=4)


{"load": load, "write": write}[sys.argv[1]](sys.argv[2])

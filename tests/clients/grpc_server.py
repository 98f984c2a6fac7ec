"""A gRPC server on gRPC's own HTTP/2: grpc_server.py CERT KEY

Prints its ports as one JSON object, then one object for each call that has ended. Messages are bytes as they are, so that
nothing has to be compiled. It ends when its standard input has.
"""

import base64
import concurrent.futures
import json
import sys
import threading

import grpc

cert, key = (open(path, "rb").read() for path in sys.argv[1:])
lock = threading.Lock()


def text(value):
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def log(context, method, received, sent):
    fields = [[name, text(value)] for name, value in context.invocation_metadata()]
    entry = {"method": method, "fields": fields, "seconds": context.time_remaining()}
    entry |= {"received": [text(one) for one in received], "sent": [text(one) for one in sent]}
    with lock:
        print(json.dumps(entry), flush=True)


def unary(request, context):
    context.send_initial_metadata((("x-initial", "yes"), ("x-initial-bin", b"\x00\xff")))
    context.set_trailing_metadata((("x-after", "one"), ("x-after", "two"), ("x-after-bin", b"\xfe\x01")))
    answer = b"re: " + request
    log(context, "Unary", [request], [answer])
    return answer


def server_stream(request, context):
    answers = [request + b" %d" % number for number in range(5)] + [b"", b"x" * 100_000]
    yield from answers
    log(context, "ServerStream", [request], answers)


def client_stream(requests, context):
    received = list(requests)
    answer = b"%d" % sum(map(len, received))
    log(context, "ClientStream", received, [answer])
    return answer


def duplex(requests, context):
    """Answers each message before the next one comes."""
    received, sent = [], []
    for request in requests:
        received.append(request)
        sent.append(b"re: " + request)
        yield sent[-1]
    log(context, "Duplex", received, sent)


def refused(request, context):
    """Without a message: a trailers-only response."""
    log(context, "Refused", [request], [])
    context.set_trailing_metadata((("x-why", "because"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no: ü, 100 %")


def half_way(request, context):
    yield b"a beginning"
    log(context, "HalfWay", [request], [b"a beginning"])
    context.abort(grpc.StatusCode.DATA_LOSS, "the rest is gone")


def never(request, context):
    """Waits until the call is cancelled, or its deadline passes."""
    ended = threading.Event()
    context.add_callback(ended.set)
    yield b"wait"
    ended.wait(30)
    log(context, "Never", [request], [b"wait"])


handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "Duplex": grpc.stream_stream_rpc_method_handler(duplex),
    "Refused": grpc.unary_unary_rpc_method_handler(refused),
    "HalfWay": grpc.unary_stream_rpc_method_handler(half_way),
    "Never": grpc.unary_stream_rpc_method_handler(never),
}
server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("manent.test.Things", handlers),))
tls = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
clear = server.add_insecure_port("127.0.0.1:0")
server.start()
print(json.dumps({"tls": tls, "clear": clear}), flush=True)
sys.stdin.read()
server.stop(10).wait()

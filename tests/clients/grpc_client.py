"""gRPC calls of every kind: grpc_client.py TARGET [CA]

Without CA in clear. gRPC finds its proxy, and the roots it trusts, in the environment.
"""

import queue
import sys

import grpc

target, *ca = sys.argv[1:]
if ca == ["from-environment"]:
    channel = grpc.secure_channel(target, grpc.ssl_channel_credentials())
elif ca:
    channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(open(ca[0], "rb").read()))
else:
    channel = grpc.insecure_channel(target)
THINGS = "/manent.test.Things/"
PATIENCE = 20


def failure(method, request, timeout=PATIENCE):
    """What a call that answers in a stream received before it failed, and how it failed."""
    received = []
    answers = channel.unary_stream(THINGS + method)(request, timeout=timeout)
    try:
        for answer in answers:
            received.append(answer)
    except grpc.RpcError:
        return received, answers.code(), answers.details()
    raise AssertionError("it did not fail")


def unary():
    fields = (("x-dup", "a"), ("x-dup", "b"), ("x-raw-bin", b"\x00\xff"))
    answer, call = channel.unary_unary(THINGS + "Unary").with_call(b"hello", metadata=fields, timeout=PATIENCE)
    assert answer == b"re: hello", answer
    assert ("x-initial-bin", b"\x00\xff") in call.initial_metadata(), call.initial_metadata()
    after = [value for name, value in call.trailing_metadata() if name.startswith("x-after")]
    assert after == ["one", "two", b"\xfe\x01"], after


def compressed():
    answer = channel.unary_unary(THINGS + "Unary")(b"z" * 5000, timeout=PATIENCE, compression=grpc.Compression.Gzip)
    assert answer == b"re: " + b"z" * 5000


def streams():
    answers = list(channel.unary_stream(THINGS + "ServerStream")(b"number", timeout=PATIENCE))
    assert answers == [b"number %d" % number for number in range(5)] + [b"", b"x" * 100_000]
    requests = [b"abc", b"", b"y" * 200_000]
    assert channel.stream_unary(THINGS + "ClientStream")(iter(requests), timeout=PATIENCE) == b"200003"


def duplex():
    """Each message is sent when the one before it has been answered."""
    requests = queue.Queue()
    answers = channel.stream_stream(THINGS + "Duplex")(iter(requests.get, None), timeout=PATIENCE)
    for number in range(20):
        requests.put(b"message %d" % number)
        assert next(answers) == b"re: message %d" % number
    requests.put(None)
    assert list(answers) == []
    assert answers.code() == grpc.StatusCode.OK


def failures():
    try:
        channel.unary_unary(THINGS + "Refused")(b"please", timeout=PATIENCE)
        raise AssertionError("it did not fail")
    except grpc.RpcError as error:
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "no: ü, 100 %"), error
        assert ("x-why", "because") in error.trailing_metadata(), error.trailing_metadata()
    assert failure("Missing", b"")[:2] == ([], grpc.StatusCode.UNIMPLEMENTED)
    seen = failure("HalfWay", b"go on")
    assert seen == ([b"a beginning"], grpc.StatusCode.DATA_LOSS, "the rest is gone"), seen


def deadline():
    seen = failure("Never", b"deadline", timeout=0.5)
    assert seen[:2] == ([b"wait"], grpc.StatusCode.DEADLINE_EXCEEDED), seen


def cancelled():
    answers = channel.unary_stream(THINGS + "Never")(b"cancel", timeout=PATIENCE)
    assert next(answers) == b"wait"
    answers.cancel()
    assert answers.code() == grpc.StatusCode.CANCELLED


for part in (unary, compressed, streams, duplex, failures, deadline, cancelled):
    part()
channel.close()
print("done")

"""gRPC over h2c on both sides of bascule."""

import queue
import threading
import time
from concurrent import futures

import grpc

from proxy import Score, running

CANCELLED = threading.Event()


class Methods(grpc.GenericRpcHandler):
    """Methods by name, bytes in and out."""

    def service(self, details):
        name = details.method.rsplit("/", 1)[1]
        if name in ("unary", "fail", "slow"):
            return grpc.unary_unary_rpc_method_handler(getattr(self, name))
        if name in ("down", "endless"):
            return grpc.unary_stream_rpc_method_handler(getattr(self, name))
        if name == "up":
            return grpc.stream_unary_rpc_method_handler(self.up)
        if name == "both":
            return grpc.stream_stream_rpc_method_handler(self.both)
        return None

    def unary(self, request, context):
        context.set_trailing_metadata((("x-trail", "yes"),))
        return request[::-1]

    def fail(self, _request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no such thing")

    def slow(self, _request, context):
        time.sleep(5)
        return b"late"

    def down(self, _request, _context):
        for _ in range(1000):
            yield b"x" * 1000

    def endless(self, _request, context):
        context.add_callback(CANCELLED.set)
        yield b"first"
        while context.is_active():
            time.sleep(0.05)

    def up(self, requests, _context):
        return str(sum(len(request) for request in requests)).encode()

    def both(self, requests, _context):
        for request in requests:
            yield request + b"!"


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(20))
    server.add_generic_rpc_handlers((Methods(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def failure(call, *arguments, **more):
    try:
        call(*arguments, **more)
    except grpc.RpcError as error:
        return error
    return None


def in_turns(count):
    """Requests of which each waits for the answer to the one before: nothing may be held back."""
    answered = queue.Queue()

    def requests():
        for number in range(count):
            yield str(number).encode()
            answered.get(timeout=10)

    return requests(), answered


def calls(channel, score):
    answer, call = channel.unary_unary("/t.T/unary").with_call(b"abc", timeout=10)
    trailers = dict(call.trailing_metadata())
    score.check("a unary call with trailers", answer == b"cba" and trailers.get("x-trail") == "yes")
    error = failure(channel.unary_unary("/t.T/fail"), b"", timeout=10)
    precondition = error and error.code() == grpc.StatusCode.FAILED_PRECONDITION
    score.check("a status with its message", precondition and error.details() == "no such thing")
    error = failure(channel.unary_unary("/t.T/slow"), b"", timeout=0.5)
    score.check("a deadline", error and error.code() == grpc.StatusCode.DEADLINE_EXCEEDED)
    error = failure(channel.unary_unary("/t.T/none"), b"", timeout=10)
    score.check("a method that is not there", error and error.code() == grpc.StatusCode.UNIMPLEMENTED)
    got = sum(len(part) for part in channel.unary_stream("/t.T/down")(b"", timeout=20))
    score.check("a megabyte down", got == 1_000_000, got)
    parts = (b"y" * 1000 for _ in range(1000))
    score.check("a megabyte up", channel.stream_unary("/t.T/up")(parts, timeout=20) == b"1000000")
    requests, answered = in_turns(100)
    got = []
    for part in channel.stream_stream("/t.T/both")(requests, timeout=30):
        got.append(part)
        answered.put(None)
    score.check("both ways, strictly in turns", got == [b"%d!" % n for n in range(100)])
    endless = channel.unary_stream("/t.T/endless")(b"")
    score.check("the first part of an endless stream", next(endless) == b"first")
    endless.cancel()
    score.check("a cancel that reaches the server", CANCELLED.wait(10))


def main():
    score = Score()
    (first, first_port), (second, second_port) = serve(), serve()
    yaml = f"""
listeners: [{{ address: "127.0.0.1:0" }}]
providers: {{ us: {{ seat: US }}, eu: {{ seat: SI }} }}
services:
  api:
    routes: [{{ host: localhost }}]
    probe: {{ path: /, interval: 60s }}
    upstreams:
      - {{ provider: us, url: "http://127.0.0.1:{first_port}", http: 2 }}
      - {{ provider: eu, url: "http://127.0.0.1:{second_port}", http: 2 }}
"""
    with running(yaml) as proxy:
        channel = grpc.insecure_channel(f"localhost:{proxy.port()}")
        calls(channel, score)
        first.stop(None).wait()
        answer = channel.unary_unary("/t.T/unary")(b"abc", timeout=10)
        score.check("the next server when the first is gone", answer == b"cba")
        channel.close()
    second.stop(None)
    score.end()


main()

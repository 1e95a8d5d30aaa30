"""gRPC over h2c on both sides of bascule, and probes of the official health service."""

import json
import queue
import threading
import time
import urllib.request
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from proxy import PATIENCE, Score, running

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


def serve(checks=None):
    server = grpc.server(futures.ThreadPoolExecutor(20))
    server.add_generic_rpc_handlers((Methods(),))
    if checks:
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
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


def healths(proxy):
    """Of each provider, as the operator sees it."""
    admin = next(line["address"] for line in proxy.said() if line.get("role") == "admin")
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=PATIENCE) as answer:
        lines = answer.read().decode().splitlines()
    found = [line for line in lines if line.startswith("bascule_upstream_health{") and line.endswith(" 1")]
    labels = [dict(pair.split("=") for pair in line[24:].split("}")[0].split(",")) for line in found]
    return {label["provider"].strip('"'): label["health"].strip('"') for label in labels}


def until(holds):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return False


def probes(score):
    """A server whose health service says what it is told to, one that serves, and one without any."""
    told, well = health.HealthServicer(), health.HealthServicer()
    servers = [serve(told), serve(well), serve()]
    for checks in (told, well):
        checks.set("t.T", health_pb2.HealthCheckResponse.SERVING)
    ways = zip(("us", "eu", "bare"), (port for _, port in servers))
    upstreams = "".join(
        f'\n      - {{ provider: {name}, url: "http://127.0.0.1:{port}", http: 2 }}' for name, port in ways
    )
    yaml = f"""
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.3:0" }}
providers: {{ us: {{ seat: US }}, eu: {{ seat: SI }}, bare: {{ seat: FR }} }}
services:
  api:
    routes: [{{ host: localhost }}]
    probe: {{ grpc: {{ service: t.T }}, interval: 300ms, timeout: 200ms }}
    upstreams:{upstreams}
"""
    with running(yaml) as proxy:
        score.check("a server without a health service is left", until(lambda: healths(proxy)["bare"] == "ejected"))
        why = [line["why"] for line in proxy.said() if line.get("provider") == "bare" and "why" in line]
        score.check("and the log says what to do", why and "register grpc.health.v1.Health" in why[0], why)
        found = healths(proxy)
        score.check("those that serve are well", found["us"] == found["eu"] == "healthy", json.dumps(found))
        told.set("t.T", health_pb2.HealthCheckResponse.NOT_SERVING)
        score.check("one that says NOT_SERVING is left", until(lambda: healths(proxy)["us"] == "ejected"))
        score.check("and nobody else", healths(proxy)["eu"] == "healthy")
    for server, _ in servers:
        server.stop(None)


def main():
    score = Score()
    probes(score)
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

"""Floods over HTTP/2: what each does to bascule and to others."""

import contextlib
import itertools
import multiprocessing
import select
import socket
import ssl
import tempfile
import time

from hpack import Encoder, NeverIndexedHeaderTuple
from hyperframe.frame import (
    ContinuationFrame, DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, PriorityFrame,
    RstStreamFrame, SettingsFrame, WindowUpdateFrame,
)

from cost import Cost, Prober
from origin import YAML, origin
from proxy import PATIENCE, Score, certificate, running

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATIENT = 5
"""Seconds that a flood goes on, unless it is ended."""
MOST_MEMORY = 32 * 1024 * 1024
"""Bytes by which a flood may make memory grow."""
MOST_TIME = PATIENT / 4
"""Seconds on a processor that a flood may take which is not ended: it is read, and costs little."""
SERVED_WITHIN = 1000
"""Milliseconds within which a good client is served, beyond what it waits for the origin itself at the
same time: others use the machine too."""


def block(method, *more):
    """Fields that no table remembers, so that their bytes mean the same each time."""
    fields = [(":method", method), (":scheme", "https"), (":path", "/page"), (":authority", "localhost"), *more]
    return Encoder().encode([NeverIndexedHeaderTuple(*field) for field in fields])


GET, POST = block("GET"), block("POST")


def head(stream, fields=GET, flags=("END_HEADERS", "END_STREAM")):
    return HeadersFrame(stream, data=fields, flags=list(flags)).serialize()


def streams():
    """Numbers of a client's streams."""
    return itertools.count(1, 2)


def rapid_reset():
    for stream in itertools.islice(streams(), 20000):
        yield head(stream) + RstStreamFrame(stream, error_code=8).serialize()


def made_to_reset():
    for stream in itertools.islice(streams(), 20000):
        # No window grows by nothing: whoever says so is answered with a reset.
        yield head(stream) + WindowUpdateFrame(stream, window_increment=1).serialize()[:-1] + b"\0"


def window_updates():
    yield head(1, POST, ["END_HEADERS"])
    yield from [WindowUpdateFrame(1, window_increment=1).serialize()] * 50000


def continuation():
    yield head(1, GET, [])
    for number in range(20000):
        fields = Encoder().encode([NeverIndexedHeaderTuple(f"x-{number}", "a" * 100)])
        yield ContinuationFrame(1, data=fields).serialize()


def empty_continuation():
    yield head(1, GET, [])
    yield from [ContinuationFrame(1).serialize()] * 50000


def ping():
    yield from [PingFrame(opaque_data=b"01234567").serialize()] * 50000


def settings():
    yield from [SettingsFrame(settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65535}).serialize()] * 20000


def empty_data():
    yield head(1, POST, ["END_HEADERS"])
    yield from [DataFrame(1).serialize()] * 50000


def priority():
    for stream in itertools.islice(streams(), 50000):
        yield PriorityFrame(stream, depends_on=0, stream_weight=stream % 256).serialize()


def header_list():
    # Once into the table, then four thousand times from there: 16 MB of fields in 4 kB.
    entry = b"\x40\x01x" + b"\x7f\xa1\x1e" + b"a" * 4000
    yield head(1, GET + entry)
    for stream in itertools.islice(streams(), 1, 500):
        yield head(stream, GET + b"\xbe" * 4000)


def unfinished():
    for stream in itertools.islice(streams(), 5000):
        yield head(stream, POST, ["END_HEADERS"])


def unread():
    yield SettingsFrame(settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}).serialize()
    for stream in itertools.islice(streams(), 5000):
        yield head(stream)


FLOODS = {
    "streams reset at once": rapid_reset,
    "streams that we have to reset": made_to_reset,
    "windows that grow by a byte": window_updates,
    "a head that goes on for ever": continuation,
    "a head that goes on with nothing": empty_continuation,
    "pings": ping,
    "settings": settings,
    "a body of empty pieces": empty_data,
    "priorities": priority,
    "a list of fields from a few bytes": header_list,
    "requests that do not end": unfinished,
    "answers that nobody takes": unread,
}


class Flood:
    """One connection, until its bytes are sent, it is ended, or patience is."""

    def __init__(self, port):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        self.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10))
        self.socket.setblocking(False)
        self.sent, self.came, self.ended = 0, b"", None

    def run(self, frames):
        began = time.monotonic()
        left = PREFACE + SettingsFrame().serialize()
        frames = iter(frames)
        with self.socket:
            while self.ended is None and time.monotonic() - began < PATIENT:
                if len(left) < 16384:
                    left += b"".join(itertools.islice(frames, 200))
                all_sent = not left
                left = left[self.step(left):]
                if all_sent:
                    select.select([self.socket], [], [], 0.05)
                if self.is_over():
                    self.ended = time.monotonic() - began
        return self

    def step(self, left):
        """Sends and receives what can be at once; how much went out."""
        sent = 0
        try:
            try:
                if left:
                    sent = self.socket.send(left[:16384])
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                select.select([self.socket], [self.socket], [], 0.01)
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                part = self.socket.recv(1 << 16)
                self.came = self.came + part if part else None
        except OSError:
            self.came = None
        self.sent += sent
        return sent

    def is_over(self):
        """Whether the other side closed it, or said that it will."""
        if self.came is None:
            return True
        while len(self.came) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self.came[:9]))
            if isinstance(frame, GoAwayFrame):
                return True
            if len(self.came) < 9 + length:
                return False
            self.came = self.came[9 + length:]
        return False


def page(port):
    """Asks for a page on a connection of its own, in clear."""
    request = b"GET /page HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(4096):
            answer += part
    return answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"a page\n")


def serve(pipe):
    """An origin in a process of its own: what it does must not be taken for what the flood does."""
    with origin() as port:
        pipe.send(port)
        pipe.recv()


@contextlib.contextmanager
def apart():
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    process.start()
    try:
        if not here.poll(PATIENCE):
            raise SystemExit("the origin does not listen")
        yield here.recv()
    finally:
        here.send(None)
        process.join(PATIENCE)


def attack(name, frames, ports, cost, score):
    clear, secure, direct = ports
    cost.begin()
    with Prober(lambda: page(direct)) as control, Prober(lambda: page(clear)) as prober:
        flood = Flood(secure).run(frames())
    ended = "no" if flood.ended is None else f"{flood.ended:.2f} s"
    print(
        f"{name:<34} {flood.sent / 1024:>6.0f} KiB {ended:>8} {prober.worst():>6.0f} ms "
        f"{control.worst():>6.0f} ms {cost.grown() / 1048576:>5.1f} MiB {cost.spent():>5.2f} s"
    )
    score.check(f"{name}: others are served", not prober.failed and prober.took, prober.failed[:3])
    score.check(f"{name}: in time", prober.worst() < SERVED_WITHIN + control.worst(), prober.worst())
    score.check(f"{name}: memory stays", cost.grown() < MOST_MEMORY, cost.grown())
    cheap = flood.ended is not None or cost.spent() < MOST_TIME
    score.check(f"{name}: it ends, or costs next to nothing", cheap, cost.spent())


def main():
    score = Score()
    with tempfile.TemporaryDirectory() as folder:
        files = certificate(folder, "localhost")
    with apart() as direct, running(YAML.format(port=direct), 2, files) as proxy:
        ports = (proxy.port(0), proxy.port(1), direct)
        for _ in range(50):
            page(ports[0])
        heads = ("flood", "sent", "ended", "a client", "the origin", "memory", "CPU")
        print("{:<34} {:>10} {:>8} {:>9} {:>10} {:>8} {:>6}".format(*heads))
        for name, frames in FLOODS.items():
            attack(name, frames, ports, Cost(proxy.process.pid), score)
    score.end()


if __name__ == "__main__":
    main()

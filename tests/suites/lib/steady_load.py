"""A steady load that counts what fails: keep-alive and new connections, WebSockets, one long download."""

import base64
import os
import socket
import threading
import time

HOST = "www.portal.example"
GOING_AWAY = bytes([0x88, 2]) + (1001).to_bytes(2, "big")
SILENCE = 10
"""Seconds without a byte after which a request has failed."""


def head_of(stream):
    """A response head as it came; `ConnectionError` when there is none."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline(65536)
        if not line:
            raise ConnectionError("no whole head: " + repr(head))
        head += line
    return head.decode("latin-1")


def fields_of(head):
    pairs = (line.split(":", 1) for line in head.split("\r\n")[1:] if ":" in line)
    return {name.strip().lower(): value.strip() for name, value in pairs}


class Load:
    """Runs until `stop`; `failed` says what went wrong, `answered` how many requests went well."""

    def __init__(self, port, keep_alive=20, new=10, sockets=5, download=None):
        self.port, self.over = port, threading.Event()
        self.answered, self.failed, self.lock = 0, [], threading.Lock()
        self.connections = self.farewells = 0
        jobs = [self.keep_alive] * keep_alive + [self.new] * new + [self.web_socket] * sockets
        self.threads = [threading.Thread(target=self.guard, args=(job,)) for job in jobs]
        if download:
            self.threads.append(threading.Thread(target=self.guard, args=(self.download, download)))
        for thread in self.threads:
            thread.start()

    def guard(self, job, *arguments):
        while not self.over.is_set():
            try:
                job(*arguments)
            except (OSError, ValueError) as error:
                with self.lock:
                    self.failed.append(f"{job.__name__}: {error!r}")

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.port), SILENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            self.connections += 1
        return connection

    def good(self):
        with self.lock:
            self.answered += 1

    def ask(self, connection, stream, more=""):
        """One request; whether the connection stays."""
        connection.sendall(f"GET /page HTTP/1.1\r\nHost: {HOST}\r\n{more}\r\n".encode())
        head = head_of(stream)
        fields = fields_of(head)
        body = stream.read(int(fields.get("content-length", 0)))
        if " 200 " not in head.split("\r\n")[0] + " " or body != b"a page\n":
            raise ValueError(head.split("\r\n")[0] + " " + repr(body[:40]))
        self.good()
        return fields.get("connection", "").lower() != "close"

    def keep_alive(self):
        with self.connect() as connection, connection.makefile("rb") as stream:
            while not self.over.is_set() and self.ask(connection, stream):
                time.sleep(0.02)

    def new(self):
        with self.connect() as connection, connection.makefile("rb") as stream:
            self.ask(connection, stream, "Connection: close\r\n")
        time.sleep(0.02)

    def web_socket(self):
        """Echoes until the other side says goodbye (close 1001), as it does when it goes away."""
        key = base64.b64encode(os.urandom(16)).decode()
        with self.connect() as connection, connection.makefile("rb") as stream:
            ask = f"GET /echo HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            ask += f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
            connection.sendall(ask.encode())
            head = head_of(stream)
            if " 101 " not in head.split("\r\n")[0] + " ":
                raise ValueError(head.split("\r\n")[0])
            while not self.over.is_set():
                said = os.urandom(4)
                connection.sendall(bytes([0x82, 0x84, 0, 0, 0, 0]) + said)
                echo = stream.read(2)
                if echo == GOING_AWAY[:2] and stream.read(2) == GOING_AWAY[2:]:
                    with self.lock:
                        self.farewells += 1
                    return
                if echo + stream.read(4) != bytes([0x82, 4]) + said:
                    raise ValueError("echo " + repr(echo))
                self.good()
                time.sleep(0.05)

    def download(self, seconds):
        """One answer that takes so long, byte for byte."""
        with self.connect() as connection, connection.makefile("rb") as stream:
            connection.sendall(f"GET /long/{seconds} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            length = int(fields_of(head_of(stream))["content-length"])
            came = len(stream.read(length))
            if came != length:
                raise ValueError(f"{came} of {length} bytes")
        self.good()
        self.over.wait()

    def wait_for(self, more):
        """Until so many more requests have gone well."""
        target, end = self.answered + more, time.monotonic() + 30
        while self.answered < target:
            if time.monotonic() > end:
                raise SystemExit(f"the load stands still: {self.failed[:5]}")
            time.sleep(0.005)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()
        return self.failed

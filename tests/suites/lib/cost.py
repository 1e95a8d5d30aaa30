"""What a running process has cost: its threads' time and its memory."""

import pathlib
import re
import threading
import time

from proxy import PATIENCE

IDLE = 0.004
"""Seconds on a processor in a tenth of a second: what a proxy takes that has nothing to do but to wait."""


class Cost:
    """Of one process, from `begin` on."""

    def __init__(self, pid):
        self.folder = pathlib.Path(f"/proc/{pid}")
        self.began = self.before = 0

    def memory(self, field="VmRSS"):
        """In bytes."""
        return int(re.search(rf"{field}:\s+(\d+)", (self.folder / "status").read_text())[1]) * 1024

    def seconds(self):
        """On a processor, all threads together."""
        tasks = (self.folder / "task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def begin(self):
        # Sets the peak back to what is in use now.
        (self.folder / "clear_refs").write_text("5")
        self.before, self.began = self.memory(), self.seconds()

    def grown(self):
        """By how many bytes the peak is above the beginning."""
        return max(self.memory("VmHWM") - self.before, 0)

    def spent(self):
        return self.seconds() - self.began

    def settle(self):
        """Waits until it does nothing: what was sent is read, what was ended is gone."""
        end = time.monotonic() + PATIENCE
        last, quiet = self.seconds(), 0
        # Once might only mean that somebody else had the processor.
        while quiet < 3 and time.monotonic() < end:
            time.sleep(0.1)
            now = self.seconds()
            quiet = quiet + 1 if now - last < IDLE else 0
            last = now


class Prober:
    """A good client that asks for a page twenty times a second, each time on a new connection."""

    def __init__(self, ask):
        self.ask, self.took, self.failed = ask, [], []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                if not self.ask():
                    self.failed.append("another answer")
            except OSError as error:
                self.failed.append(repr(error))
            self.took.append(time.monotonic() - began)
            self.stop.wait(0.05)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def worst(self):
        """In milliseconds."""
        return max(self.took) * 1000

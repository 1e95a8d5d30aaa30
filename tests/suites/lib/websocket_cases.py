"""WebSockets through bascule: a client of their own, and Autobahn's cases run by kosoku."""

import asyncio
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from proxy import Score, running

YAML = """
listeners: [{{ address: "127.0.0.1:0" }}]
providers: {{ edge: {{ seat: SI }} }}
services:
  chat:
    routes: [{{ host: "*" }}]
    probe: {{ path: /, interval: 60s }}
    upstreams: [{{ provider: edge, url: "http://127.0.0.1:{port}", http: 1 }}]
"""


async def echo(socket):
    async for message in socket:
        await socket.send(message)


def page(connection, request):
    """Probes ask for a page."""
    if "upgrade" not in request.headers.get("connection", "").lower():
        return connection.respond(200, "ok\n")
    return None


async def exchange(score, url):
    messages = ["hello", b"\0\xff" * 10, os.urandom(2_000_000), "x" * 200_000, ""]
    async with connect(url, max_size=None) as socket:
        same = []
        for message in messages:
            await socket.send(message)
            same.append(await socket.recv() == message)
        score.check("messages of every size come back as they were", all(same), same)
        pong = await socket.ping()
        score.check("a ping is answered", await asyncio.wait_for(pong, 10) >= 0)
    score.check("it is closed in good order", socket.close_code == 1000, socket.close_code)
    many = [await connect(url) for _ in range(200)]
    for socket in many:
        await socket.send("a")
    score.check("200 at once", all([await socket.recv() == "a" for socket in many]))
    for socket in many:
        await socket.close()


async def cases(address):
    """How each case of the suite ended at this address."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(pathlib.Path(sys.executable).with_name("kosoku")), "-m", "fuzzingclient"]
        # Left out: limits and performance, and compression, which the echo server declines.
        for group in ("9.*", "12.*", "13.*"):
            command += ["-x", group]
        command += ["-p", "4", "-o", folder, address]
        run = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await asyncio.wait_for(run.wait(), 120)
        index = next(pathlib.Path(folder).rglob("index.json"))
        (agent,) = json.loads(index.read_text()).values()
        return {case: (end["behavior"], end["behaviorClose"]) for case, end in agent.items()}


async def main():
    # The echo server complains of each broken case; that is what they are for.
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    score = Score()
    async with serve(echo, "127.0.0.1", 0, process_request=page, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        with running(YAML.format(port=port)) as proxy:
            await exchange(score, f"ws://127.0.0.1:{proxy.port()}/chat")
            # More than once: how a case ends hangs on how much the server had read when it found the fault.
            runs = [await cases(f"127.0.0.1:{port}") for _ in range(3)]
            direct = {case: {run.get(case) for run in runs} for case in runs[0]}
            through = await cases(f"127.0.0.1:{proxy.port()}")
    good = [case for case, end in through.items() if end[0] in ("OK", "NON-STRICT", "INFORMATIONAL")]
    differ = {case: (ends, through.get(case)) for case, ends in direct.items() if through.get(case) not in ends}
    print(f"{len(good)} of {len(through)} cases are good")
    score.check("Autobahn's cases end as they do without a proxy", len(direct) > 200 and not differ, differ)
    score.end()


asyncio.run(main())

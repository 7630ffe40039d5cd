#!/usr/bin/env python3
"""What one request of the hostile collection costs the sidecar in memory at its peak.

    tests/hostile/memory.py [--binary PATH] [--copies N] [--only REGEX] [--all]

Each request is sent to a fresh sidecar on N connections at once (default 200). The cost of one request, connection included, is
the peak of resident memory minus the memory of the warm sidecar, divided by N. No request may cost more than 64 KiB plus 16
times its own size. Needs Linux and Python 3.10, no packages. --binary and the place of the collection are those of run.py.
--all lists every request, not only the ten most expensive ones and those over the bound.
"""

import argparse
import asyncio
import base64
import json
import pathlib
import re
import subprocess
import sys
import zlib

from run import COLLECTION, built_binary, free_ports
from stage import environment, memory_bytes

WARM = b"GET /kv/warm?api-version=1.0 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"a\"\r\nContent-Length: 4\r\n\r\nbody"
# The time for answers, or for the sidecar to read an incomplete request.
PATIENCE_SECONDS = 1.0


async def origin(reader, writer):
    """Answers every request in the same way, and keeps the connection."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
                await reader.readexactly(int(length[1]))
            elif re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
                await reader.readuntil(b"0\r\n\r\n")
            writer.write(ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        pass
    finally:
        writer.close()


async def exchange(port, raw, barrier):
    """Sends one request together with the others, and reads until the connection closes or is silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await barrier.wait()
    try:
        writer.write(raw)
        while await asyncio.wait_for(reader.read(65536), PATIENCE_SECONDS):
            pass
    except (asyncio.TimeoutError, ConnectionError):
        pass
    return writer


class Barrier:
    """A barrier: asyncio.Barrier needs Python 3.11."""

    def __init__(self, count):
        self.missing, self.open = count, asyncio.Event()

    async def wait(self):
        self.missing -= 1
        if self.missing == 0:
            self.open.set()
        await self.open.wait()


async def cost(binary, upstream, raw, copies):
    """The cost of one copy at the peak, in bytes."""
    listen, admin = free_ports(2)
    run = [binary, "run", "--listen", f"127.0.0.1:{listen}", "--admin-listen", f"127.0.0.1:{admin}"]
    run += ["--upstream", f"http://127.0.0.1:{upstream}", "--profile", "app-configuration", "--credential", "none"]
    sidecar = subprocess.Popen(run, env=environment(), stderr=subprocess.DEVNULL)
    writers = []
    try:
        wait = [binary, "wait", "--admin-listen", f"127.0.0.1:{admin}"]
        await asyncio.to_thread(subprocess.run, wait, check=True, env=environment())
        (await exchange(listen, WARM, Barrier(1))).close()
        before = memory_bytes(sidecar.pid)
        barrier = Barrier(copies)
        writers = await asyncio.gather(*(exchange(listen, raw, barrier) for _ in range(copies)))
        if sidecar.poll() is not None:
            sys.exit(f"the sidecar ended with exit code {sidecar.returncode}")
        return (memory_bytes(sidecar.pid, "VmHWM") - before) / copies
    finally:
        for writer in writers:
            writer.transport.abort()
        sidecar.terminate()
        await asyncio.to_thread(sidecar.wait)


def requests(only):
    for line in (COLLECTION / "bad_requests.jsonl").read_text().splitlines():
        if not line.strip() or (only and not re.search(only, line)):
            continue
        case = json.loads(line)
        if "raw_b64" in case:
            yield case, base64.b64decode(case["raw_b64"])
        elif "raw_zb64" in case:
            yield case, zlib.decompress(base64.b64decode(case["raw_zb64"]))


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path)
    parser.add_argument("--copies", type=int, default=200)
    parser.add_argument("--only")
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    if not (COLLECTION / "bad_requests.jsonl").is_file():
        sys.exit(f"the hostile collection is not in {COLLECTION}; set TAGALONG_HOSTILE to its directory")
    binary = (options.binary or built_binary()).resolve()
    server = await asyncio.start_server(origin, "127.0.0.1", 0, limit=4 << 20)
    upstream = server.sockets[0].getsockname()[1]
    measured = []
    for case, raw in requests(options.only):
        bytes_each = await cost(binary, upstream, raw, options.copies)
        bound = 64 * 1024 + 16 * len(raw)
        measured.append((bytes_each / bound, bytes_each, bound, len(raw), case))
    measured.sort(key=lambda row: -row[1])
    over = [row for row in measured if row[1] > row[2]]
    for row in measured if options.all else measured[:10] + [row for row in over if row not in measured[:10]]:
        _, bytes_each, bound, size, case = row
        print(f"{bytes_each / 1024:8.1f} KiB of {bound / 1024:8.1f}  {size:8} bytes  {case['id']} {case['name']}")
    nearest = max(measured, key=lambda row: row[0])
    print(f"{len(measured)} requests, {options.copies} copies each: {len(over)} over the bound; nearest to it {nearest[4]['id']} "
          f"{nearest[4]['name']} with {nearest[0]:.0%}; dearest {measured[0][1] / 1024:.1f} KiB")
    sys.exit(1 if over else 0)


if __name__ == "__main__":
    asyncio.run(main())

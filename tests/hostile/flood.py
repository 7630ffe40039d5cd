#!/usr/bin/env python3
"""Hits of one caller while others hold 10,000 idle connections and 1,000 send requests byte by byte.

    ulimit -n 20000; tests/hostile/flood.py [--binary PATH] [--idle N] [--slow N] [--seconds N]

Measures the latencies of hits without and with the flood, and the sidecar's resident memory and open files before, during and
after it. Needs Linux and Python 3.10, no packages. Run it by hand on a quiet machine; the suite runs a small form. Exits 0 only
if every hit was answered, the 99th percentile stayed within three times the quiet one, and all files were closed afterwards.
"""

import argparse
import asyncio
import pathlib
import socket
import subprocess
import sys
import threading
import time

from run import built_binary, free_ports
from stage import environment, memory_bytes, open_files

HIT = b"GET /kv/a?api-version=1.0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=100000\r\nETag: \"a\"\r\nContent-Length: 4\r\n\r\nbody"


def origin():
    """Answers one request on each connection, until this process ends."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            caller, _ = listener.accept()
            caller.recv(65536)
            caller.sendall(ANSWER)

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


async def idle(port):
    """Holds a connection open, and opens another one when it is cut."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await reader.read()
            writer.close()
        except ConnectionError:
            await asyncio.sleep(1)


async def slow(port):
    """Sends a request at one byte a second, and starts again when it is cut."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            for byte in HIT * 10:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1)
        except ConnectionError:
            await asyncio.sleep(1)


async def flood(port, idle_count, slow_count):
    tasks = []
    for number in range(idle_count + slow_count):
        tasks.append(asyncio.create_task(idle(port) if number < idle_count else slow(port)))
        if number % 100 == 0:
            await asyncio.sleep(0.01)
    print("flooding", flush=True)
    await asyncio.gather(*tasks)


def hits(port, seconds):
    """Sorted latencies in seconds of hits, one after the other with a millisecond between them."""
    caller = socket.create_connection(("127.0.0.1", port))
    caller.settimeout(30)
    caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    taken = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        asked = time.monotonic()
        caller.sendall(HIT)
        answer = caller.recv(65536)
        taken.append(time.monotonic() - asked)
        if not answer.startswith(b"HTTP/1.1 200 "):
            sys.exit(f"a hit was answered {answer[:200]!r}")
        time.sleep(0.001)
    caller.close()
    return sorted(taken)


def told(when, taken, pid):
    at = lambda share: taken[int(len(taken) * share)] * 1e6
    print(f"{when}: {len(taken)} hits, median {at(0.5):.0f} us, p99 {at(0.99):.0f} us; resident {memory_bytes(pid) // 1024} KiB, "
          f"{open_files(pid)} open files", flush=True)
    return at(0.99)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--slow", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--flood", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.flood:
        asyncio.run(flood(options.flood, options.idle, options.slow))
    binary = (options.binary or built_binary()).resolve()
    listen, admin = free_ports(2)
    run = [binary, "run", "--listen", f"127.0.0.1:{listen}", "--admin-listen", f"127.0.0.1:{admin}"]
    run += ["--upstream", f"http://127.0.0.1:{origin()}", "--profile", "app-configuration", "--credential", "none"]
    run += ["--set", f"limits.connections={options.idle + options.slow + 100}"]
    sidecar = subprocess.Popen(run, env=environment(), stderr=subprocess.DEVNULL)
    flooder = None
    try:
        subprocess.run([binary, "wait", "--admin-listen", f"127.0.0.1:{admin}"], check=True, env=environment())
        hits(listen, 1)
        files_before = open_files(sidecar.pid)
        quiet = told("quiet", hits(listen, min(options.seconds, 10)), sidecar.pid)
        again = [sys.executable, __file__, "--flood", str(listen), "--idle", str(options.idle), "--slow", str(options.slow)]
        flooder = subprocess.Popen(again, stdout=subprocess.PIPE)
        flooder.stdout.readline()
        flooded = told("flood", hits(listen, options.seconds), sidecar.pid)
        held = open_files(sidecar.pid) - files_before
        flooder.kill()
        flooder.wait()
        deadline = time.monotonic() + 30
        while open_files(sidecar.pid) > files_before + 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        told("after", hits(listen, 1), sidecar.pid)
        left = open_files(sidecar.pid) - files_before
    finally:
        if flooder:
            flooder.kill()
        sidecar.terminate()
        sidecar.wait()
    print(f"{held} connections held; p99 {flooded / quiet:.2f} times the quiet one; {left} files left open")
    sys.exit(0 if flooded <= 3 * quiet and left <= 2 and held >= 0.9 * (options.idle + options.slow) else 1)


if __name__ == "__main__":
    main()

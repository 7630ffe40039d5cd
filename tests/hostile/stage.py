"""What the attacks of attacks.py need: an origin, a sidecar before it, a watch over the sidecar, and HTTP/2 frames by hand."""

import asyncio
import contextlib
import http.client
import multiprocessing
import os
import pathlib
import re
import socket
import struct
import subprocess
import tempfile
import threading
import time

from run import free_ports

# The callers, the origin and the watch would be on other machines. What they took of the sidecar's processor would count as the
# sidecar's time, so the sidecar has every second processor for itself. The attack and the origin give way to the well-behaved caller.
_PROCESSORS = sorted(os.sched_getaffinity(0))
OF_SIDECAR, OF_OTHERS = set(_PROCESSORS[::2]), set(_PROCESSORS[1::2] or _PROCESSORS)


def give_way():
    """Lets the watch and the well-behaved caller run first, as an attacker on another machine does."""
    os.nice(10)


BIG_BYTES = 4_000_000
HIT = b"GET /kv/hit?api-version=1.0 HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n"


# The origin. What it does is named by the first segments of the path after /kv/.


class Origin:
    """Runs in a process of its own, so that it neither waits for the attack nor counts as the sidecar."""

    def __init__(self):
        [self.port] = free_ports(1)
        ready = multiprocessing.Event()
        os.sched_setaffinity(0, OF_OTHERS)
        self.process = multiprocessing.Process(target=_serve, args=(self.port, ready), daemon=True)
        self.process.start()
        ready.wait()

    def requests(self):
        """How many it was asked."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/requests")
        return int(connection.getresponse().read())

    def end(self):
        self.process.terminate()
        self.process.join()


def _serve(port, ready):
    give_way()
    requests = 0

    async def exchange(reader, writer):
        nonlocal requests
        identity = None
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, _ = head.split(b" ", 2)
                if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
                    await reader.readexactly(int(length[1]))
                if target == b"/requests":
                    writer.write(_answer(b"%d" % requests, b""))
                    await writer.drain()
                    continue
                requests += 1
                if who := re.search(rb"(?i)\r\nauthorization: *negotiate (\S+)", head):
                    identity = who[1]
                if b"/slow" in target:
                    await asyncio.sleep(2)
                if b"/stuck" in target:
                    await asyncio.sleep(60)
                if b"/interim" in target:
                    while True:
                        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 10)
                        await writer.drain()
                        await asyncio.sleep(0.005)
                if b"/whose" in target:
                    writer.write(_answer(identity or b"nobody", b"Cache-Control: no-store\r\n"))
                elif b"/trickle" in target:
                    writer.write(b"HTTP/1.1 200 OK\r\nETag: \"t\"\r\nCache-Control: max-age=60\r\nContent-Length: 1000000\r\n\r\n")
                    for _ in range(200):
                        writer.write(b"x" * 10)
                        await writer.drain()
                        await asyncio.sleep(0.2)
                elif b"/big" in target:
                    writer.write(_answer(b"b" * BIG_BYTES, b"Cache-Control: max-age=1000\r\nETag: \"b\"\r\n"))
                elif b"/tagged" in target:
                    writer.write(_answer(b"t", b"Cache-Control: max-age=1000\r\nETag: \"%s\"\r\n" % (b"t" * 16_000)))
                elif b"echo" in target or b"%65cho" in target:
                    writer.write(_answer(head, b"Cache-Control: max-age=1000\r\nETag: \"e\"\r\n"))
                else:
                    writer.write(_answer(b"value", b"Cache-Control: max-age=100000\r\nETag: \"a\"\r\n"))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass
        finally:
            writer.close()

    async def serve():
        server = await asyncio.start_server(exchange, "127.0.0.1", port, limit=200_000, backlog=4096)
        ready.set()
        await server.serve_forever()

    asyncio.run(serve())


def _answer(body, fields):
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (fields, len(body), body)


# The sidecar.


class Sidecar:
    """`tagalong run` on free ports, with at most `open_files` descriptors. `log` is the file with its standard error."""

    def __init__(self, binary, upstream_port, *settings, profile="generic", credential="none", port=None, open_files=None):
        self.binary = binary
        listen, admin = free_ports(2)
        self.port, self.admin_port = port or listen, admin
        self.directory = tempfile.TemporaryDirectory()
        self.log = pathlib.Path(self.directory.name) / "log"
        command = [binary, "run", "--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{admin}"]
        command += ["--upstream", f"http://127.0.0.1:{upstream_port}", "--profile", profile, "--credential", credential]
        for setting in settings:
            command += ["--set", setting]
        if open_files:
            command = ["prlimit", f"--nofile={open_files}:{open_files}", *command]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment(), stderr=log, preexec_fn=_on_its_processors)
        wait = [binary, "wait", "--admin-listen", f"127.0.0.1:{admin}"]
        subprocess.run(wait, check=True, env=environment(), stdout=subprocess.DEVNULL)

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.directory.cleanup()


def memory_bytes(pid, name="VmRSS"):
    """Resident memory of a process: now, or at its peak (`VmHWM`)."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def _on_its_processors():
    os.sched_setaffinity(0, OF_SIDECAR)


def environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("TAGALONG_")}


@contextlib.contextmanager
def running(*parts):
    try:
        yield parts
    finally:
        for part in parts:
            part.end()


# The watch.


class Watch:
    """Samples memory and open files, asks /livez, and times the hits of a well-behaved caller, until it is ended."""

    def __init__(self, sidecar, fields=b""):
        self.sidecar, self.fields = sidecar, fields
        hits(sidecar.port, fields, lambda taken: len(taken) == 200)
        self.quiet_p99 = p99(hits(sidecar.port, fields, lambda taken: len(taken) == 1000))
        self.before_bytes, self.before_files = memory_bytes(sidecar.process.pid), open_files(sidecar.process.pid)
        self.most_bytes = self.most_files = 0
        self.livez_seconds, self.hit_seconds, self.failures = [], [], []
        self.over = threading.Event()
        # A process of its own: threads of this one would make it wait for the interpreter, and that would count as the sidecar's time.
        self.hits_over, self.hits_taken = multiprocessing.Event(), multiprocessing.Queue()
        arguments = (sidecar.port, fields, self.hits_over, self.hits_taken)
        self.hits_process = multiprocessing.Process(target=_hits_until, args=arguments, daemon=True)
        self.hits_process.start()
        self.threads = [threading.Thread(target=part, daemon=True) for part in (self._sample, self._livez)]
        for thread in self.threads:
            thread.start()

    def _sample(self):
        while not self.over.wait(0.01):
            self.most_bytes = max(self.most_bytes, memory_bytes(self.sidecar.process.pid))
            self.most_files = max(self.most_files, open_files(self.sidecar.process.pid))

    def _livez(self):
        while not self.over.wait(0.05):
            asked = time.monotonic()
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.sidecar.admin_port, timeout=15)
                connection.request("GET", "/livez")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"/livez: {error!r}")
            self.livez_seconds.append(time.monotonic() - asked)
            connection.close()

    def end(self):
        self.over.set()
        self.hits_over.set()
        self.hit_seconds, failures = self.hits_taken.get()
        self.failures += failures
        self.hits_process.join()
        for thread in self.threads:
            thread.join()

    def report(self):
        return {
            "memory_mib": max(0, self.most_bytes - self.before_bytes) / 2**20,
            "files": max(0, self.most_files - self.before_files),
            "livez_ms": max(self.livez_seconds, default=0) * 1e3,
            "p99_ratio": p99(self.hit_seconds) / max(self.quiet_p99, 1e-3),
            "failures": self.failures[:3],
        }


def hits(port, fields, over):
    """Latencies of hits on one connection, with a pause of a millisecond between them. Raises ValueError at any other answer."""
    taken = []
    with socket.create_connection(("127.0.0.1", port), timeout=15) as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not over(taken):
            asked = time.monotonic()
            caller.sendall(HIT % fields)
            answer = caller.recv(65536)
            taken.append(time.monotonic() - asked)
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise ValueError(answer[:300])
            time.sleep(0.001)
    return taken


def _hits_until(port, fields, over, results):
    taken, failures = [], []
    while not over.is_set():
        try:
            taken += hits(port, fields, lambda _: over.is_set())
        except (OSError, ValueError) as error:
            failures.append(f"a hit: {error!r}")
            over.wait(0.1)
    results.put((taken, failures))


def p99(taken):
    return sorted(taken)[int(len(taken) * 0.99)] if taken else 0.0


# Requests.


def send(port, raw):
    caller = socket.create_connection(("127.0.0.1", port), timeout=15)
    caller.sendall(raw)
    return caller


def ask(port, raw, most=1 << 20):
    """(status, head, body) of one exchange; status 0 if the connection is closed without an answer."""
    data = b""
    with send(port, raw) as caller:
        with contextlib.suppress(OSError):
            while len(data) < most and (more := caller.recv(65536)):
                data += more
                head, found, body = data.partition(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                if found and length and len(body) >= int(length[1]):
                    break
    head, _, body = data.partition(b"\r\n\r\n")
    return (int(head.split(b" ")[1]) if head.startswith(b"HTTP/1.1 ") else 0), head, body


def get(target, *fields, method="GET"):
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


# HTTP/2, RFC 9113: frames by hand, so that a peer can break the rules.

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RESET, SETTINGS = 1, 3, 4
INITIAL_WINDOW_SIZE = 4


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(window_bytes=None):
    payload = b"" if window_bytes is None else struct.pack(">HI", INITIAL_WINDOW_SIZE, window_bytes)
    return frame(SETTINGS, 0, 0, payload)


def h2_request(stream, path):
    """HEADERS of a GET whose fields are literals without indexing (RFC 7541, section 6.2.2)."""

    def literal(name, value):
        return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value

    block = b"".join(
        literal(name, value)
        for name, value in ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"127.0.0.1"), (b":path", path))
    )
    return frame(HEADERS, 0x5, stream, block)


def reset(stream):
    return frame(RESET, 0, stream, struct.pack(">I", 8))

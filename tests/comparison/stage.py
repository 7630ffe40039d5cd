"""The processes of run.py: the emulator, the four proxies, and a tap that counts what an origin sends. All on loopback, on free ports."""

import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
# 32 ASCII bytes, made up.
ID, SECRET = "comparison", "c2VjcmV0LXNlY3JldC1zZWNyZXQtMzItYnl0ZXMhISE="
KEYS = 100
VERSION = "api-version=2023-11-01"
# nginx and varnishd install to a directory that is not in every PATH.
SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TAGALONG_")}


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Process:
    """A program with a directory of its own, which listens at `port`."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="comparison-"))
        # nginx serves as another user than the one who starts it.
        self.directory.chmod(0o755)
        self.log = self.directory / "log"

    def start(self, *command):
        with self.log.open("wb") as log:
            command = [str(word) for word in command]
            self.process = subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    said = self.log.read_text(errors="replace")
                    self.end()
                    raise SystemExit(f"{command[0]} does not listen:\n{said}") from None
                time.sleep(0.02)

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


class Emulator(Process):
    """An App Configuration store of `KEYS` keys app:0, app:1, ..., with the value 0, whose replicas lag."""

    def __init__(self, binary, *options, settle="3s", drift="1.25", value="0"):
        super().__init__()
        self.port, self.admin_port = free_port(), free_port()
        seed = self.directory / "seed.json"
        seed.write_text(json.dumps({"items": [{"key": f"app:{number}", "value": value} for number in range(KEYS)]}))
        self.start(
            binary, "emulator", "--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{self.admin_port}", "--seed", seed,
            "--replicas", "3", "--settle", settle, "--drift", drift, *options,
        )

    def admin(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=30)
        connection.request(method, path, body=body, headers={"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        content = response.read()
        connection.close()
        assert response.status < 300, content
        return content

    def reset(self):
        self.admin("DELETE", "/__emulator/counts")

    def counts(self, method=""):
        """Requests since the last reset by status, those of one method if it is given."""
        found = {}
        for kind, statuses in json.loads(self.admin("GET", "/__emulator/counts"))["requests"].items():
            if kind.startswith(method):
                for status, count in statuses.items():
                    found[status] = found.get(status, 0) + count
        return found

    def requests(self, method=""):
        return sum(self.counts(method).values())

    def fault(self, **fault):
        self.admin("PUT", "/__emulator/faults", json.dumps({"faults": [{"do": fault}]}))


class Straight:
    """No proxy."""

    name = "no proxy"

    def __init__(self, _binary, origin_port, **_):
        self.port = origin_port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Tagalong(Process):
    name = "tagalong"

    def __init__(self, binary, origin_port, lifetime=30, stale=3600, signs=False, tokens=True):
        super().__init__()
        self.port, admin_port = free_port(), free_port()
        command = [binary, "run", "--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{admin_port}"]
        # Not an Azure name, so the profile is named. All else but lifetime, limit and credential is the default.
        command += ["--upstream", f"http://127.0.0.1:{origin_port}", "--profile", "app-configuration"]
        command += ["--freshness", f"{lifetime}s", "--set", f"upstream.stale_limit={stale}s"]
        if signs:
            secret = self.directory / "connection-string"
            secret.write_text(f"Endpoint=http://127.0.0.1:{origin_port};Id={ID};Secret={SECRET}")
            command += ["--connection-string-file", secret]
        else:
            command += ["--credential", "none"]
        self.start(*command)


class Templated(Process):
    """A product that is configured by a file beside this one."""

    def __init__(self, _binary, origin_port, lifetime=30, stale=3600, signs=False, tokens=True):
        super().__init__()
        self.port = free_port()
        words = {
            "DIRECTORY": self.directory, "PORT": self.port, "ORIGIN": origin_port, "LIFETIME": lifetime, "STALE": stale,
            "LIFETIME_NOT_FOUND": min(5, lifetime), "ID": ID, "SECRET": SECRET,
        }
        kept = {"@sign ": signs, "@tokens ": tokens}
        lines = []
        for line in (HERE / self.template).read_text().splitlines():
            mark = next((mark for mark in kept if line.startswith(mark)), "")
            if kept.get(mark, True):
                lines.append(line[len(mark) :])
        file = self.directory / self.template
        file.write_text(re.sub(r"\{([A-Z_]+)\}", lambda word: str(words[word[1]]), "\n".join(lines) + "\n"))
        program = shutil.which(self.program, path=SEARCHED)
        if not program:
            raise SystemExit(f"{self.program} is not installed; {INSTALLATION}")
        self.start(program, *self.arguments(file))


class Nginx(Templated):
    name, program, template, package = "nginx", "nginx", "nginx.conf", "nginx"

    def arguments(self, file):
        return ["-p", self.directory, "-e", "stderr", "-c", file]


class Varnish(Templated):
    name, program, template, package = "Varnish", "varnishd", "varnish.vcl", "varnish"

    def arguments(self, file):
        # In the foreground; no port for an operator, and no user of its own.
        listens = ["-a", f"127.0.0.1:{self.port}", "-T", "none"]
        return ["-F", "-n", self.directory / "work", *listens, "-f", file, "-s", "malloc,64m", "-j", "none"]


class Haproxy(Templated):
    name, program, template, package = "haproxy", "haproxy", "haproxy.cfg", "haproxy"

    def arguments(self, file):
        return ["-db", "-f", file]


PROXIES = [Tagalong, Nginx, Varnish, Haproxy]
INSTALLATION = "Debian: apt-get install nginx libnginx-mod-http-set-misc varnish varnish-modules varnish-vmod-digest haproxy"


class Tap:
    """Passes connections on to an origin, and counts the bytes of the bodies that come back. Bodies must have a Content-Length."""

    def __init__(self, origin_port):
        self.origin_port, self.body_bytes = origin_port, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            origin = socket.create_connection(("127.0.0.1", self.origin_port))
            threading.Thread(target=self._upwards, args=(caller, origin), daemon=True).start()
            threading.Thread(target=self._downwards, args=(origin, caller), daemon=True).start()

    def _upwards(self, caller, origin):
        try:
            while data := caller.recv(65536):
                origin.sendall(data)
            origin.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _downwards(self, origin, caller):
        answers = origin.makefile("rb")
        try:
            while head := answers.readline():
                status, length = int(head.split()[1]), 0
                while (line := answers.readline()).strip():
                    head += line
                    if field := re.match(rb"(?i)content-length: *(\d+)", line):
                        length = int(field[1])
                body = b"" if status in (204, 304) else answers.read(length)
                self.body_bytes += len(body)
                caller.sendall(head + b"\r\n" + body)
        except OSError:
            pass
        finally:
            caller.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


class Caller:
    """One kept-alive connection. It knows nothing of Sync-Token."""

    def __init__(self, port):
        self.port, self.connection = port, None

    def ask(self, method, target, body=None, fields=()):
        """(status, header fields, body); 0 as the status where there is no answer."""
        fields = {"Host": f"127.0.0.1:{self.port}", **dict(fields)}
        for attempt in range(2):
            is_new = self.connection is None
            if is_new:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                self.connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
                for name, value in fields.items():
                    self.connection.putheader(name, value)
                if body is not None:
                    self.connection.putheader("Content-Length", str(len(body)))
                    self.connection.putheader("Content-Type", "application/vnd.microsoft.appconfig.kv+json")
                self.connection.endheaders(body)
                response = self.connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException):
                self.connection.close()
                self.connection = None
                # A kept-alive connection may have been closed before the request arrived.
                if is_new or attempt:
                    return 0, {}, b""
                continue
            if response.will_close:
                self.connection.close()
                self.connection = None
            return response.status, response.headers, content
        return 0, {}, b""

    def get(self, target, fields=()):
        return self.ask("GET", target, fields=fields)

    def put(self, key, value):
        """Writes a key; fails loudly, since every question depends on it."""
        status, _, body = self.ask("PUT", key_target(key), json.dumps({"value": str(value)}).encode())
        assert status == 200, (status, body)

    def value(self, key):
        status, _, body = self.get(key_target(key))
        return int(json.loads(body)["value"]) if status == 200 else None


def key_target(key):
    return f"/kv/{key.replace(':', '%3A')}?{VERSION}"


def list_target(prefix):
    return f"/kv?key={prefix.replace(':', '%3A')}*&{VERSION}"


def values(body):
    """The values of a list, by key."""
    return {item["key"]: int(item["value"]) for item in json.loads(body)["items"]}

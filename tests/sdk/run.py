#!/usr/bin/env python3
"""Drives the real App Configuration clients and providers, unmodified, against tagalong.

    tests/sdk/run.py [--target emulator|sidecar] [--binary PATH] [--only NAME]...

It installs the pinned clients (requirements.txt into .venv, package-lock.json into node_modules), starts the servers
on free loopback ports, runs every script of `python/` and `javascript/`, and prints `N passed, N failed` last. It
exits 0 only if nothing failed.

--target emulator   the clients talk to `tagalong emulator`, which verifies their HMAC signatures
--target sidecar    `tagalong run` stands between and signs with the store's key, which the clients do not know. The same
                    scenarios must hold, those in which a client would fall into a trap of its own excepted, which
                    the sidecar must disarm instead
--access NAME       how the clients authenticate to the sidecar; all ways by default
    static-key      anything that looks like a key: the sidecar asks callers for nothing
    local-keys      keys of the sidecar's own; it checks every signature
    token           a token credential over TLS, with a certificate of `tagalong tls init`; it checks the token
--mirror            the sidecar mirrors the whole store
--binary PATH       the tagalong binary; built with cargo unless given
--only NAME         run only scripts whose path contains NAME
--rounds N          how often python/session.py has one client write and two others read at once; by hand, the full form:
                        tests/sdk/run.py --target sidecar --only session --rounds 1000
--seconds N         how long python/refreshing.py lets providers refresh; by hand, the full form, with the defaults of both sides:
                        tests/sdk/run.py --target sidecar --only refreshing --seconds 600
--refresh-seconds N how often they refresh there (default: a twentieth of the seconds, which is the sidecar's freshness)
--skip-install      take the installed clients as they are

The environment's proxy settings are withheld from the clients: everything here stays on loopback.
"""

import argparse
import contextlib
import functools
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = HERE / ".venv" / "bin" / "python"
# Each script with the store that it needs, by how long changes take to settle on the replicas.
SCRIPTS = {
    "python/client.py": "0s",
    "python/client_async.py": "0s",
    "python/hazards.py": "0s",
    "python/provider.py": "0s",
    "python/consistency.py": "30s",
    "python/session.py": "3s",
    "python/refreshing.py": "3s",
    "javascript/client.js": "0s",
    "javascript/hazards.js": "0s",
    "javascript/provider.js": "0s",
    "javascript/consistency.js": "30s",
}
# It needs a sidecar, with a freshness of its own: see --seconds.
REFRESHING = "python/refreshing.py"
DIRECT = [script for script in SCRIPTS if script != REFRESHING]
# What shows that a way of access works: every operation of each client.
OPERATIONS = [script for script in SCRIPTS if "client" in script or "provider" in script]
ACCESSES = {"static-key": list(SCRIPTS), "local-keys": OPERATIONS, "token": OPERATIONS}
CREDENTIAL_ID = "test-id"
# 32 ASCII bytes in base64, readable in a failed assertion.
SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtMzItYnl0ZXMhISE="
# What an application may put into its connection string when the sidecar holds the credential: the clients want something.
TRIVIAL_ID, TRIVIAL_SECRET = "any", "YW55"
# A key and a token of the sidecar's own.
LOCAL_ID, LOCAL_SECRET = "app-a", "bG9jYWwtbG9jYWwtbG9jYWwtbG9jYWwtbG9jYWwtbG8="
LOCAL_TOKEN = "the-token-of-this-run"
SCRIPT_LIMIT_SECONDS = 300
START_LIMIT_SECONDS = 30
PROXY_VARIABLES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


def without_proxies():
    """The environment, less what would send loopback traffic elsewhere."""
    return {name: value for name, value in os.environ.items() if name.lower() not in PROXY_VARIABLES}


def install():
    """Installs both sets of clients, unless what is pinned is what is there."""
    stamp, wanted = HERE / ".venv" / "installed.txt", (HERE / "requirements.txt").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(HERE / ".venv", ignore_errors=True)
        venv.create(HERE / ".venv", with_pip=True)
        pip = [PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", HERE / "requirements.txt"]
        subprocess.run(pip, check=True)
        stamp.write_text(wanted)
    stamp, wanted = HERE / "node_modules" / ".installed.json", (HERE / "package-lock.json").read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=HERE, check=True)
        stamp.write_text(wanted)


def build():
    """Builds the binary and returns its path as cargo reports it."""
    command = ["cargo", "build", "--bin", "tagalong", "--message-format=json-render-diagnostics"]
    output = subprocess.run(command, cwd=HERE.parent.parent, check=True, stdout=subprocess.PIPE).stdout
    messages = map(json.loads, output.splitlines())
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "tagalong")


def free_ports(count):
    """Loopback ports that nothing listens on at the moment."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def server(arguments, ready_url, log):
    """Runs the binary until the block ends; enters the block once `ready_url` answers."""
    process = subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT, env=without_proxies())
    try:
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while not answers(ready_url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{' '.join(map(str, arguments))}\ndid not start; its output is in {log.name}")
            time.sleep(0.02)
        yield
        if process.poll() is not None:
            raise SystemExit(f"{arguments[1]} ended by itself ({process.returncode}); its output is in {log.name}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url):
    """Whether something there speaks HTTP and says 2xx."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def start_emulator(binary, settle, directory, stack):
    """Starts a store that settles so; returns its URL and that of its admin port."""
    port, admin_port = free_ports(2)
    command = [binary, "emulator", "--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin_port}"]
    command += ["--hmac", f"{CREDENTIAL_ID}:{SECRET}", "--replicas", "3", "--settle", settle]
    log = stack.enter_context(open(directory / f"emulator-{settle}.log", "wb"))
    admin = f"http://127.0.0.1:{admin_port}"
    stack.enter_context(server(command, admin + "/__emulator/counts", log))
    return f"http://127.0.0.1:{port}", admin


def start_sidecar(binary, origin, access, freshness, mirror, directory, stack):
    """Starts a sidecar that lets callers in so, with this freshness unless None; returns what the clients need to know."""
    port, admin_port = free_ports(2)
    directory.mkdir()
    command = [binary, "run", "--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin_port}"]
    command += ["--upstream", origin, "--profile", "app-configuration", "--credential", "hmac"]
    if freshness:
        command += ["--freshness", freshness]
    if mirror:
        command += ["--mirror"]
    connection_string = f"Endpoint={origin};Id={CREDENTIAL_ID};Secret={SECRET}"
    command += ["--connection-string-file", secret_file(directory / "connection-string", connection_string)]
    scheme, known = "http", {"TAGALONG_ID": TRIVIAL_ID, "TAGALONG_SECRET": TRIVIAL_SECRET}
    if access == "local-keys":
        keys = secret_file(directory / "local-keys", f"Id={LOCAL_ID};Secret={LOCAL_SECRET}\n")
        command += ["--set", f"listener.local_keys_file={keys}"]
        known = {"TAGALONG_ID": LOCAL_ID, "TAGALONG_SECRET": LOCAL_SECRET}
    elif access == "token":
        certificates = directory / "tls"
        subprocess.run([binary, "tls", "init", "--directory", certificates], check=True, stdout=subprocess.DEVNULL)
        command += ["--set", f"listener.tls.certificate_file={certificates / 'cert.pem'}"]
        command += ["--set", f"listener.tls.key_file={certificates / 'key.pem'}"]
        command += ["--set", f"listener.bearer_file={secret_file(directory / 'bearer', LOCAL_TOKEN)}"]
        trusted = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"]
        scheme, known = "https", known | {name: str(certificates / "ca.pem") for name in trusted}
        known["TAGALONG_TOKEN"] = LOCAL_TOKEN
    log = stack.enter_context(open(directory / "sidecar.log", "wb"))
    stack.enter_context(server(command, f"http://127.0.0.1:{admin_port}/readyz", log))
    return known | {
        "TAGALONG_ENDPOINT": f"{scheme}://127.0.0.1:{port}",
        "TAGALONG_METRICS": f"http://127.0.0.1:{admin_port}/metrics",
        "TAGALONG_ORIGIN": connection_string,
    }


def secret_file(path, text):
    """Writes what only this user may read."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def run(script, environment, limit_seconds):
    """Runs one script and passes its lines on; returns (passed, failed)."""
    interpreter = PYTHON if script.startswith("python/") else "node"
    command = [interpreter, HERE / script]
    try:
        ended = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit_seconds
        )
        output, code = ended.stdout, ended.returncode
    except subprocess.TimeoutExpired as late:
        output, code = (late.stdout or b"").decode(errors="replace"), f"none within {limit_seconds} s"
    print(output, end="", flush=True)
    lines = output.splitlines()
    passed = sum(line.startswith("ok ") for line in lines)
    failed = sum(line.startswith("FAILED ") for line in lines)
    # A script that died half-way or ran nothing has failed, whatever it had printed by then.
    if f"done {passed + failed}" not in lines or passed + failed == 0 or (code != 0) != (failed > 0):
        print(f"FAILED {script}: did not finish properly (exit status {code})", flush=True)
        failed += 1
    return passed, failed


def main():
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=["emulator", "sidecar"], default="emulator")
    parser.add_argument("--access", action="append", choices=list(ACCESSES), default=[])
    parser.add_argument("--mirror", action="store_true")
    parser.add_argument("--binary", type=pathlib.Path)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("--refresh-seconds", type=int)
    parser.add_argument("--skip-install", action="store_true")
    options = parser.parse_args()
    freshness_seconds = max(options.seconds // 20, 1)
    limit_seconds = SCRIPT_LIMIT_SECONDS + max(options.rounds, options.seconds)
    if not options.skip_install:
        install()
    binary = options.binary.resolve() if options.binary else build()
    accesses = options.access or list(ACCESSES) if options.target == "sidecar" else ["direct"]
    passed = failed = 0
    directory = pathlib.Path(tempfile.mkdtemp(prefix="tagalong-sdk-"))
    common = without_proxies() | {
        "TAGALONG_TARGET": options.target,
        "TAGALONG_ROUNDS": str(options.rounds),
        "TAGALONG_SECONDS": str(options.seconds),
        "TAGALONG_REFRESH_SECONDS": str(options.refresh_seconds or freshness_seconds),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with contextlib.ExitStack() as stack:
        emulators = functools.cache(lambda settle: start_emulator(binary, settle, directory, stack))

        @functools.cache
        def known(settle, access, freshness):
            origin, admin = emulators(settle)
            if access == "direct":
                clients = {"TAGALONG_ENDPOINT": origin, "TAGALONG_ID": CREDENTIAL_ID, "TAGALONG_SECRET": SECRET}
            else:
                place = directory / f"{access}-{settle}-{freshness}"
                clients = start_sidecar(binary, origin, access, freshness, options.mirror, place, stack)
            return clients | {"TAGALONG_ADMIN": admin}

        for access in accesses:
            print(f"# {options.target}{' with a mirror' if options.mirror else ''}, {access}", flush=True)
            for script in ACCESSES.get(access, DIRECT):
                if options.only and not any(part in script for part in options.only):
                    continue
                freshness = f"{freshness_seconds}s" if script == REFRESHING else None
                outcome = run(script, common | known(SCRIPTS[script], access, freshness), limit_seconds)
                passed, failed = passed + outcome[0], failed + outcome[1]
    if failed:
        print(f"the servers' output is in {directory}")
    else:
        shutil.rmtree(directory)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Runs the hostile collection against a fresh sidecar.

    tests/hostile/run.py [--binary PATH] [--core] [--no-slow] [--only REGEX]

The collection is not part of this project. It is in $TAGALONG_HOSTILE, or in ../shared/hostile beside the project. This script
starts `tagalong run` on free loopback ports in front of the collection's own origin, with an access key that the cases expect
upstream. Its exit code is that of hostile.py: 0 only if every case in scope passes.

--binary PATH   the tagalong binary; built with cargo unless given
--core          runs without a credential: skips the cases about credential, guard and tokens
--no-slow       skips the cases that wait for deadlines
--only REGEX    runs only cases whose line matches
"""

import argparse
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from program import built_binary  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
COLLECTION = pathlib.Path(os.environ.get("TAGALONG_HOSTILE", ROOT.parent / "shared" / "hostile"))
# 32 ASCII bytes.
SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtMzItYnl0ZXMhISE="


def free_ports(count):
    """Free ports of five digits: the cases depend on the length of the proxy's address."""
    sockets, ports = [], []
    while len(ports) < count:
        taken = socket.socket()
        taken.bind(("127.0.0.1", 0))
        sockets.append(taken)
        port = taken.getsockname()[1]
        if port >= 10000:
            ports.append(port)
    for taken in sockets:
        taken.close()
    return ports


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path)
    parser.add_argument("--core", action="store_true")
    parser.add_argument("--no-slow", action="store_true")
    parser.add_argument("--only")
    options = parser.parse_args()
    if not (COLLECTION / "hostile.py").is_file():
        sys.exit(f"the hostile collection is not in {COLLECTION}; set TAGALONG_HOSTILE to its directory")
    binary = (options.binary or built_binary()).resolve()
    listen, admin, origin = free_ports(3)
    run = [binary, "run", "--listen", f"127.0.0.1:{listen}", "--admin-listen", f"127.0.0.1:{admin}"]
    run += ["--upstream", f"http://127.0.0.1:{origin}", "--profile", "app-configuration"]
    cases = [sys.executable, COLLECTION / "hostile.py", "--proxy", f"127.0.0.1:{listen}", "--origin-port", str(origin)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TAGALONG_")}
    with tempfile.TemporaryDirectory() as directory:
        if options.core:
            run += ["--credential", "none"]
        else:
            connection_string = pathlib.Path(directory) / "connection-string"
            connection_string.write_text(f"Endpoint=http://127.0.0.1:{origin};Id=hostile;Secret={SECRET}")
            run += ["--credential", "hmac", "--connection-string-file", connection_string]
            cases += ["--sidecar", "--cred-regex", "HMAC-SHA256 Credential="]
        if options.no_slow:
            cases += ["--no-slow"]
        if options.only:
            cases += ["--only", options.only]
        sidecar = subprocess.Popen(run, env=environment)
        try:
            wait = [binary, "wait", "--admin-listen", f"127.0.0.1:{admin}"]
            subprocess.run(wait, check=True, env=environment)
            code = subprocess.run(cases).returncode
            if sidecar.poll() is not None:
                sys.exit(f"the sidecar ended with exit code {sidecar.returncode}")
        finally:
            sidecar.terminate()
            sidecar.wait()
    sys.exit(code)


if __name__ == "__main__":
    main()

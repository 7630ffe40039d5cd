#!/usr/bin/env python3
"""Runs every command that README.md shows, and follows every link.

    tests/readme/run.py --binary target/release/tagalong

Commands are the lines after `$ ` in blocks, and inline code that begins with `tagalong`, `curl` or `cargo`. Each is run beside
`tagalong demo`, as README.md tells its reader to. `tagalong run` is run as `tagalong check-config` with the same flags, which refuses what `run`
would refuse. What cannot be run stands in ELSEWHERE with the reason. Needs the ports 8484 to 8486, and curl.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Commands that other checks run, by how they begin.
ELSEWHERE = {
    "cargo run --release -- demo": "this script runs the same by the binary",
    "cargo test": ".ci/run begins with it",
    "cargo bench --bench": ".ci/run compiles the benches and runs a short load; their figures are taken by hand",
    "cargo install --path .": "it builds what .ci/run builds",
    "docker build": ".ci/image builds the image from the same files without an engine",
    "tagalong tls init": "tests/suite makes certificates with it; here it would leave files",
    "tagalong quit": "tests/suite runs it; here it would end the demo",
}

# What the reader puts in place of a word.
PLACEHOLDERS = {
    "https://NAME.azconfig.io": "https://example.azconfig.io",
    "--upstream URL": "--upstream http://127.0.0.1:9000",
    "URL": "http://127.0.0.1:8484/kv/demo:colour?api-version=2023-11-01",
}


def commands(text):
    """The commands of a Markdown text, in their order."""
    found = []
    in_block = None
    for line in text.splitlines():
        if line.startswith("```"):
            in_block = None if in_block is not None else line[3:].strip()
        elif in_block is None:
            for code in re.findall(r"`([^`]+)`", line):
                if re.match(r"(tagalong|curl|cargo) \S", code) and "…" not in code:
                    found.append(code)
        elif in_block == "console" and line.startswith("$ "):
            found.append(re.sub(r"\s+#.*$", "", line[2:]))
    return found


def broken_links(path):
    """Links of a Markdown file to files or headings that do not exist."""
    wrong = []
    text = open(path, encoding="utf-8").read()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        named = os.path.normpath(os.path.join(os.path.dirname(path), file)) if file else path
        if not os.path.exists(named):
            wrong.append(f"{os.path.relpath(path, ROOT)}: {target}: no such file")
        elif anchor and anchor not in anchors(named):
            wrong.append(f"{os.path.relpath(path, ROOT)}: {target}: no such heading")
    return wrong


def anchors(path):
    headings = re.findall(r"(?m)^#+ (.*)$", open(path, encoding="utf-8").read())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def elsewhere(command):
    """Why a command is not run here; `None` if it is."""
    if command == "tagalong top":
        return "it needs a terminal; tests/suite draws it"
    return next((why for begin, why in ELSEWHERE.items() if command.startswith(begin)), None)


def runnable(command, directory):
    """The command as this script runs it."""
    for word, value in PLACEHOLDERS.items():
        value = value if value.startswith("--") else f"'{value}'"
        command = re.sub(rf"(?<![\w/-]){re.escape(word)}(?!\w)", value, command)
    if command.startswith("tagalong run"):
        connection_string = os.path.join(directory, "connection-string")
        with open(connection_string, "w", encoding="utf-8") as file:
            file.write("Endpoint=https://example.azconfig.io;Id=made-up;Secret=bWFkZS11cA==")
        key = os.path.join(directory, "key")
        with open(key, "w", encoding="utf-8") as file:
            file.write("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
        command = command.replace("tagalong run", "tagalong check-config", 1)
        command = command.replace("connection-string-file FILE", f"connection-string-file {connection_string}")
        command = re.sub(r"(?<=[ =])(FILE|/run/secrets/\S+)", key, command)
    return command


def wait_for_demo(demo):
    for _ in range(600):
        if demo.poll() is not None:
            sys.exit(f"tagalong demo ended with {demo.returncode}: are the ports 8484 to 8486 free?")
        try:
            with urllib.request.urlopen("http://127.0.0.1:8485/readyz", timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit("tagalong demo was not ready within a minute")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    binary = os.path.abspath(parser.parse_args().binary)
    readme = os.path.join(ROOT, "README.md")
    text = open(readme, encoding="utf-8").read()
    lines = len(text.splitlines())
    failed = [f"README.md has {lines} lines; at most 310"] if lines > 310 else []
    documents = [readme] + [
        os.path.join(ROOT, "config", name) for name in sorted(os.listdir(os.path.join(ROOT, "config"))) if name.endswith(".md")
    ]
    for document in documents:
        failed += broken_links(document)
    shown = list(dict.fromkeys(commands(text)))
    if len(shown) < 15:
        failed.append(f"only {len(shown)} commands found in README.md: {shown}")
    passed = len(documents)
    with tempfile.TemporaryDirectory() as directory:
        os.symlink(binary, os.path.join(directory, "tagalong"))
        environment = {"PATH": directory + os.pathsep + os.environ["PATH"], "HOME": directory}
        demo = subprocess.Popen([binary, "demo"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        try:
            wait_for_demo(demo)
            for command in shown:
                reason = elsewhere(command)
                if reason:
                    print(f"  not here  {command}   ({reason})")
                    continue
                # A purge and a reset are for the operator's port of the demo as well.
                ran = runnable(command, directory)
                outcome = subprocess.run(
                    ["sh", "-c", ran], cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False
                )
                if outcome.returncode == 0:
                    passed += 1
                    print(f"  ok        {command}")
                else:
                    failed.append(f"`{command}` (run as `{ran}`): {outcome.returncode}: {outcome.stderr.strip()[:500]}")
        finally:
            demo.terminate()
            demo.wait()
    for failure in failed:
        print(f"  FAILED    {failure}")
    print(f"readme: {passed} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

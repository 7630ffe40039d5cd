"""What the scripts of several directories need to run the program."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def built_binary():
    """Builds the program, and returns its path."""
    command = ["cargo", "build", "--bin", "tagalong", "--message-format", "json-render-diagnostics"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout
    for line in output.splitlines():
        message = json.loads(line)
        if message.get("executable"):
            return pathlib.Path(message["executable"])
    sys.exit("cargo built no binary; run cargo build to see the error")

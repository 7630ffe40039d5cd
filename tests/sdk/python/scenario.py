"""What every Python scenario script shares: where the server is, how a scenario is declared, run and reported.

A script prints one line a scenario, `ok NAME` or `FAILED NAME: reason`, then `done COUNT`; run.py reads these. The
environment (set by run.py) says where to go:

TAGALONG_ENDPOINT   base URL that the client is given
TAGALONG_ID, TAGALONG_SECRET   the credential of the connection string
TAGALONG_TOKEN      given instead of a connection string: what a token credential answers; the endpoint is then https
TAGALONG_ADMIN      admin URL of the emulator: faults and counts, whatever stands in front of it
TAGALONG_ROUNDS     how often session.py plays its round
TAGALONG_SECONDS, TAGALONG_REFRESH_SECONDS   how long refreshing.py lets providers refresh, and at which interval
TAGALONG_METRICS, TAGALONG_ORIGIN   behind a sidecar: its metrics, and a connection string of the store itself
TAGALONG_TARGET     emulator (the client talks to it directly) or sidecar (tagalong stands between)
"""

import contextlib
import json
import logging
import os
import sys
import time
import traceback
import urllib.request
import uuid

from azure.core.credentials import AccessToken

ENDPOINT = os.environ["TAGALONG_ENDPOINT"]
ADMIN = os.environ["TAGALONG_ADMIN"]
TARGET = os.environ["TAGALONG_TARGET"]
CONNECTION_STRING = "Endpoint={};Id={};Secret={}".format(
    ENDPOINT, os.environ["TAGALONG_ID"], os.environ["TAGALONG_SECRET"]
)
TOKEN = os.environ.get("TAGALONG_TOKEN")
RUN = uuid.uuid4().hex[:8]

# The client logs a traceback for every error without a JSON body, although it handles it; failures are reported below.
logging.disable(logging.CRITICAL)

_scenarios = []


def scenario(*, target=None):
    """Declares a scenario; `target` limits it to one of the two set-ups where the other must behave otherwise."""

    def declare(function):
        if target in (None, TARGET):
            _scenarios.append(function)
        return function

    return declare


class StaticCredential:
    """A token credential with a constant token."""

    def get_token(self, *_scopes, **_options):
        return AccessToken(TOKEN, 4102444800)


class StaticAsyncCredential:
    """The same for asynchronous clients."""

    async def get_token(self, *_scopes, **_options):
        return AccessToken(TOKEN, 4102444800)

    async def close(self):
        pass


def access(credential=StaticCredential):
    """The endpoint and the identity of a client: the arguments of the provider's `load`."""
    if TOKEN is None:
        return {"connection_string": CONNECTION_STRING}
    return {"endpoint": ENDPOINT, "credential": credential()}


def connect(client, credential=StaticCredential):
    """A client of this class, with what `access` says."""
    if TOKEN is None:
        return client.from_connection_string(CONNECTION_STRING)
    return client(ENDPOINT, credential())


def prefix_of(function):
    """A key prefix that no other scenario and no other run uses."""
    return f"py-{RUN}-{function.__name__}:"


def run_all(call):
    """Runs every declared scenario through `call(function, prefix)`, prints the outcomes, exits 1 if one failed."""
    failed = 0
    for function in _scenarios:
        name = f"{os.path.basename(sys.argv[0])} {function.__name__}"
        try:
            call(function, prefix_of(function))
        except Exception:  # a scenario may fail in any way; the others still run
            failed += 1
            reason = traceback.format_exc()
            print(f"FAILED {name}: {reason.strip().splitlines()[-1]}\n{reason}", flush=True)
        else:
            print(f"ok {name}", flush=True)
    print(f"done {len(_scenarios)}", flush=True)
    sys.exit(1 if failed else 0)


def equal(actual, expected):
    """Asserts equality and says both sides."""
    if actual != expected:
        raise AssertionError(f"expected {expected!r}, found {actual!r}")


@contextlib.contextmanager
def raises(kind):
    """Asserts that the block raises `kind`; the exception is `.value` of what the block gets."""

    class Raised:
        value = None

    raised = Raised()
    try:
        yield raised
    except kind as error:
        raised.value = error
    else:
        raise AssertionError(f"expected {kind.__name__}, nothing was raised")


def eventually(condition, within_seconds=15):
    """Waits until `condition()` is true: for timers inside the clients, which nothing else can move."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{condition.__name__} did not hold within {within_seconds} s")
        time.sleep(0.05)


def _admin(method, path, document=None):
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(ADMIN + path, data=body, method=method)
    if body is not None:
        request.add_header("Content-Type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        return answer.read()


@contextlib.contextmanager
def faults(*plan):
    """The emulator misbehaves as planned while the block runs."""
    _admin("PUT", "/__emulator/faults", {"faults": list(plan)})
    try:
        yield
    finally:
        _admin("DELETE", "/__emulator/faults")


class Counted:
    """What the emulator was asked while a `counted()` block ran: {kind: {status: count}}."""

    def __init__(self):
        self.requests = {}

    def of(self, kind, status=None):
        """Requests of one kind, or those of them that got one status."""
        statuses = self.requests.get(kind, {})
        return sum(statuses.values()) if status is None else statuses.get(str(status), 0)

    def total(self):
        """All requests."""
        return sum(self.of(kind) for kind in self.requests)

    def now(self):
        """Reads the counts anew."""
        self.requests = json.loads(_admin("GET", "/__emulator/counts"))["requests"]
        return self


@contextlib.contextmanager
def counted():
    """Counts what reaches the emulator while the block runs."""
    _admin("DELETE", "/__emulator/counts")
    result = Counted()
    yield result
    result.now()

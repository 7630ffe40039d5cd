#!/usr/bin/env python3
"""Compares what tagalong, nginx, Varnish and haproxy do before the same App Configuration store, and prints it as a Markdown table.

    tests/comparison/run.py --binary PATH [--only REGEX] [--proxies REGEX]

The store is `tagalong emulator` with three replicas that lag by up to 3 s and tokens that drift. Each question gets a fresh store and a
fresh proxy, with the configuration beside this script, in which a comment says why each setting. Callers know nothing of Sync-Token.
Counts are printed as measured, and nothing is asserted: it is a comparison by hand, not a test. It takes about six minutes.

--binary PATH     the tagalong binary
--only REGEX      only the questions whose number and name match
--proxies REGEX   only the proxies whose names match

Needs Linux, Python 3.11 and the programs: apt-get install nginx libnginx-mod-http-set-misc varnish varnish-modules
varnish-vmod-digest haproxy.
"""

import argparse
import concurrent.futures
import json
import pathlib
import random
import re
import subprocess
import sys
import threading
import time

from stage import ID, INSTALLATION, KEYS, PROXIES, SECRET, SEARCHED, VERSION, Caller, Emulator, Straight, Tap, Varnish, Haproxy
from stage import key_target, list_target, values

CALLERS = 200
# Where a question is about the end of a lifetime, it is short, so that nobody waits half a minute.
SHORT_LIFETIME = 2
# Seconds after its end when it is over for all: nginx and haproxy count whole seconds.
MARGIN = 1.5
QUESTIONS = {}


def question(number, text):
    """Registers a function of (binary, proxy class) that returns the cell of a table."""

    def register(function):
        QUESTIONS[number] = (text, function)
        return function

    return register


def in_parallel(count, work):
    """Runs `work(number)` in `count` threads that begin at the same moment; their results."""
    begin = threading.Barrier(count)

    def run(number):
        begin.wait()
        return work(number)

    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


def with_and_without_tokens(binary, proxy, count):
    """What `count` finds, and for products whose configuration keeps tokens by hand what it finds without these lines."""
    found = count(binary, proxy, True)
    if proxy in (Varnish, Haproxy):
        return f"{found} (without the lines for tokens: {count(binary, proxy, False)})"
    return found


@question(1, "A caller writes a key, another one reads it at once: reads older than the write, of 200")
def reads_after_writes(binary, proxy):
    def count(binary, proxy, tokens):
        with Emulator(binary) as origin, proxy(binary, origin.port, tokens=tokens) as cache:
            writer, reader = Caller(cache.port), Caller(cache.port)
            keys = [f"app:{number}" for number in range(20)]
            for key in keys:
                reader.value(key)
            older = 0
            for version in range(1, 201):
                key = keys[version % len(keys)]
                writer.put(key, version)
                older += reader.value(key) != version
            return older

    return with_and_without_tokens(binary, proxy, count)


@question(2, "200 callers at once: origin requests for a key that is not stored; for a stale one")
def concurrent_callers(binary, proxy):
    found = []
    # The second lifetime is short enough to wait for, and long enough that nothing is renewed before its end while requests are counted.
    for lifetime, is_stale in ((30, False), (5, True)):
        with Emulator(binary) as origin, proxy(binary, origin.port, lifetime) as cache:
            callers = [Caller(cache.port) for _ in range(CALLERS)]
            # Connected before, so that they ask at one moment.
            in_parallel(CALLERS, lambda number: callers[number].get(list_target("none")))
            if is_stale:
                callers[0].get(key_target("app:1"))
                time.sleep(lifetime + MARGIN)
            # So slow that all have asked before the first answer.
            origin.fault(kind="delay", fixed="500ms")
            origin.reset()
            statuses = in_parallel(CALLERS, lambda number: callers[number].get(key_target("app:1"))[0])
            # Answers may come before the request to the origin has ended.
            time.sleep(0.8)
            failed = CALLERS - statuses.count(200)
            found.append(f"{origin.requests()}{f' ({failed} callers got no 200)' if failed else ''}")
    return "; ".join(found)


@question(3, "An unchanged key of 2,000 bytes is read after its lifetime: body bytes from the origin, and its status")
def validation(binary, proxy):
    with Emulator(binary, value="7" * 2000) as origin, Tap(origin.port) as tap, proxy(binary, tap.port, SHORT_LIFETIME) as cache:
        caller = Caller(cache.port)
        caller.get(key_target("app:1"))
        time.sleep(SHORT_LIFETIME + MARGIN)
        origin.reset()
        tap.body_bytes = 0
        caller.get(key_target("app:1"))
        time.sleep(1)
        return f"{tap.body_bytes:,} ({', '.join(origin.counts())})"


@question(
    4,
    "The origin is gone; lifetime 2 s, limit 6 s where one can be set: until what age the stored answer is served, and how marked",
)
def origin_gone(binary, proxy):
    limit = 6
    with Emulator(binary) as origin, proxy(binary, origin.port, SHORT_LIFETIME, stale=limit) as cache:
        caller = Caller(cache.port)
        caller.get(key_target("app:1"))
        stored = time.monotonic()
        origin.process.kill()
        origin.process.wait()
        last_age, marks, ages, refusal = 0, [], set(), None
        while (age := time.monotonic() - stored) < 16:
            status, fields, _ = caller.get(key_target("app:1"))
            if status == 200:
                last_age = age
                if age > SHORT_LIFETIME + 1:
                    marks.append(fields.get("cache-status"))
                    ages.add(fields.get("age") is not None)
            elif age > SHORT_LIFETIME and refusal is None:
                refusal = status
            time.sleep(0.25)
        end = f"to {last_age:.0f} s, then {refusal}" if refusal else f"at {last_age:.0f} s still, no limit"
        if not marks:
            return f"not past its lifetime: {end}"
        return f"{end}; `{marks[-1]}`, {'with' if all(ages) else 'without'} `Age`"


@question(
    5,
    "The origin answers 429 with `retry-after-ms: 8000`; 20 stale and 10 unseen keys are read ten times in that pause: "
    "requests that reach it",
)
def throttled(binary, proxy):
    with Emulator(binary) as origin, proxy(binary, origin.port, SHORT_LIFETIME) as cache:
        caller = Caller(cache.port)
        stale = [f"app:{number}" for number in range(20)]
        for key in stale:
            caller.get(key_target(key))
        time.sleep(SHORT_LIFETIME + MARGIN)
        origin.fault(kind="throttle", retry_after="8s")
        began = time.monotonic()
        origin.reset()
        answered = 0
        for turn in range(10):
            for key in stale:
                answered += caller.get(key_target(key))[0] == 200
            for number in range(10):
                caller.get(key_target(f"app:{50 + number}"))
            # Each turn a moment later: what a product remembers for a moment only is asked again.
            time.sleep(0.4)
        within = "" if time.monotonic() - began < 8 else "; took longer than the pause"
        return f"{origin.requests()} of 300; {answered} of 200 reads of stale keys answered{within}"


@question(
    6, "A list (`/kv?key=app*`) is read, one of its keys is written, the list is read at once: lists without the write, of 20"
)
def lists_after_writes(binary, proxy):
    def count(binary, proxy, tokens):
        with Emulator(binary) as origin, proxy(binary, origin.port, tokens=tokens) as cache:
            writer, reader = Caller(cache.port), Caller(cache.port)
            older = 0
            for version in range(1, 21):
                reader.get(list_target("app"))
                writer.put(f"app:{version}", version)
                status, _, body = reader.get(list_target("app"))
                assert status == 200, status
                older += values(body).get(f"app:{version}") != version
            return older

    return with_and_without_tokens(binary, proxy, count)


@question(
    7,
    "Ten spellings of one target (order of the query, percent-encoding, absolute form, `Host`, `X-Forwarded-Host`, "
    "a field without meaning): origin requests",
)
def spellings(binary, proxy):
    with Emulator(binary) as origin, proxy(binary, origin.port) as cache:
        plain = f"/kv/app%3A1?{VERSION}&label=%00"
        asked = [
            (plain, {}),
            (f"/kv/app%3A1?label=%00&{VERSION}", {}),
            (f"/kv/app:1?{VERSION}&label=%00", {}),
            (f"/kv/app%3a1?{VERSION}&label=%00", {}),
            (f"/kv/%61pp%3A1?{VERSION}&label=%00", {}),
            (f"/kv/app%3A1?api-version=2023%2D11%2D01&label=%00", {}),
            (f"http://127.0.0.1:{cache.port}{plain}", {}),
            (plain, {"Host": f"localhost:{cache.port}"}),
            (plain, {"X-Forwarded-Host": "elsewhere.example"}),
            (plain, {"x-ms-client-request-id": "0f0e0d0c-0000-4000-8000-000000000007"}),
        ]
        origin.reset()
        statuses = [Caller(cache.port).get(target, fields)[0] for target, fields in asked]
        others = [str(status) for status in statuses if status != 200]
        return f"{origin.requests()}{f' ({len(others)} refused with {others[0]})' if others else ''}"


@question(8, "What an answer says of itself: not stored, hit, stale, read after a write")
def explained(binary, proxy):
    with Emulator(binary) as origin, proxy(binary, origin.port, SHORT_LIFETIME) as cache:
        caller = Caller(cache.port)

        def said():
            return caller.get(key_target("app:1"))[1].get("cache-status")

        found = [said(), said()]
        time.sleep(SHORT_LIFETIME + MARGIN)
        found.append(said())
        time.sleep(0.5)
        caller.put("app:1", 1)
        found.append(said())
        return " · ".join(f"`{text.partition('; ')[2]}`" if text else "nothing" for text in found)


@question(9, "The origin demands HMAC signatures, callers have no key: a read; a write")
def signatures(binary, proxy):
    with Emulator(binary, "--hmac", f"{ID}:{SECRET}") as origin, proxy(binary, origin.port, signs=True) as cache:
        caller = Caller(cache.port)
        read = caller.get(key_target("app:1"))[0]
        written = caller.ask("PUT", key_target("app:1"), json.dumps({"value": "1"}).encode())[0]
        return f"{read}; {written}"


@question(
    10,
    "Ten providers poll a sentinel and a list of ten keys every 2 s, two writes every 5 s (all four times faster: 20 s stand for 80, "
    "lifetime 8 s): origin requests; reads older than an answered write",
)
def providers(binary, proxy):
    faster, pollers, seconds = 4, 10, 20
    # What lags and drifts does so four times faster, too.
    with Emulator(binary, settle="750ms", drift="5") as origin, proxy(binary, origin.port, lifetime=32 // faster) as cache:
        written, reads, lock = {f"app:{number}": 0 for number in range(KEYS)}, [], threading.Lock()
        over = threading.Event()
        origin.reset()

        def poll(number):
            caller, tags, held = Caller(cache.port), {}, {}
            prefix = f"app:{number + 1}"
            time.sleep(number / pollers / 2)
            while not over.is_set():
                for target in (key_target("app:0"), list_target(prefix)):
                    with lock:
                        least = dict(written)
                    # As providers do: conditional once they have an answer.
                    status, fields, body = caller.get(target, {"If-None-Match": tags[target]} if target in tags else {})
                    if status == 200:
                        tags[target] = fields["etag"]
                        held[target] = values(body) if target.startswith("/kv?") else {"app:0": int(json.loads(body)["value"])}
                    older = any(version < least[key] for key, version in held.get(target, {}).items())
                    reads.append((status in (200, 304), older))
                over.wait(2 / faster)

        def write():
            caller, chosen = Caller(cache.port), random.Random(7)
            version = 0
            while not over.wait(5 / faster):
                version += 1
                # A deployment: a key, then the sentinel.
                for key in (f"app:{chosen.randrange(10, KEYS)}", "app:0"):
                    caller.put(key, version)
                    with lock:
                        written[key] = version

        threads = [threading.Thread(target=poll, args=(number,)) for number in range(pollers)] + [threading.Thread(target=write)]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        over.set()
        for thread in threads:
            thread.join()
        failed = sum(not answered for answered, _ in reads)
        older = sum(is_older for _, is_older in reads)
        writes = origin.requests("PUT")
        others = f", {failed} failed" if failed else ""
        return f"{origin.requests() - writes} and {writes} writes; {older} of {len(reads)}{others}"


def installed_versions(binary):
    """What is compared, by its own words."""
    found = [subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()]
    for program, flag in (("nginx", "-v"), ("varnishd", "-V"), ("haproxy", "-v")):
        try:
            said = subprocess.run([program, flag], capture_output=True, text=True, env={"PATH": SEARCHED})
        except FileNotFoundError:
            sys.exit(f"{program} is not installed; {INSTALLATION}")
        version = re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)
        found.append(f"{program.removesuffix('d')} {version[0] if version else 'of an unknown version'}")
    return ", ".join(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--proxies", default="")
    options = parser.parse_args()
    binary = options.binary.resolve()
    if not binary.is_file():
        sys.exit(f"{binary} is not there; build it with cargo build --release")
    proxies = [proxy for proxy in PROXIES if re.search(options.proxies, proxy.name)]
    if not proxies:
        sys.exit(f"no proxy is named so; there are {', '.join(proxy.name for proxy in PROXIES)}")
    print(installed_versions(binary), file=sys.stderr)
    print(f"| | {' | '.join(proxy.name for proxy in proxies)} |")
    print("|---" * (len(proxies) + 1) + "|")
    for number, (text, ask) in QUESTIONS.items():
        if not re.search(options.only, f"{number} {text}"):
            continue
        cells = [ask(binary, proxy) for proxy in proxies]
        straight = f" (no proxy: {ask(binary, Straight)})" if number in (1, 6, 10) else ""
        print(f"| {number}. {text}{straight} | {' | '.join(str(cell) for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()

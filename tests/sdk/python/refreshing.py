"""Two Python providers and one JavaScript provider that refresh for a while on one sidecar, as applications do, while
deployments write directly to the store; and which share of their requests the sidecar answers from memory.

They run for TAGALONG_SECONDS (`run.py --seconds`). The sidecar's freshness is a twentieth of that, and so is the interval at which
the providers refresh, unless TAGALONG_REFRESH_SECONDS (`run.py --refresh-seconds`) says otherwise: ten minutes have the defaults of
both, 30 s. Eight times a deployment writes a key-value and then the sentinel directly at the store, whose three replicas settle
within 3 s. What it wrote must be what all three show at the end, a fifth of the time after the last deployment."""

import contextlib
import json
import os
import pathlib
import subprocess
import time
import urllib.request

from azure.appconfiguration import AzureAppConfigurationClient, ConfigurationSetting
from azure.appconfiguration.provider import SettingSelector, WatchKey, load
from scenario import access, counted, equal, run_all, scenario

SECONDS = int(os.environ["TAGALONG_SECONDS"])
REFRESH_SECONDS = int(os.environ["TAGALONG_REFRESH_SECONDS"])
PROVIDER = pathlib.Path(__file__).resolve().parent.parent / "javascript" / "refreshing.js"
KEYS, DEPLOYMENTS = 40, 8
# How often an application asks its provider to refresh, which the provider does when its interval is over.
ASKED_EVERY_SECONDS = 0.2


def requests_by_cache_status():
    """What the sidecar has answered so far: {`hit` or why the origin was asked: count}."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(os.environ["TAGALONG_METRICS"], timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    counts = {}
    for line in lines:
        if line.startswith("tagalong_requests_total{"):
            labels, count = line.split("} ")
            counts[labels.split('cache_status="')[1].split('"')[0]] = int(float(count))
    return counts


@contextlib.contextmanager
def javascript_provider(prefix):
    """javascript/refreshing.js in a process of its own, loaded; yields what asks it for the value of `a`."""
    environment = os.environ | {"TAGALONG_PREFIX": prefix}
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process = subprocess.Popen(["node", PROVIDER], env=environment, **pipes)

    def shown():
        process.stdin.write("show\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, "the JavaScript provider ended"
        return json.loads(line)

    try:
        yield shown
    finally:
        process.stdin.close()
        process.wait(30)


@scenario(target="sidecar")
def providers_refresh_from_memory(p):
    with AzureAppConfigurationClient.from_connection_string(os.environ["TAGALONG_ORIGIN"]) as origin:

        def deploy(number):
            for key in ("a", "sentinel"):
                origin.set_configuration_setting(ConfigurationSetting(key=p + key, value=str(number)))

        for number in range(KEYS):
            origin.set_configuration_setting(ConfigurationSetting(key=f"{p}{number}", value="1"))
        deploy(0)
        options = dict(
            selects=[SettingSelector(key_filter=p + "*")],
            trim_prefixes=[p],
            replica_discovery_enabled=False,
            refresh_interval=REFRESH_SECONDS,
            refresh_on=[WatchKey(p + "sentinel")],
        )
        # The deployment settles before any provider loads: starting on a lagging replica is another test.
        time.sleep(3.5)
        before = requests_by_cache_status()
        with counted() as counts, javascript_provider(p) as shown, load(**access(), **options) as first:
            # Applications do not start at once.
            time.sleep(REFRESH_SECONDS / 3)
            with load(**access(), **options) as second:
                start, deployed = time.monotonic(), 0
                while (elapsed := time.monotonic() - start) < SECONDS:
                    if deployed < DEPLOYMENTS and elapsed >= (deployed + 1) * SECONDS / 10:
                        deployed += 1
                        deploy(deployed)
                    first.refresh()
                    second.refresh()
                    time.sleep(ASKED_EVERY_SECONDS)
                newest = str(DEPLOYMENTS)
                equal((first["a"], second["a"], shown()["a"]), (newest, newest, newest))
    answered = {status: count - before.get(status, 0) for status, count in requests_by_cache_status().items()}
    reads, hits = sum(answered.values()), answered.get("hit", 0)
    singles, lists = counts.of("GET /kv/{key}"), counts.of("GET /kv")
    share = hits / max(reads, 1)
    print(
        f"{SECONDS} s, refresh every {REFRESH_SECONDS} s, {deployed} deployments beside the sidecar: {reads} requests of the providers, "
        f"{hits} hits ({share:.0%}), {singles + lists} origin requests ({singles} of single key-values, {lists} of lists); "
        f"by Cache-Status: {answered}"
    )
    assert hits > 0 and singles + lists < reads, "the sidecar spared the store nothing"


if __name__ == "__main__":
    run_all(lambda function, prefix: function(prefix))

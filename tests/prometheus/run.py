#!/usr/bin/env python3
"""Has a real Prometheus scrape real sidecars, and evaluates every expression that this project publishes.

    tests/prometheus/run.py [--binary PATH]

Needs `prometheus` and `promtool` (Debian: prometheus). It checks config/prometheus with promtool, its unit tests included, starts
`tagalong emulator`, three sidecars (two in a fleet if there is a redis-server, one of them with a mirror; one whose origin is away)
and Prometheus on free loopback ports, sends requests, and then asks Prometheus:

- every panel of config/grafana/tagalong.json, every expression of README.md and config/OPERATIONS.md, and every recording rule must be valid and give data;
- every rule must be healthy, and each series that an alert looks at must be there;
- every name that is used is one that the table of config/OPERATIONS.md explains, and each of the table is on /metrics;
- every word that an expression expects in a label is one of the program's source.

What may be without data is in EMPTY, with the reason. It prints `N passed, N failed` last and exits 0 only if nothing failed.

--binary PATH   the tagalong binary; built with cargo unless given
"""

import argparse
import base64
import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from program import built_binary  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RULES = ROOT / "config" / "prometheus"
START_LIMIT_SECONDS = 30
# With scrapes each second, data is there after two of them, also on a busy machine.
DATA_LIMIT_SECONDS = 20
NAME = r"\b(?:tagalong|process)_[a-z_]+\b"
# Families of which nothing is counted here, with the reason: a panel that draws only what is above zero may be empty. The series are
# there all the same, since every label that can occur is counted from zero.
EMPTY = {
    "tagalong_request_details_total": "a detail is counted when it occurs, and nothing is throttled or cut off here",
    "tagalong_credential_refusals_total": "nobody refuses a credential here",
    "tagalong_connection_errors_total": "no connection breaks here",
    "tagalong_mirror_give_ups_total": "the mirror does not give up here",
    "tagalong_mirror_audits_total": "a mirror reads a range without a condition once in many intervals",
    "tagalong_snapshot_refusals_total": "no snapshot is refused here",
    "tagalong_reloads_total": "no configuration changes here",
    "tagalong_config_last_reload_timestamp_seconds": "no configuration changes here",
    "tagalong_snapshot_restored": "these sidecars start without a snapshot",
    "tagalong_fleet_failures_total": "the fleet's engine does not fail here",
}
WITHOUT_REDIS = {
    "tagalong_fleet_announcements_total": "without a redis-server there is no fleet",
    "tagalong_fleet_entries_total": "without a redis-server there is no fleet",
    "tagalong_fleet_records_total": "without a redis-server there is no fleet",
}

counts = {"passed": 0, "failed": 0}


def check(what, problem=None):
    counts["failed" if problem else "passed"] += 1
    if problem:
        print(f"FAILED {what}: {problem}")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for taken in sockets:
        taken.bind(("127.0.0.1", 0))
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url, method="GET", body=None, headers=None):
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with DIRECT.open(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def wait_until(what, condition, limit_seconds=START_LIMIT_SECONDS):
    end = time.monotonic() + limit_seconds
    while True:
        with contextlib.suppress(OSError):
            if condition():
                return True
        if time.monotonic() > end:
            if what:
                sys.exit(f"{what} did not come about within {limit_seconds} s")
            return False
        time.sleep(0.2)


class Prometheus:
    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path, **parameters):
        status, body = fetch(f"{self.url}{path}?{urllib.parse.urlencode(parameters)}")
        return status, json.loads(body)

    def query(self, expression):
        """The series of an expression; an error as text."""
        status, answer = self.get("/api/v1/query", query=expression)
        if status != 200:
            return None, answer.get("error", str(status))
        result = answer["data"]["result"]
        return (result, None) if answer["data"]["resultType"] in ("vector", "matrix") else ([result], None)

    def has_data(self, expression):
        """Waits for data, if there must be some; gives the problem, or nothing."""
        error = None
        if empty_for_a_reason(expression):
            return self.query(expression)[1]

        def ready():
            nonlocal error
            result, error = self.query(expression)
            return bool(result) or error

        if not wait_until(None, ready, self.patience):
            # One wait is enough: what is not there by then does not come.
            self.patience = 2
            return "no data"
        return error

    patience = DATA_LIMIT_SECONDS


def panels(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panels(panel) if "panels" in panel else ()


def grafana():
    """(where, expression) of each panel and variable, with Grafana's variables filled in."""
    dashboard = json.loads((ROOT / "config" / "grafana" / "tagalong.json").read_text())
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            yield f"dashboard: {panel['title']}", filled_in(target["expr"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            selector = re.fullmatch(r"label_values\((.+), *\w+\)", variable["query"])
            yield f"dashboard: ${variable['name']}", filled_in(selector[1])


def filled_in(expression):
    for name, value in {"$job": ".*", "$instance": ".*", "$__rate_interval": "1m", "$__range": "5m"}.items():
        expression = expression.replace(name, value)
    return expression


def readme():
    """Each expression of README.md and config/OPERATIONS.md: code that applies a function to a metric, or names one with its labels."""
    text = "\n".join((ROOT / name).read_text() for name in ("README.md", "config/OPERATIONS.md"))
    blocks = re.findall(r"^```promql\n(.*?)^```", text, re.S | re.M)
    blocks += [code for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text) if re.search(r"\w\(\s*" + NAME, code)]
    for block in blocks:
        yield f"README.md: {block.strip()}", block


def empty_for_a_reason(expression):
    return "> 0" in expression and any(name in expression for name in EMPTY)


def selectors(expression):
    """Each metric with its labels, without its window."""
    return [name + (labels or "") for name, labels in re.findall(rf"({NAME})(\{{[^}}]*\}})?", expression)]


def words(expression):
    """What an expression expects in the labels whose values are words of the program."""
    for label, _, value in re.findall(r"(\w+)(=~?)\"([^\"]*)\"", expression):
        if label in ("cache_status", "detail", "reason", "outcome", "what"):
            yield from value.split("|")


@contextlib.contextmanager
def running(command, log, **options):
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, **options)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def promtool():
    tool = ["promtool"]
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        for file in sorted(RULES.glob("*.yaml")):
            shutil.copy(file, directory)
        # Debian's Prometheus is built without Kubernetes; what follows the discovery is the same for every other one.
        kubernetes = directory / "kubernetes.yaml"
        text = kubernetes.read_text()
        assert "kubernetes_sd_configs:\n      - role: pod\n" in text, "tests/prometheus/run.py: kubernetes.yaml looks different"
        text = text.replace("kubernetes_sd_configs:\n      - role: pod\n", "static_configs: [{ targets: ['127.0.0.1:1'] }]\n")
        kubernetes.write_text(text)
        commands = [
            tool + ["check", "rules", directory / "alerts.yaml", directory / "recording.yaml"],
            tool + ["check", "config", directory / "prometheus.yaml"],
            tool + ["check", "config", kubernetes],
            tool + ["test", "rules", ROOT / "tests" / "prometheus" / "alerts_test.yaml"],
        ]
        for command in commands:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            check(" ".join(str(word) for word in command[:3]), done.stdout if done.returncode else None)


def send_requests(sidecars):
    """Enough of everything that the expressions look at."""
    api = "api-version=2023-11-01"
    for port in sidecars:
        base = f"http://127.0.0.1:{port}"
        for key in ("a", "b"):
            path = f"{base}/kv/{key}?{api}"
            body = json.dumps({"value": key}).encode()
            fetch(path, "PUT", body, {"Content-Type": "application/vnd.microsoft.appconfig.kv+json"})
            fetch(path)
            fetch(path)
        fetch(f"{base}/kv?key=*&{api}")
        fetch(f"{base}/kv/absent?{api}")
        fetch(f"{base}/kv/a?{api}", headers={"Cache-Control": "no-cache"})
        fetch(f"{base}/kv/a?{api}", headers={"Host": "evil.example"})


def questions(prometheus, metrics):
    table = set(re.findall(r"^\| `(tagalong_[a-z_]+)` \|", (ROOT / "config/OPERATIONS.md").read_text(), re.M))
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.rs"))
    known = set(re.findall(r'"([a-z0-9-]+)"', source))
    exported = set(re.findall(r"^# TYPE (\S+)", metrics, re.M))

    for name in sorted({name for name in exported if name.startswith("tagalong_")} - table):
        check(name, "it is on /metrics, but not in the table of config/OPERATIONS.md")
    for name in sorted(table):
        check(f"/metrics has {name}", None if name in exported else "it is not there")

    _, answer = prometheus.get("/api/v1/rules")
    rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
    written = sum((RULES / name).read_text().count(f"- {kind}:") for name, kind in (("alerts.yaml", "alert"), ("recording.yaml", "record")))
    check("all rules are loaded", None if len(rules) == written else f"{len(rules)} of {written}")
    published = list(grafana()) + list(readme())
    check("README.md has an expression", None if any(where.startswith("README") for where, _ in published) else "none was found")
    for rule in rules:
        healthy = rule["health"] == "ok" or rule["health"] == "unknown" and not rule.get("lastError")
        check(f"rule {rule['name']}", None if healthy else rule.get("lastError", rule["health"]))
        if rule["type"] == "recording":
            published.append((f"recorded: {rule['name']}", rule["name"]))
            published.append((f"recording: {rule['name']}", rule["query"]))
            continue
        _, error = prometheus.query(rule["query"])
        check(f"alert {rule['name']}", error)
        missing = {"summary", "runbook"} - set(rule["annotations"])
        check(f"annotations of {rule['name']}", f"without {', '.join(missing)}" if missing else None)
        for selector in selectors(rule["query"]):
            published.append((f"alert {rule['name']}: {selector}", selector))
        lines = rule["annotations"].get("runbook", "").strip().splitlines()
        check(f"runbook of {rule['name']}", None if len(lines) == 2 else f"{len(lines)} lines; two say where to look and what to do")

    for where, expression in published:
        check(where, prometheus.has_data(expression))
        names = set(re.findall(r"\btagalong_[a-z_]+\b", re.sub(r"\w+:tagalong_\w+:\w+", "", expression)))
        names = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}
        for name in sorted(names - table):
            check(where, f"{name} is not in the table of config/OPERATIONS.md")
        for word in set(words(expression)) - known - {"1xx", "2xx", "3xx", "4xx", "5xx"}:
            check(where, f'no label has "{word}": no such word is in src/')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path)
    options = parser.parse_args()
    for tool in ("prometheus", "promtool"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing; install it (Debian: apt-get install prometheus)")
    promtool()
    binary = (options.binary or built_binary()).resolve()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TAGALONG_")}
    origin, origin_admin, away, redis, scraper, *ports = free_ports(11)
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        directory = pathlib.Path(directory)

        def start(name, *command):
            command = [str(word) for word in command]
            log = directory / f"{name}.log"
            return stack.enter_context(running(command, log, env=environment, cwd=directory)), log

        start("emulator", binary, "emulator", "--listen", f"127.0.0.1:{origin}", "--admin-listen", f"127.0.0.1:{origin_admin}")
        fleet = []
        if shutil.which("redis-server"):
            start("redis", "redis-server", "--bind", "127.0.0.1", "--port", redis, "--save", "", "--appendonly", "no")
            (directory / "fleet-key").write_text(base64.b64encode(b"a key of this run, with 32 bytes").decode())
            fleet = ["--fleet-url", f"redis://127.0.0.1:{redis}", "--fleet-key-file", directory / "fleet-key"]
        else:
            EMPTY.update(WITHOUT_REDIS)
        (directory / "key").mkdir()
        sidecars, logs = [], []
        mirror = ["--set", "upstream.mirror.enabled=true", "--set", "upstream.mirror.interval=1s"]
        for index, (port, further) in enumerate([(origin, fleet), (origin, fleet + mirror), (away, [])]):
            listen, admin = ports[2 * index : 2 * index + 2]
            command = [binary, "run", "--listen", f"127.0.0.1:{listen}", "--admin-listen", f"127.0.0.1:{admin}"]
            command += ["--upstream", f"http://127.0.0.1:{port}", "--profile", "app-configuration", "--credential", "none"]
            command += ["--set", "upstream.budget.tier=standard", "--set", "snapshot.interval=1s"]
            command += ["--snapshot-file", directory / f"snapshot-{index}", "--snapshot-key-file", directory / "key" / str(index)]
            process, log = start(f"sidecar-{index}", *command, *further)
            sidecars.append((process, listen, admin))
            logs.append(log)
        for (process, listen, admin), log in zip(sidecars, logs):
            wait_until(f"a sidecar that is ready ({log.read_text()})", lambda: fetch(f"http://127.0.0.1:{admin}/readyz")[0] == 200)
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES / "alerts.yaml"), str(RULES / "recording.yaml")],
            "scrape_configs": [{"job_name": "tagalong", "static_configs": [{"targets": [f"127.0.0.1:{admin}" for *_, admin in sidecars]}]}],
        }
        # JSON is YAML.
        (directory / "prometheus.yaml").write_text(json.dumps(config))
        prometheus = Prometheus(scraper)
        start("prometheus", "prometheus", f"--config.file={directory}/prometheus.yaml", f"--storage.tsdb.path={directory}/data",
              f"--web.listen-address=127.0.0.1:{scraper}", "--log.level=warn")
        wait_until("Prometheus", lambda: fetch(f"{prometheus.url}/-/ready")[0] == 200)
        wait_until("Prometheus with both sidecars", lambda: len(prometheus.query("up == 1")[0]) == len(sidecars))
        listening = [listen for _, listen, _ in sidecars]
        # Twice with a scrape between: a counter that is first seen with its last value has no increase.
        send_requests(listening)
        time.sleep(2.5)
        send_requests(listening)
        metrics = "".join(fetch(f"http://127.0.0.1:{admin}/metrics")[1].decode() for *_, admin in sidecars)
        questions(prometheus, metrics)
        for process, *_ in sidecars:
            check("a sidecar", f"it ended with {process.poll()}" if process.poll() is not None else None)
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    sys.exit(1 if counts["failed"] else 0)


if __name__ == "__main__":
    main()

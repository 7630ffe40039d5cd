"""What must hold of Kubernetes objects beyond their schemas."""

import json
import os
import pathlib
import re
import subprocess
import tempfile

import kubernetes_validate

# The oldest version that has what the manifests use (init containers that are sidecars, and preStop with sleep), and the newest one
# whose schemas are pinned.
VERSIONS = ["1.30", "1.37"]
POD_KINDS = ("Deployment", "StatefulSet", "DaemonSet")
FLEET_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
# A made-up content of each key of a Secret.
SECRETS = {
    "connection-string": "Endpoint=https://example.azconfig.io;Id=some;Secret=c2VjcmV0LXNlY3JldC1zZWNyZXQtMzItYnl0ZXMhISE=",
    "bearer": "made-up",
    "admin-token": "made-up-admin-token-made-up-admin-token",
    "caller-token": "made-up-caller-token-made-up-caller-token",
    "local-keys": "Id=app-a;Secret=bG9jYWwtbG9jYWwtbG9jYWwtbG9jYWwtbG9jYWwtbG8=;Access=read-only",
    "snapshot-key": FLEET_KEY,
    "fleet-key": FLEET_KEY,
    "fleet-password": "made-up",
    "valkey-password": "made-up",
}


def problems_of_schemas(document):
    if document["kind"] == "PodMonitor":
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {'.'.join(str(part) for part in error.path)}: {error.message}"


def pods(documents):
    for document in documents:
        if document["kind"] in POD_KINDS:
            yield document, document["spec"]["template"]


def containers(pod):
    return pod["spec"].get("initContainers", []) + pod["spec"]["containers"]


def problems_of_restriction(pod):
    """The restricted Pod Security Standard."""
    spec = pod["spec"]
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key}"
    for volume in spec.get("volumes", []):
        kind = next(key for key in volume if key != "name")
        if kind not in ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"):
            yield f"volume {volume['name']} is a {kind}"
    of_pod = spec.get("securityContext", {})
    for container in containers(pod):
        of_container = container.get("securityContext", {})
        in_force = {**of_pod, **of_container}
        if in_force.get("runAsNonRoot") is not True or in_force.get("runAsUser") == 0:
            yield f"{container['name']} may run as root"
        if in_force.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{container['name']} has no seccomp profile"
        if of_container.get("allowPrivilegeEscalation") is not False:
            yield f"{container['name']} may escalate its privileges"
        capabilities = of_container.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{container['name']} keeps capabilities"
        for port in container.get("ports", []):
            if port.get("hostPort"):
                yield f"{container['name']} has the hostPort {port['hostPort']}"
        if container["name"] == "tagalong" and not of_container.get("readOnlyRootFilesystem"):
            yield "tagalong has a root file system that can be written"


def selects(selector, labels):
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(rule["operator"] == "Exists" and rule["key"] in labels for rule in selector.get("matchExpressions", []))


def problems_of_selectors(documents):
    """Whatever selects pods must select some of the same set, not all of a namespace, and name ports that these have."""
    for document in documents:
        kind, spec = document["kind"], document.get("spec", {})
        if kind == "Service":
            selector, ports = {"matchLabels": spec.get("selector", {})}, [port.get("targetPort", port["port"]) for port in spec["ports"]]
        elif kind == "NetworkPolicy":
            selector, ports = spec["podSelector"], []
        elif kind == "PodDisruptionBudget":
            selector, ports = spec.get("selector", {}), []
        elif kind == "PodMonitor":
            selector, ports = spec["selector"], [endpoint.get("port") for endpoint in spec["podMetricsEndpoints"]]
        elif kind in POD_KINDS:
            selector, ports = spec["selector"], []
        else:
            continue
        where = f"{kind} {document['metadata']['name']}"
        if not any(selector.values()):
            yield f"{where} selects every pod of the namespace, or none"
            continue
        selected = [pod for _, pod in pods(documents) if selects(selector, pod["metadata"]["labels"])]
        if not selected:
            yield f"{where} selects no pod"
        for pod in selected:
            declared = [port for container in containers(pod) for port in container.get("ports", [])]
            names = {port.get("name") for port in declared}
            for port in ports:
                # A number needs no declaration; the example's own port stands for whatever the application has.
                if not isinstance(port, int) and port not in names:
                    yield f"{where}: the pods have no port {port}"


def problems_of_mounts(pod, claims):
    """Each mount has a volume or a claim, and each of these a mount."""
    volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])} | {claim["metadata"]["name"] for claim in claims}
    mounts = {mount["name"] for container in containers(pod) for mount in container.get("volumeMounts", [])}
    for name in sorted(mounts ^ volumes):
        yield f"{name} is a volume without a mount, or a mount without a volume"


class Program:
    """The program, which says whether it would run as a manifest tells it to."""

    def __init__(self, binary):
        self.binary = binary

    def problems(self, pod, documents, claims):
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        for claim in claims:
            volumes[claim["metadata"]["name"]] = {"emptyDir": {}}
        maps = {document["metadata"]["name"]: document["data"] for document in documents if document["kind"] == "ConfigMap"}
        for container in containers(pod):
            if container["name"] != "tagalong":
                continue
            with tempfile.TemporaryDirectory() as directory:
                yield from self.run(container, volumes, maps, pathlib.Path(directory))

    def run(self, container, volumes, maps, directory):
        def inside(text):
            """A path of the container, in the directory that stands for its root."""
            paths = "|".join(re.escape(mount["mountPath"]) for mount in container["volumeMounts"])
            return re.sub(rf"({paths})(?=/)", rf"{directory}\1", text)

        for mount in container["volumeMounts"]:
            place = directory / mount["mountPath"].lstrip("/")
            place.mkdir(parents=True)
            volume = volumes.get(mount["name"], {})
            if "configMap" in volume:
                for name, text in maps[volume["configMap"]["name"]].items():
                    (place / name).write_text(inside(text))
            elif "secret" in volume and volume["secret"]["secretName"].endswith("tls"):
                made = directory / "made"
                subprocess.run([self.binary, "tls", "init", "--directory", made], check=True, stdout=subprocess.DEVNULL)
                (made / "cert.pem").rename(place / "tls.crt")
                (made / "key.pem").rename(place / "tls.key")
            elif "secret" in volume:
                items = volume["secret"].get("items", [{"key": key, "path": key} for key in SECRETS])
                for item in items:
                    file = place / item["path"]
                    file.write_text(SECRETS[item["key"]] + "\n")
                    file.chmod(0o600)
        environment = {"PATH": os.environ["PATH"], "AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "client"}
        token = directory / "federated-token"
        token.write_text("made-up")
        environment["AZURE_FEDERATED_TOKEN_FILE"] = str(token)
        fields = {}
        for variable in container["env"]:
            if "valueFrom" in variable:
                fields[variable["name"]] = "10.0.0.1"
                continue
            value = variable["value"]
            for name, field in fields.items():
                value = value.replace(f"$({name})", field)
            environment[variable["name"]] = inside(value)
        arguments = [inside(word) for word in container["args"]]
        if arguments[0] != "run":
            yield f"tagalong's arguments are {arguments}"
        command = [self.binary, "check-config", *arguments[1:]]
        done = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            yield f"the program refuses it: {done.stderr.strip()}"
        if "unknown" in done.stderr:
            yield done.stderr.strip()
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            words = container[probe]["exec"]["command"]
            if words not in (["/tagalong", "ready"], ["/tagalong", "live"]):
                yield f"{probe} is {words}"


def problems_of_pod_monitors(documents, here):
    monitors = [document for document in documents if document["kind"] == "PodMonitor"]
    if not monitors:
        return
    done = subprocess.run(["node", here / "pod_monitor.mjs"], input=json.dumps(monitors), capture_output=True, text=True, cwd=here)
    if done.returncode:
        yield (done.stdout + done.stderr).strip()

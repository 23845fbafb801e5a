"""Pods of the manifests, run in Docker Engine as the kubelet would run them: the same image, arguments,
environment, settings, mounts, user and limits. They answer their probes, and end within their grace."""

import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import engine
import manifests
from engine import ROOT, Container, docker, inspect, is_answered, once
from manifests import Objects, of_kind, pod
from rendering import KSERVE, KUBERNETES, block, kustomize, rendered
from wire import exchange, get

KEY = "3f1c9a0e5b7d4c62a8e9"
# As OpenShift gives one to a namespace.
CHOSEN = 1000680000


def mounts(objects: Objects, spec: dict, models: Path, scratch: Path) -> Iterator[str]:
    """The options that mount what the pod mounts. Where the models come from is the cluster's business: here it is
    a directory."""
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for mount in spec["containers"][0].get("volumeMounts", []):
        source = scratch / mount["name"]
        match volumes[mount["name"]]:
            case {"configMap": _}:
                source.mkdir()
                (source / "config.toml").write_text(manifests.settings_file(objects, spec))
            case {"secret": {"secretName": "safeserve-api-keys" | "safeserve-operators"}}:
                source.mkdir()
                (source / "keys.txt").write_text(f"somebody {KEY}\n")
            case {"secret": {"secretName": "safeserve-tls"}}:
                source.mkdir()
                make_certificate(source / "tls.crt", source / "tls.key")
            case {"image": _} | {"persistentVolumeClaim": _} | {"emptyDir": _}:
                source = models
            case other:
                raise AssertionError(other)
        yield from ("--volume", f"{source}:{mount['mountPath']}{':ro' if mount.get('readOnly') else ''}")
    engine.readable(scratch)


def make_certificate(certificate: Path, key: Path) -> None:
    """By the names that Kubernetes gives the files of such a Secret, readable as they are there."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-subj", "/CN=safeserve", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, capture_output=True, check=True)
    key.chmod(0o644)


def options(spec: dict, name: str) -> Iterator[str]:
    """Who it is, what it may and what it has; `name` is what KServe fills in."""
    (container,) = spec["containers"]
    context = spec.get("securityContext", {}) | container["securityContext"]
    limits = container["resources"]["limits"]
    yield from ("--user", f"{context.get('runAsUser', CHOSEN)}:{context.get('runAsGroup', 0)}")
    yield from ("--cap-drop", *context["capabilities"]["drop"])
    assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
    yield from ("--read-only", "--security-opt", "no-new-privileges")
    # Which of them this machine has not is not of interest.
    cores = min(int(limits["cpu"]), int(docker("info", "--format", "{{.NCPU}}"))) if limits["cpu"].isdigit() else 1
    yield from ("--cpus", str(cores), "--memory", str(manifests.bytes_of(limits["memory"])))
    for variable in container.get("env", []):
        yield from ("--env", f"{variable['name']}={variable['value'].replace('{{.Name}}', name)}")


def port(spec: dict, named: str | int) -> int:
    ports = {one.get("name"): one["containerPort"] for one in spec["containers"][0]["ports"]}
    return ports.get(named, named)


def run(
    objects: Objects, spec: dict, image: str, scratch: Path, *more: str, models: Path = ROOT / "models", name: str = ""
) -> Container:
    (container,) = spec["containers"]
    published = [flag for number in (8081, 9000) for flag in ("--publish", f"127.0.0.1::{number}")]
    return Container(
        image,
        *options(spec, name),
        *mounts(objects, spec, models, scratch),
        *published,
        *more,
        command=tuple(container.get("args", [])),
    )


def probe(container: Container, spec: dict, name: str) -> Callable[[], bool]:
    """Asks what the kubelet would, each time that it is called."""
    asked = spec["containers"][0][name]["httpGet"]
    address = container.address(port(spec, asked["port"]))
    return lambda: is_answered(address, asked["path"])


def probes(container: Container, spec: dict) -> Iterator[Callable[[], bool]]:
    return (probe(container, spec, name) for name in ("startupProbe", "readinessProbe", "livenessProbe"))


PODS = {
    "kustomize, models as an image": lambda: kustomize(KUBERNETES / "overlays" / "image-volume"),
    "kustomize, models on a claim": lambda: kustomize(KUBERNETES / "overlays" / "pvc"),
    "the chart, with keys and gRPC": lambda: rendered("apiKeys.secretName=safeserve-api-keys", "grpc.enabled=true"),
    "the chart, as a user of the cluster's choice": lambda: rendered(
        "podSecurityContext.runAsUser=null", "podSecurityContext.runAsGroup=null"
    ),
}


def test_the_image_gives_the_environment_that_the_policies_count_with(image: str) -> None:
    variables = dict(variable.split("=", 1) for variable in inspect(image)["Config"]["Env"])
    ours = {name: value for name, value in variables.items() if name.startswith("SAFESERVE__")}
    assert ours == manifests.IMAGE_ENVIRONMENT


@pytest.mark.parametrize("name", PODS)
def test_a_pod_answers_its_probes_and_ends_within_its_grace(name: str, image: str, tmp_path: Path) -> None:
    objects = PODS[name]()
    spec = pod(objects)
    with run(objects, spec, image, tmp_path) as container:
        has_started, is_ready, is_live = probes(container, spec)
        engine.wait_until(has_started, 20, "it has started")
        assert is_ready() and is_live()
        assert is_answered(container.address(8081), "/metrics")
        clients, has_keys = container.address(), "keys" in name
        assert exchange(clients, get("/metrics", f"X-API-Key: {KEY}"), 5).status == 404
        assert exchange(clients, get("/v2/models/iris/ready"), 5).status == (401 if has_keys else 200)
        assert exchange(clients, get("/v2/models/iris/ready", f"X-API-Key: {KEY}"), 5).status == 200

        # preStop is over; what is left of the grace has to do.
        delay, timeout = (
            manifests.setting(objects, spec, "server", f"drain_{part}_ms") for part in ("delay", "timeout")
        )
        started = time.monotonic()
        docker("kill", "--signal", "SIGTERM", container.name)
        engine.wait_until(lambda: not is_ready(), delay / 1000, "it is not ready any more")
        assert is_live(), "a pod that drains is not started again"
        engine.wait_until(lambda: not container.state()["Running"], 30, "it has ended")
        took = time.monotonic() - started
        assert container.state()["ExitCode"] == 0
        pre_stop = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert delay / 1000 <= took <= (delay + timeout) / 1000 + 5 < spec["terminationGracePeriodSeconds"] - pre_stop


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make a certificate with")
def test_a_pod_with_tls_has_it_for_clients_alone(image: str, tmp_path: Path) -> None:
    objects = rendered("tls.secretName=safeserve-tls")
    spec = pod(objects)
    with run(objects, spec, image, tmp_path) as container:
        engine.wait_until(probe(container, spec, "readinessProbe"), 20, "it is ready")
        host, number = container.address()
        unverified = ssl.create_default_context()
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(f"https://{host}:{number}/v2/models/iris", context=unverified, timeout=5) as answer:
            assert answer.status == 200
        assert not is_answered(container.address()), "no one is answered in plain text"
        assert is_answered(container.address(8081), "/metrics")


def test_helms_test_asks_the_service(image: str, tmp_path: Path) -> None:
    objects = rendered()
    (test,) = of_kind(objects, "Pod")
    (service,) = (one for one in of_kind(objects, "Service") if one["spec"].get("clusterIP") != "None")
    alias = f"{service['metadata']['name']}.safeserve.svc"
    (asking,) = test["spec"]["containers"]

    def ask(network: str) -> tuple[int, str]:
        return once(image, *options(test["spec"], ""), "--network", network, command=tuple(asking["args"]))

    with engine.network() as network:
        there = ("--network", network, "--network-alias", alias)
        with run(objects, pod(objects), image, tmp_path, *there) as container:
            container.wait_ready()
            assert ask(network) == (0, "")
        code, said = ask(network)
        assert code == 1 and alias in said


def test_operators_get_in_by_the_pod_alone(image: str, tmp_path: Path) -> None:
    """kubectl port-forward connects within the pod's network, as the second container here."""
    objects = rendered("operators.secretName=safeserve-operators")
    with run(objects, pod(objects), image, tmp_path, "--publish", "127.0.0.1::8082") as container:
        operations = container.address(8081)
        engine.wait_until(lambda: is_answered(operations), 20, "it is ready")
        assert not is_answered(container.address(8082), "/admin/log-level")

        def ask(*headers: str) -> str:
            lines = "\\r\\n".join(["GET /admin/log-level HTTP/1.1", "Host: a", "Connection: close", *headers])
            script = f"exec 3<>/dev/tcp/127.0.0.1/8082; printf '{lines}\\r\\n\\r\\n' >&3; head -1 <&3"
            within = ("--network", f"container:{container.name}", "--entrypoint", "bash")
            code, said = once(engine.debian_image(), *within, command=("-c", script))
            assert code == 0, said
            return said

        assert " 401 " in ask()
        assert " 200 " in ask(f"X-API-Key: {KEY}")


def test_a_pod_with_a_model_that_cannot_be_served_does_not_start(image: str, tmp_path: Path) -> None:
    """From an image of models: its rollout stops before an old pod goes."""
    models = tmp_path / "repository"
    for name in ("good", "bad"):
        (models / name).mkdir(parents=True)
        for file in ("config.json", "model.safetensors"):
            (models / name / file).write_bytes((ROOT / "models" / "iris" / "1" / file).read_bytes())
    (models / "bad" / "model.safetensors").write_bytes(b"")
    objects = PODS["kustomize, models as an image"]()
    scratch = tmp_path / "mounts"
    scratch.mkdir()
    with run(objects, pod(objects), image, scratch, models=models) as container:
        engine.wait_until(lambda: not container.state()["Running"], 20, "it has ended")
        assert container.state()["ExitCode"] == 3
        assert "bad" in container.log()


def test_the_init_container_copies_the_models_for_the_server(image: str, tmp_path: Path) -> None:
    """With an image of models as the page has it, on a base that is here."""
    objects = kustomize(KUBERNETES / "overlays" / "init-container")
    spec = pod(objects)
    (copying,) = spec["initContainers"]
    context, volume, scratch = (tmp_path / name for name in ("context", "volume", "mounts"))
    shutil.copytree(ROOT / "models", context / "models")
    text = block(KUBERNETES / "README.md", "dockerfile")
    (context / "Dockerfile").write_text(text.replace("busybox:1.37", engine.debian_image()))
    assert "busybox" in text
    scratch.mkdir()
    volume.mkdir()
    # As an emptyDir is.
    volume.chmod(0o777)
    tag = engine.tag_of("models")
    docker("build", "-q", "-t", tag, context)
    try:
        # The server's, which KServe's oci:// needs.
        assert inspect(tag)["Config"]["User"] == "65532:65532"
        asked = options(spec | {"containers": [copying]}, "")
        program, *arguments = copying["command"]
        (mount,) = copying["volumeMounts"]
        where = ("--volume", f"{volume}:{mount['mountPath']}", "--entrypoint", program)
        assert once(tag, *asked, *where, command=tuple(arguments)) == (0, "")
    finally:
        docker("rmi", tag)
    with run(objects, spec, image, scratch, models=volume) as container:
        container.wait_ready()
        assert exchange(container.address(), get("/v2/models/digits/versions/2/ready"), 5).status == 200


@pytest.mark.parametrize("models", ["models/iris", "models/iris/1"])
def test_kserves_runtime_serves_one_model_under_the_services_name(models: str, image: str, tmp_path: Path) -> None:
    """As KServe mounts it: a model's directory, with or without versions."""
    (runtime,) = (one for one in kustomize(KSERVE) if one["metadata"]["name"] == "safeserve")
    spec = runtime["spec"]
    mounted = ("--volume", f"{ROOT / models}:/mnt/models:ro")
    with run([], spec, image, tmp_path, *mounted, name="flower") as container:
        has_started, is_ready, is_live = probes(container, spec)
        engine.wait_until(has_started, 20, "it has started")
        assert is_ready() and is_live()
        for path in ("/v2/models/flower", "/v2/models/flower/ready", "/v1/models/flower"):
            assert exchange(container.address(), get(path), 5).status == 200, path
        assert exchange(container.address(), get("/v2/models/models"), 5).status == 404
        assert exchange(container.address(), get("/metrics"), 5).status == 404
        scraped = int(spec["annotations"]["prometheus.kserve.io/port"])
        page = exchange(container.address(scraped), get(spec["annotations"]["prometheus.kserve.io/path"]), 5).body
        assert b'model="flower"' in page


def test_kserves_runtime_for_grpc_speaks_http2_and_nothing_else(image: str, tmp_path: Path) -> None:
    (runtime,) = (one for one in kustomize(KSERVE) if one["metadata"]["name"] == "safeserve-grpc")
    mounted = ("--volume", f"{ROOT / 'models' / 'iris'}:/mnt/models:ro")
    with run([], runtime["spec"], image, tmp_path, *mounted, name="flower") as container:
        operations = container.address(8081)
        engine.wait_until(lambda: is_answered(operations), 20, "it is ready")
        empty_settings = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
        with socket.create_connection(container.address(9000), timeout=5) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + empty_settings)
            settings = 4
            assert connection.recv(9)[3] == settings
        assert not is_answered(container.address()), "HTTP/1.1 is not for clients"

"""The image that the Dockerfile makes: what it holds, as whom it runs, and how it stops."""

import io
import json
import re
import shutil
import struct
import subprocess
import tarfile
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

import engine
import load
from engine import INTERVAL, ROOT, Container, docker, inspect, once, readable
from server import Server, ended, wait_until
from wire import Answer, exchange, get, post

MAX_IMAGE_BYTES = 20_000_000
USER = "65532:65532"
# What Docker itself lays into every container.
LAID_BY_DOCKER = {".dockerenv", "dev", "dev/console", "dev/pts", "dev/shm", "etc", "etc/hostname", "etc/hosts"}
LAID_BY_DOCKER |= {"etc/mtab", "etc/resolv.conf", "proc", "sys"}
# As closed as a container can be.
CLOSED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
OPERATIONS = ("--env", "SAFESERVE__OPERATIONS__BIND=0.0.0.0:8081", "--publish", "127.0.0.1::8081")
DRAIN_SECONDS = 5
REQUESTS_A_SECOND = 400


def files(image: str) -> dict[str, tarfile.TarInfo]:
    """Every file of an image, by its path."""
    container = docker("create", image)
    try:
        exported = subprocess.run(["docker", "export", container], stdout=subprocess.PIPE, check=True).stdout
    finally:
        docker("rm", container)
    with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
        return {member.name.rstrip("/"): member for member in tar}


def program_of(image: str, tmp_path: Path) -> Path:
    container = docker("create", image)
    try:
        docker("cp", f"{container}:/safeserve", tmp_path)
    finally:
        docker("rm", container)
    return tmp_path / "safeserve"


def mounted(folder: Path) -> tuple[str, str]:
    return "--volume", f"{folder}:/models:ro"


def test_it_is_small(image: str) -> None:
    assert inspect(image)["Size"] <= MAX_IMAGE_BYTES


def test_it_holds_the_program_and_its_licence_and_nothing_else(image: str) -> None:
    found = files(image)
    assert set(found) - LAID_BY_DOCKER == {"safeserve", "LICENSE"}
    assert found["safeserve"].mode & 0o111 == 0o111 and found["safeserve"].uid == 0, "not its user's to change"


def test_the_program_needs_no_library(image: str, tmp_path: Path) -> None:
    head = program_of(image, tmp_path).read_bytes()
    assert head[:5] == b"\x7fELF\x02"
    offset, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
    kinds = {struct.unpack_from("<I", head, offset + size * number)[0] for number in range(count)}
    interpreter = 3
    assert interpreter not in kinds


def test_what_an_orchestrator_reads_is_set(image: str) -> None:
    config = inspect(image)["Config"]
    assert config["User"] == USER
    assert config["Entrypoint"] == ["/safeserve"] and not config.get("Cmd")
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]["Test"] == ["CMD", "/safeserve", "health"]
    assert set(config["ExposedPorts"]) == {"8080/tcp", "8081/tcp", "9000/tcp"}
    version = (ROOT / "Cargo.toml").read_text().split('version = "', 1)[1].split('"', 1)[0]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == "safeserve"
    assert labels["org.opencontainers.image.version"] == version
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.source"].startswith("https://")
    assert labels["org.opencontainers.image.revision"] == engine.output("git", "-C", str(ROOT), "rev-parse", "HEAD")
    assert once(image, command=("--version",))[1].split()[:2] == ["safeserve", version]


def test_the_samples_are_in_an_image_of_their_own(samples_image: str, image: str) -> None:
    found = set(files(samples_image))
    assert {"models/iris/1/config.json", "models/iris/1/model.safetensors"} <= found
    assert not [name for name in found if name.endswith(".py")]
    assert inspect(samples_image)["RootFS"]["Layers"][:-1] == inspect(image)["RootFS"]["Layers"]


def test_a_closed_container_answers_as_the_program_does(samples_image: str, program: str, tmp_path: Path) -> None:
    native = Server([program], ROOT / "models", [], tmp_path)
    with ended(native), Container(samples_image, *CLOSED).wait_ready() as container:
        examples = sorted((ROOT / "models").glob("*/example.json"))
        assert examples
        for example in examples:
            ask = post(f"/v1/models/{example.parent.name}:predict", example.read_text())
            answers = [exchange(address, ask, 5) for address in (container.address(), native.address)]
            assert [answer.status for answer in answers] == [200, 200], answers
            assert answers[0].body == answers[1].body
        status = Path(f"/proc/{container.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split() == ["65532"] * 4 and fields["Gid"].split() == ["65532"] * 4
        assert int(fields["CapEff"], 16) == 0 and fields["NoNewPrivs"] == "1"
        assert fields["NSpid"].split()[-1] == "1", "it is process 1"
        # Nothing was written: a read-only root refuses it, and the log would say so.
        assert docker("diff", container.name) == ""


def test_there_is_no_shell(image: str) -> None:
    for shell in ("/bin/sh", "sh", "/busybox/sh"):
        code, _ = once(image, "--entrypoint", shell, command=("-c", "true"))
        assert code == 127, shell


def test_it_keeps_to_the_containers_share_of_the_machine(samples_image: str) -> None:
    with Container(samples_image, *OPERATIONS, "--cpus", "1", "--memory", "256m").wait_ready() as container:
        page = exchange(container.address(8081), get("/metrics"), 5).body.decode()
        assert "\nsafeserve_cpu_budget_cores 1\n" in page and "\nsafeserve_workers 1\n" in page
        assert f"\nsafeserve_memory_limit_bytes {256 << 20}\n" in page
        assert exchange(container.address(), get("/metrics"), 5).status == 404


def test_docker_sees_its_health(samples_image: str) -> None:
    options = ("--health-interval", "1s", "--env", "SAFESERVE__SERVER__DRAIN_DELAY_MS=60000")
    with Container(samples_image, *OPERATIONS, *options).wait_ready() as container:

        def health(wanted: str) -> None:
            wait_until(lambda: container.state()["Health"]["Status"] == wanted, 20, f"it is {wanted}", INTERVAL)

        health("healthy")
        assert container.run("health") == (0, "")
        assert container.run("health", "http://localhost:8080")[0] == 0, "names are looked up too"
        docker("kill", "--signal", "SIGTERM", container.name)
        health("unhealthy")
        code, said = container.run("health")
        assert code == 1 and "not ready" in said
        # The second signal ends it at once.
        docker("kill", "--signal", "SIGTERM", container.name)
        assert docker("wait", container.name) == "130"


@pytest.mark.parametrize("grpc", [False, True])
def test_docker_stop_loses_nothing_and_ends_within_its_grace(samples_image: str, grpc: bool) -> None:
    more = ("--env", "SAFESERVE__GRPC__BIND=0.0.0.0:9000") if grpc else ()
    with Container(samples_image, *CLOSED, *more).wait_ready() as container:
        address = container.address()
        body = json.dumps({"instances": [[1.0, 1.0, 1.0]]})

        def request(_client: int, _count: int) -> tuple[bytes, object]:
            return post("/v1/models/hello-keras:predict", body), None

        def check(_: object, answer: Answer) -> str | None:
            return None if answer.status == 200 else f"{answer.status} {answer.body!r}"

        with load.Load(address, request, clients=8, check=check, rate=REQUESTS_A_SECOND) as clients:
            wait_until(lambda: clients.answered.value > 100, 10, "clients are answered")
            stop = threading.Thread(target=docker, args=("stop", "--time", "30", container.name))
            stop.start()
            wait_until(lambda: exchange(address, get("/v2/health/ready"), 2).status == 503, 10, "it drains")
            # Until just before its delay is over: afterwards Docker's own proxy still takes connections, and
            # closes them without an answer.
            drains = time.monotonic()
            answered = clients.answered.value
            wait_until(lambda: time.monotonic() > drains + DRAIN_SECONDS - 1, DRAIN_SECONDS, "its delay is nearly over")
            answered = clients.answered.value - answered
            samples = clients.stop()
        stop.join()
        state = container.state()
        assert state["ExitCode"] == 0 and not state["OOMKilled"], container.log()[-1000:]
        lost = [sample for sample in samples if sample.problem]
        assert not lost, lost[:3]
        # It answered all the time, as far as the generator came to ask.
        assert answered > REQUESTS_A_SECOND
        # Each listener of clients drains, and all at one time.
        begun = moments(container, "draining: answering, not ready")
        assert len(begun) == (2 if grpc else 1)
        (stopped,) = moments(container, "stopped")
        assert DRAIN_SECONDS <= stopped - min(begun) < DRAIN_SECONDS + 2
        assert '"cut_connections":0' in container.log()


def moments(container: Container, message: str) -> list[float]:
    """When a container's log has a message."""
    lines = [json.loads(line) for line in container.log().splitlines() if line.startswith("{")]
    return [datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines if line["message"] == message]


def test_its_exit_codes_say_what_is_wrong(image: str, samples_image: str, tmp_path: Path) -> None:
    code, said = once(image)
    assert code == 3 and "/models" in said
    code, said = once(image, *mounted(readable(tmp_path)))
    assert code == 3 and "holds no model" in said
    code, said = once(samples_image, "--env", "SAFESERVE__SERVER__BIND=here")
    assert code == 2 and "SAFESERVE__SERVER__BIND" in said
    code, said = once(samples_image, "--env", "SAFESERVE__SERVER__BNID=0.0.0.0:8080")
    assert code == 2 and "bnid" in said.lower()
    code, said = once(samples_image, "--env", "SAFESERVE__OPERATIONS__BIND=0.0.0.0:8080")
    assert code == 4 and "8080" in said
    code, said = once(samples_image, command=("train", "x.csv"))
    assert code == 2 and "train" in said


def test_a_mounted_repository_is_followed(image: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models" / "iris", tmp_path / "iris")
    with Container(image, *CLOSED, *mounted(readable(tmp_path))).wait_ready() as container:
        fresh = tmp_path / ".digits"
        shutil.copytree(ROOT / "models" / "digits", fresh)
        fresh.rename(tmp_path / "digits")
        address = container.address()
        wait_until(lambda: engine.is_answered(address, "/v2/models/digits/ready"), 20, "digits is served", INTERVAL)


def test_one_mounted_model_has_the_name_that_it_is_given(image: str) -> None:
    mount = ("--volume", f"{ROOT / 'models' / 'iris' / '1'}:/mnt/models:ro")
    there = ("--env", "SAFESERVE__MODELS__DIR=/mnt/models")
    with Container(image, *CLOSED, *mount, *there, command=("--model-name", "flowers")).wait_ready() as container:
        assert engine.is_answered(container.address(), "/v2/models/flowers/ready")


def test_a_change_of_the_sources_leaves_the_layer_of_the_dependencies(image: str, tmp_path: Path) -> None:
    for name in ("Cargo.toml", "Cargo.lock", "build.rs", "Dockerfile", ".dockerignore", "LICENSE"):
        shutil.copy2(ROOT / name, tmp_path)
    for name in ("config", "proto", "src"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "models").mkdir()
    (tmp_path / "src" / "lib.rs").write_text('compile_error!("changed");\n')
    done = engine.build("changed", context=tmp_path)
    assert done.returncode != 0 and "changed" in done.stdout
    # It fails where the sources are compiled, and compiles no dependency on the way.
    assert "COPY src src" in done.stdout
    assert set(re.findall(r"Compiling (\S+)", done.stdout)) == {"safeserve"}


def test_it_can_be_built_on_another_base(image: str) -> None:
    tag = engine.built("on-debian", "--build-arg", f"RUNTIME_IMAGE={engine.debian_image()}")
    assert once(tag, "--entrypoint", "/bin/sh", command=("-c", "/safeserve --version"))[0] == 0


def test_an_architecture_that_it_is_not_built_for_is_refused(docker_engine: None) -> None:
    done = engine.build("riscv64", "--build-arg", "TARGETARCH=riscv64")
    assert done.returncode != 0 and "expected amd64 or arm64, got riscv64" in done.stdout

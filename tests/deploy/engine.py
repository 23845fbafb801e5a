"""Docker Engine and what the tests run in it: base images of their own, since no registry is asked.

Everything that is made carries PREFIX in its name. Base images stay for the next run, as do the layers of builds:
`docker image prune` takes away what earlier builds left.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "reliability"))

from server import wait_until  # noqa: E402
from wire import Lost, exchange, get  # noqa: E402

SCRATCH = ROOT / "target" / "deploy"
PREFIX = "safeserve-test"
SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
# What the test images need of Debian: a C compiler for some crates, and the stack's real components.
PACKAGES = ("ca-certificates", "gcc", "haproxy", "libc6-dev", "prometheus")
# How often Docker or Prometheus is asked whether something holds: asking takes part of the cores that are judged.
INTERVAL = 0.2


class Unavailable(Exception):
    """Something that the tests need is neither on this machine nor available."""


def call(*arguments: object, seconds: float = 120, **options: object) -> subprocess.CompletedProcess:
    """Runs a command of Docker's; what it warns of does not mix with what it prints."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(["docker", *map(str, arguments)], text=True, timeout=seconds, check=False, **options)


def docker(*arguments: object, **options: object) -> str:
    """Runs a command of Docker's that has to succeed, and gives what it printed."""
    done = call(*arguments, **options)
    if done.returncode:
        said = f"{done.stdout}\n{done.stderr or ''}"[-3000:]
        raise AssertionError(f"docker {' '.join(map(str, arguments))}: exit code {done.returncode}\n{said}")
    return done.stdout.strip()


def why_absent() -> str:
    """Why there is no Docker Engine to test with; empty if there is one."""
    if not shutil.which("docker"):
        return "no docker command"
    if "podman" in call("--version").stdout.lower():
        return "no Docker Engine: this docker is Podman, whose images keep no health check"
    done = call("info")
    return "" if done.returncode == 0 else f"no Docker Engine: {done.stderr.strip()[-200:]}"


def inspect(name: str) -> dict:
    return json.loads(docker("inspect", name))[0]


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def has_image(tag: str) -> bool:
    return bool(docker("images", "--quiet", tag))


# Base images.


def debian_image() -> str:
    """Debian with what the others are based on; kept for the next run."""
    tag = f"{PREFIX}-debian:{digest(SUITE, PACKAGES)}"
    if not has_image(tag):
        debootstrap = installed("debootstrap", "debootstrap")
        SCRATCH.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as root, (SCRATCH / "debootstrap.log").open("wb") as log:
            command = [debootstrap, "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, root, MIRROR]
            done = subprocess.run(command, stdout=log, stderr=log, check=False)
            assert done.returncode == 0, f"debootstrap failed, see {log.name}"
            tar = ["tar", "--one-file-system", "-C", root, "-c", "."]
            with subprocess.Popen(tar, stdout=subprocess.PIPE) as archive:
                image = docker("import", "-", stdin=archive.stdout, seconds=600)
            assert archive.returncode == 0, "tar failed"
        docker("tag", image, tag)
    return tag


def installed(program: str, package: str) -> str:
    """The path of a program, which comes from Debian's archive if it is not there.

    Raises Unavailable if it is not available."""

    def find() -> str | None:
        return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")

    if (found := find()) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        options = {"stdout": subprocess.DEVNULL, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
        subprocess.run(["apt-get", "-qq", "update"], check=False, **options)
        install = ["apt-get", "-qq", "install", "-y", "--no-install-recommends", package]
        subprocess.run(install, check=False, **options)
        found = find()
    if found is None:
        raise Unavailable(f"no {program}; root on Debian could install the package {package}")
    return found


def build_image() -> str:
    """The Dockerfile's BUILD_IMAGE: this machine's Rust, with the crates that the lock file names, so that
    nothing is fetched from within."""
    base = debian_image()
    sysroot = Path(output("rustc", "--print", "sysroot"))
    tag = f"{PREFIX}-build:{digest(base, output('rustc', '-vV'), (ROOT / 'Cargo.lock').read_text())}"
    if not has_image(tag):
        subprocess.run(["cargo", "fetch", "--locked", "--quiet"], cwd=ROOT, check=True)
        registry = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")) / "registry"
        SCRATCH.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
            context = Path(scratch)
            for part in ("bin", "lib"):
                shutil.copytree(sysroot / part, context / "rust" / part, symlinks=True, copy_function=link)
            for part in ("cache", "index"):
                shutil.copytree(registry / part, context / "cargo" / "registry" / part, copy_function=link)
            (context / "Dockerfile").write_text(
                f"FROM {base}\n"
                "COPY rust /opt/rust\n"
                "COPY cargo /opt/cargo\n"
                "ENV PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin CARGO_HOME=/opt/cargo CARGO_NET_OFFLINE=true\n"
            )
            docker("build", "-q", "-t", tag, context, seconds=900)
    return tag


def link(source: str, target: str) -> None:
    """As good as a copy for what is only read, and free on the same file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def output(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def component_images() -> dict[str, str]:
    """HAProxy and Prometheus of Debian, to be run as the images of these names are."""
    base = debian_image()
    texts = {
        "haproxy": f"FROM {base}\nUSER haproxy\n",
        "prometheus": f"FROM {base}\n"
        "RUN install -d -o prometheus /prometheus\n"
        "USER prometheus\n"
        'ENTRYPOINT ["/usr/bin/prometheus"]\n',
    }
    images = {}
    for name, text in texts.items():
        images[name] = f"{PREFIX}-{name}:{digest(text)}"
        if not has_image(images[name]):
            with tempfile.TemporaryDirectory() as context:
                (Path(context) / "Dockerfile").write_text(text)
                docker("build", "-q", "-t", images[name], context, seconds=300)
    return images


def tag_of(name: str) -> str:
    """The tag of an image that is built of this checkout."""
    return f"{PREFIX}-{digest(str(ROOT))}:{name}"


def build(name: str, *options: str, context: Path = ROOT) -> subprocess.CompletedProcess:
    """Builds the project's Dockerfile on the tests' own base images, as `tag_of(name)`."""
    base = f"BUILD_IMAGE={build_image()}"
    command = ("build", "--force-rm", "--build-arg", base, "-t", tag_of(name), *options, context)
    done = call(*command, seconds=1500, stderr=subprocess.STDOUT)
    # The old builder colours what it passes on, wherever a piece of it begins.
    done.stdout = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    return done


def built(name: str, *options: str) -> str:
    """The tag of an image of the Dockerfile, built now. The log is target/deploy/NAME.log."""
    done = build(name, *options)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    (SCRATCH / f"{name}.log").write_text(done.stdout)
    assert done.returncode == 0, f"docker build: exit code {done.returncode}\n{done.stdout[-3000:]}"
    return tag_of(name)


# Containers.


class Container:
    """A running container of an image, removed at its end. `options` are those of `docker run`."""

    def __init__(self, image: str, *options: str, command: tuple[str, ...] = ()):
        self.name = f"{PREFIX}-{secrets.token_hex(4)}"
        try:
            docker("run", "--detach", "--name", self.name, "--publish", "127.0.0.1::8080", *options, image, *command)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Container":
        return self

    def __exit__(self, *_: object) -> None:
        call("rm", "--force", "--volumes", self.name)

    def state(self) -> dict:
        return inspect(self.name)["State"]

    @property
    def pid(self) -> int:
        return self.state()["Pid"]

    def log(self) -> str:
        return docker("logs", self.name, stderr=subprocess.STDOUT)

    def address(self, port: int = 8080) -> tuple[str, int]:
        host, published = docker("port", self.name, port).splitlines()[0].rsplit(":", 1)
        return host, int(published)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Runs the program once more within; its exit code and what it printed."""
        done = call("exec", self.name, "/safeserve", *arguments, seconds=30, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout

    def wait_ready(self) -> "Container":
        """Gives it back once it answers; ends it if it does not."""
        try:
            address = self.address()
            wait_until(lambda: self.is_alive() and is_answered(address), 30, f"{self.name} is ready", INTERVAL)
        except BaseException:
            self.__exit__()
            raise
        return self

    def is_alive(self) -> bool:
        state = self.state()
        assert state["Running"], f"ended with {state['ExitCode']}: {self.log()[-1000:]}"
        return True


def is_answered(address: tuple[str, int], path: str = "/v2/health/ready") -> bool:
    """Whether somebody answers 200 there."""
    try:
        return exchange(address, get(path), 2).status == 200
    except (OSError, Lost):
        return False


def once(image: str, *options: str, command: tuple[str, ...] = ()) -> tuple[int, str]:
    """Runs a container to its end; its exit code and what it printed."""
    name = f"{PREFIX}-{secrets.token_hex(4)}"
    try:
        done = call("run", "--name", name, *options, image, *command, seconds=60, stderr=subprocess.STDOUT)
    finally:
        call("rm", "--force", "--volumes", name)
    return done.returncode, done.stdout


@contextmanager
def network() -> Iterator[str]:
    """The name of a network of its own."""
    name = f"{PREFIX}-{secrets.token_hex(4)}"
    docker("network", "create", name)
    try:
        yield name
    finally:
        call("network", "rm", name)


def readable(folder: Path) -> Path:
    """A temporary folder that a container's user can read: pytest's own are for their owner alone."""
    for one in (folder, *folder.parents):
        if one == Path(tempfile.gettempdir()) or one.stat().st_uid != os.geteuid():
            break
        one.chmod(one.stat().st_mode | 0o555)
    return folder

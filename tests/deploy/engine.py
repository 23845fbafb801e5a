"""Docker Engine and what the tests run in it: base images of their own, since no registry is asked."""

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "reliability"))

from server import wait_until  # noqa: E402
from wire import Lost, exchange, get  # noqa: E402

SCRATCH = ROOT / "target" / "deploy"
# Every container, network and image of the tests is named so.
PREFIX = "safeserve-test"
SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
# What the test images need of Debian: a C compiler for some crates, and the stack's real components.
PACKAGES = ("ca-certificates", "gcc", "haproxy", "libc6-dev", "prometheus")


def docker(*arguments: object, check: bool = True, seconds: float = 120, **options: object) -> str:
    """Runs a command of Docker's and gives what it printed."""
    done = subprocess.run(
        ["docker", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        **options,
    )
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout.strip()


def why_absent() -> str:
    """Why there is no Docker Engine to test with; empty if there is one."""
    if not shutil.which("docker"):
        return "no docker command"
    done = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"no Docker Engine: {done.stderr.strip()[-200:]}"


def inspect(name: str) -> dict:
    return json.loads(docker("inspect", name))[0]


def has_image(tag: str) -> bool:
    return bool(docker("images", "--quiet", tag))


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def debian_image() -> str:
    """Debian with what the others stand on; kept for the next run."""
    tag = f"{PREFIX}-debian:{digest(SUITE, PACKAGES)}"
    if not has_image(tag):
        debootstrap = shutil.which("debootstrap", path=f"{os.environ['PATH']}:/usr/sbin")
        if debootstrap is None:
            install("debootstrap")
            debootstrap = "/usr/sbin/debootstrap"
        with tempfile.TemporaryDirectory() as root:
            command = [debootstrap, "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, root, MIRROR]
            log = SCRATCH / "debootstrap.log"
            with log.open("wb") as out:
                done = subprocess.run(command, stdout=out, stderr=out, check=False)
            assert done.returncode == 0, f"debootstrap failed, see {log}"
            with subprocess.Popen(["tar", "--one-file-system", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
                docker("import", "-", tag, stdin=tar.stdout, seconds=600)
    return tag


def install(package: str) -> None:
    quiet = {"stdout": subprocess.DEVNULL, "env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}}
    subprocess.run(["apt-get", "-qq", "update"], check=False, **quiet)
    subprocess.run(["apt-get", "-qq", "install", "-y", "--no-install-recommends", package], check=True, **quiet)


def build_image() -> str:
    """The Dockerfile's BUILD_IMAGE: this machine's Rust, with the crates that the lock file names, so that
    nothing is fetched from within."""
    base = debian_image()
    sysroot = Path(output("rustc", "--print", "sysroot"))
    tag = f"{PREFIX}-build:{digest(base, output('rustc', '-vV'), (ROOT / 'Cargo.lock').read_text())}"
    if not has_image(tag):
        subprocess.run(["cargo", "fetch", "--locked", "--quiet"], cwd=ROOT, check=True)
        home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
        with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
            context = Path(scratch)
            for part in ("bin", "lib"):
                shutil.copytree(sysroot / part, context / "rust" / part, symlinks=True, copy_function=link)
            for part in ("cache", "index"):
                shutil.copytree(home / "registry" / part, context / "cargo" / "registry" / part, copy_function=link)
            for name in ("config", "config.toml"):
                if (home / name).exists():
                    shutil.copy(home / name, context / "cargo")
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


def build(target: str | None, tag: str, context: Path = ROOT, log: Path | None = None) -> str:
    """Builds the project's Dockerfile on the tests' own base images; gives what the build printed."""
    command = ["build", "--force-rm", "--build-arg", f"BUILD_IMAGE={build_image()}", "-t", tag]
    if target:
        command += ["--target", target]
    printed = docker(*command, context, seconds=1500)
    if log:
        log.write_text(printed)
    return printed


class Container:
    """A running container of an image, removed at its end. `options` are those of `docker run`."""

    def __init__(self, image: str, *options: str, command: tuple[str, ...] = ()):
        self.name = f"{PREFIX}-{secrets.token_hex(4)}"
        docker("run", "--detach", "--name", self.name, "--publish", "127.0.0.1::8080", *options, image, *command)

    def __enter__(self) -> "Container":
        return self

    def __exit__(self, *_: object) -> None:
        docker("rm", "--force", "--volumes", self.name)

    def state(self) -> dict:
        return inspect(self.name)["State"]

    @property
    def pid(self) -> int:
        return self.state()["Pid"]

    def log(self) -> str:
        return docker("logs", self.name)

    def address(self, port: int = 8080) -> tuple[str, int]:
        host, published = docker("port", self.name, port).splitlines()[0].rsplit(":", 1)
        return host, int(published)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Runs the program once more within; its exit code and what it printed."""
        done = subprocess.run(
            ["docker", "exec", self.name, "/safeserve", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
        )
        return done.returncode, done.stdout

    def wait_ready(self) -> "Container":
        address = self.address()

        def is_ready() -> bool:
            state = self.state()
            assert state["Running"], f"ended with {state['ExitCode']}: {self.log()[-1000:]}"
            return is_answered(address)

        wait_until(is_ready, 30, f"{self.name} is ready")
        return self


def is_answered(address: tuple[str, int], path: str = "/v2/health/ready") -> bool:
    """Whether somebody answers 200 there."""
    try:
        return exchange(address, get(path), 2).status == 200
    except (OSError, Lost):
        return False


def once(image: str, *options: str, command: tuple[str, ...] = ()) -> tuple[int, str]:
    """Runs a container to its end; its exit code and what it printed."""
    done = subprocess.run(
        ["docker", "run", "--rm", *options, image, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout

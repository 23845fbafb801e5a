"""Promises 6 and 8, at night: stops and kills at moments that a seed decides."""

import json
import os
import random
import shutil
import signal
import threading
import time
from array import array
from pathlib import Path

import load
import models
import suite
from server import wait_until
from suite import Test, test
from wire import Answer, post, predict

# A timeout that what waits on a slow machine does not run into: a stop is about requests, not about cores.
DELAY_SECONDS, TIMEOUT_SECONDS = 0.3, 10
STOPPING = (
    f"server.drain_delay_ms={DELAY_SECONDS * 1000:.0f}",
    f"server.drain_timeout_ms={TIMEOUT_SECONDS * 1000:.0f}",
)


@test(6, nightly=True, seconds=900)
def stops_at_random_moments_lose_nothing(t: Test) -> None:
    """SIGTERM at 50 random moments under load: 0 requests lost, exit code 0 in time."""
    chance = random.Random(suite.seed)
    # Half of the rounds with requests that wait in a queue, half with those that are answered at once.
    repository = t.models(
        net=lambda folder: models.dense(folder, 8, 512, 4, 1),
        echo=lambda folder: models.echo(folder, 4),
    )
    requests = [predict("net", [[0.5] * 8] * 64), predict("echo", [[1, 2, 3, 4]])]
    lost, untaken, sent, codes, took = [], [], 0, [], []
    rounds = t.times(50)
    for number in range(rounds):
        moment = chance.uniform(0, 0.8)
        with t.server(*STOPPING, models=repository) as server:
            with load.Load(server.address, lambda *_: (requests[number % 2], None), clients=24) as clients:
                # The moment is what is random: nothing is waited for.
                time.sleep(moment)
                signalled = time.monotonic()
                server.signal(signal.SIGTERM)
                codes.append(server.wait(DELAY_SECONDS + TIMEOUT_SECONDS + 10))
                took.append(time.monotonic() - signalled)
                samples = clients.stop()
        sent += len(samples) - len(samples.of(load.REFUSED))
        failed = [sample for sample in samples if sample.status not in (200, load.REFUSED)]
        # Between the server's last look at who connected and the end of its listener the system may take
        # another connection, and then resets it: no server has read what was sent on it.
        closing = signalled + DELAY_SECONDS
        for sample in failed:
            was_taken = not (sample.problem or "").endswith(f"reset by peer{load.NEW_CONNECTION}")
            is_then = closing - 0.01 < sample.ended < closing + 0.5
            where = lost if was_taken or not is_then else untaken
            where.append(f"round {number}, {sample.ended - signalled:.3f} s after: {sample}")
    t.none("requests lost or refused", lost, sent, f", seed {suite.seed}")
    t.at_most("connections that the system took as the listener ended, and reset", len(untaken), rounds)
    t.equal("exit codes", set(codes), {0})
    t.at_most(
        f"longest of {rounds} stops (delay {DELAY_SECONDS:g} s, timeout {TIMEOUT_SECONDS:g} s)",
        max(took), DELAY_SECONDS + TIMEOUT_SECONDS + 1, "s",
    )  # fmt: skip


FEATURES, LAYERS = 256, 8
ROW = {"name": "x", "datatype": "FP32", "shape": [1, FEATURES], "data": [1.0] * FEATURES}
ONES = post("/v2/models/m/infer", json.dumps({"inputs": [ROW]}))


class Publisher:
    """Moves new versions of the model `m` in, one after the other, and old ones out, until it is left.

    Version 7 multiplies by 7, and has two megabytes of identity matrices to read. Old ones stay for
    as long as a slow machine takes to start.
    """

    KEPT = 20

    def __init__(self, t: Test):
        self.repository, self.staging = t.folder("models"), t.folder("staging")
        (self.repository / "m").mkdir(parents=True)
        self.staging.mkdir()
        self.weights = self.staging / "model.safetensors"
        identity = array("f", (float(row == column) for row in range(FEATURES) for column in range(FEATURES)))
        tensors = {f"{layer}.weight": ([FEATURES, FEATURES], identity.tobytes()) for layer in range(1, 1 + LAYERS)}
        models.write_safetensors(self.weights, tensors)
        self.newest = 0
        self.over = threading.Event()
        self.publish()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _run(self) -> None:
        while not self.over.wait(0.1):
            self.publish()

    def publish(self) -> None:
        version = self.newest + 1
        folder = self.staging / str(version)
        folder.mkdir()
        # No hard link: another one changes the file's status, which says that it is being written.
        shutil.copy(self.weights, folder)
        dense = [{"type": "dense", "units": FEATURES, "use_bias": False}] * LAYERS
        config = {
            "model_type": "sequential",
            "inputs": [{"name": "x", "shape": [FEATURES]}],
            "layers": [{"type": "rescaling", "scale": version}, *dense],
        }
        (folder / "config.json").write_text(json.dumps(config))
        folder.rename(self.repository / "m" / str(version))
        self.newest = version
        old = self.repository / "m" / str(version - self.KEPT)
        if old.exists():
            gone = self.staging / "gone"
            old.rename(gone)
            shutil.rmtree(gone)

    def litter(self) -> list[str]:
        """What is in the repository that was not put there."""
        files = [str(file.relative_to(self.repository)) for file in self.repository.rglob("*") if file.is_file()]
        return [file for file in files if Path(file).name not in ("config.json", "model.safetensors")]


def version_of(answer: Answer) -> int:
    """The version that an answer names, if its numbers are that version's."""
    assert answer.status == 200, f"{answer.status} {answer.body[:200]!r}"
    body = answer.json()
    version = int(body["model_version"])
    assert set(body["outputs"][0]["data"]) == {float(version)}, f"version {version}: {answer.body[:200]!r}"
    return version


def is_of_one_version(_expected: object, answer: Answer) -> str | None:
    try:
        version_of(answer)
    except AssertionError as error:
        return str(error)
    return None


@test(8, nightly=True, seconds=900)
def kills_at_random_moments_leave_nothing(t: Test) -> None:
    """kill -9 at 50 random moments while versions load under load: ready again within 5 s, nothing left."""
    chance = random.Random(suite.seed)
    places = [t.folder("working"), t.folder("temporary")]
    for place in places:
        place.mkdir()
    options = {"cwd": places[0], "env": os.environ | {"TMPDIR": str(places[1])}}
    settings = ("models.versions=latest", "models.settle_ms=0", "log.level=warn")
    rounds = t.times(50)
    starts, wrong, old, asked, reloads, port = [], [], [], 0, 0, None
    with Publisher(t) as publisher:
        for number in range(rounds + 1):
            newest, started = publisher.newest, time.monotonic()
            with t.server(*settings, models=publisher.repository, port=port, wait=False, **options) as server:
                # The same port, too, is free at once.
                port = server.port
                server.wait_ready()
                starts.append(time.monotonic() - started)
                version = version_of(server.ask(ONES))
                if version < newest:
                    old.append(f"start {number}: version {version} instead of {newest}")
                if number == rounds:
                    break
                with load.Load(server.address, lambda *_: (ONES, None), 8, is_of_one_version) as clients:
                    if number == 0:
                        # That there is something to be killed in.
                        wait_until(lambda: version_of(server.ask(ONES)) > newest + 1, 20, "versions are loaded")
                    time.sleep(chance.uniform(0, 0.6))
                    before = publisher.newest
                    killed = time.monotonic()
                    server.kill()
                    samples = clients.stop()
            reloads += before - newest
            asked += len(samples.of(200))
            wrong += [sample for sample in samples if sample.status > 0 and sample.problem]
            wrong += [sample for sample in samples if sample.status <= 0 and sample.ended < killed]
        left = [str(file) for place in places for file in place.iterdir()] + publisher.litter()
    t.at_most(f"slowest of {rounds} starts after a kill", max(starts[1:]), 5, "s", f", the first one {starts[0]:.2f} s")
    t.none("starts that serve an older version than the newest", old, rounds, f", seed {suite.seed}")
    t.none("answers lost before a kill, wrong, or of two versions", wrong, asked)
    t.at_least("versions published while it served", reloads, rounds)
    t.none("files left behind", left)

"""Promise 7, at night: a balancer that idles for less than the server meets no closing connection.

All times are a thirtieth: 2.5 s for `limits.idle_timeout_ms` (75 s), 2 s for `timeout http-keep-alive`
(60 s), and what HAProxy keeps to replicas is looked through every 5 s / 30. And nothing is asked
again, which would hide what this looks for.
"""

import json
import random
import time
from pathlib import Path

import suite
from promises.replicas import CONFIGURATION, cluster
from suite import Test, test
from wire import Connection, Lost, post

IDLE_SECONDS, KEPT_SECONDS = 2.5, 2.0
CLIENTS = 32


def scaled(t: Test) -> Path:
    text = CONFIGURATION.read_text()
    for old, new in (
        ("timeout http-keep-alive 60s", f"timeout http-keep-alive {KEPT_SECONDS * 1000:.0f}ms"),
        ("retries 3", "retries 0"),
        ("    option redispatch 1\n", ""),
        ("    retry-on conn-failure empty-response response-timeout\n", ""),
        ("default-server check", "default-server pool-purge-delay 167ms check"),
    ):
        assert text.count(old) == 1, f"not once in {CONFIGURATION.name}: {old}"
        text = text.replace(old, new)
    file = t.folder("haproxy.cfg")
    file.write_text(text)
    return file


@test(7, nightly=True, seconds=240)
def a_balancer_that_idles_for_less_meets_no_closing(t: Test) -> None:
    """100 s of bursts with random pauses between, HAProxy not asking again: 0 answers of 502."""
    chance = random.Random(suite.seed)
    settings = (f"limits.idle_timeout_ms={IDLE_SECONDS * 1000:.0f}",)
    failed, asked, bursts, quiet = [], 0, 0, 0
    with cluster(t, settings, scaled(t)) as one:
        kept: list[Connection] = []
        end = time.monotonic() + 100 * t.scale
        while time.monotonic() < end:
            # Short, or close to when HAProxy and the server would close what idles.
            pause = chance.choice([chance.uniform(0, 1.2), chance.uniform(0.7, 1.1) * IDLE_SECONDS])
            time.sleep(pause)
            if pause > 0.8 * KEPT_SECONDS:
                # HAProxy is about to close them, or has: whether a client notices is not what this is about.
                quiet += 1
                while kept:
                    kept.pop().close()
            kept += [Connection(one.address, 5) for _ in range(chance.randint(1, CLIENTS) - len(kept))]
            bursts += 1
            for number, connection in enumerate(kept):
                connection.send(post("/v1/models/echo:predict", json.dumps({"instances": [[number, bursts, 0, 0]]})))
            for number, connection in enumerate(list(kept)):
                asked += 1
                try:
                    answer = connection.read()
                    if answer.status != 200 or answer.json()["predictions"] != [[number, bursts, 0, 0]]:
                        failed.append(f"after {pause:.2f} s: {answer.status} {answer.body[:80]!r}")
                    closes = answer.closes
                except Lost as error:
                    failed.append(f"after {pause:.2f} s: {error}")
                    closes = True
                if closes:
                    connection.close()
                    kept.remove(connection)
        for connection in kept:
            connection.close()
    t.none("answers of 502, or none", failed, asked, f", seed {suite.seed}")
    t.hold(f"bursts: {bursts}, after pauses of more than {0.8 * KEPT_SECONDS:g} s: {quiet}", "both", 0 < quiet < bursts)

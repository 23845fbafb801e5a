"""Promise 5: more than it can do is refused in words and at once; what it can do, it goes on doing.

The model is slow on purpose, and one thread computes: the load generator and what refuses need a
core of their own, or the figures would be about who gets the processor. For the same reason the
seconds in which something else than the server held the core of the thread that computes do not count.
"""

import statistics
import threading
import time
from pathlib import Path

import load
import models
from server import Server, wait_until
from suite import Test, test
from wire import Lost, exchange, get, predict

FEATURES, ROWS = 8, 64
INSTANCES = [[0.5] * FEATURES] * ROWS
REQUEST = predict("slow", INSTANCES)
# A request is a batch, and 16 of them wait.
SETTINGS = (
    "scheduler.workers=1",
    f"scheduler.max_batch_rows={ROWS}",
    "scheduler.max_batch_ms=1000",
    f"scheduler.max_queued_rows={16 * ROWS}",
    f"limits.max_request_rows={ROWS}",
)
# A client that was refused asks again after this long, a seventh of what Retry-After tells it: what
# 256 of them offer is then about ten times what the model can do.
IMPATIENCE_SECONDS = 0.15


def slow_model(t: Test) -> Path:
    """A request of 64 rows is 470 million multiplications, some 5 to 10 ms."""
    return t.models(slow=lambda folder: models.dense(folder, FEATURES, 1024, 8, 1))


def same(_client: int, _count: int) -> tuple[bytes, None]:
    return REQUEST, None


def kept_waiting(server: Server) -> tuple[float, float]:
    """Seconds that the computing thread was ready and had no core, and that the server's others had one."""
    waited, others = 0.0, 0.0
    for task in Path(f"/proc/{server.pid}/task").iterdir():
        ran, ready, _ = map(int, (task / "schedstat").read_text().split())
        if (task / "comm").read_text().strip() == "worker-0":
            waited += ready / 1e9
        else:
            others += ran / 1e9
    return waited, others


class Liveness:
    """Asks for liveness 20 times a second, until it is left."""

    def __init__(self, server: Server):
        self.server, self.seconds, self.problems = server, [], []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self.over.wait(0.05):
            started = time.monotonic()
            try:
                status = exchange(self.server.address, get("/v2/health/live"), 5).status
            except (Lost, OSError) as error:
                status = error
            self.seconds.append(time.monotonic() - started)
            if status != 200:
                self.problems.append(status)

    def __enter__(self) -> "Liveness":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


@test(5)
def overload_is_shed_and_the_rest_goes_on(t: Test) -> None:
    """256 clients at about ten times the capacity: only 200 and 503, >= 90 % of the peak, alive, recovered."""
    window = max(1.0, 3 * t.scale)
    with t.server(*SETTINGS, models=slow_model(t)) as server:

        def rate(clients: int, pause: float) -> tuple[float, float, load.Samples]:
            """Answers of 200 a second, the same a second in which the server had a core, and all samples."""
            with load.Load(server.address, same, clients, pause=pause, nice=5) as running:
                # Past the connecting, and the queue's filling.
                wait_until(lambda: running.answered.value > 2 * clients, 20, "answers")
                waited, others = kept_waiting(server)
                begun = time.monotonic()
                time.sleep(window)
                ended = time.monotonic()
                waited, others = (after - before for after, before in zip(kept_waiting(server), (waited, others)))
                samples = running.stop()
            good = len(samples.between(begun, ended).of(200))
            # What the server's own threads took from the one that computes is the price of refusing.
            foreign = max(0.0, waited - others)
            return good / (ended - begun), good / (ended - begun - foreign), samples

        pairs, all_samples = [], load.Samples()
        with Liveness(server) as liveness:
            for _ in range(3):
                # Clients enough that one always waits, too few to be refused.
                peak, peak_with_core, unloaded = rate(8, 0)
                assert not unloaded.of(503), "the peak is without refusals"
                goodput, goodput_with_core, samples = rate(256, IMPATIENCE_SECONDS)
                offered = len(samples) / max(1, len(samples.of(200)))
                pairs.append((goodput_with_core / peak_with_core, peak, offered, goodput / peak))
                all_samples += samples

            def is_quick() -> bool:
                started = time.monotonic()
                answer = exchange(server.address, REQUEST, 5)
                return answer.status == 200 and time.monotonic() - started < 0.1

            recovered = wait_until(is_quick, 5, "an answer in 100 ms")
        shed = all_samples.of(503)
        others = [sample for sample in all_samples if sample.status not in (200, 503)]
        offered = statistics.median(pair[2] for pair in pairs)
        peak = statistics.median(pair[1] for pair in pairs)
        t.none("answers other than 200 and 503", others, len(all_samples))
        t.hold(f"offered: {offered:.1f} x what it could do", ">= 3 x: it was overload", offered >= 3)
        t.none("503 without Retry-After", [sample for sample in shed if not sample.retry_after], len(shed))
        ratio, raw = (statistics.median(pair[place] for pair in pairs) for place in (0, 3))
        note = f" of {peak:.0f}/s, a second with a core; by the clock {raw * 100:.1f} %; median of 3 rounds"
        t.at_least("goodput to the unloaded peak", ratio, 0.9, "%", note)
        t.none("liveness other than 200", liveness.problems, len(liveness.seconds))
        t.at_most("liveness p99", load.share(liveness.seconds, 0.99), 1, "s")
        t.at_most("back to answers in 100 ms after", recovered, 2, "s")
        t.at_most("median time of a refusal", load.share(shed.seconds(), 0.5), 0.05, "s")


@test(5)
def deadlines_hold_under_overload(t: Test) -> None:
    """With 50 ms allowed, no answer comes later than that and one batch; what expired is not computed."""
    allowed = 0.05
    request = predict("slow", INSTANCES, f"X-Request-Timeout-Ms: {allowed * 1000:.0f}")
    # A queue far longer than 50 ms of work, so that rows do expire in it.
    settings = (*SETTINGS[:3], "scheduler.max_queued_rows=8192")
    with t.server(*settings, models=slow_model(t)) as server:
        with load.Load(server.address, lambda client, count: (request, None), 128, pause=0.05, nice=5) as clients:
            time.sleep(max(1, 4 * t.scale))
            samples = clients.stop()
        metrics = server.metrics()
        wait_until(lambda: server.value("safeserve_queued_rows") == 0, 3, "an empty queue")
        passes = metrics.sum("safeserve_compute_duration_seconds_count", model="slow")
        batch = metrics.sum("safeserve_compute_duration_seconds_sum", model="slow") / passes
        good, late = samples.of(200), samples.of(504)
        t.hold(f"statuses: {samples.statuses()}", "200 and 504 (or 503)", set(samples.statuses()) <= {200, 503, 504})
        t.hold("both are there", "yes", bool(good) and bool(late))
        # What the server itself measured, since the generator shares its cores with it.
        slowest = slowest_bucket(metrics, "safeserve_request_duration_seconds", 0.999)
        t.at_most("99.9 % of the server's times", slowest, 0.1, "s", f": bucket above {allowed + batch:.3f} s")
        t.at_most("clients' p99 of 200s", good.p99(), allowed + batch + 0.02, "s")
        computed = metrics.sum("safeserve_rows_total", model="slow") / ROWS
        expired = metrics.sum("safeserve_rejections_total", model="slow", reason="deadline")
        t.hold(f"expired: {expired:.0f}", "> 0", expired > 0)
        # Rows that would expire before their pass ends are not taken; some passes take longer than those
        # before them, and are for no one.
        t.at_least("computed requests that were answered", len(good) / computed, 0.8, "%")


@test(5)
def what_cannot_be_in_time_is_not_computed(t: Test) -> None:
    """Requests of 1 ms after a queue of many are answered with 504 at once, and never computed."""
    request = predict("slow", INSTANCES, "X-Request-Timeout-Ms: 1")
    with t.server(*SETTINGS, models=slow_model(t)) as server:
        waiting = [server.connect() for _ in range(12)]
        for connection in waiting:
            connection.send(REQUEST)
        wait_until(lambda: server.value("safeserve_queued_rows") >= 6 * ROWS, 5, "a queue")
        statuses = [server.ask(request).status for _ in range(5)]
        queued = server.value("safeserve_queued_rows")
        answered = [connection.read().status for connection in waiting]
        t.hold(f"rows in the queue before it: {queued:.0f}", "> 0: it was there all the time", queued > 0)
        t.equal("statuses", set(statuses), {504})
        t.equal("those before them", set(answered), {200})
        t.equal("requests computed", server.value("safeserve_rows_total", model="slow") / ROWS, 12)


def slowest_bucket(metrics, name: str, part: float) -> float:
    """The upper bound of the bucket within which this part of a histogram lies."""
    buckets: dict[float, float] = {}
    for (series, labels), value in metrics.items():
        if series == f"{name}_bucket":
            bound = float(dict(labels)["le"].replace("+Inf", "inf"))
            buckets[bound] = buckets.get(bound, 0) + value
    total = buckets[float("inf")]
    return min(bound for bound, count in buckets.items() if count >= part * total)

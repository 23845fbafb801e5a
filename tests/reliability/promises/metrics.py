"""Promise 11: the metrics say what happened, exactly, whatever clients send."""

import random
import subprocess
import threading

import tools
from server import Metrics
from suite import Test, test
from wire import Lost, exchange, get, post, predict, request

IRIS = [[5.8, 2.7, 5.1, 1.9]]
INFER = '{"inputs":[{"name":"features","datatype":"FP32","shape":[1,4],"data":[5.8,2.7,5.1,1.9]}]}'


@test(11)
def metrics_equal_what_was_sent(t: Test) -> None:
    """200 good and 70 bad requests: every counter is exactly what was sent."""
    bad = post("/v1/models/iris:predict", '{"instances":[[1]]}')
    sent = [
        # (how many, request, status, route, model, protocol)
        (90, predict("iris", IRIS), 200, "v1_predict", "iris", "v1"),
        (60, post("/v2/models/iris/infer", INFER), 200, "v2_infer", "iris", "v2"),
        (50, predict("digits", [[0] * 64] * 3), 200, "v1_predict", "digits", "v1"),
        (30, bad, 400, "v1_predict", "iris", "v1"),
        (15, post("/v2/models/iris/infer", "{"), 400, "v2_infer", "iris", "v2"),
        (10, predict("none", IRIS), 404, "v1_predict", None, None),
        (8, get("/v1/models/iris:predict"), 405, "v1_predict", None, None),
        (7, get("/nowhere"), 404, "other", None, None),
    ]
    with t.server() as server:
        before = server.metrics()
        requests = [kind for kind, (count, *_) in enumerate(sent) for _ in range(count)]
        random.Random(26).shuffle(requests)
        connection = server.connect()
        wrong_status = []
        for kind in requests:
            answer = connection.ask(sent[kind][1])
            if answer.status != sent[kind][2]:
                wrong_status.append(f"{sent[kind]}: {answer.status}")
            if answer.closes:
                connection = server.connect()
        after = server.metrics()
        t.none("unexpected statuses", wrong_status, len(requests))

        def grown(name: str, **labels: str) -> float:
            return after.sum(name, **labels) - before.sum(name, **labels)

        differences = []

        def expect(value: int, name: str, **labels: str) -> None:
            if grown(name, **labels) != value:
                differences.append(f"{name}{labels}: {grown(name, **labels)} instead of {value}")

        for model, protocol, code in {(kind[4], kind[5], kind[2]) for kind in sent if kind[4]}:
            count = sum(kind[0] for kind in sent if (kind[4], kind[5], kind[2]) == (model, protocol, code))
            expect(count, "safeserve_requests_total", model=model, protocol=protocol, code=str(code))
        for route, code in {(kind[3], kind[2]) for kind in sent}:
            count = sum(kind[0] for kind in sent if (kind[3], kind[2]) == (route, code))
            expect(count, "safeserve_http_requests_total", route=route, code=str(code))
        # The first of the two scrapes was counted when it had been answered.
        expect(sum(kind[0] for kind in sent) + 1, "safeserve_http_requests_total")
        expect(200 + 45, "safeserve_requests_total")
        expect(150, "safeserve_rows_total", model="iris")
        expect(150, "safeserve_rows_total", model="digits")
        expect(200, "safeserve_queue_duration_seconds_count")
        expect(245, "safeserve_request_duration_seconds_count")
        expect(300, "safeserve_batch_rows_sum")
        expect(0, "safeserve_rejections_total")
        t.none("counters that differ", differences)
        t.none("histograms that are none", broken_histograms(after))


def broken_histograms(metrics: Metrics) -> list[str]:
    """Series whose buckets do not grow, or do not end in their count."""
    series: dict[tuple, list[tuple[float, float]]] = {}
    for (name, labels), value in metrics.items():
        if name.endswith("_bucket"):
            labels = dict(labels)
            bound = float(labels.pop("le").replace("+Inf", "inf"))
            series.setdefault((name.removesuffix("_bucket"), frozenset(labels.items())), []).append((bound, value))
    broken = []
    for (name, labels), buckets in series.items():
        counts = [count for _, count in sorted(buckets)]
        if counts != sorted(counts) or counts[-1] != metrics[f"{name}_count", labels]:
            broken.append(f"{name} {sorted(labels)}: {counts}")
    assert series, "no histograms"
    return broken


@test(11)
def junk_adds_no_series(t: Test) -> None:
    """1,500 requests of junk names, paths, methods and ids add fewer than 60 series."""
    chance = random.Random(26)
    with t.server() as server:
        before = server.metrics()
        for number in range(t.times(1500)):
            junk = "".join(chance.choices("abcxyz0189-_.%2f", k=chance.randint(1, 30))) + str(number)
            data = [
                predict(junk, IRIS),
                post(f"/v2/models/{junk}/infer", INFER),
                post(f"/v2/models/iris/versions/{number + 2}/infer", INFER),
                get(f"/{junk}/{number}"),
                request(junk.replace("%", "X").upper()[:20], "/v2", b""),
                get("/v2", f"X-Request-Id: {junk}", f"User-Agent: {junk}", f"Cookie: {junk}"),
            ][number % 6]
            exchange(server.address, data, 5)
        after = server.metrics()
        new = set(after) - set(before)
        t.at_most("new series", len(new), 59, note=f" of {len(after)}")


@test(11)
def scrapes_side_by_side_are_whole(t: Test) -> None:
    """200 scrapes at once, during predictions, all parse, their histograms add up, and a page stays small."""
    with t.server() as server:
        problems: list[str] = []
        slowest: list[float] = []

        def scrape() -> None:
            try:
                answer = exchange(server.address, get("/metrics"), 10)
                metrics = Metrics.parse(answer.body.decode())
                slowest.append(len(answer.body))
                problems.extend(broken_histograms(metrics))
                for _ in range(5):
                    exchange(server.address, predict("iris", IRIS), 10)
            except (AssertionError, Lost, OSError) as error:
                problems.append(str(error))

        threads = [threading.Thread(target=scrape) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        t.none("scrapes with something wrong", problems, 200)
        t.at_most("size of a page", max(slowest), 1e6, "B")


@test(11)
def promtool_finds_nothing_wrong(t: Test) -> None:
    """`promtool check metrics`, Prometheus' own check of a page, has nothing to say."""
    with t.server() as server:
        promtool = tools.promtool()
        page = server.ask(get("/metrics")).body
        checked = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, timeout=60)
        said = (checked.stdout + checked.stderr).decode()
        t.hold(f"promtool: {said.strip() or 'nothing'}"[:300], "nothing", checked.returncode == 0 and not said.strip())

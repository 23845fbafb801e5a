"""Promise 1: what is malformed is refused in words, at once, and no one else notices."""

import json
import random
import time

from suite import Test, test
from wire import Answer, Connection, Lost, get, post, request

V1, V2 = "/v1/models/iris:predict", "/v2/models/iris/infer"
GOOD = {
    V1: '{"instances":[[5.8,2.7,5.1,1.9],[1,2,3,4]],"signature_name":"serving_default"}',
    V2: '{"id":"7","inputs":[{"name":"features","datatype":"FP32","shape":[2,4],"data":[5.8,2.7,5.1,1.9,1,2,3,4]}]}',
}


def tensor(shape: str, data: str = "[1,2,3,4]", datatype: str = '"FP32"', name: str = '"features"') -> str:
    return f'{{"inputs":[{{"name":{name},"datatype":{datatype},"shape":{shape},"data":{data}}}]}}'


def corpus() -> list[tuple[str, bytes]]:
    """Bodies that are wrong in one way each. The messages' snapshot is `cargo test`'s."""
    both = [
        b"", b" ", b"{", b"}", b"[]", b"null", b"1", b'"x"', b"{}", b"{}{}", b"\0", b"\xff\xfe{\0}\0",
        b"\xef\xbb\xbf{}", b'{"inputs":[]}\x80', b"{'inputs':[]}", b"<xml/>", b"a=1&b=2", b'{"inputs":[],}',
        b'{"inputs":null}', b'{"inputs":{}}', b'{"inputs":[1]}', b'{"instances":[[1,2,3,4]],"instances":[]}',
        b'{"id":"\\ud800","inputs":[]}', b'{"id":"\xc0\xaf","inputs":[]}', b"[" * 100_000, b'{"a":' * 100_000,
        b'{"inputs":' + b"[" * 70, b'{"instances":' + b"[" * 70, b" " * 1_000_000, b"9" * 1_000_000,
    ]  # fmt: skip
    numbers = [
        "NaN", "Infinity", "-Infinity", "1e39", "-1e39", "1e400", "9" * 300, "null", "true", '"1"', "{}", "[]", "[1]",
        "01", "+1", ".5", "1.", "0x1", "1e", "--1", "1_000",
    ]  # fmt: skip
    shapes = [
        "[1]", "[4]", "[1,3]", "[2,4]", "[0,4]", "[-1,4]", "[1,4,1]", "[1.0,4]", '["1",4]', "null", "{}", "[]",
        "[18446744073709551616,4]", "[9223372036854775807,4]", "[4611686018427387904,4]", f"[{'1,' * 999}4]",
        "[5000,4]", "[1e0,4]", "[true,4]",
    ]  # fmt: skip
    data = [
        "null",
        "{}",
        "[]",
        "1",
        '"1234"',
        "[1,2,3]",
        "[1,2,3,4,5]",
        "[[1,2],[3,4]]",
        "[[1,2,3,4],[1]]",
        "[[[1,2,3,4]]]]",
    ]
    v1 = [f'{{"instances":[[1,2,3,{number}]]}}' for number in numbers] + [
        '{"instances":[]}', '{"instances":[[]]}', '{"instances":[1,2,3,4]}', '{"instances":[[1,2,3]]}',
        '{"instances":[[1,2,3,4],[1]]}', '{"instances":[{"features":[1,2,3]}]}', '{"instances":[{"other":[1,2,3,4]}]}',
        '{"instances":[[1,2,3,4]],"inputs":[[1,2,3,4]]}', '{"instances":[[1,2,3,4]],"signature_name":"other"}',
        '{"instances":[' + ",".join(["[1,2,3,4]"] * 4097) + "]}",
    ]  # fmt: skip
    v2 = (
        [tensor("[1,4]", f"[1,2,3,{number}]") for number in numbers]
        + [tensor(shape) for shape in shapes]
        + [tensor("[1,4]", values) for values in data]
        + [tensor("[1,4]", datatype=kind) for kind in ('"FP64"', '"fp32"', '""', "1", "null")]
        + [tensor("[1,4]", name=name) for name in ('"other"', '""', "1", "null", '"features\\u0000"')]
        + ['{"inputs":[{"name":"features"}]}', '{"inputs":[{}]}', GOOD[V2].replace("FP32", "BYTES")]
        + [
            GOOD[V2].replace('"id":"7"', f'"parameters":{{"timeout":{value}}}')
            for value in ("-1", '"a"', "1.5", "1e400")
        ]
        + [GOOD[V2][:-1] + ',"outputs":[{"name":"none"}]}', GOOD[V2].replace("]}]}", ']},{"name":"features"}]}')]
    )
    bodies = [(path, body) for body in both for path in (V1, V2)]
    return bodies + [(V1, body.encode()) for body in v1] + [(V2, body.encode()) for body in v2]


def heads() -> list[bytes]:
    """Requests whose line or headers are wrong, with a good body where they have one."""
    body = GOOD[V1].encode()
    length = f"Content-Length: {len(body)}"
    places = [
        "/nowhere", "/v1/models/none:predict", "/v2/models/none/infer", "/v1/models/iris:foretell",
        "/v2/models/iris/versions/01/infer", "/v2/models/iris/versions/18446744073709551616/infer",
        "/v2/models/..%2f..%2fetc%2fpasswd/infer", "/v2/models/%00/infer", "/v2/models/%ff/infer",
        "/v2/models/%c0%ae%c0%ae/infer", "/v2/models/" + "x" * 8000 + "/infer", "/v1/models/iris", "/metrics", "/",
    ]  # fmt: skip
    wrong = [
        "Content-Encoding: gzip", "Content-Encoding: br", "Content-Type: image/png", "Content-Type: multipart/form-data",
        "X-Request-Timeout-Ms: 0", "X-Request-Timeout-Ms: -1", "X-Request-Timeout-Ms: soon", "X-Request-Timeout-Ms:",
        "Inference-Header-Content-Length: 10",
    ]  # fmt: skip
    return (
        [request("POST", place, body, length) for place in places]
        + [request(method, V1, body, length) for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "FOO")]
        + [request("POST", V1 if "Inference" not in header else V2, body, length, header) for header in wrong]
    )


def ask_alone(address, data: bytes) -> tuple[Answer, float]:
    """One request on a connection of its own; the time is the request's, without the connecting."""
    with Connection(address, 5) as connection:
        started = time.monotonic()
        answer = connection.ask(data)
        return answer, time.monotonic() - started


@test(1)
def malformed_requests_are_refused_in_json_at_once(t: Test) -> None:
    """Every malformed request gets a 4xx with a JSON error within 100 ms."""
    requests = [post(path, body) for path, body in corpus()] + heads()
    with t.server() as server:
        problems, slowest = [], 0.0
        for data in requests:
            try:
                answer, seconds = ask_alone(server.address, data)
            except (Lost, OSError) as error:
                problems.append(f"{data[:60]!r}..{data[-60:]!r}: {error}")
                continue
            slowest = max(slowest, seconds)
            problem = answer.refusal() if 400 <= answer.status < 500 else f"{answer.status}"
            if problem:
                problems.append(f"{data[:60]!r}..{data[-60:]!r}: {problem}")
        t.none("answers other than a 4xx in JSON", problems, len(requests))
        t.at_most("slowest refusal", slowest, 0.1, "s")
        t.equal("alive after it", server.is_alive(), True)


PIECES = [
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u0000", b"\\ud800", b"0", b"-", b"1e39", b"9" * 30, b".",
    b"null", b"true", b"NaN", b"Infinity", b" ", b"\0", b"\xff", b"\xef\xbb\xbf", b"[" * 80, b'{"a":' * 70, b'"data"',
    b'"shape"', b'"name"', b'"parameters":{},',
]  # fmt: skip


def damage(body: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(body)
    for _ in range(chance.randint(1, 3)):
        at = chance.randint(0, len(damaged))
        end = min(len(damaged), at + chance.randint(0, 6))
        kind = chance.randint(0, 4)
        if kind == 0:
            del damaged[at:]
        elif kind == 1:
            del damaged[at:end]
        elif kind == 2:
            damaged[at:at] = damaged[at:end]
        elif kind == 3:
            damaged[at:end] = chance.choice(PIECES)
        elif at < len(damaged):
            damaged[at] = chance.randint(0, 255)
    return bytes(damaged)


@test(1)
def mutated_bodies_are_answered_or_refused(t: Test) -> None:
    """1,500 seeded mutations get 200 or a 4xx, and leak no memory."""
    chance = random.Random(2026)
    paths = list(GOOD)
    with t.server() as server:
        for path in paths:
            assert server.ask(post(path, GOOD[path])).status == 200
        problems, good, asked = [], 0, 0
        connection = server.connect(5)
        before = server.resident_bytes()
        for round in range(t.times(1500)):
            path = paths[round % 2]
            body = damage(GOOD[path].encode(), chance)
            asked += 1
            try:
                answer = connection.ask(post(path, body))
            except (Lost, OSError) as error:
                problems.append(f"{body!r}: {error}")
                connection = server.connect(5)
                continue
            if answer.closes:
                connection = server.connect(5)
            if answer.status == 200:
                good += 1
                values = json.dumps(answer.json())
                if "null" in values or "not JSON" in values:
                    problems.append(f"{body!r}: 200 with {answer.body!r}")
            elif not 400 <= answer.status < 500 or answer.refusal():
                problems.append(f"{body!r}: {answer.status} {answer.refusal()}")
        t.none("answers other than 200 and a 4xx in JSON", problems, asked)
        t.hold(f"still good: {good}", "some, not all", 0 < good < asked)
        t.at_most("memory growth", server.resident_bytes() - before, 20e6, "B")
        t.equal("alive after it", server.is_alive(), True)


@test(2)
def no_answer_holds_a_number_that_is_none(t: Test) -> None:
    """Numbers that overflow give 400 or 422, never a 200 with null, NaN or an infinity."""
    import models

    repository = t.models(steep=lambda folder: models.steep(folder, 2))
    with t.server(models=repository) as server:
        problems, refused = [], 0
        rows = ["1e39,1", "3.4e38,1", "-3.4e38,1", "1e9,1", "NaN,1", "Infinity,1", "1e400,1", "1,2", "3e8,1"]
        requests = [post("/v1/models/steep:predict", f'{{"instances":[[{row}],[0,0]]}}') for row in rows]
        requests += [post("/v2/models/steep/infer", tensor("[1,2]", f"[{row}]", name='"x"')) for row in rows]
        for data in requests:
            answer = server.ask(data)
            text = answer.body.decode()
            if answer.status == 200 and any(word in text for word in ("null", "NaN", "nan", "inf", "Inf")):
                problems.append(f"{data[-60:]!r}: {text}")
            elif answer.status in (400, 422):
                refused += 1
            elif answer.status != 200:
                problems.append(f"{data[-60:]!r}: {answer.status}")
        t.none("answers that are not finite", problems, len(requests))
        t.equal("refused", refused, 14)
        assert server.ask(get("/v2/health/live")).status == 200

"""FastAPI in front of ONNX Runtime, tuned by hand: orjson, no validation, the pass inline."""

from fastapi import FastAPI, Request, Response
from sessions import decode, encode, session

app = FastAPI(openapi_url=None)
SESSIONS = {name: session(name) for name in ("digits", "large")}


@app.post("/v2/models/{name}/infer")
async def infer(name: str, request: Request) -> Response:
    model = SESSIONS[name]
    rows = decode(await request.body())
    (answer,) = model.run(None, {model.get_inputs()[0].name: rows})
    return Response(encode(name, answer), media_type="application/json")

"""The peer: FastAPI streaming the same generator as the same lines, from an async endpoint.

/plain hands Starlette the plain generator, which it runs in its thread pool; /async wraps it in an async generator, the
best case. Both read the body as Berth's runner does, without a model class, and encode with a prepared encoder.
"""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "modules", "noop"))

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from service import SERVICE_INFERENCE

app = FastAPI(docs_url=None, openapi_url=None)
encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
NDJSON = "application/x-ndjson"


def lines(body):
    for item in SERVICE_INFERENCE("noop", {}, body.get("parameters", {})):
        yield encode({"chunk": {"response": item, "warnings": [], "errors": []}}) + "\n"
    yield '{"done":true}\n'


@app.post("/plain")
async def plain(request: Request):
    return StreamingResponse(lines(await request.json()), media_type=NDJSON)


@app.post("/async")
async def with_async_generator(request: Request):
    body = await request.json()

    async def stream():
        for line in lines(body):
            yield line

    return StreamingResponse(stream(), media_type=NDJSON)

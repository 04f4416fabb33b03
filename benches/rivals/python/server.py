"""The recipe for Python, in FastAPI: raw body, hmac, compare_digest, json.loads.

Prints its address, then serves with uvicorn on uvloop and httptools, its fastest set-up.
"""

import hmac
import json
import os
import socket

import uvicorn
from fastapi import FastAPI, Request, Response

SECRET = os.environ["INQUD_WEBHOOK_SECRET"].encode()
app = FastAPI()


@app.post("/webhooks/inqud/request")
async def on_request(request: Request) -> Response:
    body = await request.body()
    expected = hmac.new(SECRET, body, "sha1").hexdigest()
    if not hmac.compare_digest(expected, request.headers.get("x-payload-digest", "")):
        return Response(status_code=401)
    event = json.loads(body)
    return Response(status_code=200 if event["id"].startswith("CAPD-") else 400)


listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
print("%s:%d" % listener.getsockname(), flush=True)
config = uvicorn.Config(app, loop="uvloop", http="httptools", log_level="warning", access_log=False)
uvicorn.Server(config).run(sockets=[listener])

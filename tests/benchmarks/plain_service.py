"""What a scoring script usually is: a list in JSON in, a list in JSON out, one lock around the model.

python tests/benchmarks/plain_service.py CHECKPOINT PORT THREADS
"""

from __future__ import annotations

import json
import sys
import threading
import warnings

import numpy as np
import torch
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pointseg.engine.predictor import Predictor

lock = threading.Lock()
warnings.simplefilter("ignore")


def run(raw: str) -> str:
    points = np.array(json.loads(raw)["data"], np.float32)
    with lock:
        torch.set_num_threads(int(sys.argv[3]))
        return json.dumps({"labels": predictor(points).tolist()})


async def score(request: Request) -> Response:
    body = (await request.body()).decode()
    return Response(await run_in_threadpool(run, body), media_type="application/json")


if __name__ == "__main__":
    predictor = Predictor.load(sys.argv[1])
    app = Starlette(routes=[Route("/score", score, methods=["POST"])])
    uvicorn.run(
        app, port=int(sys.argv[2]), log_level="warning", access_log=False, http="httptools", timeout_keep_alive=600
    )

"""A bare FastAPI route that returns finished bytes: what a request costs before anything of OpenADR is done.

`python -m tests.bench.openadr.bare PORT FILE`; the file holds the answers by path, as JSON.
"""

import json
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response


def app(answers: dict[str, str]) -> FastAPI:
    """The application."""
    made = FastAPI(openapi_url=None)
    bodies = {path: body.encode() for path, body in answers.items()}

    @made.get("/{path:path}")
    async def answer(request: Request) -> Response:
        return Response(bodies[f"{request.url.path}?{request.url.query}"], media_type="application/json")

    return made


if __name__ == "__main__":
    uvicorn.run(
        app(json.loads(Path(sys.argv[2]).read_text())), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning"
    )

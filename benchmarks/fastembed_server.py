"""fastembed behind this package's server: the same HTTP, parsing and writing, another engine.

fastembed has no queue of its own, so requests run one after the other, each as it comes. `benchmarks.serve` starts it:
python -m benchmarks.fastembed_server MODEL_FOLDER PORT THREADS
"""

from __future__ import annotations

import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvicorn

from neuralcore.embedding.calls import Encoded
from neuralcore.embedding.server.app import make_app
from neuralcore.embedding.server.requests import EmbeddingRequest
from neuralcore.embedding.server.service import Service
from neuralcore.embedding.types import Vectors

from .targets import fastembed_fp32


class FastembedService(Service):
    """A service whose vectors are fastembed's."""

    def use(self, model: Any) -> None:
        self.model_object, self.pool = model, ThreadPoolExecutor(1)

    def ready_engine(self) -> Any:
        return self

    def refuse_if_full(self) -> None:
        return

    async def embed(self, request: EmbeddingRequest) -> tuple[Vectors, Encoded]:
        began = time.monotonic()
        texts = [str(text) for text in request.inputs]
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(self.pool, fastembed_fp32.embed, self.model_object, texts)
        return vectors, Encoded(vectors, 0, 0, 0.0, time.monotonic() - began)


def main() -> None:
    folder, port, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    service = FastembedService(model=folder.name)
    service.use(fastembed_fp32.load(folder, threads))
    uvicorn.run(make_app(service), port=port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()

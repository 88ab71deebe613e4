"""Requests a second and latency of the server for one-text requests, over loopback, against the engine's own limit.

python -m benchmarks.serve --model all-MiniLM-L6-v2 --seconds 10 --clients 1 8 32

Client and server share the machine, and the cores. Each client sends its next request when its last one is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neuralcore.embedding import EmbeddingEngine
from neuralcore.embedding.store.registry import get_model_config

from .machine import cpu_model
from .models import find_folder, prepare
from .report import print_table
from .texts import workloads

_WARM_UP_S = 1.0
_READY_S = 120
_MOST_SECONDS, _MOST_CLIENTS = 60, 256


def main() -> None:
    args = _parse_args()
    texts = [" ".join(text.split()) for text in workloads()["sentences-1000"]]
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as temporary:
        scratch = Path(temporary)
        source = find_folder(args.model)
        folder = scratch / "model" / source.name
        prepare(source, folder, scratch / "cache", get_model_config(args.model))
        os.environ["NEURALCORE_CACHE"] = str(scratch / "cache")
        rows = []
        for precision in args.precisions:
            rows += _limits(folder, precision, args.threads, texts)
            command = ["neuralcore.embedding.cli", "serve", str(folder), "--precision", precision]
            rows += _measure(f"server {precision}", [*command, "--threads", str(args.threads), "--port"], args, texts)
        if args.fastembed:
            command = ["benchmarks.fastembed_server", str(folder)]
            rows += _measure("fastembed, same server", command, args, texts, [str(args.threads)])
    title = f"one-text requests on loopback, {args.threads} threads, {cpu_model()}"
    print_table(title, ["", "clients", "texts/s", "p50 ms", "p99 ms"], rows)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--fastembed", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    if args.seconds > _MOST_SECONDS or max(args.clients) > _MOST_CLIENTS:
        parser.error(f"at most {_MOST_SECONDS} s and {_MOST_CLIENTS} clients")
    return args


def _limits(folder: Path, precision: str, threads: int, texts: list[str]) -> list[list[str]]:
    """What the engine does without a server: one text after the other, and all at once."""
    with EmbeddingEngine.from_pretrained(folder, precision=precision, threads=threads) as engine:  # type: ignore[arg-type]
        engine.warmup()
        times = [_seconds(lambda text=text: engine.embed(text)) for text in texts[:300]]
        batch_s = min(_seconds(lambda: engine.embed_batch(texts)) for _ in range(2))
    return [
        _row(f"engine {precision}, embed", "1", len(times) / sum(times), times),
        [f"engine {precision}, embed_batch", "", f"{len(texts) / batch_s:.0f}", "", ""],
    ]


def _measure(
    name: str, command: list[str], args: argparse.Namespace, texts: list[str], more: list[str] | None = None
) -> list[list[str]]:
    rows = []
    for n_clients in args.clients:
        with _running(command, more or []) as port:
            asyncio.run(_load(port, n_clients, _WARM_UP_S, texts))
            times = asyncio.run(_load(port, n_clients, args.seconds, texts))
        rows.append(_row(name, str(n_clients), len(times) / args.seconds, times))
    return rows


@contextmanager
def _running(command: list[str], more: list[str]) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    full = [sys.executable, "-m", *command, str(port), *more]
    process = subprocess.Popen(full, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(_until_ready(port))
        yield port
    finally:
        process.terminate()
        process.wait(timeout=60)


async def _until_ready(port: int) -> None:
    end = time.monotonic() + _READY_S
    while time.monotonic() < end:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
            continue
        status, _ = await _ask(reader, writer, "ready?")
        writer.close()
        if status == 200:
            return
        await asyncio.sleep(0.1)
    sys.exit("the server did not become ready")


async def _load(port: int, n_clients: int, seconds: float, texts: list[str]) -> list[float]:
    """Seconds of each request that began within the time."""
    end = time.monotonic() + seconds
    times: list[float] = []

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        turn = number * 31
        while time.monotonic() < end:
            began = time.monotonic()
            status, _ = await _ask(reader, writer, texts[turn % len(texts)])
            if status != 200:
                sys.exit(f"the server answered {status}")
            times.append(time.monotonic() - began)
            turn += 1
        writer.close()

    await asyncio.gather(*map(client, range(n_clients)))
    return times


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str) -> tuple[int, bytes]:
    """One request on a connection that is kept: what any HTTP client does, without its cost."""
    body = json.dumps({"input": text, "encoding_format": "base64"}).encode()
    writer.write(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


def _row(name: str, n_clients: str, rate: float, times: list[float]) -> list[str]:
    cuts = statistics.quantiles(times, n=100)
    return [name, n_clients, f"{rate:.0f}", f"{cuts[49] * 1000:.1f}", f"{cuts[98] * 1000:.1f}"]


def _seconds(call: object) -> float:
    began = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

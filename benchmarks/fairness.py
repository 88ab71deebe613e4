"""A lone client's latency beside two that send as much as a request may hold, and the server's memory before and after.

python -m benchmarks.fairness --model all-MiniLM-L6-v2 --precision int8 --seconds 20

One client sends a short text every 50 ms. First alone; then beside one that sends texts of 3.9 MB and one that sends
2,048 texts a request, each its next request when the last one is answered. Alone and beside take turns, three times
each, so that what else the machine does meets both. Resident memory is read before and two seconds after: all of it,
and what is the process's own. Before that, the server has had ordinary use: 2,000 sentences in requests of 100, which
touch the pages of the mapped model and open what batches need. Clients and server share the machine, and the cores.
Exits with 1 if the ratio of the p99s is above 3 or resident memory is not back within 50 MB. A model's folder may be
named instead of a name.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .machine import cpu_model
from .report import print_table
from .serve import _until_ready
from .texts import workloads

_PAUSE_S = 0.05
_SETTLE_S = 2.0
_ROUNDS = 3
_LONG_CHARACTERS = 3_900_000
_MOST_TEXTS = 2_048
_ORDINARY_TEXTS = 100
_MOST_RATIO, _MOST_KEPT_MB = 3.0, 50.0


def main() -> None:
    args = _parse_args()
    texts = [" ".join(text.split()) for text in workloads()["sentences-1000"]]
    with _serving(args) as (port, pid):
        asyncio.run(_use(port, texts))
        time.sleep(_SETTLE_S)
        before = _resident_mb(pid)
        alone, beside, n_bulk = asyncio.run(_measure(port, args.seconds, texts))
        time.sleep(_SETTLE_S)
        after = _resident_mb(pid)
    ratio = _p99(beside) / _p99(alone)
    rows = [_row("alone", alone), _row("beside bulk", beside)]
    title = f"a lone request of one sentence, {args.precision}, {args.threads} threads, {cpu_model()}"
    print_table(title, ["", "requests", "p50 ms", "p99 ms", "max ms"], rows)
    print(f"p99 beside / alone: {ratio:.2f} (at most {_MOST_RATIO:g})")
    print(f"bulk requests answered meanwhile: {n_bulk[0]} of 3.9 MB, {n_bulk[1]} of 2,048 texts")
    for name, first, last in zip(("all", "its own"), before, after, strict=True):
        print(f"resident memory, {name}: {first:.0f} MB before, {last:.0f} MB after ({last - first:+.0f})")
    sys.exit(ratio > _MOST_RATIO or after[0] - before[0] > _MOST_KEPT_MB)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fairness", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "int8"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20, help="alone, and as long beside (default: %(default)g)")
    args = parser.parse_args()
    if not 2 <= args.seconds <= 120:
        parser.error("from 2 to 120 seconds")
    return args


@contextmanager
def _serving(args: argparse.Namespace) -> Iterator[tuple[int, int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--precision", args.precision, "--threads", str(args.threads), "--port", str(port)]
    command = [sys.executable, "-m", "neuralcore.embedding.cli", "serve", args.model, *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(_until_ready(port))
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(timeout=120)


async def _measure(port: int, seconds: float, texts: list[str]) -> tuple[list[float], list[float], list[int]]:
    """Seconds of the lone client's requests alone and beside the others, and how many of those were answered."""
    long = "".join(f"{text} " for text in texts)
    long = (long * (1 + _LONG_CHARACTERS // len(long)))[:_LONG_CHARACTERS]
    many = (texts * (1 + _MOST_TEXTS // len(texts)))[:_MOST_TEXTS]
    bodies = [_body(long), _body(many)]
    alone, beside, n_bulk = [], [], [0, 0]
    for _ in range(_ROUNDS):
        alone += await _lone(port, seconds / _ROUNDS, texts)
        bulk = [asyncio.create_task(_bulk(port, body, n_bulk, kind)) for kind, body in enumerate(bodies)]
        await asyncio.sleep(0.5)  # both are under way
        beside += await _lone(port, seconds / _ROUNDS, texts)
        for task in bulk:
            task.cancel()
        for outcome in await asyncio.gather(*bulk, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        await _ask_once(port, _body(texts[0]))
    return alone, beside, n_bulk


async def _use(port: int, texts: list[str]) -> None:
    for start in [*range(0, len(texts), _ORDINARY_TEXTS)] * 2:
        await _ask_once(port, _body(texts[start : start + _ORDINARY_TEXTS]))
    await _lone(port, 1.0, texts)


async def _lone(port: int, seconds: float, texts: list[str]) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        body = _body(texts[len(times) % len(texts)])
        began = time.monotonic()
        await _ask(reader, writer, body)
        times.append(time.monotonic() - began)
        await asyncio.sleep(_PAUSE_S)
    writer.close()
    return times


async def _bulk(port: int, body: bytes, n_answered: list[int], kind: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            await _ask(reader, writer, body)
            n_answered[kind] += 1
    finally:
        writer.close()


async def _ask_once(port: int, body: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await _ask(reader, writer, body)
    writer.close()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
    writer.write(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
    writer.write(body)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split()[1])
    answer = await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
    if status != 200:
        sys.exit(f"the server answered {status}: {answer[:300]!r}")


def _body(value: str | list[str]) -> bytes:
    return json.dumps({"input": value, "encoding_format": "base64"}).encode()


def _resident_mb(pid: int) -> tuple[float, float]:
    """All, and what is no file's."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    values = {name: value for name, _, value in (line.partition(":") for line in lines)}
    kilobytes = {name: int(values[name].split()[0]) for name in ("VmRSS", "RssAnon")}
    return kilobytes["VmRSS"] * 1024 / 1e6, kilobytes["RssAnon"] * 1024 / 1e6


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def _row(name: str, times: list[float]) -> list[str]:
    median = statistics.median(times)
    return [name, str(len(times)), *(f"{1000 * value:.1f}" for value in (median, _p99(times), max(times)))]


if __name__ == "__main__":
    main()

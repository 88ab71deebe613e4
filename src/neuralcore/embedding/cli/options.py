"""Options that several commands share, and the engine they ask for."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from neuralcore.embedding import EmbeddingEngine
    from neuralcore.embedding.store import Store

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_MODEL = "all-MiniLM-L6-v2"

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_STORE = (
    click.option("--cache-dir", type=click.Path(path_type=Path), help="Folder of models."),
    click.option("--endpoint", metavar="URL", help="A mirror of the Hub, asked first."),
    click.option("--offline", is_flag=True, default=None, help="Make no network call."),
)
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "dynamic-int8")
BACKENDS = ("auto", "native", "onnxruntime")

backend = click.option(
    "--backend", type=click.Choice(BACKENDS), default="auto", show_default=True,
    help="auto: the native kernels on a CPU for what they know, else ONNX Runtime.",
)  # fmt: skip

_MODEL = (click.option("--model", "-m", default=DEFAULT_MODEL, show_default=True, help="Name, Hub id or folder."),)
_ENGINE = (
    click.option("--revision", help="Branch, tag or commit on the Hub."),
    click.option("--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True),
    backend,
    click.option("--device", type=click.Choice(["cpu", "cuda", "tensorrt", "auto"]), default="cpu", show_default=True),
    click.option("--threads", type=click.IntRange(min=1), help="CPU threads; default: all this process may use."),
    click.option("--dimensions", type=click.IntRange(min=1), help="Keep only so many (Matryoshka models)."),
    click.option("--truncation", type=click.Choice(["truncate", "warn", "error"]), default="warn", show_default=True),
    click.option("--verify", "verify_files", is_flag=True, help="Compare the SHA-256 of every cached file first."),
)


def store_options(command: Command) -> Command:
    """Where models are kept and had."""
    return _decorate(command, _STORE)


def engine_options(command: Command) -> Command:
    """Which engine: the command gets what `load_engine` takes."""
    return _decorate(command, (*_MODEL, *_ENGINE, *_STORE))


def model_options(command: Command) -> Command:
    """As `engine_options`, for a command whose argument is the model."""
    return _decorate(command, (*_ENGINE, *_STORE))


def make_store(cache_dir: Path | None, endpoint: str | None, offline: bool | None) -> Store:
    """The store that the options describe."""
    from neuralcore.embedding import store

    return store.make_store(cache_dir, endpoint=endpoint, offline=offline)


def load_engine(options: dict[str, Any]) -> EmbeddingEngine:
    """The engine that the options describe."""
    from neuralcore.embedding import EmbeddingEngine

    return EmbeddingEngine.from_pretrained(options.pop("model"), **options)


def _decorate(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    return reduce(lambda decorated, option: option(decorated), reversed(options), command)

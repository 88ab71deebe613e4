"""Signals and forks at any moment: right vectors, errors of ours, and an end to everything that is closed."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tests import checkpoints
from tests.disturbances import call_together, check_in_child, eager_switching, interrupt, kept_busy
from tests.native_stacks import pack
from tests.stacks import stack_of
from tests.tokens import token_batch

from faults.trial import NotPossible, Trial
from neuralcore.embedding.backends.native.encoder import NativeEncoder
from neuralcore.embedding.backends.native.kernels import absence
from neuralcore.embedding.backends.onnx.encoder import OnnxEncoder
from neuralcore.embedding.backends.onnx.write import write_onnx
from neuralcore.embedding.config import ModelConfig

TITLE = "signals and forks while engines compute"

_CONFIG = ModelConfig(name="random", dimension=checkpoints.HIDDEN, max_tokens=64)
_Encoder = NativeEncoder | OnnxEncoder


@dataclass(frozen=True)
class _Case:
    """An encoder that has run, batches of tokens, and the vectors they gave."""

    name: str
    open: Callable[..., _Encoder]
    batches: list[Any]
    expected: list[Any]


def trials(random: Random) -> Iterator[Trial]:
    """Each fault on each encoder in turn, without end."""
    with TemporaryDirectory(prefix="neuralcore-forks-") as folder:
        cases = _cases(Path(folder))
        if reason := absence():
            yield Trial("the native encoder", partial(_give_up, reason))
        number = 0
        while True:
            for provoke in (_first_calls, _close_while_parent_computes, _interrupt, _fork_while_forking):
                for case in cases:
                    number += 1
                    name = f"{number}: {provoke.__name__.strip('_')}, {case.name}"
                    yield Trial(name, partial(provoke, case, Random(random.random())))


def _cases(folder: Path) -> list[_Case]:
    maker = checkpoints.bert(11)
    checkpoint = maker.save(folder)
    write_onnx(stack_of(checkpoint, maker.architecture), _CONFIG, folder / "model.onnx")
    cases = [_case("onnx", partial(OnnxEncoder, folder / "model.onnx", _CONFIG))]
    if not absence():
        tokens = token_batch([np.arange(4, 40)] * 4)
        pack(stack_of(checkpoint, maker.architecture), tokens, folder / "packed.safetensors")
        cases.append(_case("native", partial(NativeEncoder, folder / "packed.safetensors", _CONFIG)))
    bounded = [
        replace(case, name=f"{case.name} in bounded memory", open=partial(case.open, max_memory_bytes=2_000_000))
        for case in cases
    ]
    return [*cases, *bounded]


def _case(name: str, make: Callable[..., _Encoder]) -> _Case:
    random = np.random.default_rng(3)
    lengths = ([9], [5, 40], [64, 3, 17, 40, 5, 9, 33, 2] * 3)
    batches = [token_batch([random.integers(2, checkpoints.VOCABULARY, n) for n in some]) for some in lengths]
    encoder = make(threads=2)
    case = _Case(name, make, batches, [encoder.encode(tokens) for tokens in batches])
    encoder.close()
    return case


def _first_calls(case: _Case, random: Random) -> None:
    encoder = _used(case, random)
    calls = [partial(_encode_close_to, encoder, case, n) for n in range(len(case.batches))] * random.randint(1, 3)
    with eager_switching():
        check_in_child(partial(call_together, calls, [True] * len(calls)))
    encoder.close()


def _encode_close_to(encoder: _Encoder, case: _Case, number: int) -> bool:
    """Whether a batch's vectors are right; bounded memory cuts runs otherwise, which moves ONNX Runtime's last bits."""
    return np.allclose(encoder.encode(case.batches[number]), case.expected[number], atol=2e-6, rtol=0)


def _close_while_parent_computes(case: _Case, random: Random) -> None:
    encoder = _used(case, random)

    def close() -> str:
        if random.random() < 0.5:
            encoder.encode(case.batches[random.randrange(3)])
        encoder.close()
        return "same"

    with kept_busy(lambda: encoder.encode(random.choice(case.batches)), random.randint(1, 3)):
        for _ in range(5):
            check_in_child(close)
    encoder.close()


def _interrupt(case: _Case, random: Random) -> None:
    def disturb() -> str:
        encoder = case.open(threads=random.randint(1, 3))
        for number, tokens in enumerate(case.batches):
            interrupt(partial(encoder.encode, tokens), random, 60, longest_s=random.choice((1e-4, 1e-3, 1e-2)))
            assert _encode_close_to(encoder, case, number)
        if random.random() < 0.5:
            encoder.close()
        del encoder
        gc.collect()
        return "same"

    check_in_child(disturb, seconds=60)


def _fork_while_forking(case: _Case, random: Random) -> None:
    """A child of a child, of a parent that computes."""
    encoder = _used(case, random)
    innermost = partial(call_together, [partial(_encode_close_to, encoder, case, 2)] * 2, [True] * 2)

    def go_on() -> str:
        if random.random() < 0.5:
            encoder.encode(case.batches[0])
        check_in_child(innermost)
        told: str = innermost()
        return told

    with kept_busy(lambda: encoder.encode(case.batches[2])):
        check_in_child(go_on)
    encoder.close()


def _used(case: _Case, random: Random) -> _Encoder:
    encoder = case.open(threads=random.randint(1, 3))
    for tokens in random.sample(case.batches, random.randint(0, 3)):
        encoder.encode(tokens)
    return encoder


def _give_up(reason: str) -> None:
    raise NotPossible(reason)

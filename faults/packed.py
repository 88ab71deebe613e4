"""Damaged files of packed models: refused as damaged, or finite vectors; never a crash."""

from collections.abc import Iterator
from functools import partial
from itertools import zip_longest
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from tests.children import run_in_child
from tests.packed_damage import KINDS, Damage, Packed, check_damaged, enumerate_damage, random_damage

from faults.trial import NotPossible, Trial
from neuralcore.embedding.backends.native.kernels import absence

TITLE = "damaged packed models"


def trials(random: Random) -> Iterator[Trial]:
    """Every field and tensor of every family and precision in turn, a random damage after each."""
    if reason := absence():
        yield Trial("the native kernels", partial(_give_up, reason))
        return
    with TemporaryDirectory(prefix="neuralcore-packed-") as folder:
        usable = [kind for kind in KINDS if not absence(kind[1])]
        models = [Packed.make(*kind, Path(folder)) for kind in usable]
        enumerated = [_named(model, enumerate_damage(model)) for model in models]
        endless = _named_in_turn(models, random)
        for row in zip_longest(*enumerated):
            for named in (*filter(None, row), next(endless)):
                yield Trial(named[0], partial(_provoke, named[1], Path(folder) / "damaged.safetensors"))
        for name, damage in endless:
            yield Trial(name, partial(_provoke, damage, Path(folder) / "damaged.safetensors"))


def _named(model: Packed, damages: Iterator[tuple[str, Damage]]) -> Iterator[tuple[str, Damage]]:
    for name, damage in damages:
        yield f"{model.family} in {model.precision}: {name}", damage


def _named_in_turn(models: list[Packed], random: Random) -> Iterator[tuple[str, Damage]]:
    damages = [_named(model, random_damage(model, random)) for model in models]
    while True:
        yield from map(next, damages)


def _provoke(damage: Damage, path: Path) -> None:
    damage(path)
    run_in_child(partial(check_damaged, path))


def _give_up(reason: str) -> None:
    raise NotPossible(reason)

"""Progress bars on a terminal."""

from contextlib import ExitStack
from importlib.metadata import requires

import pytest
from packaging.requirements import Requirement
from rich import console

from neuralcore.embedding.progress import progress_bar


def test_bar_inside_a_bar_is_drawn(monkeypatch):
    monkeypatch.setattr(console.Console, "is_terminal", property(lambda _: True))
    with ExitStack() as both:
        for label in ("outer", "inner"):
            both.enter_context(progress_bar(label, 3))(1)


@pytest.mark.parametrize(("version", "is_enough"), [("14.0.0", False), ("14.1.0", True)])
def test_rich_that_refuses_a_bar_inside_a_bar_is_not_installed(version, is_enough):
    """14.1.0 is the first that draws two (https://github.com/Textualize/rich/releases/tag/v14.1.0)."""
    wanted = next(one for one in map(Requirement, requires("neuralcore-embedding")) if one.name == "rich")
    assert (version in wanted.specifier) is is_enough

"""The command line `neuralcore`."""

from .process import main

__all__ = ["main"]

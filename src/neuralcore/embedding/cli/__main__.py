"""`python -m neuralcore.embedding.cli` is `neuralcore`."""

from . import main

main()

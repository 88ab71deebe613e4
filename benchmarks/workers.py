"""Memory of one worker process of Ray Data, as it would be on a cluster: a model loaded, 2,000 sentences embedded.

python -m benchmarks.workers --precision int8 --threads 1
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from .memory import resident_bytes
from .texts import mixed_texts

_MEASURE = "--measure"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(_MEASURE, action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        _measure(args)
    else:  # afresh, so that nothing of this process counts
        subprocess.run([sys.executable, "-m", "benchmarks.workers", *sys.argv[1:], _MEASURE], check=True)


def _measure(args: argparse.Namespace) -> None:
    """What a Ray actor holds: its class, `ray` itself, and an engine by the recipe."""
    import neuralcore.embedding.distributed.ray as _  # noqa: F401
    from neuralcore.embedding.distributed.recipe import EngineRecipe

    before = resident_bytes()
    engine = EngineRecipe(model=args.model, precision=args.precision).load(threads=args.threads)
    engine.embed_batch(mixed_texts(2000))
    after = resident_bytes()
    print(f"{args.model} {args.precision}, {args.threads} thread(s): {after / 1e6:.0f} MB resident in all,")
    print(f"{before / 1e6:.0f} MB of them Python, Ray and NumPy")


if __name__ == "__main__":
    main()

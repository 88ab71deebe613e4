"""What importing this package costs: time, in fresh processes, and the libraries it loads.

python -m benchmarks.imports
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from .machine import cpu_model
from .report import print_table, seconds

_STATEMENTS = {
    "nothing": "",
    "import neuralcore.embedding": "import neuralcore.embedding",
    "EmbeddingEngine from it": "from neuralcore.embedding import EmbeddingEngine",
    "import numpy": "import numpy",
    "import onnxruntime": "import onnxruntime",
}
# Libraries of which a part is loaded. Names with an underscore are those of interpreters and editable installs.
_LIST_LIBRARIES = """
import sys
print(*sorted({name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imports", description="Time imports.")
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in _STATEMENTS}
    for _ in range(rounds):
        for name, statement in _STATEMENTS.items():
            times[name].append(_time(statement))
    base, before = min(times["nothing"]), _libraries("")
    rows = [
        [name, seconds(min(times[name])), seconds(min(times[name]) - base), ", ".join(_libraries(statement) - before)]
        for name, statement in _STATEMENTS.items()
    ]
    print_table(f"Best of {rounds}, {cpu_model()}", ["", "process", "above nothing", "libraries loaded"], rows)


def _time(statement: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - begin


def _libraries(statement: str) -> set[str]:
    command = [sys.executable, "-c", statement + _LIST_LIBRARIES]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return {name for name in names if not name.startswith("_")}


if __name__ == "__main__":
    main()

"""Folders to work in beside one target, made and removed by several processes at once."""

import subprocess
import sys

WORK = """
import sys
from pathlib import Path
from neuralcore.embedding.files import staging_beside
target = Path(sys.argv[1])
for _ in range(60):
    with staging_beside(target) as folder:
        (folder / "part").write_text("whole")
        (folder / "part").replace(target)
"""


def test_nobodys_folder_is_taken_for_a_leftover_while_he_makes_it(tmp_path):
    command = [sys.executable, "-c", WORK, str(tmp_path / "o.npy")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    errors = [process.communicate(timeout=60)[1] for process in running]
    assert errors == [""] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["o.npy"]

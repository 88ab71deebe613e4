"""Commands as other users of this machine, for what permissions decide."""

import os
import shutil

import pytest

_READ = ["--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search"]
"""They may read all, so that the interpreter starts wherever it lies, and write what their permissions say."""


def as_plain_user(command: list[str]) -> list[str]:
    """Root may write anywhere; without its capabilities it is bound by permissions, too."""
    return command if os.geteuid() else ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", *command]


def as_user(user: int, command: list[str], *, group: int | None = None) -> list[str]:
    """As a user who has no name, in a group of that number or of their own."""
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only root can run a command as another user, by setpriv")
    return ["setpriv", "--reuid", str(user), "--regid", str(group or user), "--clear-groups", *_READ, *command]

"""Limits of a process that a test starts."""

import resource
from collections.abc import Callable


def limit_address_space(n_mib: int) -> Callable[[], None]:
    """For `preexec_fn`: the process may map so much and no more."""
    n_bytes = n_mib * 2**20
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))

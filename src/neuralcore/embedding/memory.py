"""Memory that is asked for before a library gets to work that ends the process, or hangs, where there is none.

Rust aborts when an allocation fails, OpenBLAS sends its own process a signal when a thread cannot be started,
and a module that cannot be mapped is an ImportError. Under a limit on address space (`ulimit -v`) all of this
happens far from physical memory's end. What is found free here may be taken by another thread a moment later: it makes
such an end rare, not impossible.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .cpu import available_threads
from .errors import OutOfMemory

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

MIB = 2**20
_M_ARENA_MAX = -8  # of glibc's malloc.h
_ARENAS = 2
_NUMPY_BYTES = 128 * MIB  # measured on 2 cores: 122
_NUMPY_BYTES_PER_THREAD = 8 * MIB  # the stacks of OpenBLAS's threads


def require(n_bytes: int, purpose: str) -> None:
    """See whether so much address space can be had now, and give it back at once; 2 us.

    Args:
        n_bytes: how much.
        purpose: what it is for, as the subject of a sentence.

    Raises:
        MemoryError: it cannot; the message says what takes how much.

    Example:
        >>> require(1, "a byte")
    """
    try:
        mmap.mmap(-1, max(1, n_bytes)).close()
    except (OSError, OverflowError, ValueError) as error:
        raise MemoryError(f"{purpose} takes some {n_bytes / MIB:,.0f} MiB of address space") from error


def has_room(n_bytes: int) -> bool:
    """Whether `require` would find so much; where nothing limits address space, without looking."""
    if not _is_limited():
        return True
    try:
        require(n_bytes, "")
    except MemoryError:
        return False
    return True


def trim() -> None:
    """Give the free memory that the C library keeps between its blocks back to the system, where it is glibc."""
    with suppress(OSError, AttributeError, TypeError):  # no C library by that name, or another one
        ctypes.CDLL(None).malloc_trim(0)


def prepare() -> None:
    """Before NumPy is loaded, see whether it can be; and where address space is limited, keep glibc from setting aside
    64 MiB of it for each thread, which is soon all there is.

    Raises:
        OutOfMemory: NumPy cannot be loaded.
    """
    if _is_limited():
        _share_arenas()
    with loading("numpy", _NUMPY_BYTES + _NUMPY_BYTES_PER_THREAD * available_threads()):
        pass


def _is_limited() -> bool:
    return resource is not None and resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _share_arenas() -> None:
    with suppress(OSError, AttributeError, TypeError):  # no glibc
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


@contextmanager
def loading(library: str, n_bytes: int) -> Iterator[None]:
    """Import a library in this block.

    Args:
        library: its module's name.
        n_bytes: address space that importing it takes.

    Raises:
        OutOfMemory: there is not so much.
    """
    try:
        if library not in sys.modules:
            require(n_bytes, f"loading {library}")
        yield
    except MemoryError as error:
        raise OutOfMemory.before_texts(str(error) or f"loading {library}") from error
    except ImportError as error:
        if "failed to map segment" in str(error):
            raise OutOfMemory.before_texts(f"loading {library}: {error}") from error
        raise

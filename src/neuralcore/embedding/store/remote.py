"""A repository on the Hub or on a mirror: its commits, what they hold, and its files, as its protocol gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .listing import Listing, Stated, checked_commit, checked_hash, checked_size, read_siblings, read_tree
from .transfer import Answer, NotThere, Open, SourceFailure, ask, ask_json, host

_MOST_PAGES = 200


@dataclass(frozen=True, slots=True)
class Source:
    """One repository on the Hub or on a mirror.

    Args:
        endpoint: address of the Hub or of the mirror.
        repository: the Hub id.
        headers: of every request.
        open_stream: how to ask.
    """

    endpoint: str
    repository: str
    headers: Mapping[str, str]
    open_stream: Open

    @property
    def host(self) -> str:
        """Who is asked, for messages."""
        return host(self.endpoint)

    def commit(self, revision: str) -> str:
        """The commit of a branch or tag."""
        return checked_commit(self._revision(revision).get("sha"))

    def listing(self, commit: str) -> Listing:
        """What a commit holds."""
        entries: list[Any] = []
        url: str | None = f"{self._api}/tree/{commit}?recursive=true&expand=false"
        for _ in range(_MOST_PAGES):
            try:
                page, url = ask_json(self.open_stream, url or "", self.headers)
            except NotThere:  # a mirror without this part of the protocol: names now, the rest with each file
                return read_siblings(self._revision(commit).get("siblings") or [])
            if not isinstance(page, list):
                raise SourceFailure(f"{self.host} answers with what is no listing")
            entries += page
            if url is None:
                return read_tree(entries)
        raise SourceFailure(f"{self.host} lists files without end")

    @contextmanager
    def file(self, commit: str, name: str, *, method: str = "GET", start: int = 0) -> Iterator[tuple[Answer, Stated]]:
        """Ask for a file: the answer, unread, and what its headers tell of it."""
        url = f"{self.endpoint}/{self.repository}/resolve/{commit}/{quote(name)}"
        with ask(self.open_stream, url, self.headers, method=method, start=start) as answer:
            yield answer, _told(answer, commit)

    def _revision(self, revision: str) -> Mapping[str, Any]:
        values, _ = ask_json(self.open_stream, f"{self._api}/revision/{quote(revision, safe='')}", self.headers)
        if not isinstance(values, dict):
            raise SourceFailure(f"{self.host} answers with what is no description of a model")
        return values

    @property
    def _api(self) -> str:
        return f"{self.endpoint}/api/models/{self.repository}"


def _told(answer: Answer, commit: str) -> Stated:
    """What the headers of a file tell of it.

    Raises:
        SourceFailure: what cannot be, or of another commit.
    """
    headers = answer.stated
    of = headers.get("x-repo-commit", commit)
    if checked_commit(of) != commit:
        raise SourceFailure(f"commit {commit} was asked for, and {of} came")
    etag = headers.get("x-linked-etag") or headers.get("etag")
    size = headers.get("x-linked-size", "")
    return Stated(
        checked_size(int(size)) if size.isdecimal() else answer.n_bytes,
        checked_hash(etag.removeprefix("W/").strip('"')) if etag else None,
    )

"""A source that ends where it cannot be read on, for those who want what there is."""

from __future__ import annotations

from collections.abc import Iterator

from ....errors import UnreadableInputError
from ...media import Item, Source, SourceView


class UntilBroken(SourceView):
    """The items of a source. An `UnreadableInputError` ends them, and becomes the shortfall."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.broken: str | None = None

    @property
    def shortfall(self) -> str | None:
        """Why the source ended early, or what it lacks."""
        return self.broken or self.source.shortfall

    def __iter__(self) -> Iterator[Item]:
        try:
            yield from self.source
        except UnreadableInputError as error:
            self.broken = str(error)

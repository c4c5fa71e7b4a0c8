"""A source that ends where it cannot be read on, for those who want what there is."""

from __future__ import annotations

from collections.abc import Iterator

from ....errors import UnreadableInputError
from ...media import Item, Picture, Source, SourceView


class UntilBroken(SourceView):
    """The items of a source. An `UnreadableInputError` ends them, and becomes the shortfall."""

    def __init__(self, source: Source, *, if_empty: bool = True) -> None:
        """if_empty: also before the first picture. Otherwise it is raised there: there is nothing to keep."""
        super().__init__(source)
        self._if_empty = if_empty
        self.broken: str | None = None

    @property
    def shortfall(self) -> str | None:
        """Why the source ended early, or what it lacks."""
        return self.broken or self.source.shortfall

    def __iter__(self) -> Iterator[Item]:
        ends = self._if_empty
        try:
            for item in self.source:
                ends = ends or isinstance(item, Picture)
                yield item
        except UnreadableInputError as error:
            if not ends:
                raise
            self.broken = str(error)

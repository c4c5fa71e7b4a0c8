"""The process that downloads a checkpoint for `runtime.restore.selection`, which can end it at any moment."""

from __future__ import annotations

from pathlib import Path

from ..child import Message, Parent
from ..errors import MisuseError, message_of
from ..text import LineCallback
from .download import foresee_download, obtain_checkpoint


def main(parent: Parent) -> None:
    """Download what the parent orders. The answer is that of `download_ordered`."""
    order = parent.receive()
    if order is not None:
        parent.answer(download_ordered(order, parent.say))


def download_ordered(order: Message, report: LineCallback) -> Message:
    """Download a checkpoint unless it is here.

    order: `checkpoint`, as a user named it. With `dry_run`, nothing is downloaded: if it is not here, `path` is None,
    and `missing` says what would be downloaded. report: gets lines about a download. Returns `path`, the directory, and
    `error` and `misuse` as `build_ordered` does.
    """
    try:
        if order.get("dry_run"):
            found = foresee_download(order["checkpoint"], report)
            here = isinstance(found, Path)
            return {
                "path": str(found) if here else None,
                "missing": None if here else found,
                "error": None,
                "misuse": False,
            }
        path = obtain_checkpoint(order["checkpoint"], report)
    except Exception as error:  # noqa: BLE001 (the parent raises it)
        return {"path": None, "error": message_of(error), "misuse": isinstance(error, MisuseError)}
    return {"path": str(path), "error": None, "misuse": False}

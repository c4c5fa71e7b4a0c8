"""The page of a run of `swiftvr-bench`."""

from .benchmark_page import write_page

__all__ = ["write_page"]

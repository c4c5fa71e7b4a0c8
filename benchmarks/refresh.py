"""Measures again what the documents and the regression guard rest on, and writes the documents.

    python -m benchmarks.refresh        about a minute; needs TensorRT-RTX and torch, and no GPU

`benchmarks/results/` then holds what the compiler makes of today's graphs (`guard`), and `suite/plain_graph.json` what
the published network does (`plain_graph`). What takes longer has commands of its own: `card_facts`, `engine_matrix`,
`engine_table`. Rows that these have not renewed since graphs changed are called older in the documents.
"""

from __future__ import annotations

from . import documents, guard, plain_graph


def main() -> None:
    """Measure, then write."""
    guard.main()
    plain_graph.main()
    documents.main()


if __name__ == "__main__":
    main()

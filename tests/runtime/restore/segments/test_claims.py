"""Claims on pieces: whoever is first has it, also among many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from swiftvr_trt.runtime.restore.segments.claims import Claims


def test_a_piece_is_claimed_once(tmp_path: Path) -> None:
    mine, yours = Claims(tmp_path), Claims(tmp_path)
    assert not mine.taken(3)
    assert mine.take(3)
    assert not yours.take(3)
    assert yours.taken(3)
    assert yours.take(100_000)


def test_claims_are_forgotten_and_nothing_else_is(tmp_path: Path) -> None:
    claims = Claims(tmp_path)
    (tmp_path / "00003.json").write_text("{}")
    claims.take(3)
    claims.forget()
    assert [path.name for path in tmp_path.iterdir()] == ["00003.json"]
    assert claims.take(3)


def test_of_many_at_once_one_is_first(tmp_path: Path) -> None:
    everyone = [Claims(tmp_path) for _ in range(8)]
    with ThreadPoolExecutor(len(everyone)) as pool:
        for piece in range(20):
            assert sum(pool.map(lambda claims, piece=piece: claims.take(piece), everyone)) == 1

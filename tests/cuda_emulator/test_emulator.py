import pytest, os

pytestmark = pytest.mark.cuda_emulator
from . import emulated


def test_a():
    with emulated(1) as e:
        from cuda.core import Device

        d = Device(0)
        d.set_current()
        s = d.create_stream()
        s.close()


def test_b(tmp_path):
    assert 1 == 2


def test_c():
    os.abort()


@pytest.mark.parametrize("k", [1, 2])
def test_d(k):
    if k == 1:
        pytest.skip("x")

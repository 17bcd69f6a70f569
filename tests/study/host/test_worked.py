"""The process that looks at teams, for real; and what it tells of torch's build."""

from __future__ import annotations

import os

import pytest

from mapper.errors import ExecutionFailed
from mapper.measure.software import Software
from mapper.measure.worked import arguments, read_build, thread_seconds

PUS = sorted(os.sched_getaffinity(0))
RISCV = """PyTorch built with:
  - GCC 12.3
  - OpenMP 201511 (a.k.a. OpenMP 4.5)
  - LAPACK is enabled (usually provided by MKL)
  - CPU capability usage: DEFAULT
  - Build settings: BLAS_INFO=open, BUILD_TYPE=Release, CXX_COMPILER=/home/someone/bin/c++, CXX_FLAGS=-I/home/someone,
    LAPACK_INFO=open, TORCH_VERSION=2.4.0, USE_MKL=OFF, USE_MKLDNN=0, USE_NNPACK=OFF, USE_OPENMP=ON,
"""


def test_a_build_is_told_without_paths() -> None:
    found = read_build("2.4.0", RISCV, "ATen parallel backend: OpenMP\n")
    assert found == {
        "torch": "2.4.0", "openmp": True, "onednn": False, "mkl": False, "nnpack": False, "blas": "open",
        "capability": "DEFAULT", "pool": "OpenMP",
    }  # fmt: skip
    assert "someone" not in str(found)


def test_clocks_of_threads_add_up() -> None:
    before = thread_seconds()
    sum(i * i for i in range(10**6))
    after = thread_seconds()
    assert after[os.getpid()] > before[os.getpid()] >= 0


@pytest.mark.machine
@pytest.mark.skipif(len(PUS) < 2, reason="one PU")
def test_a_convolution_without_onednn_is_spread_over_images_only() -> None:
    question = {"pus": PUS[:2], "sort": "conv", "sizes": [3, 64, 28, 64, 3, 1], "seconds": 0.2}
    with Software("mapper.measure.worked", arguments(passive=True, aten=True)) as process:
        found = process.value("worked", 60.0, **question)
        assert 1.2 < found["busy_cores"] < 1.75, "two images for one thread, one for the other"
        assert found["seconds"] > 0
        build = process.value("build", 60.0)
        assert build["torch"] and isinstance(build["openmp"], bool)
        assert process.value("read", 60.0, pus=PUS[:1], nodes=[], size=2**22, seconds=0.01) > 0
        with pytest.raises(ExecutionFailed, match="none such"):
            process.value("worked", 60.0, **question | {"sort": "none such"})

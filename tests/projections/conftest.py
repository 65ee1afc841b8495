"""Every contract is held by every kernel: `make` makes projections that one of them computes."""

from functools import partial

import pytest

from intrinsic_cli.projections import KINDS, make_projection
from intrinsic_cli.spec import KERNELS


@pytest.fixture(scope="session", params=[name for name in KERNELS if name != "auto"])
def kernel(request):
    return request.param


@pytest.fixture(scope="session")
def make(kernel):
    return partial(make_projection, kernel=kernel)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param

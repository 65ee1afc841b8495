"""Every contract is held by every kernel: `make` makes projections that one of them computes.

The Triton kernel has tests of its own, since its interpreter takes seconds for a product.
"""

from functools import partial

import pytest

from intrinsic_cli.projections import KINDS, make_projection


@pytest.fixture(scope="session", params=["numba", "torch"])
def kernel(request):
    return request.param


@pytest.fixture(scope="session")
def make(kernel):
    return partial(make_projection, kernel=kernel)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param

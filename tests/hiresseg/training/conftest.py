from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def one_core():
    """Networks of a few weights lose far more to waiting for each other's threads than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

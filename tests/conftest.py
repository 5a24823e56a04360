"""Fixtures for all tests: the same random numbers in every test, and the thread setting put back after it."""

import numpy as np
import pytest

import fastnn


@pytest.fixture(autouse=True)
def _seed():
    fastnn.manual_seed(0)
    threads = fastnn.get_num_threads()
    yield
    if fastnn.get_num_threads() != threads:
        fastnn.set_num_threads(threads)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed, fresh in each test."""
    return np.random.default_rng(0)

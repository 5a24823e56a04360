"""Fixtures for all tests: the same random numbers in every test, and the thread setting put back after it."""

import gc
import signal

import numpy as np
import pytest

import fastnn

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what runs in the background ignore it


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


@pytest.fixture
def no_collector():
    """Without the cycle collector, what is in a reference cycle is never freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()

"""The pool that tensors get their memory from: how much of it is in use, and how to give the rest back.

What a tensor leaves behind is kept for the next one: no request to the system, no page fault, and often still in cache.
Free memory goes back by itself when the most that is in use at a time has fallen for good, by a third and by more
than 32 MiB. Arrays of the pool are ordinary NumPy arrays, begin at multiples of 64 bytes, and live as long as
something refers to them. The twins of the kernels (FASTNN_KERNELS=reference) use the pool where it is compiled."""
from typing import TypedDict

__all__ = ["empty_cache", "reset_peak", "stats"]


class Stats(TypedDict):
    """What the pool holds."""
    allocated: int  # bytes in use, each array with a header and rounded up to multiples of 64
    peak: int  # most bytes in use at a time since the start or `reset_peak`
    reserved: int  # bytes of the pages of 2 MiB that take memory, in use or not
    blocks: int  # number of arrays and of kernels' working memories in use
    segments: int  # number of ranges of addresses that the system has granted
    allocations: int  # number of requests served so far


try:
    from fastnn import _memory
except ImportError:
    _memory = None  # type: ignore[assignment]


def stats() -> Stats:
    """What the pool holds now.

    >>> before = fastnn.memory.stats()["allocated"]
    >>> x = fastnn.zeros(1000)
    >>> fastnn.memory.stats()["allocated"] - before
    4096"""
    return _memory.stats() if _memory else Stats(allocated=0, peak=0, reserved=0, blocks=0, segments=0, allocations=0)


def reset_peak() -> None:
    """Let `stats()["peak"]` begin anew with what is in use now."""
    if _memory:
        _memory.reset_peak()


def empty_cache() -> None:
    """Give all memory that is free back to the system. What is in use stays where it is."""
    if _memory:
        _memory.trim()

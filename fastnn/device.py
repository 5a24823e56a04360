"""The one device, so that scripts written for several run unchanged."""
from __future__ import annotations

from types import SimpleNamespace

from fastnn.errors import DeviceError


class device:
    """`device("cpu")` (also "cpu:0"); any other raises DeviceError, which is a ValueError and a RuntimeError.

    >>> device("cpu").type
    'cpu'"""

    __slots__ = ()
    type, index = "cpu", None

    def __init__(self, type: str | device) -> None:
        name = "cpu" if isinstance(type, device) else type
        if not isinstance(name, str):
            raise TypeError(f"device: type must be a str such as 'cpu', but a {name.__class__.__name__} came")
        if name not in ("cpu", "cpu:0"):
            raise DeviceError(f"device: {name!r} is not available; fastnn runs on 'cpu' only")

    def __repr__(self) -> str:
        return "device(type='cpu')"

    def __str__(self) -> str:
        return "cpu"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device)

    def __hash__(self) -> int:
        return hash("cpu")


CPU = device("cpu")

cuda = SimpleNamespace(is_available=lambda: False, device_count=lambda: 0)

"""Checkpoints."""
from fastnn.serialization import load as load_checkpoint

__all__ = ["load_checkpoint"]

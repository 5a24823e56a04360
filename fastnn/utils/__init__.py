"""PyTorch's name for some things that live elsewhere here."""

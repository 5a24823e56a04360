"""The NumPy twin of every kernel: same file, same name, same signature; written to be read and trusted."""

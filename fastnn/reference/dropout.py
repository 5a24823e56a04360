"""Twins of the dropout kernels."""
import numpy as np

from fastnn.layout import is_channels_last


def dropout(x, p, seed, mask_out, y_out, n_threads):
    keep = _philox(x.size, seed) >= np.uint32(min(p * 2**32, 2**32 - 1))
    bits = np.packbits(keep, bitorder="little")
    mask_out[:] = np.pad(bits, (0, -len(bits) % 8)).view("<u8")
    dropout_backward(x, mask_out, p, y_out, n_threads)


def dropout_backward(dy, mask, p, dx_out, n_threads):
    keep = np.unpackbits(mask.view(np.uint8), count=dy.size, bitorder="little")
    if is_channels_last(dx_out):  # bits are in memory order
        dy, dx_out = dy.transpose(0, 2, 3, 1), dx_out.transpose(0, 2, 3, 1)
    scale = dy.dtype.type(1 / (1 - p) if p < 1 else 0)
    with np.errstate(invalid="ignore"):
        np.multiply(dy, keep.reshape(dy.shape) * scale, out=dx_out)


def _philox(n, key):
    """n random 32-bit words of Philox-4x32-10 (Salmon et al., SC 2011) in the order of _kernels/philox.h."""
    low = np.uint64(0xFFFFFFFF)
    groups = (n + 63) // 64
    block = np.arange(groups * 16, dtype=np.uint64)
    c = [block & low, block >> np.uint64(32), np.zeros_like(block), np.zeros_like(block)]
    for i in range(10):
        key0 = np.uint64((key + i * 0x9E3779B9) % 2**32)
        key1 = np.uint64(((key >> 32) + i * 0xBB67AE85) % 2**32)
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(b >> np.uint64(32)) ^ c[1] ^ key0, b & low, (a >> np.uint64(32)) ^ c[3] ^ key1, a & low]
    words = np.stack(c).reshape(4, groups, 16).transpose(1, 0, 2)  # (groups, 4, 16)
    return words.reshape(-1)[:n].astype(np.uint32)

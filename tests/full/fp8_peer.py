#!/usr/bin/env python3
"""Hold mezzo_convert's 8-bit formats to ml_dtypes.

    python3 -m venv VENV && VENV/bin/pip install ml_dtypes
    VENV/bin/python tests/full/fp8_peer.py build/libmezzo.so [--values 10000000] [--seed 1]

From the 8-bit formats all 256 patterns; to them all patterns of FP16 and BF16 and random FP32
values, half of them any bits and half within the formats' range.  Bits are compared, except that a
NaN is a NaN (its sign is compared).  ml_dtypes does not saturate: there its input is cut to the
largest value first, infinities left as they are.
"""
import argparse
import ctypes
import os
import sys

import ml_dtypes
import numpy as np

PEERS = {
    "f32": np.float32,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f8_e4m3": ml_dtypes.float8_e4m3fn,
    "f8_e5m2": ml_dtypes.float8_e5m2,
}
EIGHT = ("f8_e4m3", "f8_e5m2")
NEAREST, SATURATE = 0, 1


class Mezzo:
    def __init__(self, path):
        self.lib = ctypes.CDLL(os.path.abspath(path))
        self.ctx = ctypes.c_void_p()
        if self.lib.mezzo_ctx_create(ctypes.byref(self.ctx), None, None) != 0:
            sys.exit("no context")

    def convert(self, values, source, target, rounding):
        out = np.empty(values.shape, PEERS[target])
        status = self.lib.mezzo_convert(
            self.ctx,
            ctypes.c_void_p(out.ctypes.data),
            self.lib.mezzo_dtype_from_name(target.encode()),
            ctypes.c_void_p(values.ctypes.data),
            self.lib.mezzo_dtype_from_name(source.encode()),
            ctypes.c_size_t(values.size),
            rounding,
            ctypes.c_uint64(0),
        )
        if status != 0:
            sys.exit(f"mezzo_convert from {source} to {target}: status {status}")
        return out


def unsigned(values):
    return values.view({1: np.uint8, 2: np.uint16, 4: np.uint32}[values.dtype.itemsize])


def different(got, want):
    """Where the bits differ, and not both are NaN of one sign."""
    top = 8 * got.dtype.itemsize - 1
    both_nan = np.isnan(got.astype(np.float32)) & np.isnan(want.astype(np.float32))
    same_sign = unsigned(got) >> top == unsigned(want) >> top
    return (unsigned(got) != unsigned(want)) & ~(both_nan & same_sign)


def compare(mezzo, values, source, target, rounding):
    cut = values
    if rounding == SATURATE:
        largest = float(ml_dtypes.finfo(PEERS[target]).max)
        wide = values.astype(np.float32)
        cut = np.where(np.isfinite(wide), np.clip(wide, -largest, largest), wide)
    with np.errstate(all="ignore"):
        want = cut.astype(PEERS[target])
    got = mezzo.convert(values, source, target, rounding)
    wrong = np.flatnonzero(different(got, want))
    how = "saturating" if rounding == SATURATE else "nearest"
    for i in wrong[:10]:
        bits = [hex(unsigned(x)[i]) for x in (values, got, want)]
        print(f"    {source} {bits[0]} ({values[i]}): mezzo {bits[1]}, ml_dtypes {bits[2]}")
    used = len(np.unique(unsigned(got)))
    print(f"| {source} | {target} | {how} | {values.size} | {used} | {len(wrong)} |")
    return len(wrong)


def random_f32(count, seed):
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2**32, count, dtype=np.uint32)
    near = bits[count // 2 :]  # exponents from 2^-20 to 2^17
    exponents = rng.integers(127 - 20, 127 + 18, near.size, dtype=np.uint32)
    near[:] = (near & np.uint32(0x807FFFFF)) | exponents << np.uint32(23)
    return bits.view(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", help="libmezzo.so")
    parser.add_argument("--values", type=int, default=10_000_000, help="random FP32 values")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    mezzo = Mezzo(options.library)
    sources = {
        "f16": np.arange(2**16, dtype=np.uint16).view(np.float16),
        "bf16": np.arange(2**16, dtype=np.uint16).view(ml_dtypes.bfloat16),
        "f32": random_f32(options.values, options.seed),
    }
    print("| from | to | rounding | values | patterns met | different |")
    print("|---|---|---|---|---|---|")
    wrong = 0
    for eight in EIGHT:
        patterns = np.arange(256, dtype=np.uint8).view(PEERS[eight])
        for target in ("f32", "f16", "bf16"):
            wrong += compare(mezzo, patterns, eight, target, NEAREST)
        for source, values in sources.items():
            for rounding in (NEAREST, SATURATE):
                wrong += compare(mezzo, values, source, eight, rounding)
    if wrong:
        sys.exit(f"{wrong} values are converted differently")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Make golden.safetensors with the reference implementation (pip install safetensors).

The unit test writes the same tensors and compares every byte.  Byte i of tensor k is
(37 k + 11 i) mod 256; names, types and shapes are listed in both places.
"""
import ctypes
import pathlib

import safetensors

TENSORS = [
    ("fc.weight", "bfloat16", [3, 4], 2),
    ("fc.bias", "float32", [3], 4),
    ("a scalar", "float64", [], 8),
    ("no elements", "float32", [0, 4], 4),
    ("half", "float16", [1, 2, 1, 2, 1, 1], 2),
    ("labels", "int32", [2], 4),
    ("pixels", "uint8", [5], 1),
    ('odd "name" \\ \n\t\x01\x7f/ \u00e9\u20ac\U0001f600', "uint8", [1], 1),
    ("B", "bfloat16", [1], 2),
    ("Z", "float32", [1], 4),
    ("eight", "float8_e4m3fn", [3, 2], 1),
    ("eight 2", "float8_e5m2", [7], 1),
    ("Eight", "float8_e4m3fn", [1], 1),
]


def main():
    kept, specs = [], {}
    for k, (name, dtype, shape, size) in enumerate(TENSORS):
        count = size
        for dim in shape:
            count *= dim
        data = bytes((37 * k + 11 * i) % 256 for i in range(count))
        buffer = ctypes.create_string_buffer(data, max(count, 1))
        kept.append(buffer)
        specs[name] = safetensors.TensorSpec(
            dtype=dtype, shape=shape, data_ptr=ctypes.addressof(buffer), data_len=count
        )
    path = pathlib.Path(__file__).with_name("golden.safetensors")
    path.write_bytes(bytes(safetensors.serialize(specs, metadata={"format": "pt"})))
    print(f"{path}: {path.stat().st_size} bytes, safetensors {safetensors.__version__}")


if __name__ == "__main__":
    main()

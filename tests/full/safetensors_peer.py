#!/usr/bin/env python3
"""Hold libmezzo's safetensors reader and writer to the reference implementation.

    python3 -m venv VENV && VENV/bin/pip install safetensors
    VENV/bin/python tests/full/safetensors_peer.py build/libmezzo.so [--files 10000] [--seed 1]

1. Random tensors written by both: the files are equal byte for byte (with one metadata entry: the
   reference writes several in no fixed order), and each reads the other's.
2. Random damage to such files: whatever the reference refuses, mezzo refuses.  What mezzo refuses
   beyond that must be one of the listed reasons.
"""
import argparse
import collections
import ctypes
import json
import os
import random
import sys
import tempfile

import safetensors

TYPES = {  # mezzo_dtype, name in the file, bytes
    "float32": (1, "F32", 4),
    "float16": (2, "F16", 2),
    "bfloat16": (3, "BF16", 2),
    "float64": (4, "F64", 8),
    "int32": (5, "I32", 4),
    "uint8": (6, "U8", 1),
    "float8_e4m3fn": (7, "F8_E4M3", 1),
    "float8_e5m2": (8, "F8_E5M2", 1),
}
# Parts of mezzo's messages for what the reference lets pass.
STRICTER = {
    "type that mezzo has not": "; expected F64, F32",
    "rank beyond 6": "no list of at most 6",
    "another key in an entry": "and nothing else",
    "a character that no header needs": "has no place in a header",
    "nesting or number of values": "nested too deep",
    "not a space behind the last brace": "must start with { and end with }",
    "a key twice": "duplicate object key",
    "NUL in a text": "u0000",
    "NUL in a key": "NUL byte",
    "number beyond 63 bits": "too big integer",
}
NAMES = ["a", "fc.weight", "layers.0.attn.qkv.weight", "\u00e9\u4e16\U0001f642", 'x"\\\n\t\x01/', ""]


class Shape(ctypes.Structure):
    _fields_ = [("rank", ctypes.c_int32), ("dim", ctypes.c_int64 * 6)]


class Item(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_int),
        ("shape", Shape),
        ("data", ctypes.c_void_p),
    ]


class Note(ctypes.Structure):
    _fields_ = [("key", ctypes.c_char_p), ("value", ctypes.c_char_p)]


class Error(ctypes.Structure):
    _fields_ = [
        ("status", ctypes.c_int),
        ("line", ctypes.c_int),
        ("file", ctypes.c_char_p),
        ("text", ctypes.c_char * 1000),
    ]


class Mezzo:
    def __init__(self, path):
        self.lib = ctypes.CDLL(os.path.abspath(path))
        self.lib.mezzo_ctx_error.restype = ctypes.POINTER(Error)
        self.lib.mezzo_safetensors_at.restype = Item
        self.lib.mezzo_safetensors_note_value.restype = ctypes.c_char_p
        self.ctx = ctypes.c_void_p()
        if self.lib.mezzo_ctx_create(ctypes.byref(self.ctx), None, None) != 0:
            sys.exit("no context")

    def error(self):
        return self.lib.mezzo_ctx_error(self.ctx).contents.text.decode("utf-8", "replace")

    def write(self, path, tensors, notes):
        items = (Item * len(tensors))()
        for item, (name, (dtype, shape, data)) in zip(items, tensors.items()):
            item.name = name.encode()
            item.dtype = TYPES[dtype][0]
            item.shape.rank = len(shape)
            item.shape.dim[: len(shape)] = shape
            item.data = ctypes.cast(data, ctypes.c_void_p)
        listed = (Note * len(notes))(*((k.encode(), v.encode()) for k, v in notes.items()))
        status = self.lib.mezzo_safetensors_write(
            self.ctx, path.encode(), items, len(tensors), listed, len(notes)
        )
        if status != 0:
            sys.exit(f"cannot write: {self.error()}")

    def read(self, path, note_keys=()):
        """The tensors and notes, or None if the file is refused."""
        file = ctypes.c_void_p()
        if self.lib.mezzo_safetensors_open(ctypes.byref(file), self.ctx, path.encode()) != 0:
            return None
        names = {number: (text, size) for number, text, size in TYPES.values()}
        tensors = {}
        for i in range(self.lib.mezzo_safetensors_count(file)):
            item = self.lib.mezzo_safetensors_at(file, i)
            shape = list(item.shape.dim[: item.shape.rank])
            text, size = names[item.dtype]
            for dim in shape:
                size *= dim
            tensors[item.name.decode()] = (text, shape, ctypes.string_at(item.data, size))
        notes = {}
        for key in note_keys:
            value = self.lib.mezzo_safetensors_note_value(file, key.encode())
            notes[key] = None if value is None else value.decode()
        self.lib.mezzo_safetensors_close(file)
        return tensors, notes


def random_tensors(rng):
    tensors = {}
    for k in range(rng.randrange(8)):
        dtype = rng.choice(list(TYPES))
        shape = [rng.choice([0, 1, 1, 2, 3, 5]) for _ in range(rng.randrange(7))]
        size = TYPES[dtype][2]
        for dim in shape:
            size *= dim
        data = ctypes.create_string_buffer(rng.randbytes(size), max(size, 1))
        tensors[rng.choice(NAMES) + rng.choice(["", str(k), "\u00df"])] = (dtype, shape, data)
    return tensors


def by_reference(tensors, notes):
    specs = {}
    for name, (dtype, shape, data) in tensors.items():
        size = TYPES[dtype][2]
        for dim in shape:
            size *= dim
        specs[name] = safetensors.TensorSpec(
            dtype=dtype, shape=shape, data_ptr=ctypes.addressof(data), data_len=size
        )
    # For no tensors and empty metadata, the reference writes what is no JSON.
    return bytes(safetensors.serialize(specs, metadata=notes or None))


def read_reference(data):
    """The tensors, or None if the reference refuses them."""
    try:
        listed = safetensors.deserialize(data)
    except Exception:  # the binding raises its own type, and others for bad UTF-8
        return None
    return {n: (i["dtype"], list(i["shape"]), bytes(i["data"])) for n, i in listed}


def compare_writers(mezzo, path, rng, count):
    for _ in range(count):
        tensors = random_tensors(rng)
        notes = {"format": "pt"}
        want = by_reference(tensors, notes)
        mezzo.write(path, tensors, {})
        with open(path, "rb") as file:
            got = file.read()
        if got != want:
            sys.exit(f"different bytes:\n{want!r}\n{got!r}")
        notes.update({rng.choice(NAMES): rng.choice(NAMES) for _ in range(rng.randrange(4))})
        with open(path, "wb") as file:
            file.write(by_reference(tensors, notes))
        seen = mezzo.read(path, notes)
        if seen is None or seen[1] != notes or seen[0] != read_reference(want):
            sys.exit(f"read differently: {seen!r}\n{want!r}\n{mezzo.error()}")
        mezzo.write(path, tensors, notes)
        with open(path, "rb") as file:
            if read_reference(file.read()) != seen[0]:
                sys.exit("the reference reads mezzo's file differently")


ALL_TYPES = "BOOL U8 I8 F8_E5M2 F8_E4M3 I16 U16 F16 BF16 I32 U32 F32 C64 F64 I64 U64 f32 F33".split()


def change_entry(rng, entry):
    """One change to a tensor's entry: some leave it legal, some only to the reference."""
    kind = rng.randrange(9)
    if kind == 0:
        entry["dtype"] = rng.choice(ALL_TYPES)
    elif kind == 1:
        entry["shape"] += [1] * rng.randrange(1, 8)
    elif kind == 2:
        rng.shuffle(entry["shape"])
    elif kind == 3:
        entry["shape"].insert(rng.randrange(3), rng.choice([0, 2, -1, 1.0, "1", None, 2**63, 2**64]))
    elif kind == 4:
        entry["data_offsets"][rng.randrange(2)] += rng.choice([-1, 1, 4, 2**62, 2**63])
    elif kind == 5:
        entry[rng.choice(["x", "Shape", ""])] = rng.choice([1, "y", [], {}, [[[]]], None, -1.5])
    elif kind == 6:
        entry.pop(rng.choice(list(entry)))
    elif kind == 7:
        entry[rng.choice(list(entry))] = rng.choice([1, "U8", [], {}, None, [0], [0, 0, 0]])


def change_meaning(rng, header):
    """The header parsed, perhaps changed, and written in another order and layout."""
    parsed = json.loads(header)
    names = [name for name in parsed if name != "__metadata__"]
    if names and rng.random() < 0.7:
        change_entry(rng, parsed[rng.choice(names)])
    if rng.random() < 0.2:
        at = rng.randrange(9)
        new = {"dtype": "U8", "shape": [0], "data_offsets": [at, at]}
        parsed[rng.choice(["new", "\0", "\n"])] = new
    if rng.random() < 0.1:
        parsed.setdefault("__metadata__", {})["k"] = rng.choice([1, None, {}, "v", "\0"])
    pairs = list(parsed.items())
    rng.shuffle(pairs)
    indent = rng.choice([None, None, 0, 1])
    return json.dumps(dict(pairs), indent=indent, ensure_ascii=rng.random() < 0.5).encode()


def change_text(rng, header):
    """A byte or a piece of the header's text replaced."""
    header = bytearray(header)
    at = rng.randrange(len(header))
    if rng.random() < 0.3:
        header[at] ^= 1 << rng.randrange(8)
    else:
        pieces = list("{}[]\",:0123456789\\ -.eaFU\n") + ["", "  ", "\\u0000", "1.0", "null", "[]"]
        header[at : at + rng.randrange(3)] = rng.choice(pieces).encode()
    return bytes(header)


def damage(rng, data):
    size = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + size], data[8 + size :]
    change = change_meaning if rng.random() < 0.6 else change_text
    header = change(rng, header) + b" " * rng.choice([0, 0, 1, 7])
    if rng.random() < 0.1:
        body = body[: rng.randrange(len(body) + 1)] + rng.randbytes(rng.randrange(3))
    size = len(header)
    if rng.random() < 0.05:
        size = max(size + rng.choice([-1, 1, 8, 2**32, 2**63]), 0)
    return size.to_bytes(8, "little") + header + body


def compare_readers(mezzo, path, rng, count):
    tally = collections.Counter()
    for _ in range(count):
        notes = {rng.choice(NAMES): rng.choice(NAMES) for _ in range(rng.randrange(3))}
        data = damage(rng, by_reference(random_tensors(rng), notes))
        with open(path, "wb") as file:
            file.write(data)
        want, seen = read_reference(data), mezzo.read(path)
        if want is None and seen is not None:
            sys.exit(f"accepted, and the reference refuses: {data!r}")
        if want is None:
            tally["refused by both"] += 1
        elif seen is not None:
            if seen[0] != want:
                sys.exit(f"read differently: {data!r}\n{want!r}\n{seen[0]!r}")
            tally["read by both, alike"] += 1
        else:
            reasons = [reason for reason, part in STRICTER.items() if part in mezzo.error()]
            if not reasons:
                sys.exit(f"refused for no listed reason: {mezzo.error()}\n{data!r}")
            tally["stricter: " + reasons[0]] += 1
    return tally


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", help="libmezzo.so")
    parser.add_argument("--files", type=int, default=10000, help="damaged files to compare")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    mezzo = Mezzo(options.library)
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.safetensors")
        written = max(options.files // 20, 1)
        compare_writers(mezzo, path, rng, written)
        print(f"{written} files written by both: equal byte for byte, and read alike")
        tally = compare_readers(mezzo, path, rng, options.files)
    for what, times in sorted(tally.items()):
        print(f"{times:8d} {what}")
    if min(tally["refused by both"], tally["read by both, alike"]) * 10 < options.files:
        sys.exit("the damage was nearly all of one kind: too little was compared")
    print(f"{options.files} damaged files, safetensors {safetensors.__version__}: "
          "everything that it refuses is refused")


if __name__ == "__main__":
    main()

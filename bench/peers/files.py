"""What a peer reads: safetensors, and samples in mezzo's order."""
import gzip
import json
import os

import numpy as np

MASK = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def read_safetensors(path):
    """Tensors by name, FP32."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = np.frombuffer(file.read(), dtype=np.uint8)
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "F32":
            raise ValueError(f"{path}: {name} is {entry['dtype']}, and not F32")
        begin, end = entry["data_offsets"]
        tensors[name] = data[begin:end].view(np.float32).reshape(entry["shape"]).copy()
    return tensors


def philox(counter, key):
    """Philox4x32-10: four arrays of words from four counter words, numbers or arrays, and two key words."""
    c = [np.asarray(word, dtype=np.uint64) for word in counter]
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> HALF) ^ c[1] ^ np.uint64(k0), p1 & MASK, (p0 >> HALF) ^ c[3] ^ np.uint64(k1), p0 & MASK]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def name_hash(name):
    """FNV-1a, 64 bits."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


def sample_order(first, count, total, seed):
    """Samples `first` to `first + count` of an epoch of mezzo's loader (mzi_permute in src/base/rng.c):
    six rounds of a Feistel network, walked on until it lands below `total`."""
    stream, half = name_hash("data.shuffle"), 1
    while half < 32 and (total - 1) >> (2 * half):
        half += 1
    mask = np.uint64(2**half - 1)
    x = np.arange(first, first + count).astype(np.uint64)
    walking = np.ones(count, dtype=bool)
    while walking.any():
        left, right = (x[walking] >> np.uint64(half)) & mask, x[walking] & mask
        for number in range(6):
            bits = philox((right, number, stream & 0xFFFFFFFF, stream >> 32), (seed, 0))[0]
            left, right = right, left ^ (bits & mask)
        x[walking] = left << np.uint64(half) | right
        walking = x >= total
    return x.astype(np.int64)


class Windows:
    """Windows of T + 1 tokens, neighbours sharing one, from a file of 16-bit ids."""

    def __init__(self, path, T, batch, seed):
        self.tokens = np.fromfile(path, dtype=np.uint16).astype(np.int64)
        self.T, self.batch, self.seed = T, batch, seed
        self.total = (len(self.tokens) - 1) // T

    def __call__(self, step):
        at = sample_order(step * self.batch, self.batch, self.total, self.seed) * self.T
        both = self.tokens[at[:, None] + np.arange(self.T + 1)]
        return both[:, :-1], both[:, 1:]


class Images:
    """IDX files of pixels and labels, brought to mean 0."""

    def __init__(self, folder, mean, std, batch, seed):
        self.x = self.read(folder, "train-images-idx3-ubyte")
        self.labels = self.read(folder, "train-labels-idx1-ubyte").astype(np.int64)
        self.table = ((np.arange(256) / 255.0 - mean) / std).astype(np.float32)
        self.batch, self.seed = batch, seed

    @staticmethod
    def read(folder, name):
        path = os.path.join(folder, name)
        with gzip.open(path + ".gz") if os.path.exists(path + ".gz") else open(path, "rb") as file:
            data = np.frombuffer(file.read(), dtype=np.uint8)
        rank = int(data[3])
        shape = data[4 : 4 + 4 * rank].view(">i4")
        return data[4 + 4 * rank :].reshape(shape)

    def __call__(self, step):
        at = sample_order(step * self.batch, self.batch, len(self.labels), self.seed)
        return self.table[self.x[at]], self.labels[at]

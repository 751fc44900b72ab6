#!/usr/bin/env python3
"""The network of examples/fashion-cnn.yaml in PyTorch, as the peer of tests/train/test_parity.c.

    python3 tests/parity/cnn_torch.py > tests/parity/cnn_torch.json      (Debian: python3-torch)
    python3 tests/parity/cnn_torch.py --compare tests/parity/cnn_torch.json

Weights and images are functions of an integer, written here and in the test: Philox bits, and then
arithmetic that is exact or rounded once, so that both have the same bits without a file between.
Two things are measured, in FP32, in BF16 by autocast, and in FP64:

  train     the loss of each of 20 AdamW steps, on a new batch each
  gradient  on the initial weights and the first 8 images: the norm of each parameter's gradient in
            FP64, and the distance |g - g64| / |g64| of the other two

The gradient jumps where a ReLU or a max pooling changes its choice.  "margin" is the least distance
of the FP64 run from such a kink, "error" the largest error of the FP32 run in the same values: with
error below margin no choice differs, and the FP32 distances are rounding alone.
"""
import argparse
import json
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F

SEED, STEPS, BATCH, GRADIENT_BATCH, CLASSES, SIDE = 1, 20, 32, 8, 10, 28
STREAM_NOISE, STREAM_PLACE, STREAM_CLASS = 100, 101, 102  # below: parameters, by their order
PARAMS = [  # name, shape, fan-in (0: a norm's weight or bias, 1 or 0)
    ("conv1.weight", (32, 1, 3, 3), 9),
    ("norm1.weight", (32,), 0),
    ("norm1.bias", (32,), 0),
    ("conv2.weight", (64, 32, 3, 3), 288),
    ("norm2.weight", (64,), 0),
    ("norm2.bias", (64,), 0),
    ("conv3.weight", (64, 64, 3, 3), 576),
    ("norm3.weight", (64,), 0),
    ("norm3.bias", (64,), 0),
    ("fc1.weight", (128, 3136), 3136),
    ("fc1.bias", (128,), 3136),
    ("head.weight", (CLASSES, 128), 128),
    ("head.bias", (CLASSES,), 128),
]
EPS = float(np.float32(1e-5))  # of batch norm: mezzo's constant is FP32
NOISE = 0.125  # beside blobs of height 1
WARMUP = 50  # steps until the full rate, as in the example
MASK = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def random_bits(stream, count):
    """`count` words of Philox4x32-10 with counter (block, stream, 0, 0) and key (SEED, 0)."""
    blocks = (count + 3) // 4
    c = [np.arange(blocks, dtype=np.uint64)] + [
        np.full(blocks, word, dtype=np.uint64) for word in (stream, 0, 0)
    ]
    k0, k1 = SEED, 0
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [
            (p1 >> HALF) ^ c[1] ^ np.uint64(k0),
            p1 & MASK,
            (p0 >> HALF) ^ c[3] ^ np.uint64(k1),
            p0 & MASK,
        ]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=1).reshape(-1)[:count]


def uniform(stream, count):
    """[-1, 1), 24 bits: exact in FP32."""
    return (random_bits(stream, count) >> np.uint64(8)).astype(np.float64) * 2.0**-23 - 1.0


def initial_weights():
    weights = {}
    for index, (name, shape, fan_in) in enumerate(PARAMS):
        count = math.prod(shape)
        if fan_in:
            values = uniform(index, count) * (1.0 / math.sqrt(fan_in))
        else:
            values = np.full(count, 1.0 if name.endswith("weight") else 0.0)
        weights[name] = values.astype(np.float32).reshape(shape)
    return weights


def samples(first, count):
    """Two blobs, at places of the class that move a little from image to image, and much noise."""
    pixels = SIDE * SIDE
    image = NOISE * uniform(STREAM_NOISE, (first + count) * pixels)[first * pixels :]
    image = image.reshape(count, SIDE, SIDE)
    label = np.arange(first, first + count) % CLASSES
    shift = (random_bits(STREAM_PLACE, 2 * (first + count))[2 * first :] % np.uint64(7)).astype(int) - 3
    place = (random_bits(STREAM_CLASS, 4 * CLASSES) % np.uint64(16)).astype(int) + 6
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    for n in range(count):
        for blob in range(2):
            cy, cx = place[4 * label[n] + 2 * blob :][:2] + shift[2 * n :][:2]
            reach = np.maximum(64 - (y - cy) ** 2 - (x - cx) ** 2, 0)
            image[n] += reach * reach / 4096.0
    return torch.from_numpy(image.astype(np.float32)[:, None]), torch.from_numpy(label)


def forward(w, x, kinks=None):
    for number in (1, 2, 3):
        x = F.conv2d(x, w[f"conv{number}.weight"], padding=1)
        x = F.batch_norm(x, None, None, w[f"norm{number}.weight"], w[f"norm{number}.bias"], True, 0.1, EPS)
        if kinks is not None:
            kinks.append(x.detach().double())
        x = F.relu(x)
        if number > 1:
            if kinks is not None:
                four = F.unfold(x.detach().double().flatten(0, 1)[:, None], 2, stride=2)
                best = four.topk(2, dim=1).values
                kinks.append(torch.where(best[:, 0] > 0, best[:, 0] - best[:, 1], math.inf))
            x = F.max_pool2d(x, 2)
    x = x.permute(0, 2, 3, 1).flatten(1)  # mezzo's order: H, W, C
    x = F.linear(x, w["fc1.weight"], w["fc1.bias"])
    if kinks is not None:
        kinks.append(x.detach().double())
    return F.linear(F.relu(x), w["head.weight"], w["head.bias"])


def parameters(dtype):
    return {
        name: torch.from_numpy(value).to(dtype).requires_grad_()
        for name, value in initial_weights().items()
    }


def loss_of(w, x, label, precision, kinks=None):
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = forward(w, x, kinks)
    return F.cross_entropy(logits.to(w["head.bias"].dtype), label)


def train(precision):
    dtype = torch.float64 if precision == "fp64" else torch.float32
    w = parameters(dtype)
    groups = [  # mezzo's rule: vectors do not decay
        {"params": [p for p in w.values() if p.dim() > 1], "weight_decay": 0.01},
        {"params": [p for p in w.values() if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
    losses, norms = [], []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (step + 1) / WARMUP
        x, label = samples(step * BATCH, BATCH)
        loss = loss_of(w, x.to(dtype), label, precision)
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(w.values(), 1.0)))
        optimizer.step()
        losses.append(float(loss))
    return {"loss": losses, "grad_norm": norms}


def gradients():
    found, kinks = {}, {"fp64": [], "fp32": [], "bf16": None}
    for precision in ("fp64", "fp32", "bf16"):
        dtype = torch.float64 if precision == "fp64" else torch.float32
        w = parameters(dtype)
        x, label = samples(0, GRADIENT_BATCH)
        loss_of(w, x.to(dtype), label, precision, kinks[precision]).backward()
        found[precision] = {name: p.grad.double() for name, p in w.items()}
    tensors = []
    for name, exact in found["fp64"].items():
        norm = float(exact.norm())
        tensors.append({"name": name, "norm": norm} | {
            precision: float((found[precision][name] - exact).norm()) / norm
            for precision in ("fp32", "bf16")
        })
    error = max(
        float((a - b)[a.isfinite() & b.isfinite()].abs().max())
        for a, b in zip(kinks["fp64"], kinks["fp32"])
    )
    margin = min(float(a.abs().min()) for a in kinks["fp64"])
    return {"batch": GRADIENT_BATCH, "margin": margin, "error": error, "tensors": tensors}


def measure():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    cpu = [line for line in open("/proc/cpuinfo", encoding="ascii") if line.startswith("flags")]
    result = {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
        "instructions": [i for i in ("avx2", "avx512f", "avx512_bf16") if f" {i}" in cpu[0]],
        "seed": SEED,
        "gradient": gradients(),
        "train": {"batch": BATCH},
    }
    for precision in ("fp64", "fp32", "bf16"):
        result["train"][precision] = train(precision)
    return result


if __name__ == "__main__":
    json.dump(measure(), sys.stdout, indent=1)
    print()

#!/usr/bin/env python3
"""The network of examples/fashion-cnn.yaml in PyTorch, as the peer of tests/train/test_parity.c.

    python3 tests/parity/cnn_torch.py > tests/parity/cnn_torch.json      (Debian: python3-torch)
    python3 tests/parity/cnn_torch.py --compare tests/parity/cnn_torch.json

Weights and images are functions of an integer, written here and in the test: Philox bits, and then
arithmetic that is exact or rounded once, so that both have the same bits without a file between.
Two things are measured, in FP32, in BF16 by autocast, and in FP64:

  train     the loss of each of 20 AdamW steps, on a new batch each, at the rates 1e-3 t / 200.  From
            some step on a rounding error flips a choice of ReLU somewhere, and doubles every other
            step: at the full rate PyTorch's own FP32 and FP64 come 2e-2 apart, at 1e-3 t / 50 its
            FP32 with channels first and with channels last 1e-3, and nobody could agree with both.
            At this rate the two agree to some 1e-5, whatever the seed.
  gradient  on the initial weights and 4 times 8 images: the norms of each parameter's gradient in
            FP64, and the root mean square of the distance |g - g64| / |g64| of the other two, with
            channels first (PyTorch's default) and channels last, as mezzo has them ("_nhwc")

The gradient jumps where a ReLU or a max pooling changes its choice.  "margin" is the least distance
of the FP64 runs from such a kink, "error" the largest error of the FP32 runs among the values near
one.  The seed is, of 1 to 16, the one with the largest margin: otherwise one flipped choice, a
thousand times the rounding, would be all that an FP32 distance shows.
"""
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F

import kept
from gpt2_model import philox

SEED, STEPS, BATCH, GRADIENT_BATCH, GRADIENT_RUNS, CLASSES, SIDE = 4, 20, 32, 8, 4, 10, 28
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
NOISE = 0.5  # beside blobs of height 1
WARMUP = 200  # steps until the full rate
PEERS = {  # key: precision and the layout of images and convolution weights
    "fp32": ("fp32", torch.contiguous_format),
    "fp32_nhwc": ("fp32", torch.channels_last),
    "bf16": ("bf16", torch.contiguous_format),
    "bf16_nhwc": ("bf16", torch.channels_last),
}
NEAR = 1e-3  # to a kink: rounding errors are proportional to the terms, so not much smaller


def random_bits(stream, count):
    """`count` words of Philox4x32-10 with counter (block, stream, 0, 0) and key (SEED, 0)."""
    blocks = np.arange((count + 3) // 4)
    words = philox(np.broadcast_arrays(blocks, stream, 0, 0), (SEED, 0))
    return np.stack(words, axis=1).reshape(-1)[:count]


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


def dtype_of(precision):
    return torch.float64 if precision == "fp64" else torch.float32


def loss_of(w, x, label, precision, layout, kinks=None):
    x = x.to(dtype_of(precision)).to(memory_format=layout)
    w = {n: p.to(memory_format=layout) if p.dim() == 4 else p for n, p in w.items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = forward(w, x, kinks)
    return F.cross_entropy(logits.to(w["head.bias"].dtype), label)


def train(precision, layout):
    w = parameters(dtype_of(precision))
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
        loss = loss_of(w, x, label, precision, layout)
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(w.values(), 1.0)))
        optimizer.step()
        losses.append(float(loss))
    return {"loss": losses, "grad_norm": norms}


def gradient_of(run, precision, layout, kinks=None):
    w = parameters(dtype_of(precision))
    x, label = samples(run * GRADIENT_BATCH, GRADIENT_BATCH)
    loss_of(w, x, label, precision, layout, kinks).backward()
    return {name: p.grad.double() for name, p in w.items()}


def gradients():
    tensors = [{"name": name, "norm": []} | dict.fromkeys(PEERS, 0.0) for name, _, _ in PARAMS]
    margin, error = math.inf, 0.0
    for run in range(GRADIENT_RUNS):
        kinks, rounded = [], []
        exact = gradient_of(run, "fp64", torch.contiguous_format, kinks)
        found = {
            key: gradient_of(run, precision, layout, rounded if key == "fp32" else None)
            for key, (precision, layout) in PEERS.items()
        }
        for tensor in tensors:
            g = exact[tensor["name"]]
            tensor["norm"].append(float(g.norm()))
            for key in PEERS:
                tensor[key] += float((found[key][tensor["name"]] - g).norm() / g.norm()) ** 2
        a, b = (torch.cat([k.flatten() for k in parts]) for parts in (kinks, rounded))
        margin = min(margin, float(a.abs().min()))
        error = max(error, float((a - b)[a.abs() < NEAR].abs().max()))
    for tensor in tensors:
        for key in PEERS:
            tensor[key] = math.sqrt(tensor[key] / GRADIENT_RUNS)
    return {
        "batch": GRADIENT_BATCH,
        "runs": GRADIENT_RUNS,
        "margin": margin,
        "error": error,
        "tensors": tensors,
    }


def measure():
    result = kept.machine() | {
        "seed": SEED,
        "gradient": gradients(),
        "train": {"batch": BATCH, "warmup": WARMUP},
    }
    result["train"]["fp64"] = train("fp64", torch.contiguous_format)
    for key, (precision, layout) in PEERS.items():
        result["train"][key] = train(precision, layout)
    return result


if __name__ == "__main__":
    sys.exit(kept.main(__doc__.splitlines()[0], measure, ("torch", "numpy", "python", "instructions"),
                       {"fp64": 1e-9, "fp32": 1e-4, "bf16": 1e-2}, PEERS))

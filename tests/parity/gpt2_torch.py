#!/usr/bin/env python3
"""A small GPT-2 in PyTorch, as the peer of tests/train/test_parity_gpt2.c.

    python3 tests/parity/gpt2_torch.py > tests/parity/gpt2_torch.json      (Debian: python3-torch)
    python3 tests/parity/gpt2_torch.py --compare tests/parity/gpt2_torch.json

As in cnn_torch.py, weights and tokens are functions of an integer, written here and in the test.
A window of 16 sequences goes through in 4 micro-batches, and its loss is the mean over all labels of
the window.  The second micro-batch has few labels (0, 9, 18 and 27 of 32), so that a mean of four
means is another number.  Measured are

  train     the loss of each of 20 AdamW steps, on a new window each, clipped to norm 1.  Nothing in
            the network has a kink, so rounding errors stay what they are: "apart" is the largest
            relative distance of FP32's losses from FP64's
  gradient  on the initial weights and each of 4 windows: the norms of each parameter's gradient in
            FP64, and the root mean square of the distance |g - g64| / |g64| of the others

"bf16" is autocast, which keeps the residual stream in FP32.  "bf16_stream" is autocast with the
stream and the norms' outputs in BF16, at half the memory, as mezzo has them.
"""
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F

import gpt2_model as gpt2
import kept

SHAPE = gpt2.Shape(layers=2, heads=4, channels=64, context=32, vocabulary=96)
SEED, STEPS, RUNS, MICRO_BATCHES, MICRO_BATCH = 1, 20, 4, 4, 4
SHORT, SHORTER = 1, 9  # the micro-batch with few labels, and how many more each of its rows has
BATCH = MICRO_BATCHES * MICRO_BATCH
LR, BETAS, WEIGHT_DECAY, CLIP = 1e-3, (0.9, 0.95), 0.1, 1.0
STREAM_TOKENS, STREAM_KIND = 100, 101  # below: parameters, by their order
VECTOR = 0.125  # biases and norms: this much about 0 and 1
PEERS = ("fp32", "bf16", "bf16_stream")


def random_bits(stream, count):
    """`count` words of Philox with counter (block, stream, 0, 0) and key (SEED, 0)."""
    words = gpt2.philox((np.arange((count + 3) // 4), stream, 0, 0), (SEED, 0))
    return np.stack(words, axis=1).reshape(-1)[:count]


def uniform(stream, count):
    """[-1, 1), 24 bits: exact in FP32."""
    return (random_bits(stream, count) >> np.uint64(8)).astype(np.float64) * 2.0**-23 - 1.0


def initial_weights():
    """Matrices uniform in +-1/sqrt(columns), so that every layer has a say from the first step."""
    weights = {}
    for index, (name, shape) in enumerate(gpt2.parameter_shapes(SHAPE).items()):
        values = uniform(index, math.prod(shape))
        if len(shape) == 2:
            values = values * (1.0 / math.sqrt(shape[1]))
        else:
            is_norm_weight = ".ln_" in f".{name}" and name.endswith("weight")
            values = values * VECTOR + (1.0 if is_norm_weight else 0.0)
        weights[name] = values.astype(np.float32).reshape(shape)
    return weights


def sequences(first, count):
    """Small tokens are frequent, (u^2 V); every second one is its predecessor's successor instead."""
    T, V = SHAPE.context, SHAPE.vocabulary
    places = slice(first * (T + 1), (first + count) * (T + 1))
    u = random_bits(STREAM_TOKENS, places.stop)[places] >> np.uint64(8)
    tokens = (((u * u) >> np.uint64(24)) * np.uint64(V) >> np.uint64(24)).astype(np.int64)
    follows = (random_bits(STREAM_KIND, places.stop)[places] & np.uint64(1)).astype(bool)
    tokens, follows = tokens.reshape(count, T + 1), follows.reshape(count, T + 1)
    for t in range(1, T + 1):
        tokens[:, t] = np.where(follows[:, t], (tokens[:, t - 1] + 1) % V, tokens[:, t])
    return tokens


def window(number):
    """The micro-batches of a window, as tokens and labels."""
    tokens = sequences(number * BATCH, BATCH)
    x, labels = tokens[:, :-1].copy(), tokens[:, 1:].copy()
    for row in range(MICRO_BATCH):
        labels[SHORT * MICRO_BATCH + row, SHORTER * row :] = gpt2.IGNORE
    return [
        (torch.from_numpy(x[m : m + MICRO_BATCH]), torch.from_numpy(labels[m : m + MICRO_BATCH]))
        for m in range(0, BATCH, MICRO_BATCH)
    ]


def parameters(precision):
    dtype = torch.float64 if precision == "fp64" else torch.float32
    return {
        name: torch.from_numpy(value).to(dtype).requires_grad_()
        for name, value in initial_weights().items()
    }


def backward(w, number, precision):
    """Add the gradients of a window to those of `w`; returns the window's loss."""
    micro_batches = window(number)
    valid = sum(int((labels != gpt2.IGNORE).sum()) for _, labels in micro_batches)
    stream = torch.bfloat16 if precision == "bf16_stream" else None
    total = 0.0
    for x, labels in micro_batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision.startswith("bf16")):
            logits = gpt2.forward(w, x, SHAPE, stream)
        logits = logits.to(w["wte.weight"].dtype).flatten(0, 1)
        loss = F.cross_entropy(logits, labels.flatten(), ignore_index=gpt2.IGNORE, reduction="sum")
        loss = loss / valid
        loss.backward()
        total += float(loss)
    return total


def train(precision):
    w = parameters(precision)
    optimizer = gpt2.adamw(w, LR, BETAS, WEIGHT_DECAY)
    losses, norms = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        losses.append(backward(w, step, precision))
        norms.append(float(torch.nn.utils.clip_grad_norm_(w.values(), CLIP)))
        optimizer.step()
    return {"loss": losses, "grad_norm": norms}


def gradient_of(run, precision):
    w = parameters(precision)
    backward(w, run, precision)
    return {name: p.grad.double() for name, p in w.items()}


def gradients():
    tensors = [{"name": n, "norm": []} | dict.fromkeys(PEERS, 0.0) for n in gpt2.parameter_shapes(SHAPE)]
    for run in range(RUNS):
        exact = gradient_of(run, "fp64")
        found = {key: gradient_of(run, key) for key in PEERS}
        for tensor in tensors:
            g = exact[tensor["name"]]
            tensor["norm"].append(float(g.norm()))
            for key in PEERS:
                tensor[key] += float((found[key][tensor["name"]] - g).norm() / g.norm()) ** 2 / RUNS
    for tensor in tensors:
        for key in PEERS:
            tensor[key] = math.sqrt(tensor[key])
    return {"batch": BATCH, "runs": RUNS, "tensors": tensors}


def measure():
    result = kept.machine() | {
        "blas": gpt2.blas(),
        "seed": SEED,
        "shape": vars(SHAPE),
        "window": {"micro_batches": MICRO_BATCHES, "micro_batch": MICRO_BATCH},
        "gradient": gradients(),
        "train": {"batch": BATCH, "lr": LR, "beta1": BETAS[0], "beta2": BETAS[1], "weight_decay": WEIGHT_DECAY, "clip": CLIP},
    }
    for key in ("fp64", *PEERS):
        result["train"][key] = train(key)
    result["train"]["apart"] = kept.largest_apart(result["train"]["fp32"], result["train"]["fp64"])
    return result


if __name__ == "__main__":
    sys.exit(kept.main(__doc__.splitlines()[0], measure, ("torch", "numpy", "python", "blas", "instructions"),
                       {"fp64": 1e-9, "fp32": 1e-4, "bf16": 1e-2, "bf16_stream": 1e-2}, PEERS))

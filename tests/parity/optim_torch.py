#!/usr/bin/env python3
"""Optimizers and smoothed labels in PyTorch, as the peer of tests/train/test_optim_torch.c.

    python3 tests/parity/optim_torch.py > tests/parity/optim_torch.json      (Debian: python3-torch)

Two matrices and a vector get 100 gradients that are functions of an integer, written here and in the
test, and exact in FP32.  Constants are FP32's.  All else is FP64; the figures are the parameters
behind steps 1, 10 and 100.  PyTorch 1.13 has neither Lion nor Muon: they are written here from their
sources (Chen and others 2023, algorithm 2; Jordan and others 2024, with FP64 in BF16's place), Muon
for the matrices and PyTorch's AdamW for the vector.
"""
import json

import numpy as np
import torch
import torch.nn.functional as F

SHAPES = {"a": (6, 4), "c": (3, 5), "b": (5,)}
STEPS = (1, 10, 100)
START = 1000  # streams: 0 the mean of the gradients, t that of step t, and those of initial values
LOGITS, LABELS, CLASSES = 2000, (3, 0, -1, 6, 6), 7


def words(stream, count):
    """A hash of (stream, element): the finalizer of MurmurHash3 in 32 bits."""
    x = (np.arange(count, dtype=np.uint64) * 0x9E3779B1 + stream * 0x85EBCA77) % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> np.uint64(shift))) * factor % 2**32
    return x ^ (x >> np.uint64(16))


def uniform(stream, count):
    """[-1, 1), 24 bits."""
    return (words(stream, count) >> np.uint64(8)).astype(np.float64) * 2.0**-23 - 1.0


def tensors(make):
    """Each tensor from its part of one list of elements."""
    flat, result, at = make(sum(int(np.prod(s)) for s in SHAPES.values())), {}, 0
    for name, shape in SHAPES.items():
        count = int(np.prod(shape))
        result[name] = flat[at : at + count].reshape(shape)
        at += count
    return result


def gradients(step):
    return tensors(lambda n: (uniform(0, n) + uniform(step, n)) / 2)


def f32(x):
    return float(np.float32(x))


def decay_of(run, name):
    return run["weight_decay"] if len(SHAPES[name]) > 1 else 0.0


def steps_of_torch(run):
    start = tensors(lambda n: uniform(START, n))
    w = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in start.items()}
    groups = [{"params": [p], "weight_decay": decay_of(run, k)} for k, p in w.items()]
    if run["kind"] == "adamw":
        betas = (run["beta1"], run["beta2"])
        optimizer = torch.optim.AdamW(groups, lr=run["lr"], betas=betas, eps=run["eps"])
    else:
        optimizer = torch.optim.SGD(
            groups, lr=run["lr"], momentum=run["momentum"], nesterov=run["nesterov"]
        )
    for step in range(1, STEPS[-1] + 1):
        for name, g in gradients(step).items():
            w[name].grad = torch.tensor(g)
        optimizer.step()
        yield step, {k: p.detach().numpy() for k, p in w.items()}


def steps_of_lion(run):
    w, m = tensors(lambda n: uniform(START, n)), tensors(np.zeros)
    for step in range(1, STEPS[-1] + 1):
        for name, g in gradients(step).items():
            update = np.sign(run["beta1"] * m[name] + (1 - run["beta1"]) * g)
            w[name] = w[name] - run["lr"] * (update + decay_of(run, name) * w[name])
            m[name] = run["beta2"] * m[name] + (1 - run["beta2"]) * g
        yield step, w


def orthogonal(u):
    a, b, c = (f32(x) for x in (3.4445, -4.7750, 2.0315))
    tall = u.shape[0] > u.shape[1]
    x = u / (np.linalg.norm(u) + f32(1e-7))
    x = x.T if tall else x
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


def steps_of_muon(run):
    w, m = tensors(lambda n: uniform(START, n)), tensors(np.zeros)
    beta, others = run["momentum"], dict(run, kind="adamw", lr=run["lr"] * run["other_lr_scale"])
    for step, by_adamw in steps_of_torch(others):
        for name, g in gradients(step).items():
            if len(SHAPES[name]) < 2:
                w[name] = by_adamw[name]
                continue
            rows, columns = SHAPES[name]
            m[name] = m[name] + (1 - beta) * (g - m[name])
            update = orthogonal(g + beta * (m[name] - g)) * max(1, rows / columns) ** 0.5
            w[name] = w[name] * (1 - run["lr"] * run["weight_decay"]) - run["lr"] * update
        yield step, w


PEERS = {
    "adamw": steps_of_torch,
    "sgd": steps_of_torch,
    "lion": steps_of_lion,
    "muon": steps_of_muon,
}
RUNS = [
    {"kind": "adamw", "lr": 0.02, "weight_decay": 0.1, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8},
    {"kind": "sgd", "lr": 0.05, "weight_decay": 0.1, "momentum": 0.0, "nesterov": False},
    {"kind": "sgd", "lr": 0.02, "weight_decay": 0.1, "momentum": 0.9, "nesterov": False},
    {"kind": "sgd", "lr": 0.02, "weight_decay": 0.1, "momentum": 0.9, "nesterov": True},
    {"kind": "lion", "lr": 0.01, "weight_decay": 0.3, "beta1": 0.9, "beta2": 0.99},
    {"kind": "muon", "lr": 0.02, "weight_decay": 0.1, "momentum": 0.95, "other_lr_scale": 0.5}
    | {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8},
]


def figures_of(run):
    run = {k: f32(v) if isinstance(v, float) else v for k, v in run.items()}
    run["steps"] = [
        {"step": step, **{k: v.flatten().tolist() for k, v in w.items()}}
        for step, w in PEERS[run["kind"]](run)
        if step in STEPS
    ]
    return run


def smoothed(amount):
    logits = torch.tensor(4 * uniform(LOGITS, len(LABELS) * CLASSES).reshape(-1, CLASSES))
    logits.requires_grad_()
    labels = torch.tensor(LABELS)
    loss = F.cross_entropy(logits, labels, ignore_index=-1, label_smoothing=f32(amount))
    loss.backward()
    gradient = logits.grad.flatten().tolist()
    return {"amount": f32(amount), "loss": loss.item(), "gradient": gradient}


def main():
    torch.set_default_dtype(torch.float64)
    parts = {
        "runs": [figures_of(run) for run in RUNS],
        "smoothing": [smoothed(amount) for amount in (0.0, 0.1, 1.0)],
    }
    print('{"torch": %s' % json.dumps(torch.__version__), end="")
    for name, items in parts.items():  # one item a line
        print(',\n"%s": [\n%s\n]' % (name, ",\n".join(map(json.dumps, items))), end="")
    print("}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The run of examples/kjv-gpt.yaml in PyTorch: bits per byte with the same budget.

    nice python3 tests/parity/kjv_torch.py fp32 tests/parity/kjv_torch.json
    nice python3 tests/parity/kjv_torch.py bf16 tests/parity/kjv_torch.json

Needs Debian's python3-torch and bible-kjv, and libopenblas0-openmp: PyTorch's FP32 products are else
those of the reference BLAS, a hundred times slower.  Half an hour each on two cores.

Everything is as in mezzo: the text (bytes as tokens, the last tenth for validation), the initial
values (Philox, keyed by seed and name), the order of the windows, the schedule, the decay, clipping.
What is left to differ is arithmetic.  "bf16" is autocast: FP32 weights, BF16 products.

The validation loss is over every byte of the validation text but its first, in windows of the
context that do not overlap.  The file keeps one result a precision: the curve, and step time and
peak memory, which `--time` measures again in 20 steps without validation.
"""
import argparse
import hashlib
import json
import math
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

import gpt2_model as gpt2

SHAPE = gpt2.Shape(layers=6, heads=6, channels=384, context=256, vocabulary=256)
BATCH, STEPS, WARMUP, SEED = 16, 600, 50, 1
LR, LR_MIN, BETAS, WEIGHT_DECAY, CLIP = 1e-3, 1e-4, (0.9, 0.95), 0.1, 1.0
VALIDATE_EVERY, TIMED_STEPS = 200, 20
TEXT = ["bible", "-f", "-l9999", "gen1:1-rev22:21"]
SHA256 = "cd45f0c9cedab8e4439bd6486c8952c77cc8b0ecc5d1f6ae3513f2039f47229d"


def text_tokens():
    text = subprocess.run(TEXT, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    if hashlib.sha256(text).hexdigest() != SHA256:
        sys.exit(f"{' '.join(TEXT)}: {len(text)} bytes of another text")
    tokens = np.frombuffer(text, dtype=np.uint8).astype(np.int64)
    first_validation = len(tokens) - int(len(tokens) * 0.1)
    return tokens[:first_validation], tokens[first_validation:]


def permute(index, count, seed, stream):
    """mzi_permute of src/base/rng.c, for an array of indices."""
    half = 1
    while half < 32 and (count - 1) >> (2 * half):
        half += 1
    mask = np.uint64(2**half - 1)
    x = index.astype(np.uint64)
    walking = np.ones(len(x), dtype=bool)
    while walking.any():
        left, right = (x[walking] >> np.uint64(half)) & mask, x[walking] & mask
        for number in range(6):
            bits = gpt2.philox((right, number, stream & 0xFFFFFFFF, stream >> 32), (seed, 0))[0]
            left, right = right, left ^ (bits & mask)
        x[walking] = left << np.uint64(half) | right
        walking = x >= count
    return x.astype(np.int64)


def initial_values(name, shape):
    """src/train/model_state.c: normal values in pairs after Box and Muller; norms 1, biases 0."""
    if len(shape) == 1:
        return np.full(shape, 1.0 if name.endswith("weight") else 0.0, dtype=np.float32)
    deviation = 0.02
    if name.endswith("c_proj.weight"):
        deviation /= math.sqrt(2 * SHAPE.layers)
    count, stream = math.prod(shape), gpt2.name_hash(name)
    blocks = np.arange((count + 3) // 4)
    words = gpt2.philox((blocks, 0, 0, stream >> 32), (SEED, stream & 0xFFFFFFFF))
    u = [(word >> np.uint64(8)).astype(np.float64) * 2.0**-24 for word in words]
    values = []
    for a, b in ((u[0], u[1]), (u[2], u[3])):
        radius, angle = np.sqrt(-2.0 * np.log(1.0 - a)), 2.0 * math.pi * b
        values += [radius * np.cos(angle), radius * np.sin(angle)]
    values = np.stack(values, axis=1).reshape(-1)[:count] * float(np.float32(deviation))
    return values.astype(np.float32).reshape(shape)


def rate(step, steps, lr):
    if step < WARMUP:
        return lr * (step + 1) / WARMUP
    at = (step - WARMUP) / (steps - WARMUP)
    return LR_MIN + (lr - LR_MIN) * 0.5 * (1.0 + math.cos(math.pi * at))


def windows(tokens, first):
    """Inputs and labels of the windows whose tokens begin at `first`."""
    at = first[:, None] + np.arange(SHAPE.context + 1)
    both = torch.from_numpy(tokens[at])
    return both[:, :-1], both[:, 1:]


def loss_of(w, x, labels, precision, reduction):
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = gpt2.forward(w, x, SHAPE)
    return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction=reduction)


def bits_per_byte(w, tokens, precision):
    T, total = SHAPE.context, 0.0
    full = (len(tokens) - 1) // T
    with torch.no_grad():
        for first in range(0, full, BATCH):
            x, labels = windows(tokens, np.arange(first, min(first + BATCH, full)) * T)
            total += float(loss_of(w, x, labels, precision, "none").double().sum())
        rest = torch.from_numpy(tokens[full * T :])[None]
        if rest.shape[1] > 1:
            total += float(loss_of(w, rest[:, :-1], rest[:, 1:], precision, "none").double().sum())
    return total / (len(tokens) - 1) / math.log(2)


def say(text):
    print(text, file=sys.stderr, flush=True)


def train(precision, steps, lr, validates):
    training, validation = text_tokens()
    count = (len(training) - 1) // SHAPE.context
    if steps * BATCH > count:
        sys.exit(f"{steps} steps of {BATCH} windows: the text has {count}, and one epoch is written here")
    order = permute(np.arange(steps * BATCH), count, SEED, gpt2.name_hash("data.shuffle"))
    w = {
        name: torch.from_numpy(initial_values(name, shape)).requires_grad_()
        for name, shape in gpt2.parameter_shapes(SHAPE).items()
    }
    optimizer = gpt2.adamw(w, lr, BETAS, WEIGHT_DECAY)
    result = {"loss": [], "bits_per_byte": {}}
    times = []
    for step in range(steps):
        start = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, lr)
        x, labels = windows(training, order[step * BATCH :][:BATCH] * SHAPE.context)
        loss = loss_of(w, x, labels, precision, "mean")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(w.values(), CLIP))
        optimizer.step()
        times.append(time.perf_counter() - start)
        if step % 10 == 9 or step == 0:
            result["loss"].append([step + 1, round(float(loss), 5)])
            say(f"step {step + 1} loss {float(loss):.4f} norm {norm:.3f} {times[-1]:.2f} s")
        if validates and ((step + 1) % VALIDATE_EVERY == 0 or step + 1 == steps):
            found = bits_per_byte(w, validation, precision)
            result["bits_per_byte"][str(step + 1)] = found
            say(f"step {step + 1} validation {found:.5f} bits per byte")
    result["step_seconds"] = {"median": statistics.median(times[2:]), "least": min(times)}
    result["peak_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result["threads"] = torch.get_num_threads()
    return result


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("precision", choices=("fp32", "bf16"))
    arguments.add_argument("json", nargs="?", type=pathlib.Path, help="file to keep the result in")
    arguments.add_argument("--steps", type=int, default=STEPS)
    arguments.add_argument("--lr", type=float, default=LR)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--time", action="store_true", help="measure time and memory only")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    if options.time:
        options.steps = TIMED_STEPS
    result = train(options.precision, options.steps, options.lr, not options.time)
    kept = {}
    if options.json and options.json.exists():
        kept = json.loads(options.json.read_text(encoding="utf-8"))
    kept["torch"] = torch.__version__
    kept["blas"] = gpt2.blas()
    kept["recipe"] = {
        "shape": vars(SHAPE),
        "batch": BATCH,
        "steps": STEPS if options.time else options.steps,
        "warmup": WARMUP,
        "lr": options.lr,
        "lr_min": LR_MIN,
        "betas": BETAS,
        "weight_decay": WEIGHT_DECAY,
        "clip": CLIP,
        "seed": SEED,
        "text_sha256": SHA256,
    }
    if options.time:
        timed = {key: result[key] for key in ("step_seconds", "peak_bytes", "threads")}
        kept[options.precision] = kept.get(options.precision, {}) | timed
    else:
        kept[options.precision] = result
    text = json.dumps(kept, indent=1) + "\n"
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()

"""What cnn_torch.py and gpt2_torch.py share: a result that is written, or held to one that was kept."""
import argparse
import json
import sys

import numpy as np
import torch


def machine():
    """What bits may depend on."""
    with open("/proc/cpuinfo", encoding="ascii") as file:
        flags = next(line for line in file if line.startswith("flags"))
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
        "instructions": [i for i in ("avx2", "avx512f", "avx512_bf16") if f" {i}" in flags],
    }


def largest_apart(a, b):
    """Of two curves of losses."""
    return max(abs(x / y - 1.0) for x, y in zip(a["loss"], b["loss"], strict=True))


def differences(fresh, kept, curves, peers):
    """What a fresh result contradicts in a kept one, perhaps of another machine.

    FP64 holds to 1e-9.  Other instructions sum in another order, so FP32 and BF16 hold to the limits
    that mezzo is held to: losses (`curves`: key and limit) to 1e-4 and 1e-2, distances to a factor of
    1.5.
    """
    wrong = []

    def check(what, a, b, limit):
        if not abs(a - b) <= limit * abs(b):
            wrong.append(f"{what}: {a:.9g}, kept {b:.9g}")

    for key, limit in curves.items():
        losses = zip(fresh["train"][key]["loss"], kept["train"][key]["loss"], strict=True)
        for step, (a, b) in enumerate(losses, 1):
            check(f"{key} loss of step {step}", a, b, limit)
    for a, b in zip(fresh["gradient"]["tensors"], kept["gradient"]["tensors"], strict=True):
        for x, y in zip(a["norm"], b["norm"], strict=True):
            check(f"norm of {a['name']}", x, y, 1e-9)
        for key in peers:
            check(f"{key} distance of {a['name']}", a[key], b[key], 0.5)
    return wrong


def main(description, measure, versions, curves, peers):
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--compare", metavar="JSON", help="with this one, instead of writing")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    fresh = measure()
    if not options.compare:
        json.dump(fresh, sys.stdout, indent=1)
        print()
        return 0
    with open(options.compare, encoding="utf-8") as file:
        kept = json.load(file)
    for key in versions:
        print(f"{key}: {fresh[key]} (kept: {kept[key]})")
    apart = [f"{key} {largest_apart(fresh['train'][key], kept['train'][key]):.1e}" for key in curves]
    print("losses, largest relative difference:", ", ".join(apart))
    wrong = differences(fresh, kept, curves, peers)
    print("\n".join(wrong) if wrong else "as kept")
    return 1 if wrong else 0

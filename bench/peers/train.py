#!/usr/bin/env python3
"""A training run in PyTorch as `mezzo train` does it, timed step by step: one line of JSON.

    train.py SPEC        SPEC: a JSON file as bench/measure.py writes it

Same weights, same samples in the same order, AdamW (fused where PyTorch has that) with decay on what
has two dimensions or more, clipping, one FP32 loss a step read by the host.  "bf16" is autocast."""
import importlib
import json
import sys
import time



import numpy as np  # noqa: E402  (the clock starts first)
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

import files  # noqa: E402

MODULES = {"gpt2": "gpt2", "llama": "llama", "cnn": "images", "mlp": "images"}


def make_optimizer(model, o):
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": o["weight_decay"]},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    beta2 = 0.999 if o["beta2"] == "auto" else o["beta2"]
    options = {"lr": o["lr"], "betas": (o["beta1"], beta2), "eps": o["eps"]}
    try:
        return torch.optim.AdamW(groups, fused=True, **options), "fused"
    except (RuntimeError, TypeError):  # before fused AdamW came to CPUs
        return torch.optim.AdamW(groups, **options), "for each tensor"


def clip(parameters, limit):
    """clip_grad_norm_ with a norm of the norms of rows.  Its own adds the 39 million squares of an
    embedding in FP32: GPT-2's first gradient loses 0.3 % of that tensor's norm, the third 0.4 % of the
    whole norm, and after ten steps the losses are 1e-4 from those with the exact one."""
    gradients = [p.grad for p in parameters]
    norms = [torch.linalg.vector_norm(torch.linalg.vector_norm(g, dim=-1)) for g in gradients]
    factor = torch.clamp(limit / (torch.linalg.vector_norm(torch.stack(norms)) + 1e-6), max=1.0)
    for g in gradients:
        g.mul_(factor)


def load(model, path):
    weights = files.read_safetensors(path)
    wanted = {n: p for n, p in model.named_parameters()}
    missing = set(wanted) ^ set(n for n in weights if "running" not in n)
    if missing:
        sys.exit(f"{path}: these tensors are in one of the two models only: {sorted(missing)}")
    with torch.no_grad():
        for name, p in wanted.items():
            p.copy_(torch.from_numpy(weights[name]))


def samples_of(spec):
    c = spec["config"]
    batch, seed = c["data"]["batch"], c["train"]["seed"]
    if c["model"]["kind"] in ("gpt2", "llama"):
        return files.Windows(spec["tokens"], c["model"]["context"], batch, seed)
    return files.Images(spec["images"], c["data"]["mean"], c["data"]["std"], batch, seed)


def memory_peak():
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    config, train = spec["config"], spec["config"]["train"]
    torch.set_num_threads(spec["threads"])
    model = importlib.import_module(MODULES[config["model"]["kind"]]).Model(config)
    load(model, spec["weights"])
    optimizer, form = make_optimizer(model, config["optimizer"])
    samples, windows = samples_of(spec), train["accumulate"]
    low = spec["precision"] == "bf16"

    def loss_of(x, labels):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = model(x)
        return F.cross_entropy(logits.float(), labels.flatten())

    run = torch.compile(loss_of) if spec["mode"] == "compile" else loss_of
    losses, times = [], []
    start = time.time() - spec["spawned"]
    for step in range(spec["steps"]):
        begin, total = time.perf_counter(), 0.0
        warmup = config["schedule"]["warmup"]
        for group in optimizer.param_groups:
            group["lr"] = config["optimizer"]["lr"] * min(1.0, (step + 1) / max(warmup, 1))
        for k in range(windows):
            x, labels = (torch.from_numpy(np.ascontiguousarray(a)) for a in samples(step * windows + k))
            loss = run(x, labels) / windows
            loss.backward()
            total += float(loss.detach())
        if train["clip"] > 0:
            clip(model.parameters(), train["clip"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append((time.perf_counter() - begin) * 1e3)
        losses.append(total)
    result = {"version": torch.__version__, "mode": spec["mode"], "optimizer": form, "losses": losses}
    result |= {"steps_ms": times, "peak_bytes": memory_peak(), "start_s": start}
    print(json.dumps(result | {"threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()

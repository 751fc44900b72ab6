#!/usr/bin/env python3
"""The loss scalers of PyTorch, Megatron-LM and DeepSpeed, as the peers of tests/unit/test_scaler.c.

    python3 tests/parity/scaler_peers.py > new.json && mv new.json tests/parity/scaler_peers.json
    ... --record RUN_DIRECTORY... > new.json         with overflows of other runs
    ... --compare tests/parity/scaler_peers.json [--megatron FILE] [--deepspeed FILE]

The rules are written here from what the sources named in FACTS do, in the variables that they have
there.  1,000 overflow traces go through each.  A trace is recorded (runs of clean and of bad steps,
as a training run had them) or a function of its number, made of integers here and in the test, so
that no file of traces is needed.  What is kept is, for each trace and rule, a digest of scale and
trackers after every step; and a few traces step by step, to be read.

The recorded ones are runs of mezzo, called MODE-LR, 1,500 steps in FP16 each, with

    model: {kind: mlp, hidden: [32]}
    data: {batch: 16, limit: 4096, test_limit: 256}
    precision: {compute: f16, loss_scale: {mode: MODE, interval: 25}}
    optimizer: {lr: LR}
    train: {steps: 1500, seed: 1 with LR 2e-3 or 2 with 3e-2, threads: 1}

--compare makes everything again, and runs every trace against the real thing too, where there is
one: PyTorch's kernel if the installed PyTorch has it for the CPU (2.3 and later), and the two source
files if they are given: megatron/core/optimizer/grad_scaler.py, deepspeed/runtime/fp16/loss_scaler.py.
"""
import argparse
import json
import math
import pathlib
import re
import struct
import sys
import types

import numpy as np

FACTS = {
    "pytorch": "_amp_update_scale_ in aten/src/ATen/native/cuda/AmpKernels.cu and cpu/"
    "AmpGradScalerKernels.cpp; defaults of torch.amp.GradScaler",
    "megatron": "DynamicGradScaler in megatron/core/optimizer/grad_scaler.py at d98e8a64; defaults of "
    "optimizer_config.py",
    "deepspeed": "DynamicLossScaler in deepspeed/runtime/fp16/loss_scaler.py at edaa7221 (0.19.6; the "
    "rule since 0.17.1); defaults of runtime/precision_config.py",
}
FIGURES = pathlib.Path(__file__).with_suffix(".json")
TRACES = 1000
U64 = (1 << 64) - 1
FNV_BASIS, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
INTERVALS = (1, 2, 3, 10, 50, 200, 1000, 2000)
DEFAULTS = {
    "pytorch": {"init": 2.0**16, "growth": 2.0, "backoff": 0.5, "interval": 2000},
    "megatron": {"init": 2.0**32, "growth": 2.0, "backoff": 0.5, "interval": 1000, "min": 1.0,
                 "hysteresis": 2},
    "deepspeed": {"init": 2.0**16, "interval": 1000, "min": 1.0, "hysteresis": 2,
                  "consecutive": False, "skip_at_min": False},
}  # fmt: skip


class PyTorch:
    """The scale is an FP32 tensor, the factors are FP64, the product is rounded to FP32."""

    def __init__(self, c):
        self.c, self.scale, self.growth_tracker = c, np.float32(c["init"]), 0

    def restore(self, clean, hysteresis):
        self.growth_tracker = clean

    def update(self, bad):
        if bad:
            self.scale = np.float32(float(self.scale) * self.c["backoff"])
            self.growth_tracker = 0
            return True
        successful = self.growth_tracker + 1
        self.growth_tracker = 0 if successful == self.c["interval"] else successful
        if successful == self.c["interval"]:
            grown = np.float32(float(self.scale) * self.c["growth"])
            self.scale = grown if np.isfinite(grown) else self.scale
        return True

    def state(self):
        return float(self.scale), self.growth_tracker, 0


class Megatron:
    """An FP32 tensor, which nothing keeps from infinity; overflows count down until growth."""

    def __init__(self, c):
        self.c, self.scale = c, np.float32(c["init"])
        self.growth_tracker, self.hysteresis_tracker = 0, c["hysteresis"]

    def restore(self, clean, hysteresis):
        self.growth_tracker, self.hysteresis_tracker = clean, hysteresis

    def update(self, bad):
        if bad:
            self.growth_tracker = 0
            self.hysteresis_tracker -= 1
            if self.hysteresis_tracker <= 0:
                lower = self.scale * np.float32(self.c["backoff"])
                self.scale = max(lower, np.float32(self.c["min"]))
            return True
        self.growth_tracker += 1
        if self.growth_tracker == self.c["interval"]:
            self.scale = self.scale * np.float32(self.c["growth"])
            self.growth_tracker, self.hysteresis_tracker = 0, self.c["hysteresis"]
        return True

    def state(self):
        return float(self.scale), self.growth_tracker, self.hysteresis_tracker


class DeepSpeed:
    """A Python number, by counts of iterations; an overflow at the minimum raises."""

    FACTOR = 2.0

    def __init__(self, c):
        self.c, self.cur_scale, self.cur_hysteresis = c, float(c["init"]), c["hysteresis"]
        self.cur_iter, self.last_overflow_iter = 0, -1

    def restore(self, clean, hysteresis):
        self.cur_iter, self.cur_hysteresis = clean, hysteresis

    def update(self, bad):
        shift = self.c["hysteresis"]
        clean = self.cur_iter - self.last_overflow_iter - 1  # before this step
        if bad:
            if shift != 1 and self.cur_hysteresis != 1:
                self.cur_hysteresis -= 1
            elif self.cur_scale == self.c["min"] and not self.c["skip_at_min"]:
                return False
            else:
                self.cur_scale = max(self.cur_scale / self.FACTOR, self.c["min"])
            self.last_overflow_iter = self.cur_iter
        else:
            grows = clean > 0 and clean % self.c["interval"] == 0
            if grows:
                self.cur_scale *= self.FACTOR
            if grows or self.c["consecutive"]:
                self.cur_hysteresis = shift
        self.cur_iter += 1
        return True

    def state(self):
        return self.cur_scale, self.cur_iter - self.last_overflow_iter - 1, self.cur_hysteresis


RULES = {"pytorch": PyTorch, "megatron": Megatron, "deepspeed": DeepSpeed}


class Words:
    """x = 6364136223846793005 x + 1442695040888963407 mod 2^64; a word is the upper half."""

    def __init__(self, seed):
        self.x = seed

    def draw(self, below):
        self.x = (6364136223846793005 * self.x + 1442695040888963407) & U64
        return (self.x >> 32) % below


class RandomTrace:
    """The trace of a number: parameters, state to start from, and overflows."""

    def __init__(self, number):
        w = self.words = Words(number)
        self.steps = 64 + w.draw(4033)
        self.kind = w.draw(4)
        self.rarity = 2 << w.draw(10)  # one of so many
        self.begin = w.draw(64)
        self.end = self.begin + 16 + w.draw(256)
        self.limit = 10 + w.draw(10)
        interval = INTERVALS[w.draw(8)]
        growth, backoff = 2.0 ** (1 + w.draw(2)), 0.5 ** (1 + w.draw(2))
        init = (lambda range, place: (100 + place % 28, place % 40 - 149, place - 4)[range])(
            min(w.draw(8), 2), w.draw(41)
        )
        least = max(init - w.draw(24), -149)
        hysteresis = 1 + w.draw(4)
        consecutive, skip_at_min = bool(w.draw(2)), bool(w.draw(2))
        self.given = {"init": 2.0**init, "growth": growth, "backoff": backoff,
                      "interval": interval, "min": 2.0**least, "hysteresis": hysteresis,
                      "consecutive": consecutive, "skip_at_min": skip_at_min}  # fmt: skip
        self.all_default = w.draw(4) == 0
        self.restored = w.draw(4) == 0
        self.clean, self.hysteresis = w.draw(2 * interval + 1), w.draw(7) - 2
        self.seed = w.x

    def config(self, rule):
        return {k: v if self.all_default else self.given[k] for k, v in DEFAULTS[rule].items()}

    def start(self, scaler):
        self.words.x, self.level, self.burst = self.seed, self.limit, False
        if self.restored:
            scaler.restore(self.clean, self.hysteresis)

    def bad(self, step, scale):
        if self.kind == 0:  # independent
            return self.words.draw(self.rarity) == 0
        if self.kind == 1:  # in bursts of 8 on average
            self.burst ^= self.words.draw(8 if self.burst else self.rarity) == 0
            return self.burst
        if self.kind == 2:  # above a level that wanders
            move = self.words.draw(64)
            self.level += (move == 1) - (move == 0)
            return scale > math.ldexp(1.0, self.level)
        return self.begin <= step < self.end  # one collapse


class RecordedTrace:
    def __init__(self, record):
        self.interval = record["interval"]
        self.overflows = [k % 2 == 1 for k, run in enumerate(record["runs"]) for _ in range(run)]
        self.steps = len(self.overflows)

    def config(self, rule):
        return dict(DEFAULTS[rule], interval=self.interval)

    def start(self, scaler):
        pass

    def bad(self, step, scale):
        return self.overflows[step]


def replay(trace, scaler):
    """Scale and trackers after each step; after None, the scaler has given up."""
    trace.start(scaler)
    for step in range(trace.steps):
        if not scaler.update(trace.bad(step, scaler.state()[0])):
            yield None
            return
        yield scaler.state()


def digest(states):
    h = FNV_BASIS
    for state in states:
        scale, growth, hysteresis = state or (0.0, -1, -1)
        (bits,) = struct.unpack("<Q", struct.pack("<d", scale))
        h = ((h ^ bits) * FNV_PRIME) & U64
        h = ((h ^ ((growth & 0xFFFFFFFF) << 32 | hysteresis & 0xFFFFFFFF)) * FNV_PRIME) & U64
    return f"{(h >> 32) ^ (h & 0xFFFFFFFF):08x}"


def read_run(folder):
    """A finished run's interval and overflows: clean steps, bad steps, clean steps, ..."""
    interval = re.search(r"\n +interval: (\d+)", open(f"{folder}/config.yaml").read())
    events = [json.loads(line) for line in open(f"{folder}/events.jsonl")]
    summary = json.load(open(f"{folder}/summary.json"))
    skips = {e["attempt"] for e in events if e["kind"] == "skip"}
    runs, bad = [0], False
    for attempt in range(1, summary["steps"] + len(skips) + 1):
        if (attempt in skips) != bad:
            runs.append(0)
            bad = not bad
        runs[-1] += 1
    return {"run": pathlib.Path(folder).name, "interval": int(interval[1]), "runs": runs}


def all_traces(recorded):
    count = TRACES - len(recorded)
    return [RecordedTrace(r) for r in recorded] + [RandomTrace(1 + k) for k in range(count)]


SMALL = [  # rule, what is not default, runs
    ("pytorch", {"init": 8.0, "interval": 3}, [4, 2, 2, 1, 6, 4, 3]),
    ("pytorch", {"init": 2.0**126, "interval": 1}, [3, 1, 2]),
    ("megatron", {"init": 8.0, "interval": 3}, [4, 2, 1, 1, 2, 6, 6, 1, 3]),
    ("deepspeed", {"init": 8.0, "interval": 3}, [9, 2, 1, 1, 4, 3, 2, 9]),
    ("deepspeed", {"init": 8.0, "interval": 3, "consecutive": True}, [1, 1, 1, 1, 1, 3, 5, 3]),
    ("deepspeed", {"init": 2.0, "skip_at_min": True, "hysteresis": 1}, [0, 4, 2]),
]


def small_traces():
    for rule, changes, runs in SMALL:
        c = dict(DEFAULTS[rule], **changes)
        scaler, states = RULES[rule](c), []
        for k, run in enumerate(runs):
            for _ in range(run if None not in states else 0):
                states.append(scaler.state() if scaler.update(k % 2 == 1) else None)
                if states[-1] is None:
                    break
        yield {"rule": rule, "config": changes, "runs": runs, "states": states}


def figures(recorded):
    digests = [
        " ".join(digest(replay(t, make(t.config(rule)))) for rule, make in RULES.items())
        for t in all_traces(recorded)
    ]
    return {"facts": FACTS, "recorded": recorded, "small": list(small_traces()), "digests": digests}


def write(kept):
    """A line for each record, so that a difference can be read; four traces of digests."""
    parts = [f' "facts": {json.dumps(kept["facts"], indent=2)}']
    for key, width in ("recorded", 1), ("small", 1), ("digests", 4):
        items = [json.dumps(item) for item in kept[key]]
        rows = [", ".join(items[k : k + width]) for k in range(0, len(items), width)]
        lines = ",\n".join("  " + row for row in rows)
        parts.append(f' "{key}": [\n{lines}\n ]')
    print("{\n" + ",\n".join(parts) + "\n}")


def real_pytorch():
    import torch

    class Real(PyTorch):
        def __init__(self, c):
            self.c, self.scale = c, torch.tensor([c["init"]], dtype=torch.float32)
            self.tracker = torch.zeros(1, dtype=torch.int32)

        def restore(self, clean, hysteresis):
            self.tracker.fill_(clean)

        def update(self, bad):
            found = torch.tensor([1.0 if bad else 0.0])
            factors = self.c["growth"], self.c["backoff"], self.c["interval"]
            torch._amp_update_scale_(self.scale, self.tracker, found, *factors)
            return True

        def state(self):
            return self.scale.item(), self.tracker.item(), 0

    try:
        Real(DEFAULTS["pytorch"]).update(False)
    except NotImplementedError:
        return None, f"torch {torch.__version__} has no _amp_update_scale_ for the CPU"
    return Real, f"torch {torch.__version__}"


def execute(path, modules):
    """A peer's source file, with stand-ins for what it imports."""
    sys.modules.update(modules)
    space = {"__name__": "peer", "__file__": path}
    exec(compile(open(path).read(), path, "exec"), space)
    return space


def real_megatron(path):
    def tensor(values, dtype=None, device=None):
        return np.array(values, dtype=np.float32)

    torch = types.SimpleNamespace(tensor=tensor, float=np.float32, max=np.maximum)
    torch.Tensor, torch.cuda = np.ndarray, types.SimpleNamespace(current_device=lambda: 0)
    peer = execute(path, {"torch": torch})["DynamicGradScaler"]

    class Real(Megatron):
        def __init__(self, c):
            factors = c["growth"], c["backoff"]
            self.peer = peer(c["init"], c["min"], *factors, c["interval"], c["hysteresis"])

        def restore(self, clean, hysteresis):
            self.peer._growth_tracker, self.peer._hysteresis_tracker = clean, hysteresis

        def update(self, bad):
            self.peer.update(bad)
            return True

        def state(self):
            p = self.peer
            return float(p._scale[0]), p._growth_tracker, p._hysteresis_tracker

    return Real


def real_deepspeed(path):
    quiet = types.SimpleNamespace(info=lambda *a: None)
    modules = {
        "torch": types.SimpleNamespace(half="half", float16="half"),
        "deepspeed": types.ModuleType("deepspeed"),
        "deepspeed.comm": types.SimpleNamespace(get_rank=lambda: 1),
        "deepspeed.utils": types.SimpleNamespace(logger=quiet),
        "deepspeed.runtime": types.ModuleType("deepspeed.runtime"),
        "deepspeed.runtime.config_utils": types.SimpleNamespace(DeepSpeedConfigObject=object),
    }
    modules["deepspeed"].comm = modules["deepspeed.comm"]
    peer = execute(path, modules)["DynamicLossScaler"]

    class Real(DeepSpeed):
        def __init__(self, c):
            flags = c["consecutive"], not c["skip_at_min"]
            self.peer = peer(c["init"], c["interval"], c["min"], c["hysteresis"], *flags)

        def restore(self, clean, hysteresis):
            self.peer.cur_iter, self.peer.cur_hysteresis = clean, hysteresis

        def update(self, bad):
            try:
                self.peer.update_scale(bad)
            except Exception as error:
                if "already at minimum" not in str(error):
                    raise
                return False
            return True

        def state(self):
            p = self.peer
            return float(p.cur_scale), p.cur_iter - p.last_overflow_iter - 1, p.cur_hysteresis

    return Real


def compare_with(rule, real, recorded):
    steps = 0
    for number, trace in enumerate(all_traces(recorded)):
        c = trace.config(rule)
        mine, theirs = list(replay(trace, RULES[rule](c))), list(replay(trace, real(c)))
        if mine != theirs:
            sys.exit(f"{rule}: trace {number}: the statement here and the real thing differ: {c}")
        steps += len(mine)
    return steps


def compare(path, megatron, deepspeed):
    kept = json.load(open(path))
    recorded = kept["recorded"]
    made = json.loads(json.dumps(figures(recorded)))
    for key, value in made.items():
        if kept[key] != value:
            sys.exit(f"{path}: {key} is not what this script makes")
    print(f"{path}: {len(kept['digests'])} traces, as this script makes them")
    real, name = {}, {"megatron": megatron, "deepspeed": deepspeed}
    try:
        real["pytorch"], name["pytorch"] = real_pytorch()
    except ImportError:
        name["pytorch"] = "no PyTorch is installed"
    real["megatron"] = megatron and real_megatron(megatron)
    real["deepspeed"] = deepspeed and real_deepspeed(deepspeed)
    for rule in RULES:
        if real.get(rule):
            steps = compare_with(rule, real[rule], recorded)
            print(f"{rule}: equal to {name[rule]} in all of {steps} steps")
        else:
            print(f"{rule}: not run ({name[rule] or 'no file given'}); from {FACTS[rule]}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", nargs="+", metavar="RUN", default=[])
    parser.add_argument("--compare", metavar="JSON")
    parser.add_argument("--megatron", metavar="FILE")
    parser.add_argument("--deepspeed", metavar="FILE")
    args = parser.parse_args()
    np.seterr(over="ignore", under="ignore")
    if args.compare:
        compare(args.compare, args.megatron, args.deepspeed)
        return
    recorded = [] if args.record else json.load(open(FIGURES))["recorded"]
    write(figures(recorded + [read_run(folder) for folder in args.record]))


if __name__ == "__main__":
    main()

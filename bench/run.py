#!/usr/bin/env python3
"""Measures works and writes bench/results/NAME.json and .md; scripts/bench has set everything up.

The machine's ceilings come first, after every work, and last.  A work with a register peak below LEAST of
the run's best on either side is noise: it is measured again when the others are done, and if ROUNDS are
not enough, nothing is written."""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

import table
from measure import Bench, Failed, apart, machine, phases_with_roofline, products, run
from works import CURVES, WARM_UP, WORKS, available

LEAST = 0.95
ROUNDS = 3
LOSS_APART = {"bf16": 1e-2, "f32": 1e-4}
MODES = ("eager", "compile")
OPTIMIZER_PHASES = ("check", "update", "prepare")
TELEMETRY = "examples/fashion-cnn.yaml"


def say(text):
    print(text, file=sys.stderr, flush=True)


class Noise(Exception):
    """A ceiling fell."""


class Run:
    def __init__(self, bench, peers):
        self.bench, self.wrong, self.profiles = bench, {}, {}
        doctor = json.loads(run([bench.mezzo, "doctor", "--json"]))["build"]
        self.result = {
            "schema": 1,
            "quick": bench.quick,
            "machine": machine(),
            "threads": bench.threads,
            "mezzo": doctor["mezzo"],
            "onednn": doctor["onednn"],
            "peers": {},
            "ceilings": [],
            "works": {},
        }
        for name, python in peers.items():
            found = run([python, "-c", "import torch; print(torch.__version__)"]).strip()
            self.result["peers"][name] = found
        self.peers = peers

    def fell(self, sides):
        """Why what was measured between these ceilings is noise; None if it is not."""
        told = self.result["ceilings"]
        for key in ("bf16_gflops", "f32_gflops"):
            best = max((c[key]["all"] for c in told if c[key]), default=0)
            low = min((told[k][key]["all"] for k in sides if told[k][key]), default=best)
            if low < LEAST * best:
                return f"{key}: {low:.0f} beside it, {best:.0f} at best"
        return None

    def canary(self, peak_only=False):
        self.result["ceilings"].append(self.bench.ceilings(peak_only))

    def measure(self, names):
        """Each between two ceilings, and again while one of these is low."""
        sides = {}
        self.canary()
        for _ in range(1 if self.bench.quick else ROUNDS):
            for name in names:
                first = len(self.result["ceilings"]) - 1
                if name == "curves":
                    self.curves()
                elif name == "telemetry":
                    self.result["telemetry"] = self.bench.telemetry(TELEMETRY)
                else:
                    self.work(name)
                self.canary(peak_only=True)
                sides[name] = range(first, len(self.result["ceilings"]))
            noise = {name: self.fell(at) for name, at in sides.items()}
            names = [name for name in sides if noise[name]]
            for name in names:
                say(f"== noise: {name}, {noise[name]}")
            if not names:
                break
        self.canary()
        if names and not self.bench.quick:
            raise Noise("; ".join(f"{name}, {noise[name]}" for name in names))

    def against_peers(self, work, precision, ours, weights):
        found, wrong = {}, []
        for peer, python in self.peers.items():
            for mode in MODES if peer == "newest" else MODES[:1]:
                say(f"   {precision}: PyTorch {self.result['peers'][peer]}, {mode}")
                r = self.bench.torch(python, work, precision, mode, weights)
                found.setdefault(peer, {})[mode] = r
                if "losses" not in r:
                    say(f"      failed: {r['failed'].splitlines()[-1] if r['failed'] else ''}")
                    continue
                r["apart"] = apart(ours["losses"], r["losses"])
                if not r["apart"] <= LOSS_APART[precision]:
                    wrong.append(f"{work.title}, {precision}: losses {r['apart']:.1e} from PyTorch's ({peer}, {mode})")
                say(f"      {r['step_ms']:.1f} ms a step, losses {r['apart']:.1e} apart")
        self.wrong[work.title, precision] = wrong
        return found

    def work(self, name):
        work, bench = WORKS[name], self.bench
        say(f"== {name}: {work.title}")
        windows = int(work.settings.get("train.accumulate", "1"))
        weights = bench.initial_weights(work)
        found = self.result["works"][name] = {"title": work.title}
        for precision in ("bf16", "f32"):
            say(f"   {precision}: mezzo")
            one = found[precision] = {"mezzo": bench.train(work, precision)}
            say(f"      {one['mezzo']['step_ms']:.1f} ms a step")
            plan, profile = bench.plan(work, precision), bench.profile(work, precision)
            every, of_head = products.of_plan(plan, windows)
            one["bound"] = bench.bound(every)
            say(f"      bound {one['bound']['ms']:.1f} ms")
            self.profiles[name, precision] = profile
            one["kinds"] = profile["kinds"]
            one["memory"] = memory_of(plan)
            one["optimizer_ms"] = sum(o["ms"] for o in profile["operations"] if o["phase"] in OPTIMIZER_PHASES)
            if of_head:
                best = {b["work"]: b["ms"] for b in one["bound"]["products"]}
                one["head"] = {
                    "ms": sum(o["ms"] for o in profile["operations"] if o["op"].startswith("linear_cross_entropy")),
                    "bound_ms": sum(best[line] * count for line, count in of_head.items()),
                }
            one["peers"] = self.against_peers(work, precision, one["mezzo"], weights)
            if name == "gpt2":
                one["start"] = bench.start(work, precision, weights)
        if name == "gpt2":
            count = parameters(bench.plan(work, "f32"))
            found["state"] = {
                form: state_bytes(bench.plan(work, "bf16", settings), count)
                for form, settings in {
                    "exact": {"precision.master": "split"},
                    "exact_window": {"precision.master": "split", "train.accumulate": "4"},
                    "stochastic": {"precision.master": "bf16", "optimizer.state": "bf16"},
                }.items()
            }
            if path := os.environ.get("MEZZO_LLMC"):
                found["llmc"] = llmc(path)

    def finish(self):
        """What needs the best ceilings of the whole run."""
        for (name, precision), profile in self.profiles.items():
            self.result["works"][name][precision]["phases"] = phases_with_roofline(profile, self.result["ceilings"])

    def curves(self):
        self.result["curves"] = []
        for curve, (key, values) in CURVES.items():
            for value in values[:2] if self.bench.quick else values:
                for precision in ("bf16", "f32"):
                    more = {key: value}
                    if curve == "width":  # heads of 64, as in GPT-2
                        more["model.heads"] = str(int(value.strip("[]")) // 64)
                    r = self.bench.train(WORKS["gpt2"], precision, more)
                    batch = int(value) if curve == "B" else 4
                    T = int(value) if curve == "T" else 256
                    point = {"curve": curve, "value": value.strip("[]"), "type": precision}
                    point |= {"step_ms": r["step_ms"], "tokens_per_s": batch * T / r["step_ms"] * 1e3}
                    self.result["curves"].append(point | {"peak_bytes": r["peak_bytes"]})
                    say(f"   {curve} {value} {precision}: {r['step_ms']:.1f} ms")


def parameters(plan):
    """Elements that are trained, by a plan in FP32."""
    return sum(m["bytes"] for m in plan["masters"] if m["kind"] == "masters") // 4


def memory_of(plan):
    """`activation_bytes`: activations and workspaces, without the gradients that wait for the update."""
    m = plan["memory"]
    own = m["activation_bytes"] + m["workspace_bytes"] - plan["bytes"]["gradients"]
    return {"planned": m, "activation_bytes": own, "gradient_bytes": plan["bytes"]["gradients"]}


def state_bytes(plan, count):
    """Of a parameter: masters, moments, unpacked copies and waiting gradients; and packed weights."""
    m, copies = plan["memory"], plan["bytes"]["copies"]
    held = m["state_bytes"] + copies + plan["bytes"]["gradients"]
    return {"bytes": held / count, "packed": (m["weight_bytes"] - copies) / count}


def llmc(path):
    """llm.c's train_gpt2, in its own folder: it reads its weights and data from there, and has a batch of 4
    times 64 tokens of its own."""
    text = run([os.path.abspath(path)], cwd=os.path.dirname(os.path.abspath(path)))
    found = [float(ms) for ms in re.findall(r"took ([\d.]+) ms", text)][WARM_UP:]
    if not found:
        raise Failed(f"{path}: no lines of steps in what it printed")
    return {"step_ms": statistics.median(found), "steps": len(found)}


def write(result, name, quick):
    folder = pathlib.Path("build/bench" if quick else "bench/results")
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1) + "\n"
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    (folder / f"{name}.md").write_text(table.document(result), encoding="utf-8")
    print(table.document(result), end="")
    say(f"written: {folder}/{name}.json and .md")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--build", default="build")
    a.add_argument("--quick", action="store_true")
    a.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    a.add_argument("names", nargs="+")
    options = a.parse_args()
    peers = dict(p.split("=", 1) for p in options.peer)
    with tempfile.TemporaryDirectory(prefix="mezzo-bench-") as scratch:
        r = Run(Bench(options.build, scratch, peers, options.quick), peers)
        try:
            r.measure(options.names + ["telemetry"] * ("gpt2" in options.names))
            r.finish()
        except Noise as why:
            sys.exit(f"noise, nothing is written: {why}")
        except (Failed, subprocess.CalledProcessError) as why:
            sys.exit(f"failed, nothing is written: {why}")
    wrong = "\n".join(line for lines in r.wrong.values() for line in lines)
    if wrong and not options.quick:
        sys.exit(f"not the same training, nothing is written:\n{wrong}")
    say(wrong)
    everything = set(available()) <= set(options.names)
    write(r.result, "cpu" if everything else "-".join(options.names), options.quick)


if __name__ == "__main__":
    main()

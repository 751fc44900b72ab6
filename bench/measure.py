"""One measurement a function: each runs a program and gives what it said as a dictionary."""
import array
import json
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import time

import products
from works import WARM_UP

TOKENS, VOCABULARY = 1_000_000, 50257
COMPILE_SECONDS = 300  # that torch.compile may take, its steps included
FIRST_LOSSES = 10
START_RUNS = 5
PHASES = ("prepare", "forward", "backward", "check", "update")


class Failed(Exception):
    """A program failed; the text says which and how."""


def run(command, timeout=None, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def read_lines(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


def value_of(text):
    """A value of a configuration: a number, a list, a word."""
    try:
        return json.loads(text)
    except ValueError:
        return float(text) if re.fullmatch(r"-?\d+(\.\d*)?(e-?\d+)?", text) else text


def parse_config(text):
    """`mezzo config show --resolved`, two levels of it."""
    config, group = {}, None
    for line in text.splitlines():
        line = re.sub(r"\s+# .*", "", line.rstrip())
        if found := re.fullmatch(r"(\w+):", line):
            group = config.setdefault(found[1], {})
        elif found := re.fullmatch(r"  (\w+): (.+)", line):
            group[found[1]] = value_of(found[2])
    return config


def machine():
    """What the figures depend on, without a name."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = next((line for line in file if line.startswith("flags")), ":").split(":")[1].split()
    with open("/proc/meminfo", encoding="ascii") as file:
        memory = int(file.readline().split()[1]) * 1024
    caches = {}
    for index in range(5):
        folder = f"/sys/devices/system/cpu/cpu0/cache/index{index}"
        if os.path.isdir(folder):
            level, kind, size = (
                pathlib.Path(folder, name).read_text(encoding="ascii").strip() for name in ("level", "type", "size")
            )
            caches[f"L{level} {kind.lower()}"] = size
    told = ("avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16")
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "features": [f for f in told if f in flags],
        "caches": caches,
        "memory_bytes": memory,
    }


class Bench:
    """Programs, scratch folder, and how long to measure."""

    def __init__(self, build, scratch, peers, quick):
        self.build, self.scratch, self.peers, self.quick = build, scratch, peers, quick
        self.mezzo = os.path.join(build, "mezzo")
        self.threads = len(os.sched_getaffinity(0))
        self.known = {}  # products that were measured for another work
        self.tokens = os.path.join(scratch, "tokens.bin")
        ids = array.array("H", random.Random(1).choices(range(VOCABULARY), k=TOKENS))
        for path, count in ((self.tokens, TOKENS), (os.path.join(scratch, "validation.bin"), 4 * 1024 + 1)):
            with open(path, "wb") as file:
                ids[:count].tofile(file)

    def steps(self, work):
        return 3 if self.quick else work.steps + WARM_UP

    def warm_up(self):
        return 1 if self.quick else WARM_UP

    def settings(self, work, precision, more=None):
        settings = dict(work.settings) | {"precision.compute": precision}
        if work.has_tokens:
            settings |= {
                "data.kind": "tokens",
                "data.path": self.tokens,
                "data.validation_path": os.path.join(self.scratch, "validation.bin"),
                "data.vocab": str(VOCABULARY),
            }
        else:
            settings["data.test_limit"] = "1024"
        settings |= more or {}
        return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]

    def config(self, work, precision):
        command = [self.mezzo, "config", "show", work.example, "--resolved"]
        return parse_config(run(command + self.settings(work, precision)))

    def ceilings(self, peak_only=False):
        command = [os.path.join(self.build, "bench", "ceiling"), "--seconds", "0.1" if self.quick else "1"]
        return json.loads(run(command + (["--peak"] if peak_only else [])))

    def plan(self, work, precision, more=None):
        settings = self.settings(work, precision, more)
        return json.loads(run([self.mezzo, "plan", work.example, "--json", *settings]))

    def profile(self, work, precision):
        steps = "2" if self.quick else "10"
        settings = self.settings(work, precision)
        return json.loads(run([self.mezzo, "profile", work.example, "--json", "--measure", steps, *settings]))

    def bound(self, counts):
        program = os.path.join(self.build, "bench", "gemm_bound")
        return products.bound(program, counts, 3 if self.quick else 10, self.threads, self.known)

    def run_mezzo(self, work, precision, more):
        """`mezzo train`: its run directory and its summary."""
        folder = os.path.join(self.scratch, "run")
        shutil.rmtree(folder, ignore_errors=True)
        settings = self.settings(work, precision, more)
        text = run([self.mezzo, "train", work.example, "-q", "--json", "--run-dir", folder, *settings])
        return folder, json.loads(text.splitlines()[-1])

    def train(self, work, precision, more=None):
        """The median step of `mezzo train`, and what its loop does between steps."""
        steps = {"train.steps": str(self.steps(work))}
        folder, summary = self.run_mezzo(work, precision, steps | (more or {}))
        lines = read_lines(os.path.join(folder, "metrics.jsonl"))
        counted = lines[self.warm_up() :]
        times = [line["step_ns"] * 1e-6 for line in counted]
        between = 0.0
        if len(counted) > 1:  # lines are written behind each step
            wall = (counted[-1]["time"] - counted[0]["time"]) * 1e3 / (len(counted) - 1)
            between = max(0.0, wall - statistics.mean(times[1:]))
        return {
            "step_ms": statistics.median(times) + between,
            "between_ms": between,
            "steps_ms": times,
            "data_wait_ms": statistics.median(line["data_wait_ns"] * 1e-6 for line in counted),
            "losses": [line["loss"] for line in lines],
            "peak_bytes": summary["peak_rss_bytes"],
            "planned_bytes": summary["planned_bytes"],
            "fallback_kernels": summary["fallback_kernels"],
            "plan_hash": summary["plan_hash"],
        }

    def initial_weights(self, work):
        """A file with the weights that every run of the work begins with: those behind one step of rate 0."""
        folder, _ = self.run_mezzo(work, "f32", {"optimizer.lr": "0", "train.steps": "1"})
        kept = os.path.join(self.scratch, "initial.safetensors")
        os.replace(os.path.join(folder, "checkpoints", "final", "model.safetensors"), kept)
        return kept

    def start(self, work, precision, weights):
        """Seconds from the start of the process to that of the first step, weights read from a file in the
        page cache.  The run is ended behind its first step."""
        folder, found = os.path.join(self.scratch, "start"), []
        settings = self.settings(work, precision, {"train.steps": "1000"})
        command = [self.mezzo, "train", work.example, "-q", "--run-dir", folder, "--weights", weights, *settings]
        for _ in range(1 if self.quick else START_RUNS):
            shutil.rmtree(folder, ignore_errors=True)
            begin = time.time()
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                metrics = os.path.join(folder, "metrics.jsonl")
                while process.poll() is None and not (os.path.exists(metrics) and read_lines(metrics)):
                    time.sleep(0.01)
                process.send_signal(signal.SIGKILL)
            if not os.path.exists(metrics) or not read_lines(metrics):
                raise Failed(f"{' '.join(command)}: ended before its first step")
            first = read_lines(metrics)[0]
            found.append(first["time"] - first["step_ns"] * 1e-9 - begin)
        return {"seconds": statistics.median(found), "all": found}

    def telemetry(self, example):
        command = [os.path.join(self.build, "bench", "telemetry"), example, "--pairs", "10" if self.quick else "200"]
        return json.loads(run(command + ["--dir", os.path.join(self.scratch, "telemetry")]))

    def torch(self, python, work, precision, mode, weights):
        """The same training in PyTorch; None if torch.compile does not get through it in time."""
        spec = {
            "config": self.config(work, precision),
            "precision": precision,
            "mode": mode,
            "steps": self.steps(work),
            "threads": self.threads,
            "weights": weights,
            "tokens": self.tokens,
            "images": "/usr/share/datasets/fashion-mnist",
            "spawned": time.time(),
        }
        path = os.path.join(self.scratch, "spec.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(spec, file)
        limit = COMPILE_SECONDS if mode == "compile" else None
        try:
            text = run([python, "bench/peers/train.py", path], timeout=limit, cwd=os.getcwd())
        except (subprocess.TimeoutExpired, Failed) as why:
            if mode == "compile":
                return {"failed": str(why)[-500:]}
            raise
        result = json.loads(text.splitlines()[-1])
        result["step_ms"] = statistics.median(result["steps_ms"][self.warm_up() :])
        return result


def apart(ours, theirs):
    """Largest relative distance of the first losses."""
    pairs = list(zip(ours[:FIRST_LOSSES], theirs[:FIRST_LOSSES], strict=False))
    return max(abs(a - b) / abs(b) for a, b in pairs)


def best_ceilings(told):
    """Peaks by type, and the best bandwidth, over all measurements of a run."""
    f32 = max(c["f32_gflops"]["all"] for c in told)
    bf16 = max((c["bf16_gflops"]["all"] for c in told if c["bf16_gflops"]), default=f32)
    names = ("read_gbs", "copy_gbs", "update_gbs")
    return {"f32": f32, "bf16": bf16}, max(c[k]["all"] for c in told for k in names if k in c)


def phases_with_roofline(profile, told):
    """Time of each phase beside the least that this machine needs for the same work, operands in memory: the
    larger of FLOPs at the peak of their type and bytes at the best bandwidth, operation by operation."""
    peaks, bandwidth = best_ceilings(told)
    found = {p: {"ms": 0.0, "roofline_ms": 0.0, "gflop": 0.0, "gbytes": 0.0} for p in PHASES}
    for op in profile["operations"]:
        phase = found[op["phase"]]
        peak = peaks.get(op["type"], peaks["f32"])
        phase["ms"] += op["ms"]
        phase["roofline_ms"] += 1e-6 * max(op["flops"] / peak, op["bytes"] / bandwidth)
        phase["gflop"] += op["flops"] * 1e-9
        phase["gbytes"] += op["bytes"] * 1e-9
    rest = profile["step_ms"] - profile["data_wait_ms"] - sum(p["ms"] for p in found.values())
    none = {"roofline_ms": 0.0, "gflop": 0.0, "gbytes": 0.0}
    return found | {"data": {"ms": profile["data_wait_ms"]} | none, "rest": {"ms": rest} | none}

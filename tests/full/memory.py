"""Memory of runs as the kernel counts it: over 10,000 steps, and its peak beside the plan."""
import json
import os
import subprocess
import sys
import time

MEZZO, FOLDER = sys.argv[1:3]
STEPS, FROM = 10_000, 1000
# Nothing is taken in a step.  The least that malloc hands out is 32 bytes, its header among them: half of
# that for each step leaves room for a stack or a page of the heap that is used late.  A leak fills what the
# start has freed before it grows the heap: one of 80 bytes a step was seen, one of 32 was not.
GROWTH_MAX = 16 * (STEPS - FROM)
PEAK_MAX = 0.03


def anonymous_bytes(process):
    """What is not a file's, exactly: the counters of status may lag by some dozen pages for each CPU."""
    with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Anonymous:"))


def last_step(path):
    """Of the lines written so far; 0 before the first."""
    if not os.path.exists(path):
        return 0
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 4096))
        lines = file.read().split(b"\n")[1:-1]
    return json.loads(lines[-1])["step"] if lines else 0


def command(name, example, *settings):
    words = [MEZZO, "train", f"examples/{example}.yaml", "-q", "--json", "--run-dir", f"{FOLDER}/{name}"]
    return words + [word for setting in settings for word in ("--set", setting)]


def grow():
    """Anonymous memory by step, while a run goes on."""
    words = command("long", "kjv-small", f"train.steps={STEPS}", "train.eval_every=500", "train.meter_every=500")
    seen = []
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            step = last_step(f"{FOLDER}/long/metrics.jsonl")
            if FROM <= step < STEPS:
                seen.append((step, anonymous_bytes(process)))
            time.sleep(0.1)
    assert process.returncode == 0, f"{words}: exit {process.returncode}"
    return seen


def peak(name, example, *settings):
    done = subprocess.run(command(name, example, *settings), capture_output=True, text=True, check=True)
    summary = json.loads(done.stdout.splitlines()[-1])
    return summary["planned_bytes"], summary["peak_rss_bytes"]


def main():
    seen = grow()
    first, last = seen[0], seen[-1]
    most = max(held for _, held in seen)
    growth = most - first[1]
    print("# Memory over a run, and beside the plan\n")
    print(f"examples/kjv-small.yaml, {STEPS} steps, evaluated and metered every 500: anonymous memory was looked at")
    print(f"{len(seen)} times from step {first[0]} to step {last[0]}, {first[1]} bytes at first and {most} at most, a growth of")
    print(f"{growth} bytes; {GROWTH_MAX} are allowed, half of the least block of malloc for each step.\n")
    print("| run | steps | planned MiB | peak MiB | peak / planned |")
    print("|---|---|---|---|---|")
    weights = f"train.weights={FOLDER}/gpt2-124m/checkpoints/final/model.safetensors"
    ratios = []
    for name, example, settings in (
        ("llama-124m", "llama-124m", []),
        ("gpt2-124m", "gpt2-124m", []),
        ("gpt2-124m, from weights", "gpt2-124m", [weights]),
    ):
        planned, most = peak(name, example, "train.steps=3", *settings)
        ratios.append(most / planned)
        print(f"| {name} | 3 | {planned / 2**20:.0f} | {most / 2**20:.0f} | {ratios[-1]:.3f} |")
    assert last[0] >= STEPS - 1000, f"looked at up to step {last[0]} only"
    assert growth <= GROWTH_MAX, f"memory grew by {growth} bytes"
    assert all(abs(r - 1) <= PEAK_MAX for r in ratios), ratios


main()

"""Final losses by seed and type of gradients: DIR/EXAMPLE-TYPE-SEED/summary.json.

A seed with the one type and with the other gives a pair that starts from the same weights with the
same data, so the mean of the differences has the standard error s / sqrt(n), s their deviation.
Three of it, and half the spread of the seeds, are what a difference may be by chance.
"""
import json
import math
import pathlib
import statistics
import sys

run = pathlib.Path(sys.argv[1])


def losses(example, kind):
    found = sorted(run.glob(f"{example}-{kind}-*/summary.json"),
                   key=lambda path: int(path.parent.name.rsplit("-", 1)[1]))
    summaries = [json.loads(path.read_text()) for path in found]
    assert all(s["skipped_steps"] == 0 for s in summaries)
    return [s["eval_loss"] for s in summaries]


print("# Gradients of FP32 and of BF16\n")
print("Loss of the validation behind the last step; computed in BF16, masters in halves.\n")
print("| example | seeds | f32: mean | deviation of a seed | bf16: mean | deviation | "
      "mean difference | its standard error |")
print("|---|---|---|---|---|---|---|---|")
tables = []
for example in ("fashion-small", "kjv-small"):
    wide, low = losses(example, "f32"), losses(example, "bf16")
    assert len(wide) == len(low) >= 3, example
    apart = [b - a for a, b in zip(wide, low)]
    mean, error = statistics.mean(apart), statistics.stdev(apart) / math.sqrt(len(apart))
    spread = statistics.stdev(wide)
    print(f"| {example} | {len(wide)} | {statistics.mean(wide):.4f} | {spread:.4f} "
          f"| {statistics.mean(low):.4f} | {statistics.stdev(low):.4f} "
          f"| {mean:+.4f} | {error:.4f} |")
    assert abs(mean) <= 3 * error and abs(mean) <= spread / 2, (example, mean, error, spread)
    tables += [f"\n{example}, by seed:\n", "| seed | f32 | bf16 |", "|---|---|---|"]
    tables += [f"| {s} | {a:.4f} | {b:.4f} |" for s, (a, b) in enumerate(zip(wide, low), 1)]
print("\n".join(tables))

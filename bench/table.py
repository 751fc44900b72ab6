#!/usr/bin/env python3
"""The tables of a result of scripts/bench, in markdown.

    table.py RESULT.json > RESULT.md

A figure that the run did not measure is left out.  "met" says which of gate and goal it reaches."""
import json
import math
import sys

LARGE_PLAN = 1e9  # bytes


class Row:
    """A figure: its value in a result (None: not measured), and how it is read."""

    def __init__(self, figure, value, show, gate, goal, peer=None, less=False):
        self.figure, self.value, self.show = figure, value, show
        self.gate, self.goal, self.peer, self.less = gate, goal, peer, less

    def met(self, value):
        def reaches(limit):
            return limit is not None and (value <= limit if self.less else value >= limit)

        if self.gate is None and self.goal is None:
            return "-"
        return "goal" if reaches(self.goal) else "gate" if reaches(self.gate) else "no"


def percent(x):
    return f"{100 * x:.1f} %"


def times(x):
    return f"{x:.2f}x"


def number(unit, digits=0):
    return lambda x: f"{x:,.{digits}f} {unit}".strip()


def at(result, *keys):
    """result[keys[0]][keys[1]]..., or None where there is none."""
    for key in keys:
        if not isinstance(result, dict) or key not in result:
            return None
        result = result[key]
    return result


def ratio(a, b):
    return a / b if a is not None and b else None


def step(result, work, precision):
    return at(result, "works", work, precision, "mezzo", "step_ms")


def torch_runs(result, work, precision, peer):
    """What this PyTorch measured, by mode."""
    runs = at(result, "works", work, precision, "peers", peer) or {}
    return {mode: run for mode, run in runs.items() if "step_ms" in run}


def torch_step(result, work, precision, peer):
    return min((r["step_ms"] for r in torch_runs(result, work, precision, peer).values()), default=None)


def of_bound(work, precision):
    def value(result):
        return ratio(at(result, "works", work, precision, "bound", "ms"), step(result, work, precision))

    def peer(result):
        bound = at(result, "works", work, precision, "bound", "ms")
        shown = [
            f"PyTorch {version(result, name)}: {percent(bound / torch_step(result, work, precision, name))}"
            for name in ("newest", "debian")
            if bound and torch_step(result, work, precision, name)
        ]
        return "; ".join(shown)

    return value, peer


def version(result, peer):
    return at(result, "peers", peer) or peer


def against(work, precision, peer):
    return lambda result: ratio(torch_step(result, work, precision, peer), step(result, work, precision))


def against_text(peer):
    return lambda result: f"PyTorch {version(result, peer)}: 1.0" if at(result, "peers", peer) else ""


def activations(result):
    memory = {p: at(result, "works", "gpt2", p, "memory", "activation_bytes") for p in ("bf16", "f32")}
    return ratio(memory["bf16"], memory["f32"]) and memory["bf16"] / memory["f32"] - 1.0


def torch_memory(result):
    found = torch_runs(result, "gpt2", "bf16", "newest").values()
    return f"PyTorch: {min(r['peak_bytes'] for r in found) / 1e9:.2f} GB" if found else ""


def over_plan(run):
    """By how much the measured peak is above the planned one, in parts of it."""
    return run["peak_bytes"] / run["planned_bytes"] - 1.0


def beside_plan(result):
    """Of the works beside whose plan the program, its libraries and the data set are small."""
    ours = [at(work, precision, "mezzo") for work in result["works"].values() for precision in ("bf16", "f32")]
    return max((abs(over_plan(run)) for run in ours if run and run["planned_bytes"] > LARGE_PLAN), default=None)


def head_over_products(result):
    return ratio(
        at(result, "works", "gpt2", "bf16", "head", "ms"), at(result, "works", "gpt2", "bf16", "head", "bound_ms")
    )


def scaled(factor, *keys):
    def value(result):
        found = at(result, *keys)
        return None if found is None else found * factor

    return value


def rows():
    gpt2 = ("works", "gpt2")
    bf16, bf16_peer = of_bound("gpt2", "bf16")
    f32, f32_peer = of_bound("gpt2", "f32")
    cnn, cnn_peer = of_bound("cnn", "bf16")
    return [
        Row("BF16 step: GEMM-bound time / step time", bf16, percent, 0.78, 0.87, bf16_peer),
        Row("FP32 step, likewise", f32, percent, 0.80, 0.91, f32_peer),
        Row("BF16 step against the newest PyTorch", against("gpt2", "bf16", "newest"), times, 1.0, 1.4,
            against_text("newest")),
        Row("BF16 step against Debian's PyTorch", against("gpt2", "bf16", "debian"), times, 1.8, 2.0,
            against_text("debian")),
        Row("FP32 time / BF16 time", lambda r: ratio(step(r, "gpt2", "f32"), step(r, "gpt2", "bf16")), times, None,
            1.95, lambda r: torch_gain(r, "newest")),
        Row("peak memory, BF16", scaled(1e-9, *gpt2, "bf16", "mezzo", "peak_bytes"), number("GB", 2), 2.3, 2.0,
            torch_memory, less=True),
        Row("peak memory and plan apart, the worst work", beside_plan, percent, 0.03, None, less=True),
        Row("activations and workspace, BF16 against own FP32", activations, percent, -0.45, -0.50, less=True),
        Row("state bytes a parameter, FP32-exact, one micro-batch", scaled(1, *gpt2, "state", "exact", "bytes"),
            number("", 2), 14, 12, lambda r: "16-18", less=True),
        Row("state bytes a parameter, FP32-exact, several", scaled(1, *gpt2, "state", "exact_window", "bytes"),
            number("", 2), 16, 12, lambda r: "16-18", less=True),
        Row("state bytes a parameter, BF16 and stochastic rounding", scaled(1, *gpt2, "state", "stochastic", "bytes"),
            number("", 2), 8, 6, lambda r: "8", less=True),
        Row("packed weights beside it, bytes a parameter", scaled(1, *gpt2, "state", "exact", "packed"),
            number("", 2), None, None, less=True),
        Row("optimizer phase (check, update, prepare)", scaled(1, *gpt2, "bf16", "optimizer_ms"), number("ms"), 130,
            90, lambda r: "200-290 ms", less=True),
        Row("head and cross-entropy over the bare products", head_over_products, times, 1.08, 1.03,
            lambda r: "Liger: 1.13-2.2x", less=True),
        Row("CNN: its primitives / step time", cnn, percent, 0.70, 0.80, cnn_peer),
        Row("start to first step", scaled(1e3, *gpt2, "bf16", "start", "seconds"), number("ms"), 800, 300,
            torch_start, less=True),
        Row("always-on telemetry", scaled(1, "telemetry", "share"), lambda x: f"{100 * x:.2f} %", 0.01, 0.003,
            lambda r: "kineto: 1.9-4x", less=True),
    ]  # fmt: skip


def torch_gain(result, peer):
    gain = ratio(torch_step(result, "gpt2", "f32", peer), torch_step(result, "gpt2", "bf16", peer))
    return f"PyTorch {version(result, peer)}: {gain:.2f}x" if gain else ""


def torch_start(result):
    found = [r["start_s"] for r in torch_runs(result, "gpt2", "bf16", "newest").values()]
    return f"PyTorch: {1e3 * min(found):,.0f} ms" if found else ""


def limit(row, value):
    return "" if value is None else row.show(value)


def targets(result):
    out = ["| figure | peer | this run | gate | goal | met |", "|---|---|---|---|---|---|"]
    for row in rows():
        value = row.value(result)
        if value is None or not math.isfinite(value):
            continue
        peer = row.peer(result) if row.peer else ""
        out.append(
            f"| {row.figure} | {peer} | {row.show(value)} | {limit(row, row.gate)} "
            f"| {limit(row, row.goal)} | {row.met(value)} |"
        )
    return out if len(out) > 2 else []


def steps(result):
    """A line for each work, type and program."""
    out = ["| work | type | program | step ms | of mezzo's | bound / step | peak GB | over its plan | first losses apart |"]
    out.append("|---|---|---|---|---|---|---|---|---|")
    for name, work in result["works"].items():
        for precision in ("bf16", "f32"):
            if precision not in work:
                continue
            ours, bound = work[precision]["mezzo"], at(work, precision, "bound", "ms")
            lines = [("mezzo", ours)]
            for peer, modes in work[precision].get("peers", {}).items():
                lines += [(f"PyTorch {version(result, peer)}, {mode}", r) for mode, r in modes.items()]
            for program, r in lines:
                if "step_ms" not in r:
                    out.append(f"| {name} | {precision} | {program} | failed | | | | | |")
                    continue
                share = percent(bound / r["step_ms"]) if bound else ""
                near = f"{r['apart']:.1e}" if "apart" in r else ""
                over = f"{100 * over_plan(r):+.1f} %" if "planned_bytes" in r else ""
                out.append(
                    f"| {name} | {precision} | {program} | {r['step_ms']:,.1f} | {r['step_ms'] / ours['step_ms']:.2f} "
                    f"| {share} | {r['peak_bytes'] / 1e9:.2f} | {over} | {near} |"
                )
    llmc = at(result, "works", "gpt2", "llmc")
    if llmc:  # its batch is its own: 4 times 64 tokens
        rate = 256 / llmc["step_ms"] * 1e3
        out += ["", f"llm.c, FP32, B=4, T=64: {llmc['step_ms']:,.0f} ms a step, {rate:,.0f} tokens/s."]
    return out


def phases(result):
    out = ["| work | type | phase | ms | least by roofline | GFLOP | GB |", "|---|---|---|---|---|---|---|"]
    for name, work in result["works"].items():
        for precision in ("bf16", "f32"):
            for phase, p in (at(work, precision, "phases") or {}).items():
                out.append(
                    f"| {name} | {precision} | {phase} | {p['ms']:.2f} | {p['roofline_ms']:.2f} "
                    f"| {p['gflop']:.1f} | {p['gbytes']:.2f} |"
                )
    return out


def ceilings(result):
    names = {"bf16_gflops": "BF16 GFLOP/s", "f32_gflops": "FP32 GFLOP/s", "read_gbs": "read GB/s"}
    names |= {"copy_gbs": "copy GB/s", "update_gbs": "update GB/s"}
    out = ["| ceiling, all workers (one) | first | last |", "|---|---|---|"]
    first, last = result["ceilings"][0], result["ceilings"][-1]
    for key, name in names.items():
        if first.get(key):
            shown = [f"{c[key]['all']:,.1f} ({c[key]['one']:,.1f})" for c in (first, last)]
            out.append(f"| {name} | {shown[0]} | {shown[1]} |")
    return out


def curves(result):
    out = ["| changed | value | type | step ms | tokens/s | peak GB |", "|---|---|---|---|---|---|"]
    for point in result["curves"]:
        out.append(
            f"| {point['curve']} | {point['value']} | {point['type']} | {point['step_ms']:,.1f} "
            f"| {point['tokens_per_s']:,.0f} | {point['peak_bytes'] / 1e9:.2f} |"
        )
    return out


def machine(result):
    m = result["machine"]
    return (
        f"{m['cpus']} CPUs with {', '.join(m['features'])}; "
        f"{', '.join(f'{k} {v}' for k, v in m['caches'].items())}; {m['memory_bytes'] / 2**30:.0f} GiB."
    )


def document(result):
    out = [f"# scripts/bench: {', '.join(result['works']) or 'curves'}", "", machine(result)]
    out.append(f"mezzo {result['mezzo']}, oneDNN {result['onednn']}, {result['threads']} workers.")
    if result["quick"]:
        out += ["", "**Quick: too few steps to count, and noise is not refused.**"]
    parts = [("Figures", targets(result))] if result["works"] else []
    parts += [("Ceilings", ceilings(result))]
    if result["works"]:
        parts += [("Steps", steps(result)), ("Phases of mezzo's step (mezzo profile)", phases(result))]
    if result.get("curves"):
        parts.append(("Cost curves: GPT-2 124M, one setting changed at a time", curves(result)))
    for title, lines in parts:
        if lines:
            out += ["", f"## {title}", "", *lines]
    return "\n".join(out) + "\n"


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        print(document(json.load(file)), end="")


if __name__ == "__main__":
    main()

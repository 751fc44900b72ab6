"""The matrix products and convolutions of a plan (`mezzo plan --json`), as bench/gemm_bound takes them."""
import collections
import json
import math
import subprocess


def matmul(kind, role, M, N, K):
    return f"matmul {kind} {role} {M} {N} {K}"


def with_last(shapes, n):
    """The first shape whose last dimension is n."""
    return next(s for s in shapes if s and s[-1] == n)


def linear(op, kind, out, inputs):
    """M, N, K from the result and the weight (or, of dw, from the gradient that comes in)."""
    rows = math.prod(out[:-1])
    if "_dw" in op:
        return matmul(kind, "dw", out[0], out[1], math.prod(with_last(inputs, out[0])) // out[0])
    if "_dx" in op:
        weight = next(s for s in inputs[1:] if s and len(s) == 2 and s[1] == out[-1])
        return matmul(kind, "dx", rows, out[-1], weight[0])
    weight = next(s for s in inputs[1:] if s and len(s) == 2 and s[0] == out[-1])
    return matmul(kind, "forward", rows, out[-1], weight[1])


def head(kind, inputs):
    """Logits, and the gradients of both of their factors."""
    V, K = inputs[1]
    M = math.prod(inputs[0]) // K
    return [matmul(kind, "forward", M, V, K), matmul(kind, "dx", M, K, V), matmul(kind, "dw", V, K, M)]


def convolution(op, kind, out, inputs):
    role = {"conv2d": "forward", "conv2d_dx": "data", "conv2d_dw": "weights"}[op]
    if role == "forward":
        x, w, y = inputs[0], inputs[1], out
    elif role == "data":
        x, w, y = out, inputs[1], inputs[0]
    else:
        x, w, y = inputs[1], out, inputs[0]
    (B, H, W, Ci), (Co, _, KH, KW), (_, OH, OW, _) = x, w, y
    stride = max(1, round(H / OH))
    pad = max(0, ((OH - 1) * stride + KH - H + 1) // 2)
    return f"conv {kind} {role} {B} {H} {W} {Ci} {OH} {OW} {Co} {KH} {KW} {stride} {pad}"


def flops(line):
    words = line.split()
    n = [int(w) for w in words[3:]]
    if words[0] == "matmul":
        return 2.0 * math.prod(n)
    B, _, _, Ci, OH, OW, Co, KH, KW, _, _ = n
    return 2.0 * B * OH * OW * Co * Ci * KH * KW


def of_plan(plan, windows=1):
    """How often a step does each product: (all of them, those of the head)."""
    every, of_head = collections.Counter(), collections.Counter()
    for o in plan["operations"]:
        op, kind, out, inputs = o["op"], o["type"], o["shape"], o["in"]
        if op.startswith("linear_cross_entropy"):
            if not op.endswith("_bwd"):
                of_head.update(head(kind, inputs))
        elif "linear" in op:
            every[linear(op, kind, out, inputs)] += windows
        elif op.startswith("conv2d"):
            every[convolution(op, kind, out, inputs)] += windows
    for line in of_head:
        of_head[line] *= windows
    return every + of_head, of_head


def bound(program, counts, repeat, threads, known):
    """Best time of each product, and their sum over a step.  `known`: products measured before, by their
    line; it takes those of this call."""
    done = subprocess.run(
        [program, "--repeat", str(repeat), "--threads", str(threads)],
        input="".join(f"{line}\n" for line in counts if line not in known),
        capture_output=True,
        text=True,
        check=True,
    )
    known.update((b["work"], b) for b in map(json.loads, done.stdout.splitlines()))
    best = [known[line] | {"count": count} for line, count in counts.items()]
    for b in best:
        b["gflops"] = flops(b["work"]) / b["ms"] * 1e-6
    return {
        "ms": sum(b["ms"] * b["count"] for b in best),
        "gflop": sum(flops(b["work"]) * b["count"] for b in best) * 1e-9,
        "products": best,
    }

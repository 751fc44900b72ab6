#!/usr/bin/env python3
"""What scripts/bench is made of: its programs, the products of a plan, the refusal of noise, its tables.

    test_bench.py FOLDER         FOLDER: where ceiling, gemm_bound and telemetry are
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(os.environ.get("MEZZO_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
MEZZO = os.environ.get("MEZZO", SOURCE / "build/mezzo")
PROGRAMS = pathlib.Path(sys.argv.pop(1))
sys.path.insert(0, str(SOURCE / "bench"))

import measure  # noqa: E402
import products  # noqa: E402
import run as runs  # noqa: E402
import table  # noqa: E402

SMALL = {  # of examples/gpt2-124m.yaml
    "model.layers": 2,
    "model.heads": 2,
    "model.channels": "[64]",
    "model.context": 32,
    "model.vocab": 192,
    "data.vocab": 192,
    "data.batch": 3,
}
EXAMPLE = str(SOURCE / "examples/gpt2-124m.yaml")
SETTINGS = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]


def output(*command, code=0, text=""):
    done = subprocess.run([str(c) for c in command], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{command}: exit {done.returncode}\n{done.stderr}"
    return done.stdout


def plan_of(*more):
    return json.loads(output(MEZZO, "plan", EXAMPLE, "--json", *SETTINGS, *more))


class Programs(unittest.TestCase):
    def test_ceiling(self):
        found = json.loads(output(PROGRAMS / "ceiling", "--peak", "--seconds", "0.01", "--threads", "1"))
        self.assertEqual(found["threads"], 1)
        self.assertGreater(found["f32_gflops"]["one"], 0)
        output(PROGRAMS / "ceiling", "--threads", "0", code=2)

    def test_gemm_bound(self):
        if not (PROGRAMS / "gemm_bound").exists():
            self.skipTest("no oneDNN")
        lines = ["matmul f32 forward 256 96 64", "matmul f32 dx 256 64 96", "matmul f32 dw 96 64 256"]
        lines += [f"conv f32 {role} 32 8 8 16 8 8 32 3 3 1 1" for role in ("forward", "data", "weights")]
        known = {}
        found = products.bound(PROGRAMS / "gemm_bound", dict.fromkeys(lines, 2), 3, 2, known)
        self.assertEqual([p["work"] for p in found["products"]], lines)
        for p in found["products"]:
            self.assertIn("library-plain", p["ways"])
            self.assertTrue(any(way.startswith("chunks") for way in p["ways"]) or p["work"].split()[3] == "96")
            self.assertEqual(p["ms"], min(p["ways"].values()))
        self.assertAlmostEqual(found["ms"], 2 * sum(p["ms"] for p in found["products"]))
        again = products.bound(PROGRAMS / "gemm_bound", dict.fromkeys(lines[:1], 5), 3, 2, known)
        self.assertAlmostEqual(again["ms"], 5 * found["products"][0]["ms"])  # kept, and not measured again
        output(PROGRAMS / "gemm_bound", code=2, text="matmul f64 forward 1 1 1\n")

    def test_telemetry(self):
        with tempfile.TemporaryDirectory() as folder:
            text = output(PROGRAMS / "telemetry", EXAMPLE, "--pairs", "20", "--dir", f"{folder}/run", *SETTINGS)
            lines = (pathlib.Path(folder) / "run/metrics.jsonl").read_text().splitlines()
        found = json.loads(text)
        self.assertEqual((found["pairs"], found["metered_steps"]), (20, 1))
        # On: half of the warm-up, one step of each pair, and the metered one.
        self.assertEqual(len(lines), 3 + 20 + 1)


class Products(unittest.TestCase):
    def test_language_model(self):
        every, head = products.of_plan(plan_of("--precision", "f32"), windows=2)
        rows, C, V = 3 * 32, 64, 192
        wanted = {}
        for M, N, K in ((rows, 3 * C, C), (rows, C, C), (rows, 4 * C, C), (rows, C, 4 * C)):
            for line in (f"forward {M} {N} {K}", f"dx {M} {K} {N}", f"dw {N} {K} {M}"):
                wanted[f"matmul f32 {line}"] = 2 * 2  # layers, micro-batches
        logits = [f"matmul f32 {r}" for r in (f"forward {rows} {V} {C}", f"dx {rows} {C} {V}", f"dw {V} {C} {rows}")]
        self.assertEqual(set(head), set(logits))
        for line in logits:
            wanted[line] = wanted.get(line, 0) + 2
        self.assertEqual(dict(every), wanted)

    def test_convolutions(self):
        found = products.convolution("conv2d_dx", "bf16", [2, 7, 9, 3], [[2, 4, 5, 8], [8, 3, 3, 3]])
        self.assertEqual(found, "conv bf16 data 2 7 9 3 4 5 8 3 3 2 1")
        self.assertEqual(products.flops(found), 2 * 2 * 4 * 5 * 8 * 3 * 9)

    def test_state(self):
        plan = plan_of("--precision", "f32")
        count = runs.parameters(plan)
        C, V, T = 64, 192, 32
        self.assertEqual(count, V * C + T * C + 2 * (12 * C * C + 13 * C) + 2 * C)
        self.assertEqual(plan["bytes"]["gradients"], 4 * count)
        found = runs.state_bytes(plan, count)
        self.assertAlmostEqual(found["bytes"], 16, delta=0.01)  # FP32 masters, two moments, gradients
        packed = runs.state_bytes(plan_of("--precision", "f32", "--isa", "avx2"), count)["packed"]
        self.assertGreater(packed, 4)  # where oneDNN makes the products: for forward and backward, not of vectors


class Fake:
    """A bench that finds these peaks, one after the other."""

    mezzo, threads, quick = MEZZO, 2, False

    def __init__(self, *values):
        self.values = list(values)

    def ceilings(self, peak_only=False):
        return {"bf16_gflops": None, "f32_gflops": {"isa": "avx2", "one": 50.0, "all": self.values.pop(0)}}


    def torch(self, python, work, precision, mode, weights):
        losses = [2.0, 1.0 + 2e-4]
        return {"failed": "no compiler"} if mode == "compile" else {"losses": losses, "step_ms": 1.0}


class Whole(unittest.TestCase):
    def test_other_training(self):
        """2e-4 apart: the same training in BF16, and another one in FP32."""
        for precision, wrong in (("bf16", 0), ("f32", 1)):
            r = runs.Run(Fake(), {})
            r.peers, r.result["peers"] = {"newest": "python"}, {"newest": "0"}
            found = r.against_peers(runs.WORKS["mlp"], precision, {"losses": [2.0, 1.0]}, "")
            self.assertEqual(sum(map(len, r.wrong.values())), wrong)
            self.assertAlmostEqual(found["newest"]["eager"]["apart"], 2e-4, delta=1e-7)
            self.assertIn("failed", found["newest"]["compile"])

    def measured(self, *peaks):
        """The works that a run with these peaks measures, one after another."""
        r, order = runs.Run(Fake(*peaks), {}), []
        r.work = order.append
        r.measure(["a", "b"])
        return order

    def test_noise_is_measured_again(self):
        self.assertEqual(self.measured(100.0, 97.0, 96.0, 100.0), ["a", "b"])
        self.assertEqual(self.measured(100.0, 94.0, 100.0, 100.0, 100.0, 100.0), ["a", "b", "a", "b"])
        self.assertEqual(self.measured(94.0, 99.0, 100.0, 99.0, 99.0), ["a", "b", "a"])

    def test_noise_ends_the_run(self):
        with self.assertRaises(runs.Noise):
            self.measured(100.0, 100.0, 94.0, 94.0, 94.0, 94.0)

    def test_config(self):
        config = measure.parse_config(output(MEZZO, "config", "show", EXAMPLE, "--resolved", *SETTINGS))
        self.assertEqual(config["model"]["channels"], [64])
        self.assertEqual(config["optimizer"]["lr"], 6e-4)
        self.assertEqual(config["optimizer"]["eps"], 1e-8)
        self.assertEqual(config["data"]["kind"], "random")
        self.assertEqual(config["train"]["accumulate"], 1)

    def test_losses(self):
        self.assertEqual(measure.apart([2.0, 4.0], [2.0, 5.0]), 0.2)

    def test_met(self):
        more = table.Row("", None, None, gate=1.0, goal=1.4)
        less = table.Row("", None, None, gate=130, goal=90, less=True)
        self.assertEqual([more.met(x) for x in (0.9, 1.0, 1.4)], ["no", "gate", "goal"])
        self.assertEqual([less.met(x) for x in (131, 130, 90)], ["no", "gate", "goal"])

    def test_table(self):
        """sample.json is a quick run, shortened; llm.c, a failure and a curve are made up."""
        folder = SOURCE / "tests/bench"
        result = json.loads((folder / "sample.json").read_text(encoding="utf-8"))
        self.assertEqual(table.document(result), (folder / "sample.md").read_text(encoding="utf-8"))

    def test_script(self):
        listed = output(SOURCE / "scripts/bench", "--list").splitlines()
        self.assertIn("gpt2", [line.split()[0] for line in listed])
        self.assertEqual([line for line in listed if line.startswith("llama")] != [],
                         (SOURCE / "examples/llama-124m.yaml").exists())
        output(SOURCE / "scripts/bench", "nothing", code=1)


if __name__ == "__main__":
    unittest.main()

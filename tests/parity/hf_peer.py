"""What gpt2_hf.py and llama_hf.py share: figures for a test to replay, and models taken through the
program.

Figures are logits in FP64 of a model of transformers, on weights and tokens that are functions of an
integer (gpt2_torch.py).  Through the program:

  export  tensors that Python's safetensors wrote, by mezzo's names -> mezzo export -> transformers
          has the same parameters, bit for bit, and the loss that mezzo eval prints
  import  random models of transformers in every form that it and older files have -> mezzo import ->
          mezzo export gives the same file again, mezzo train starts with transformers' loss, and what
          it trained exports to a model with the loss that it ended with
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
import transformers

import gpt2_torch as peer

POSITIONS = [0, 1, 15, 31]
WINDOWS, EVAL_WINDOWS = 16, 4
VERSIONS = ("torch", "transformers", "numpy", "python")
MEASURED = ("loss", "loss_fp32", "terms", "apart_fp32", "logits")


def loss_of(model, tokens):
    """Mean loss of windows of T + 1 tokens."""
    with torch.no_grad():
        logits = model(tokens[:, :-1]).logits
    return float(F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()))


def figures(narrow, wide, terms, more):
    """Of the same weights in FP32 and in FP64; `terms` as for Check, `more` is kept beside them."""
    tokens = torch.from_numpy(peer.sequences(0, 1))
    with torch.no_grad():
        exact, rounded = (m(tokens[:, :-1]).logits[0, POSITIONS] for m in (wide, narrow))
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
        "seed": peer.SEED,
        "vector": peer.VECTOR,
        **more,
        "tokens": tokens[0].tolist(),
        "loss": loss_of(wide, tokens),
        "loss_fp32": loss_of(narrow, tokens),
        "positions": POSITIONS,
        "terms": terms(wide, tokens[:, :-1])[0, POSITIONS].tolist(),
        "apart_fp32": float((rounded - exact).abs().max()),
        "logits": exact.tolist(),
    }


def compare(fresh, path):
    """What fresh figures contradict in kept ones.  FP64 holds to 1e-12 of the terms of a logit."""
    with open(path, encoding="utf-8") as file:
        kept = json.load(file)
    wrong = []
    for key in VERSIONS:
        print(f"{key}: {fresh[key]} (kept: {kept[key]})")
    for key in [k for k in fresh if k not in VERSIONS + MEASURED]:
        if fresh[key] != kept[key]:
            wrong.append(f"{key}: {fresh[key]}, kept {kept[key]}")
    apart = np.abs(np.array(fresh["logits"]) - np.array(kept["logits"])).max(-1)
    for position, a, size in zip(POSITIONS, apart, kept["terms"], strict=True):
        if not a <= 1e-12 * size:
            wrong.append(f"logits of position {position}: {a:.1e} apart")
    if not abs(fresh["loss"] - kept["loss"]) <= 1e-12:
        wrong.append(f"loss: {fresh['loss']!r}, kept {kept['loss']!r}")
    print(f"logits in FP64: at most {apart.max():.1e} apart; FP32's: {fresh['apart_fp32']:.1e}")
    print("\n".join(wrong) if wrong else "as kept")
    return wrong


class Program:
    """mezzo, in a folder of its own."""

    def __init__(self, path):
        self.path = os.path.abspath(path)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("MEZZO_")}

    def __call__(self, *arguments):
        done = subprocess.run(
            [self.path, *arguments], env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"mezzo {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
        return done.stdout

    def json(self, *arguments):
        return json.loads(self(*arguments, "--json", "-q").splitlines()[-1])


class Check:
    """Rows of a table.  `rounding`: how far a logit in FP32 may be from FP64, over its terms, which
    `terms` takes from a model and tokens; `widened`: a model in FP64."""

    def __init__(self, rounding, terms, widened):
        self.rounding, self.terms, self.widened = rounding, terms, widened
        self.failed = 0

    def __call__(self, what, good, figure=""):
        print(f"| {what} | {figure} | {'yes' if good else 'NO'} |")
        self.failed += not good

    def near(self, what, ours, model, tokens):
        """`ours` is FP32's loss; the model's is taken in FP64.  A loss is a difference of two logits
        or less."""
        bound = 2.0 * self.rounding * float(self.terms(model, tokens[:, :-1]).max())
        apart = abs(ours - loss_of(self.widened(model), tokens))
        self(what, apart <= bound, f"{ours:.7f}, {apart:.1e} apart (bound {bound:.1e})")


def write_tokens(path, windows, generator):
    """Windows that share their border, as nanoGPT stores them; returns them apart, [N, T + 1]."""
    T = peer.SHAPE.context
    ids = generator.integers(0, peer.SHAPE.vocabulary, windows * T + 1).astype(np.uint16)
    ids.tofile(path)
    return torch.from_numpy(np.stack([ids[n * T : (n + 1) * T + 1] for n in range(windows)]).astype(np.int64))


def options(model):
    """Of a command: `model`, keys and values of model.*, and tokens.bin as one batch of every window,
    in some order, as its mean does not depend on it."""
    settings = [f"model.{key}={value}" for key, value in model]
    settings += ["data.kind=tokens", "data.path=tokens.bin", "data.validation_path=eval.bin",
                 f"data.vocab={peer.SHAPE.vocabulary}", f"data.batch={WINDOWS}", "precision.compute=f32"]
    return [word for setting in settings for word in ("--set", setting)]


def bytes_of(folder):
    with open(os.path.join(folder, "model.safetensors"), "rb") as file:
        return file.read()


def check_program(path, check, take):
    """`take` goes through the program: take(mezzo, check, trained_on, held_out)."""
    mezzo = Program(path)
    generator = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        trained_on = write_tokens("tokens.bin", WINDOWS, generator)
        held_out = write_tokens("eval.bin", EVAL_WINDOWS, generator)
        print("| what | figure | holds |\n|---|---|---|")
        take(mezzo, check, trained_on, held_out)
        os.chdir("/")
    return check.failed


def main(description, make_figures, check, take):
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--compare", metavar="JSON", help="with these figures, instead of writing")
    arguments.add_argument("--program", metavar="MEZZO", help="take models through the program")
    chosen = arguments.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if chosen.program:
        return 1 if check_program(chosen.program, check, take) else 0
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if chosen.compare:
        return 1 if compare(make_figures(), chosen.compare) else 0
    json.dump(make_figures(), sys.stdout, indent=1)
    print()
    return 0

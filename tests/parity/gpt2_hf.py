#!/usr/bin/env python3
"""Hugging Face's GPT-2 as the peer of import, export and of tests/train/test_gpt2_hf.c.

    python tests/parity/gpt2_hf.py > tests/parity/gpt2_hf.json          (torch, transformers,
    python tests/parity/gpt2_hf.py --compare tests/parity/gpt2_hf.json   safetensors: scripts/test
    python tests/parity/gpt2_hf.py --program build/mezzo                 --full=hf_gpt2 gets them)

The first two make and check the figures that the test replays: logits of GPT2LMHeadModel in FP64 on
the weights and tokens of gpt2_torch.py, which are functions of an integer.  The third takes models
through the program, both ways:

  export  tensors that Python's safetensors wrote, by mezzo's names -> mezzo export -> transformers
          has the same parameters, bit for bit, and the loss that mezzo eval prints
  import  random models of transformers, as it writes them, without the prefix and with the buffers
          of old files, in shards, in BF16 -> mezzo import -> mezzo export gives the same file again,
          mezzo train starts with transformers' loss, and what it trained exports to a model with the
          loss that it ended with

How far FP32 logits may be from FP64: between embedding and logits there are 12 L + 3 operations (two
norms, four products, scores, softmax, weighted sum, GELU and two additions a block; embedding, last
norm, head).  None sums more than K = 4 C terms; its rounding errors have either sign, so they grow
like sqrt(K) u of the size of its terms, u = 2^-24.  Norms keep sizes near 1, so the errors of all
operations add up to (12 L + 3) sqrt(K) u of the terms of a logit, |h| . |wte[token]|.  A loss is a
difference of two logits or less: twice that.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile

import numpy as np
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
import transformers

import gpt2_torch as peer

SHAPE = peer.SHAPE
POSITIONS = [0, 1, 15, 31]
WINDOWS, EVAL_WINDOWS = 16, 4
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def rounding(layers, channels):
    return (12 * layers + 3) * math.sqrt(4 * channels) * 2.0**-24


def new_model(dropout=0.0):
    config = transformers.GPT2Config(
        n_layer=SHAPE.layers,
        n_head=SHAPE.heads,
        n_embd=SHAPE.channels,
        n_positions=SHAPE.context,
        vocab_size=SHAPE.vocabulary,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=None,
        eos_token_id=None,
    )
    return transformers.GPT2LMHeadModel(config).eval()


def hf_tensor(name, value):
    """One of mezzo's tensors as Hugging Face stores it."""
    value = torch.from_numpy(value)
    return value.T.contiguous() if name.endswith(TRANSPOSED) else value


def peer_model():
    """GPT2LMHeadModel with the weights of gpt2_torch.py."""
    model = new_model()
    weights = {f"transformer.{n}": hf_tensor(n, w) for n, w in peer.initial_weights().items()}
    found = model.load_state_dict(weights, strict=False)
    assert found.missing_keys == ["lm_head.weight"] and not found.unexpected_keys, found
    return model


def loss_of(model, tokens):
    """Mean loss of windows of T + 1 tokens."""
    with torch.no_grad():
        logits = model(tokens[:, :-1]).logits
    return float(F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()))


def terms(model, tokens):
    """|h| . |wte[token]|, the largest over the tokens, for each position."""
    with torch.no_grad():
        h = model.transformer(tokens).last_hidden_state
        return (h.abs() @ model.transformer.wte.weight.abs().T).amax(-1)


def figures():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tokens = torch.from_numpy(peer.sequences(0, 1))
    narrow, wide = peer_model(), peer_model().double()
    with torch.no_grad():
        exact, rounded = (m(tokens[:, :-1]).logits[0, POSITIONS] for m in (wide, narrow))
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
        "seed": peer.SEED,
        "vector": peer.VECTOR,
        "shape": vars(SHAPE),
        "parameters": list(peer.initial_weights()),
        "tokens": tokens[0].tolist(),
        "loss": loss_of(wide, tokens),
        "loss_fp32": loss_of(narrow, tokens),
        "positions": POSITIONS,
        "terms": terms(wide, tokens[:, :-1])[0, POSITIONS].tolist(),
        "apart_fp32": float((rounded - exact).abs().max()),
        "logits": exact.tolist(),
    }


def compare(path):
    """What fresh figures contradict in kept ones.  FP64 holds to 1e-12 of the terms of a logit."""
    with open(path, encoding="utf-8") as file:
        kept = json.load(file)
    fresh, wrong = figures(), []
    for key in ("torch", "transformers", "numpy", "python"):
        print(f"{key}: {fresh[key]} (kept: {kept[key]})")
    for key in ("seed", "vector", "shape", "parameters", "tokens", "positions"):
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


def write_tokens(path, windows, generator):
    """Windows that share their border, as nanoGPT stores them; returns them apart, [N, T + 1]."""
    T = SHAPE.context
    ids = generator.integers(0, SHAPE.vocabulary, windows * T + 1).astype(np.uint16)
    ids.tofile(path)
    return torch.from_numpy(np.stack([ids[n * T : (n + 1) * T + 1] for n in range(windows)]).astype(np.int64))


def load(folder):
    return transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()


def bytes_of(folder):
    with open(os.path.join(folder, "model.safetensors"), "rb") as file:
        return file.read()


class Check:
    def __init__(self):
        self.failed = 0

    def __call__(self, what, good, figure=""):
        print(f"| {what} | {figure} | {'yes' if good else 'NO'} |")
        self.failed += not good

    def near(self, what, ours, model, tokens, factor=1.0):
        """`ours` is FP32's loss; the model's is taken in FP64."""
        size = float(terms(model, tokens[:, :-1]).max())
        bound = 2.0 * factor * rounding(SHAPE.layers, SHAPE.channels) * size
        apart = abs(ours - loss_of(model.double(), tokens))
        self(what, apart <= bound, f"{ours:.7f}, {apart:.1e} apart (bound {bound:.1e})")


def data_options(kind):
    """One batch holds every window of tokens.bin, in some order: its mean does not depend on it."""
    model = [f"model.{k}={v}" for k, v in (
        ("kind", "gpt2"), ("layers", SHAPE.layers), ("heads", SHAPE.heads), ("vocab", SHAPE.vocabulary),
        ("channels", f"[{SHAPE.channels}]"), ("context", SHAPE.context))] if kind else []
    settings = [*model, "data.kind=tokens", "data.path=tokens.bin", "data.validation_path=eval.bin",
                f"data.vocab={SHAPE.vocabulary}", f"data.batch={WINDOWS}", "precision.compute=f32"]
    return [word for setting in settings for word in ("--set", setting)]


def check_export(mezzo, check, held_out):
    weights = peer.initial_weights()
    safetensors.torch.save_file({n: torch.from_numpy(w) for n, w in weights.items()}, "named.safetensors")
    mezzo("export", *data_options(True), "--weights", "named.safetensors", "--out", "exported")
    model = load("exported")
    parameters = dict(model.named_parameters())
    same = all(torch.equal(parameters[f"transformer.{n}"], hf_tensor(n, w)) for n, w in weights.items())
    check("export: transformers has the same parameters, bit for bit", same and len(parameters) == len(weights))
    found = mezzo.json("eval", *data_options(True), "--weights", "named.safetensors")
    check.near("export: loss of mezzo eval, and transformers'", found["eval_loss"], model, held_out)
    for dtype, torch_type in (("bf16", torch.bfloat16), ("f16", torch.float16)):
        mezzo("export", *data_options(True), "--weights", "named.safetensors", "--out", dtype, "--dtype", dtype)
        half = transformers.GPT2LMHeadModel.from_pretrained(dtype, dtype="auto")
        same = half.dtype == torch_type and all(
            torch.equal(p, parameters[n].to(torch_type)) for n, p in half.named_parameters())
        check(f"export --dtype {dtype}: PyTorch rounds to the same", same)


def write_bare(model, folder):
    """As old files of the hub: no prefix, buffers of attention, and a head that repeats wte."""
    tensors = {n.removeprefix("transformer."): p.detach().clone() for n, p in model.named_parameters()}
    T = SHAPE.context
    for layer in range(SHAPE.layers):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(T, T).tril().view(1, 1, T, T)
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    tensors["lm_head.weight"] = tensors["wte.weight"].clone()
    os.makedirs(folder)
    safetensors.torch.save_file(tensors, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    model.config.save_pretrained(folder)


def check_import(mezzo, check, trained_on, held_out):
    torch.manual_seed(1)
    model = new_model(dropout=0.1)
    with torch.no_grad():  # beyond the start, where biases are 0 and norms 1
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    model.save_pretrained("prefix")
    model.save_pretrained("shards", max_shard_size="100KB")
    write_bare(model, "bare")
    reference = bytes_of("prefix")
    check("import: more than one shard", len([n for n in os.listdir("shards") if n.endswith(".safetensors")]) > 1)
    for form in ("prefix", "bare", "shards"):
        mezzo("import", form, "--out", f"{form}-run")
        mezzo("export", f"{form}-run/config.yaml", "--weights", f"{form}-run", "--out", f"{form}-back")
        check(f"import, {form}: export gives transformers' file, byte for byte", bytes_of(f"{form}-back") == reference)
        said = mezzo.json("train", f"{form}-run/config.yaml", *data_options(False), "--weights", f"{form}-run",
                          "--run-dir", f"{form}-trained", "--steps", "5")
        check.near(f"import, {form}: first loss of mezzo train, and transformers'", said["loss_first"],
                   load(form), trained_on)
    check("train: the loss falls", said["loss_last"] < said["loss_first"],
          f"{said['loss_first']:.4f} to {said['loss_last']:.4f}")
    mezzo("export", "prefix-trained/config.yaml", "--weights", "prefix-trained", "--out", "prefix-final")
    said = mezzo.json("eval", "prefix-trained/config.yaml", "--weights", "prefix-trained")
    check.near("train: exported again, loss of mezzo eval and transformers'", said["eval_loss"],
               load("prefix-final"), held_out)
    half = new_model().bfloat16()
    half.save_pretrained("half")
    mezzo("import", "half", "--out", "half-run")
    mezzo("export", "half-run/config.yaml", "--weights", "half-run", "--out", "half-back", "--dtype", "bf16")
    check("import of BF16: export --dtype bf16 gives transformers' file", bytes_of("half-back") == bytes_of("half"))


def check_program(path):
    mezzo, check = Program(path), Check()
    generator = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        trained_on = write_tokens("tokens.bin", WINDOWS, generator)
        held_out = write_tokens("eval.bin", EVAL_WINDOWS, generator)
        print("| what | figure | holds |\n|---|---|---|")
        check_export(mezzo, check, held_out)
        check_import(mezzo, check, trained_on, held_out)
        os.chdir("/")
    return check.failed


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--compare", metavar="JSON", help="with these figures, instead of writing")
    arguments.add_argument("--program", metavar="MEZZO", help="take models through the program")
    options = arguments.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if options.program:
        return 1 if check_program(options.program) else 0
    if options.compare:
        return 1 if compare(options.compare) else 0
    json.dump(figures(), sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())

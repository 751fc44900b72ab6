#!/usr/bin/env python3
"""Hugging Face's GPT-2 as the peer of import, export and of tests/train/test_gpt2_hf.c.

    python tests/parity/gpt2_hf.py > tests/parity/gpt2_hf.json          (torch, transformers,
    python tests/parity/gpt2_hf.py --compare tests/parity/gpt2_hf.json   safetensors: scripts/test
    python tests/parity/gpt2_hf.py --program build/mezzo                 --full=hf_gpt2 gets them)

The first two make and check the figures that the test replays; the third takes models through the
program, both ways: hf_peer.py.

How far FP32 logits may be from FP64: between embedding and logits there are 12 L + 3 operations (two
norms, four products, scores, softmax, weighted sum, GELU and two additions a block; embedding, last
norm, head).  None sums more than K = 4 C terms; its rounding errors have either sign, so they grow
like sqrt(K) u of the size of its terms, u = 2^-24.  Norms keep sizes near 1, so the errors of all
operations add up to (12 L + 3) sqrt(K) u of the terms of a logit, |h| . |wte[token]|.
"""
import math
import os
import sys

import safetensors.torch
import torch
import transformers

import gpt2_torch as peer
import hf_peer

SHAPE = peer.SHAPE
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
ROUNDING = (12 * SHAPE.layers + 3) * math.sqrt(4 * SHAPE.channels) * 2.0**-24
SIZES = (("kind", "gpt2"), ("layers", SHAPE.layers), ("heads", SHAPE.heads), ("vocab", SHAPE.vocabulary),
         ("channels", f"[{SHAPE.channels}]"), ("context", SHAPE.context))


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


def terms(model, tokens):
    """|h| . |wte[token]|, the largest over the tokens, for each position."""
    with torch.no_grad():
        h = model.transformer(tokens).last_hidden_state
        return (h.abs() @ model.transformer.wte.weight.abs().T).amax(-1)


def figures():
    return hf_peer.figures(peer_model(), peer_model().double(), terms,
                           {"shape": vars(SHAPE), "parameters": list(peer.initial_weights())})


def load(folder):
    return transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()


def check_export(mezzo, check, held_out):
    weights = peer.initial_weights()
    safetensors.torch.save_file({n: torch.from_numpy(w) for n, w in weights.items()}, "named.safetensors")
    mezzo("export", *hf_peer.options(SIZES), "--weights", "named.safetensors", "--out", "exported")
    model = load("exported")
    parameters = dict(model.named_parameters())
    same = all(torch.equal(parameters[f"transformer.{n}"], hf_tensor(n, w)) for n, w in weights.items())
    check("export: transformers has the same parameters, bit for bit", same and len(parameters) == len(weights))
    found = mezzo.json("eval", *hf_peer.options(SIZES), "--weights", "named.safetensors")
    check.near("export: loss of mezzo eval, and transformers'", found["eval_loss"], model, held_out)
    for dtype, torch_type in (("bf16", torch.bfloat16), ("f16", torch.float16)):
        mezzo("export", *hf_peer.options(SIZES), "--weights", "named.safetensors", "--out", dtype, "--dtype", dtype)
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
    reference = hf_peer.bytes_of("prefix")
    check("import: more than one shard", len([n for n in os.listdir("shards") if n.endswith(".safetensors")]) > 1)
    for form in ("prefix", "bare", "shards"):
        mezzo("import", form, "--out", f"{form}-run")
        mezzo("export", f"{form}-run/config.yaml", "--weights", f"{form}-run", "--out", f"{form}-back")
        check(f"import, {form}: export gives transformers' file, byte for byte", hf_peer.bytes_of(f"{form}-back") == reference)
        said = mezzo.json("train", f"{form}-run/config.yaml", *hf_peer.options(()), "--weights", f"{form}-run",
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
    check("import of BF16: export --dtype bf16 gives transformers' file", hf_peer.bytes_of("half-back") == hf_peer.bytes_of("half"))


def take(mezzo, check, trained_on, held_out):
    check_export(mezzo, check, held_out)
    check_import(mezzo, check, trained_on, held_out)


if __name__ == "__main__":
    CHECK = hf_peer.Check(ROUNDING, terms, lambda model: model.double())
    sys.exit(hf_peer.main(__doc__.splitlines()[0], figures, CHECK, take))

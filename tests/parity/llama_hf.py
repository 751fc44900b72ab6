#!/usr/bin/env python3
"""Hugging Face's Llama as the peer of import, export and of tests/train/test_llama_hf.c.

    python tests/parity/llama_hf.py > tests/parity/llama_hf.json          (torch, transformers,
    python tests/parity/llama_hf.py --compare tests/parity/llama_hf.json   safetensors: scripts/test
    python tests/parity/llama_hf.py --program build/mezzo                  --full=hf_llama gets them)

As gpt2_hf.py, for LlamaForCausalLM with grouped heads and a head of its own.  Weights are functions of
an integer, by the order of mezzo's names, in which q_proj, k_proj and v_proj are one matrix, and
gate_proj and up_proj another; tokens are those of gpt2_torch.py.

transformers computes the mean square of a norm, and the angles of the rotary positions, in FP32 whatever
type the model has.  For the figures in FP64 both are done in FP64 here, by the same formulas; everything
else is the library's.  "apart_fp32" is the library's own FP32 beside that.

How far FP32 logits may be from FP64: between embedding and logits there are 13 L + 3 operations (two
norms, four products, turn, scores, softmax, weighted sum, gated unit and two additions a block;
embedding, last norm, head).  None sums more than K = max(C, F) terms; the rest is as in gpt2_hf.py:
(13 L + 3) sqrt(K) u of the terms of a logit.
"""
import json
import math
import os
import sys
import types

import numpy as np
import safetensors.torch
import torch
import transformers
from transformers.models.llama import modeling_llama

import gpt2_torch as peer
import hf_peer

LAYERS, HEADS, KV_HEADS, CHANNELS, WIDE = 2, 4, 2, 64, 160
CONTEXT, VOCABULARY = peer.SHAPE.context, peer.SHAPE.vocabulary
THETA, EPS = 500.0, 1e-5
ROUNDING = (13 * LAYERS + 3) * math.sqrt(max(CHANNELS, WIDE)) * 2.0**-24
SIZES = (("kind", "llama"), ("layers", LAYERS), ("heads", HEADS), ("kv_heads", KV_HEADS), ("vocab", VOCABULARY),
         ("channels", f"[{CHANNELS}]"), ("mlp_channels", WIDE), ("context", CONTEXT), ("rope_theta", THETA),
         ("norm_eps", EPS))


def parameter_shapes(tied):
    """By mezzo's names, in its order."""
    D = CHANNELS // HEADS
    shapes = {"embed_tokens.weight": (VOCABULARY, CHANNELS)}
    for layer in range(LAYERS):
        shapes |= {
            f"layers.{layer}.{name}.weight": shape
            for name, shape in (
                ("input_layernorm", (CHANNELS,)),
                ("self_attn.qkv_proj", ((HEADS + 2 * KV_HEADS) * D, CHANNELS)),
                ("self_attn.o_proj", (CHANNELS, CHANNELS)),
                ("post_attention_layernorm", (CHANNELS,)),
                ("mlp.gate_up_proj", (2 * WIDE, CHANNELS)),
                ("mlp.down_proj", (CHANNELS, WIDE)),
            )
        }
    shapes["norm.weight"] = (CHANNELS,)
    if not tied:
        shapes["lm_head.weight"] = (VOCABULARY, CHANNELS)
    return shapes


def initial_weights(tied=False):
    """Matrices uniform in +-1/sqrt(columns), norms about 1."""
    weights = {}
    for index, (name, shape) in enumerate(parameter_shapes(tied).items()):
        values = peer.uniform(index, math.prod(shape))
        values = values * (1.0 / math.sqrt(shape[1])) if len(shape) == 2 else values * peer.VECTOR + 1.0
        weights[name] = values.astype(np.float32).reshape(shape)
    return weights


def hf_tensors(weights):
    """mezzo's tensors as Hugging Face names and cuts them."""
    D, tensors = CHANNELS // HEADS, {}
    cuts = {
        "qkv_proj": (("q_proj", HEADS * D), ("k_proj", KV_HEADS * D), ("v_proj", KV_HEADS * D)),
        "gate_up_proj": (("gate_proj", WIDE), ("up_proj", WIDE)),
    }
    for name, value in weights.items():
        value = torch.from_numpy(value)
        full = name if name == "lm_head.weight" else f"model.{name}"
        word = full.split(".")[-2]
        if word not in cuts:
            tensors[full] = value
            continue
        parts = value.split([rows for _, rows in cuts[word]])
        for (part, _), rows in zip(cuts[word], parts, strict=True):
            tensors[full.replace(word, part)] = rows.contiguous()
    return tensors


def new_model(tied=False):
    config = transformers.LlamaConfig(
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        hidden_size=CHANNELS,
        intermediate_size=WIDE,
        max_position_embeddings=CONTEXT,
        vocab_size=VOCABULARY,
        rms_norm_eps=EPS,
        rope_parameters={"rope_theta": THETA, "rope_type": "default"},
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
    )
    return transformers.LlamaForCausalLM(config).eval()


def peer_model():
    """LlamaForCausalLM with the weights of above."""
    model = new_model()
    found = model.load_state_dict(hf_tensors(initial_weights()), strict=True)
    assert not found.missing_keys and not found.unexpected_keys, found
    return model


def wide_norm(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def wide_angles(self, x, position_ids):
    head = self.config.head_dim
    frequencies = THETA ** (-torch.arange(0, head, 2, dtype=torch.float64) / head)
    angles = position_ids[..., None].double() * frequencies
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def widened(model):
    """In FP64, norms and angles too."""
    model = model.double()
    for module in model.modules():
        if isinstance(module, modeling_llama.LlamaRMSNorm):
            module.forward = types.MethodType(wide_norm, module)
        if isinstance(module, modeling_llama.LlamaRotaryEmbedding):
            module.forward = types.MethodType(wide_angles, module)
    return model


def terms(model, tokens):
    """|h| . |head[token]|, the largest over the tokens, for each position."""
    with torch.no_grad():
        h = model.model(tokens).last_hidden_state
        return (h.abs() @ model.lm_head.weight.abs().T).amax(-1)


def figures():
    return hf_peer.figures(peer_model(), widened(peer_model()), terms, {
        "shape": {
            "layers": LAYERS, "heads": HEADS, "kv_heads": KV_HEADS, "channels": CHANNELS, "mlp_channels": WIDE,
            "context": CONTEXT, "vocabulary": VOCABULARY,
        },
        "theta": THETA,
        "eps": EPS,
        "parameters": list(parameter_shapes(False)),
    })


def load(folder):
    return transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def check_export(mezzo, check, held_out, tied):
    name = "tied" if tied else "untied"
    weights = initial_weights(tied)
    safetensors.torch.save_file({n: torch.from_numpy(w) for n, w in weights.items()}, f"{name}.safetensors")
    options = [*hf_peer.options((*SIZES, ("tied", str(tied).lower()))), "--weights", f"{name}.safetensors"]
    mezzo("export", *options, "--out", name)
    model, expected = load(name), hf_tensors(weights)
    parameters = dict(model.named_parameters())
    same = len(parameters) == len(expected) and all(torch.equal(parameters[n], t) for n, t in expected.items())
    check(f"export, {name}: transformers has the same parameters, bit for bit", same)
    found = mezzo.json("eval", *options)
    check.near(f"export, {name}: loss of mezzo eval, and transformers'", found["eval_loss"], model, held_out)
    mezzo("export", *options, "--out", f"{name}-half", "--dtype", "bf16")
    half = transformers.LlamaForCausalLM.from_pretrained(f"{name}-half", dtype="auto")
    same = half.dtype == torch.bfloat16 and all(
        torch.equal(p, parameters[n].bfloat16()) for n, p in half.named_parameters())
    check(f"export, {name}, --dtype bf16: PyTorch rounds to the same", same)


def old_config(model, folder):
    """config.json as transformers 4 wrote it: theta is a key of its own; key and value heads are left
    out where there are as many as others."""
    path = os.path.join(folder, "config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None
    del config["head_dim"]
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)


def check_import(mezzo, check, trained_on, held_out):
    torch.manual_seed(1)
    for form, tied, options in (("untied", False, {}), ("tied", True, {}), ("shards", False, {"max_shard_size": "50KB"}),
                                ("old", True, {})):
        model = new_model(tied)
        with torch.no_grad():  # beyond the start, where norms are 1
            for p in model.parameters():
                p.add_(0.1 * torch.randn_like(p))
        folder = f"from-{form}"
        model.save_pretrained(folder, **options)
        model.save_pretrained(f"{folder}-whole")
        if form == "old":
            old_config(model, folder)
        run = f"{form}-run"
        mezzo("import", folder, "--out", run)
        mezzo("export", f"{run}/config.yaml", "--weights", run, "--out", f"{form}-back")
        check(f"import, {form}: export gives transformers' file, byte for byte",
              hf_peer.bytes_of(f"{form}-back") == hf_peer.bytes_of(f"{folder}-whole"))
        said = mezzo.json("train", f"{run}/config.yaml", *hf_peer.options(()), "--weights", run,
                          "--run-dir", f"{form}-trained", "--steps", "5")
        check.near(f"import, {form}: first loss of mezzo train, and transformers'", said["loss_first"],
                   load(folder), trained_on)
        check(f"train, {form}: the loss falls", said["loss_last"] < said["loss_first"],
              f"{said['loss_first']:.4f} to {said['loss_last']:.4f}")
    mezzo("export", "tied-trained/config.yaml", "--weights", "tied-trained", "--out", "tied-final")
    said = mezzo.json("eval", "tied-trained/config.yaml", "--weights", "tied-trained")
    check.near("train: exported again, loss of mezzo eval and transformers'", said["eval_loss"],
               load("tied-final"), held_out)


def take(mezzo, check, trained_on, held_out):
    check_export(mezzo, check, held_out, False)
    check_export(mezzo, check, held_out, True)
    check_import(mezzo, check, trained_on, held_out)


if __name__ == "__main__":
    CHECK = hf_peer.Check(ROUNDING, terms, widened)
    sys.exit(hf_peer.main(__doc__.splitlines()[0], figures, CHECK, take))

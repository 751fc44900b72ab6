"""GPT-2 in PyTorch with mezzo's names, and mezzo's random numbers: what the two peers here share.

The network is Hugging Face's GPT2LMHeadModel without dropout: norms in front, tanh GELU, a head tied
to the token embedding.  Weights of linear layers are [outputs, inputs].  A model is a dictionary of
leaf tensors by name; `shape` below is anything with the attributes of Shape.
"""
import math
import os
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

EPS = float(np.float32(1e-5))  # of layer norm: mezzo's constant is FP32
IGNORE = -1  # the label of a place without one
MASK = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


@dataclass(frozen=True)
class Shape:
    layers: int
    heads: int
    channels: int
    context: int
    vocabulary: int


def philox(counter, key):
    """Philox4x32-10: four arrays of words from four counter words, numbers or arrays, and two key words."""
    c = [np.asarray(word, dtype=np.uint64) for word in counter]
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [
            (p1 >> HALF) ^ c[1] ^ np.uint64(k0),
            p1 & MASK,
            (p0 >> HALF) ^ c[3] ^ np.uint64(k1),
            p0 & MASK,
        ]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def name_hash(name):
    """FNV-1a, 64 bits."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


def parameter_shapes(shape):
    C = shape.channels
    shapes = {"wte.weight": (shape.vocabulary, C), "wpe.weight": (shape.context, C)}
    for layer in range(shape.layers):
        for name, outputs, inputs in (
            ("ln_1", C, 0),
            ("attn.c_attn", 3 * C, C),
            ("attn.c_proj", C, C),
            ("ln_2", C, 0),
            ("mlp.c_fc", 4 * C, C),
            ("mlp.c_proj", C, 4 * C),
        ):
            shapes[f"h.{layer}.{name}.weight"] = (outputs, inputs) if inputs else (C,)
            shapes[f"h.{layer}.{name}.bias"] = (outputs,)
    return shapes | {"ln_f.weight": (C,), "ln_f.bias": (C,)}


def attention(x, w, name, heads, mask):
    B, T, C = x.shape
    qkv = F.linear(x, w[f"{name}.c_attn.weight"], w[f"{name}.c_attn.bias"])
    q, k, v = (p.view(B, T, heads, C // heads).transpose(1, 2) for p in qkv.split(C, dim=2))
    scores = q @ k.transpose(2, 3) * (1.0 / math.sqrt(C // heads))
    scores = scores.masked_fill(mask, -math.inf)
    y = F.softmax(scores, dim=-1) @ v
    y = y.transpose(1, 2).reshape(B, T, C)
    return F.linear(y, w[f"{name}.c_proj.weight"], w[f"{name}.c_proj.bias"])


def forward(w, tokens, shape, stream=None):
    """Logits [B, T, V] of tokens [B, T].  `stream`: the type of the residual stream and of what the
    norms give, else the widest there is."""
    T = tokens.shape[1]
    mask = torch.ones(T, T, dtype=torch.bool).triu(1)

    def norm(x, name):
        weight, bias = w[f"{name}.weight"], w[f"{name}.bias"]
        y = F.layer_norm(x.to(weight.dtype), x.shape[-1:], weight, bias, EPS)
        return y.to(stream or y.dtype)

    x = F.embedding(tokens, w["wte.weight"]) + w["wpe.weight"][:T]
    x = x.to(stream or x.dtype)
    for layer in range(shape.layers):
        at = f"h.{layer}"
        x = x + attention(norm(x, f"{at}.ln_1"), w, f"{at}.attn", shape.heads, mask)
        y = F.linear(norm(x, f"{at}.ln_2"), w[f"{at}.mlp.c_fc.weight"], w[f"{at}.mlp.c_fc.bias"])
        y = F.gelu(y, approximate="tanh")
        x = x + F.linear(y, w[f"{at}.mlp.c_proj.weight"], w[f"{at}.mlp.c_proj.bias"])
    return F.linear(norm(x, "ln_f"), w["wte.weight"])


def blas():
    """The library behind PyTorch's products of FP32 and FP64."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        found = {os.path.realpath(line.split()[5]) for line in maps if "/libblas." in line}
    return " ".join(sorted(os.path.join(*path.split("/")[-2:]) for path in found))


def adamw(w, lr, betas, weight_decay):
    """mezzo's rule: vectors do not decay."""
    groups = [
        {"params": [p for p in w.values() if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in w.values() if p.dim() == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=1e-8)

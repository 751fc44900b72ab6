"""GPT-2: norms in front, tanh GELU, a head tied to the token embedding; mezzo's names."""
import torch
import torch.nn.functional as F
from torch import nn

EPS = 1e-5


def attention(q, k, v):
    """Causal, over [B, heads, T, D]; by hand where PyTorch has no function for it (1.13)."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
    mask = torch.ones(scores.shape[2:], dtype=torch.bool).triu(1)
    return F.softmax(scores.masked_fill(mask, float("-inf")), dim=-1) @ v


class Block(nn.Module):
    def __init__(self, C, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(C, EPS), nn.LayerNorm(C, EPS)
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(C, 3 * C), "c_proj": nn.Linear(C, C)})
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(C, 4 * C), "c_proj": nn.Linear(4 * C, C)})

    def attend(self, x):
        B, T, C = x.shape
        q, k, v = (
            p.view(B, T, self.heads, C // self.heads).transpose(1, 2)
            for p in self.attn["c_attn"](x).split(C, dim=2)
        )
        y = attention(q, k, v)
        return self.attn["c_proj"](y.transpose(1, 2).reshape(B, T, C))

    def forward(self, x):
        x = x + self.attend(self.ln_1(x))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        C = config["model"]["channels"][0]
        self.wte = nn.Embedding(config["model"]["vocab"], C)
        self.wpe = nn.Embedding(config["model"]["context"], C)
        self.h = nn.ModuleList(Block(C, config["model"]["heads"]) for _ in range(config["model"]["layers"]))
        self.ln_f = nn.LayerNorm(C, EPS)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight).flatten(0, 1)

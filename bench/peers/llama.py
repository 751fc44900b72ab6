"""Llama: RMS norms, rotary positions, SwiGLU, no biases; products that share their input are one."""
import torch
import torch.nn.functional as F
from torch import nn

from gpt2 import attention


class Norm(nn.Module):
    def __init__(self, C, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(C)), eps

    def forward(self, x):
        x = x.float()
        if hasattr(F, "rms_norm"):
            return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class Block(nn.Module):
    def __init__(self, m):
        super().__init__()
        C, self.heads, self.kv_heads = m["channels"][0], m["heads"], m["kv_heads"] or m["heads"]
        self.D, self.width = C // self.heads, m["mlp_channels"] or -(-(8 * C // 3) // 64) * 64
        rows = (self.heads + 2 * self.kv_heads) * self.D
        self.input_layernorm = Norm(C, m["norm_eps"])
        self.post_attention_layernorm = Norm(C, m["norm_eps"])
        self.self_attn = nn.ModuleDict(
            {"qkv_proj": nn.Linear(C, rows, bias=False), "o_proj": nn.Linear(C, C, bias=False)}
        )
        self.mlp = nn.ModuleDict(
            {
                "gate_up_proj": nn.Linear(C, 2 * self.width, bias=False),
                "down_proj": nn.Linear(self.width, C, bias=False),
            }
        )

    def attend(self, x, cos, sin):
        B, T, C = x.shape
        qkv = self.self_attn["qkv_proj"](x).view(B, T, -1, self.D).transpose(1, 2)
        turned, v = qkv.split([self.heads + self.kv_heads, self.kv_heads], dim=1)
        a, b = turned.float().chunk(2, dim=-1)
        turned = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(v.dtype)
        q, k = turned.split([self.heads, self.kv_heads], dim=1)
        if self.kv_heads < self.heads:
            k, v = (p.repeat_interleave(self.heads // self.kv_heads, dim=1) for p in (k, v))
        y = attention(q, k, v)
        return self.self_attn["o_proj"](y.transpose(1, 2).reshape(B, T, C))

    def forward(self, x, cos, sin):
        x = x + self.attend(self.input_layernorm(x), cos, sin)
        gate, up = self.mlp["gate_up_proj"](self.post_attention_layernorm(x)).chunk(2, dim=-1)
        return x + self.mlp["down_proj"](F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        m = config["model"]
        C, D = m["channels"][0], m["channels"][0] // m["heads"]
        self.embed_tokens = nn.Embedding(m["vocab"], C)
        self.layers = nn.ModuleList(Block(m) for _ in range(m["layers"]))
        self.norm = Norm(C, m["norm_eps"])
        if not m["tied"]:
            self.lm_head = nn.Linear(C, m["vocab"], bias=False)
        self.tied = m["tied"]
        rates = m["rope_theta"] ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
        angles = torch.arange(m["context"], dtype=torch.float64)[:, None] * rates
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, tokens):
        x, T = self.embed_tokens(tokens), tokens.shape[1]
        for layer in self.layers:
            x = layer(x, self.cos[:T], self.sin[:T])
        head = self.embed_tokens.weight if self.tied else self.lm_head.weight
        return F.linear(self.norm(x), head).flatten(0, 1)

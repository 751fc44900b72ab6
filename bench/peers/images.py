"""mezzo's cnn and mlp: 3x3 convolutions with batch norm, ReLU and poolings, then linear layers."""
import torch
import torch.nn.functional as F
from torch import nn


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        m, width = config["model"], 1
        self.pooled = m["pool_after"] if m["kind"] == "cnn" else []
        self.convolutions = len(m["channels"]) if m["kind"] == "cnn" else 0
        side = 28
        for n in range(1, self.convolutions + 1):
            self.add_module(f"conv{n}", nn.Conv2d(width, m["channels"][n - 1], 3, padding=1, bias=False))
            width = m["channels"][n - 1]
            self.add_module(f"norm{n}", nn.BatchNorm2d(width, 1e-5))
            side //= 2 if n in self.pooled else 1
        width *= side * side
        self.hidden = len(m["hidden"])
        for n in range(1, self.hidden + 1):
            self.add_module(f"fc{n}", nn.Linear(width, m["hidden"][n - 1]))
            width = m["hidden"][n - 1]
        self.head = nn.Linear(width, 10)
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        x = x[:, None].contiguous(memory_format=torch.channels_last)
        for n in range(1, self.convolutions + 1):
            x = F.relu(getattr(self, f"norm{n}")(getattr(self, f"conv{n}")(x)))
            x = F.max_pool2d(x, 2) if n in self.pooled else x
        x = x.permute(0, 2, 3, 1).flatten(1)  # mezzo's order: H, W, C
        for n in range(1, self.hidden + 1):
            x = F.relu(getattr(self, f"fc{n}")(x))
        return self.head(x)

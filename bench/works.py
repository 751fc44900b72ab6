"""What scripts/bench measures: an example, what is set on top of it, and how many steps count."""
import os
from dataclasses import dataclass, field

WARM_UP = 2
GPT2 = "examples/gpt2-124m.yaml"
LLAMA = "examples/llama-124m.yaml"
CNN = "examples/fashion-cnn.yaml"
# Rates at which PyTorch's FP32 and FP64 stay together (tests/parity/cnn_torch.py has the reason).
GENTLE = {"optimizer.lr": "1e-3", "schedule.kind": "constant", "schedule.warmup": "200"}


@dataclass(frozen=True)
class Work:
    title: str
    example: str
    settings: dict = field(default_factory=dict)
    steps: int = 10  # behind the warm-up
    has_tokens: bool = True


WORKS = {
    "gpt2": Work("GPT-2 124M, B=4, T=256", GPT2),
    "gpt2-t1024": Work("GPT-2 124M, B=1, T=1024", GPT2, {"data.batch": "1", "model.context": "1024"}),
    "gpt2-window": Work("GPT-2 124M, 4 micro-batches of B=4, T=256", GPT2, {"train.accumulate": "4"}),
    "llama": Work("a Llama with as many parameters, B=4, T=256", LLAMA),
    "cnn": Work("the CNN of the quickstart, batch 128", CNN, GENTLE, steps=60, has_tokens=False),
    "mlp": Work(
        "a perceptron, 784-2048-2048-2048-10, batch 512",
        CNN,
        GENTLE | {"model.kind": "mlp", "model.hidden": "[2048, 2048, 2048]", "data.batch": "512"},
        steps=40,
        has_tokens=False,
    ),
}


def available():
    """Works whose example is there, by name."""
    return {name: work for name, work in WORKS.items() if os.path.exists(work.example)}


# Of `scripts/bench curves`: one setting at a time, the others as in the work gpt2.
CURVES = {
    "T": ("model.context", ["64", "128", "256", "512", "1024"]),
    "B": ("data.batch", ["1", "2", "4", "8"]),
    "width": ("model.channels", ["[384]", "[768]", "[1152]", "[1536]"]),
    "threads": ("train.threads", [str(n) for n in range(1, (os.cpu_count() or 1) + 1)]),
}

#!/usr/bin/env python3
"""Small good tokenizer files, to start fuzzing from.  seeds_tokenizer.py FOLDER"""
import json
import pathlib
import sys

PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
LETTERS = [chr(b) for b in PRINTED] + [chr(0x100 + i) for i in range(256 - len(PRINTED))]
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def tokenizer(pre_tokenizer, merges):
    vocab = {letter: i for i, letter in enumerate(LETTERS)}
    for merge in merges:
        vocab["".join(merge.split() if isinstance(merge, str) else merge)] = len(vocab)
    added = [{"id": len(vocab), "content": "<|endoftext|>", "special": True}, {"id": len(vocab) + 1, "content": "  "}]
    return {
        "added_tokens": added,
        "pre_tokenizer": pre_tokenizer,
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    level = {"type": "ByteLevel", "add_prefix_space": False}
    split = {"type": "Split", "pattern": {"Regex": GPT4}, "behavior": "Isolated"}
    sequence = {"type": "Sequence", "pretokenizers": [split, {**level, "use_regex": False}]}
    for name, content in (
        ("bytes.json", tokenizer(level, ["a d", "ad d", "\u0120 ad"])),
        ("words.json", tokenizer(sequence, [["a", "d"], ["ad", "d"]])),
    ):
        (folder / name).write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")))
    (folder / "vocab.bpe").write_text("#version: 0.2\n\u0120 a\na a\nv e\nve r\n\u0120a aa\naa aa\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))

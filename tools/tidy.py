#!/usr/bin/env python3
"""Rules that are ours and no compiler's.  tidy.py [--self-test] [ROOT]"""
import os
import pathlib
import re
import sys

import checker

COLUMNS, FUNCTION_LINES, FILE_LINES = 100, 70, 800
TEXT = {".c", ".h", ".def", ".py", ".sh", ".bash", ".bats", ".cmake", ".md", ".txt", ".yaml", ".yml", ".json", ""}
CODE = {".c", ".h"}
LEFT_OUT = re.compile(r"^(\.git|\.venv|\.cache|build.*|runs|__pycache__)$")

# Calls that the library (src/, models/) does not make, and what to use.
BANNED = {name: use for names, use in {
    "malloc calloc realloc free aligned_alloc posix_memalign strdup strndup asprintf": "mzi_alloc, mzi_free or an arena",
    "printf fprintf vprintf vfprintf puts fputs putchar perror": "mzi_log, or an error with its message",
    "exit _exit abort quick_exit": "a mezzo_status",
    "getenv secure_getenv setenv putenv": "a field of the context's configuration",
    "rand srand random srandom drand48": "mzi_rng4",
    "strerror localtime gmtime strtok asctime ctime": "the form that ends in _r",
    "signal sigaction system popen": "nothing: that is the program's business",
}.items() for name in names.split()}
BANNED_EVERYWHERE = {name: use for names, use in {
    "sprintf vsprintf": "snprintf or mzi_format",
    "strcpy strcat strncpy strncat stpcpy gets": "snprintf or mzi_format",
    "atoi atol atoll atof": "strtol or strtod, and look at where it stopped",
    "alloca": "a buffer of known size",
    "tmpnam mktemp": "mkstemp",
}.items() for name in names.split()}
ALLOWED = {  # file: the banned calls that it is there to wrap
    "src/base/ctx.c": {"posix_memalign", "free"},
}

# Inventories: (the list, pattern of a line, files, pattern of what a line names, or None where that
# is the file's name after the first underscore); both sides must name the same.  (Kernels are held
# to their list by check_symbols.sh: macros make their names.)
INVENTORIES = [
    ("src/graph/ops.def", r"^OP\((\w+)", "src/graph/ops/op_*.c", r"^const mezzo_op_def mzi_op_(\w+) ="),
    ("src/train/optim.def", r"^OPTIM\((\w+)", "src/train/optim/*.c", r"^const mzi_optim_def mzi_optim_(\w+) ="),
    ("cli/commands.def", r"^COMMAND\((\w+)", "cli/cmd_*.c", None),
]

UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3]) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.}])/(work|root|home)/\w")
STRIPPED = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)
CPLUSPLUS = re.compile(r"^#ifdef __cplusplus$.*?^#endif$", re.M | re.S)


def blank(match):
    """As many lines as before, and nothing else; a literal stays a pair of quotes."""
    kept = match[0][0] * 2 if match[0][0] in "\"'" else " "
    return kept + "\n" * match[0].count("\n")


def strip(text):
    """C without comments, the insides of literals, and preprocessor lines."""
    text = CPLUSPLUS.sub(blank, text)
    return DIRECTIVE.sub(blank, STRIPPED.sub(blank, text))


def functions(stripped):
    """(name, first line, lines) of each function defined."""
    depth, start = 0, 0
    for match in re.finditer(r"[{};]", stripped):
        if match[0] == ";" and depth == 0:
            start = match.end()
        elif match[0] == "{":
            if depth == 0:
                head = stripped[start:match.start()]
                name = re.search(r"(\w+)\s*\(", head)
                is_function = name and "=" not in head and head.rstrip().endswith(")")
                found = (name[1] if is_function else None, start + len(head) - len(head.lstrip()))
            depth += 1
        elif match[0] == "}":
            depth -= 1
            if depth == 0:
                start = match.end()
                if found[0]:
                    first = stripped.count("\n", 0, found[1]) + 1
                    yield found[0], first, stripped.count("\n", 0, match.start()) + 2 - first


def check_text(name, text):
    """Rules for every text file: (line, message)."""
    for number, line in enumerate(text.splitlines(), 1):
        if line != line.rstrip():
            yield number, "blanks at the end of the line"
        if "\t" in (line.lstrip("\t") if name == "Makefile" else line):
            yield number, "a tab"
        if UNFINISHED.search(line):
            yield number, "unfinished work is an issue, not a comment"
        if MACHINE_PATH.search(line):
            yield number, "a path of one machine"
    if text.count("\n") > FILE_LINES and name != "LICENSE" and "/results/" not in name:
        yield FILE_LINES, f"{text.count(chr(10))} lines, at most {FILE_LINES}: one job a file"
    if text and not text.endswith("\n"):
        yield text.count("\n") + 1, "no newline at the end"


def check_code(name, text):
    """Rules for C."""
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > COLUMNS:
            yield number, f"{len(line)} columns, at most {COLUMNS}"
    stripped = strip(text)
    banned = dict(BANNED_EVERYWHERE)
    if name.startswith(("src/", "models/")):
        banned.update(BANNED)
    for match in re.finditer(r"(?<![\w.>*])(\w+)\s*\(", stripped):
        if match[1] in banned and match[1] not in ALLOWED.get(name, ()):
            yield stripped.count("\n", 0, match.start()) + 1, f"{match[1]}: use {banned[match[1]]}"
    for function, first, lines in functions(stripped):
        if lines > FUNCTION_LINES:
            yield first, f"{function} has {lines} lines, at most {FUNCTION_LINES}"


def check_inventories(root):
    for listing, line, files, definition in INVENTORIES:
        if not (root / listing).is_file():
            continue
        listed = set(re.findall(line, (root / listing).read_text(), re.M))
        defined, paths = set(), {}
        for path in root.glob(files):
            names = {path.stem.split("_", 1)[1]} if definition is None else set(
                re.findall(definition, path.read_text(), re.M))
            defined |= names
            paths.update({n: path.relative_to(root).as_posix() for n in names})
            if not names:
                yield f"{path.relative_to(root)}: defines nothing that {listing} lists"
        for missing in sorted(listed - defined):
            yield f"{listing}: {missing} has no definition in {files}"
        for extra in sorted(defined - listed):
            yield f"{paths[extra]}: {extra} has no line in {listing}"


def files_of(root):
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if not LEFT_OUT.match(f))
        if pathlib.Path(folder) == pathlib.Path(root) and "data" in folders:
            folders.remove("data")  # texts that scripts make
        for name in sorted(names):
            path = pathlib.Path(folder, name)
            if path.suffix in TEXT and name != ".git":
                yield path


def check(root):
    errors, count = [], 0
    for path in files_of(root):
        name = path.relative_to(root).as_posix()
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # data without a suffix
        count += 1
        found = list(check_text(name, text))
        if path.suffix in CODE:
            found += check_code(name, text)
        errors += [f"{name}:{line}: {message}" for line, message in sorted(found)]
    return errors + list(check_inventories(root)), count


PLANTED = [  # file, its text, part of the message that must come
    ("src/a.c", "int a(void) {\n    return printf(\"x\");\n}\n", "src/a.c:2: printf: use"),
    ("models/a.c", "void *a(void) {\n    return malloc (1);\n}\n", "models/a.c:2: malloc: use"),
    ("cli/a.c", "int a(void) {\n    return atoi(\"1\");\n}\n", "cli/a.c:2: atoi: use"),
    ("src/base/ctx.c", "void *a(void) {\n    return realloc(0, 1);\n}\n", "realloc: use"),
    ("src/a.c", "int a;\t\n", "src/a.c:1: a tab"),
    ("Makefile", "a:\n\t@b\tc\n", "Makefile:2: a tab"),
    ("docs/a.md", "text \n", "docs/a.md:1: blanks"),
    ("src/a.c", "/* TO" + "DO: all of it */\n", "unfinished work"),
    ("docs/a.md", "see /ro" + "ot/notes\n", "a path of one machine"),
    ("src/a.c", "int a; /*" + "x" * 100 + "*/\n", "columns, at most"),
    ("src/a.c", "int a;\n" * 801, "801 lines, at most"),
    ("src/a.c", "int a;", "no newline"),
    ("src/a.c", "#define B {\n/* { */\nstatic int\na(int b) {\n" + "    b++;\n" * 70 + "}\n", "src/a.c:3: a has 73 lines"),
    ("src/graph/ops.def", "OP(add)\nOP(mul)\n", "mul has no definition"),
    ("src/graph/ops/op_sub.c", "const mezzo_op_def mzi_op_sub = {0};\n", "op_sub.c: sub has no line"),
    ("src/graph/ops/op_none.c", "int none;\n", "op_none.c: defines nothing"),
    ("cli/cmd_fly.c", "int fly;\n", "cli/cmd_fly.c: fly has no line in cli/commands.def"),
]
CLEAN = {
    "Makefile": "a:\n\t@b\n",
    "src/a.c": "/* free(p) */\nstatic const char *const a = \"exit(1)\";\n"
               "static int free_all(allocator *b) {\n    return b->free(b, mzi_alloc(1));\n}\n",
    "src/long.c": "static int a(void) {\n" + "    a();\n" * 68 + "}\nstruct b {\n" + "    int b;\n" * 80 + "};\n",
    "src/base/ctx.c": "void a(void *b) {\n    free(b);\n}\n",
    "cli/a.c": "int main(void) {\n    return printf(\"x\");\n}\n",
    "src/graph/ops.def": "OP(add)\n",
    "src/graph/ops/op_add.c": "const mezzo_op_def mzi_op_add = {0};\n",
    "cli/commands.def": "COMMAND(train)\n",
    "cli/cmd_train.c": "int train;\n",
    "build/a.c": "\t\n",
}


if __name__ == "__main__":
    sys.exit(checker.main("tidy", check, PLANTED, CLEAN))

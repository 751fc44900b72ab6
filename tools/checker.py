"""What the checks beside this share: a self-test on planted violations, and the command line."""
import pathlib
import sys
import tempfile


def self_test(check, planted, clean):
    """`planted`: (name, text, words of the message) of a file that `check` must reject in the tree
    `clean`, {name: text}, in which it must find nothing.  Returns failures, and how many trees."""
    def messages(files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return check(pathlib.Path(folder))[0]

    failures = [f"a clean tree: {m}" for m in messages(clean)]
    for name, text, expected in planted:
        if not any(expected in message for message in messages({**clean, name: text})):
            failures.append(f"not found: {expected!r} in {name}")
    return failures, len(planted) + 1


def main(name, check, planted, clean):
    """[--self-test | FOLDER]: the exit code.  `check` takes a folder and returns its errors, and the
    number of files."""
    arguments = sys.argv[1:]
    if "--self-test" in arguments:
        errors, count = self_test(check, planted, clean)
        what = "planted violations"
    else:
        errors, count = check(pathlib.Path(arguments[0] if arguments else "."))
        what = "files"
    print("\n".join(errors), file=sys.stderr, end="\n" if errors else "")
    print(f"{name}: {count} {what}, {len(errors)} errors")
    return 1 if errors else 0

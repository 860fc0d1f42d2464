"""Converts traces of format 1 to format 2, in place: convert.py TRACE...

A format-2 segment defines a value once, in a line of its own, and refers to it by the beginning of its digest; format 1
repeats it (host/src/trace/references.rs has the rules). Prints for each file how many lines there are, and one digest over
the text of all of them, before and after: without the number of the format, without definitions, and with the references
of format 2 replaced by their values. Exits with 1, and writes nothing, if one line differs. A file of format 2 is left as
it is.
"""

import hashlib
import json
import sys

SHORTEST = 40
NAME_DIGITS = (6, 16, 64)
VALUES = {("input", "arguments"): ("config", "state", "clock"), ("output", "result"): ("state",)}
LISTS = {
    ("input", "arguments"): ("candidates", "base", "found", "ours", "theirs"),
    ("output", "result"): ("entries",),
}


def no_float(text):
    raise ValueError(f"{text} is no whole number: it may not come out as it went in")


def parse(text):
    return json.loads(text, parse_float=no_float, parse_constant=no_float)


def text_of(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def is_name(value):
    return isinstance(value, str) and len(value) in NAME_DIGITS and all(digit in "0123456789abcdef" for digit in value)


def replace(decision, change):
    """Changes the values at the members that may be references."""
    for (outer, inner), members in VALUES.items():
        holder = (decision[outer] or {}).get(inner)
        if not isinstance(holder, dict):
            continue
        for member in members:
            if member in holder:
                holder[member] = change(holder[member])
        for member in LISTS[outer, inner]:
            if member in holder:
                holder[member] = [change(one) for one in holder[member]]
    return decision


def convert(lines):
    """Yields the lines of format 2."""
    names = {}
    for line in lines:
        content = parse(line)
        if text_of(content) != line:
            raise ValueError(f"a line does not come out as it went in: {line[:100]}")
        defined = []

        def refer(value):
            text = text_of(value)
            if not isinstance(value, dict) or len(text.encode()) < SHORTEST:
                return value
            digest = hashlib.sha256(text.encode()).hexdigest()
            name = next(digest[:digits] for digits in NAME_DIGITS if names.get(digest[:digits], digest) == digest)
            if name not in names:
                names[name] = digest
                defined.append(text_of({"value": [name, value]}))
            return name

        if "header" in content:
            names.clear()
            content["header"]["format"] = 2
        elif "decision" in content:
            replace(content["decision"], refer)
        yield from defined
        yield text_of(content)


def resolved(lines):
    """Yields the text of each line as it is in both formats."""
    values = {}
    for line in lines:
        content = parse(line)
        if "value" in content:
            name, value = content["value"]
            values[name] = value
            continue
        if "header" in content:
            values.clear()
            del content["header"]["format"]
        elif "decision" in content:
            replace(content["decision"], lambda value: values[value] if is_name(value) else value)
        yield text_of(content)


def digest(texts):
    whole = hashlib.sha256()
    for text in texts:
        whole.update(text.encode())
        whole.update(b"\n")
    return whole.hexdigest()


def main(files):
    for file in files:
        with open(file, encoding="utf-8", newline="\n") as opened:
            # On line feeds alone: JSON may hold other separators.
            before = opened.read().removesuffix("\n").split("\n")
        if parse(before[0])["header"]["format"] != 1:
            print(f"{file}: is not of format 1")
            continue
        after = list(convert(before))
        texts, texts_after = list(resolved(before)), list(resolved(after))
        print(f"{file}: {len(texts)} lines {digest(texts)}")
        print(f"{file}: {len(texts_after)} lines {digest(texts_after)}")
        if texts != texts_after:
            print(f"{file}: a line differs; the file stays as it was", file=sys.stderr)
            return 1
        with open(file, "w", encoding="utf-8", newline="\n") as opened:
            opened.writelines(line + "\n" for line in after)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

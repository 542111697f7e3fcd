#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What modules that are built already rely on: layout of the public structs, values of enums and macros, types of functions, and the
symbols of the daemon. "record" writes it down; "check" compares with what was written down and says what a difference means.

Names come from the headers, numbers from a program that the compiler makes of them, so the record is the same whatever the
compiler and its debug information are."""
import argparse
import os
import re
import subprocess
import sys
import tempfile

COUNTERS = {"STK_HOOKS"}  # grow with each addition; modules have no use for them
FILLERS = {"reserved"}  # room that additions may take
SIZED = {"struct stk_option"}  # say their size elsewhere: option_size of the definition


def strip(text):
    """A header without comments, preprocessor lines and attributes, on one line."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"//[^\n]*", " ", text)
    text = text.replace("\\\n", " ")
    text = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    text = re.sub(r'extern "C" \{', " ", text)
    text = re.sub(r"__attribute__\(\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)\)", " ", text)
    return re.sub(r"\s+", " ", text)


def declarations(text):
    """What ends with a semicolon outside of braces. The brace that closes extern "C" is passed over."""
    depth, start = 0, 0
    for at, letter in enumerate(text):
        if letter == "{":
            depth += 1
        elif letter == "}" and depth:
            depth -= 1
        elif letter == "}":
            start = at + 1
        elif letter == ";" and depth == 0:
            yield text[start:at].strip()
            start = at + 1


def split(text, separator):
    """Parts of TEXT at a separator outside of brackets."""
    depth, part = 0, ""
    for letter in text:
        depth += (letter in "({[") - (letter in ")}]")
        if letter == separator and depth == 0:
            yield part.strip()
            part = ""
        else:
            part += letter
    if part.strip():
        yield part.strip()


def spaced(kind):
    """One spelling for each type."""
    kind = re.sub(r"\s+", " ", kind.replace("*", " * "))
    return re.sub(r"\* (?=[*)])", "*", kind).replace("( *", "(*").replace(" ,", ",").strip()


def parameters(text):
    return "(" + ", ".join(typed(one)[1] for one in split(text, ",")) + ")"


def typed(declarator):
    """(name or None, type) of a field or parameter."""
    pointer = re.fullmatch(r"(.*?)\(\s*\*\s*(\w*)\s*\)\s*\((.*)\)", declarator)
    if pointer:
        return pointer.group(2), spaced(f"{pointer.group(1)} (*){parameters(pointer.group(3))}")
    plain = re.fullmatch(r"(.*[\s*])(\w+)\s*((?:\[[^\]]*\])*)", declarator)
    if plain:
        return plain.group(2), spaced(plain.group(1) + plain.group(3))
    return None, spaced(declarator)


def fields(body):
    """(name, type) of each."""
    for member in split(body, ";"):
        first, *others = split(member, ",")
        name, kind = typed(first)
        if "{" in member or ":" in member or not name:
            sys.exit(f"abi: cannot read the member {member!r}; teach tests/abi/abi.py how")
        yield name, kind
        base = kind.rstrip("* ")
        for other in others:
            yield typed(f"{base} {other}")


def signature(declaration):
    """(name, type) of a function or of a function's typedef; names of parameters do not count."""
    result, name, rest = re.fullmatch(r"(.*?)(\w+)\s*\((.*)\)", declaration).groups()
    return name, spaced(f"{result} {parameters(rest)}")


class Headers:
    """The names that the headers declare."""

    def __init__(self, folder):
        self.files = sorted(os.listdir(os.path.join(folder, "startalkd")))
        self.structs, self.enums, self.functions, self.typedefs, self.macros = {}, {}, {}, {}, []
        for file in self.files:
            with open(os.path.join(folder, "startalkd", file), encoding="utf-8") as source:
                text = source.read()
            self.macros += re.findall(r"^#define (STK_\w+)[ \t]+\S", re.sub(r"/\*.*?\*/", " ", text, flags=re.S), re.M)
            for declaration in declarations(strip(text)):
                self.take(declaration)

    def take(self, declaration):
        compound = re.fullmatch(r"(struct|enum) (\w+) ?\{(.*)\}", declaration)
        if compound and compound.group(1) == "struct":
            self.structs[compound.group(2)] = list(fields(compound.group(3)))
        elif compound:
            self.enums[compound.group(2)] = [re.match(r"\w+", one).group() for one in split(compound.group(3), ",")]
        elif re.fullmatch(r"struct \w+", declaration):
            pass  # opaque
        elif declaration.startswith("typedef "):
            name, kind = signature(declaration[len("typedef "):])
            self.typedefs[name] = kind
        elif declaration.startswith("static "):
            pass
        elif re.search(r"\bstk_\w+\s*\(", declaration):
            name, kind = signature(declaration)
            self.functions[name] = kind
        elif declaration:
            sys.exit(f"abi: cannot read {declaration!r}; teach tests/abi/abi.py how")

    def program(self):
        """C that prints a line for each number."""
        lines = ["#include <stddef.h>", "#include <stdio.h>", *(f"#include <startalkd/{file}>" for file in self.files), "int main(void)", "{"]

        def show(text, value):
            lines.append(f'\tprintf("{text} %lld\\n", (long long)({value}));')
        show("define STK_ABI_MAJOR", "STK_ABI_MAJOR")
        show("define STK_ABI_MINOR", "STK_ABI_MINOR")
        for name, members in self.structs.items():
            show(f"struct {name} size", f"sizeof(struct {name})")
            for member, _ in members:
                show(f"struct {name} field {member} at", f"offsetof(struct {name}, {member})")
                show(f"struct {name} field {member} size", f"sizeof(((struct {name} *)0)->{member})")
        for name, values in self.enums.items():
            for value in values:
                show(f"enum {name} {value}", value)
        for name in self.macros:
            if not re.match(r"STK_(ABI_M[AI][JN]OR|MODULE|EXPORT)", name):
                show(f"define {name}", name)
        return "\n".join([*lines, "\treturn 0;", "}", ""])


def measure(headers, include, compiler):
    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, "abi.c"), os.path.join(folder, "abi")
        with open(source, "w", encoding="utf-8") as file:
            file.write(headers.program())
        done = subprocess.run([*compiler.split(), "-std=c17", "-I", include, source, "-o", program], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit("abi: " + done.stderr)
        return subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()


def describe(include, compiler):
    """The record: a dictionary in the order of the headers, what -> value."""
    headers = Headers(include)
    facts = dict(line.rsplit(" ", 1) for line in measure(headers, include, compiler))
    facts.update({f"struct {name} field {member} type": kind for name, members in headers.structs.items() for member, kind in members})
    facts.update({f"typedef {name}": kind for name, kind in sorted(headers.typedefs.items())})
    facts.update({f"function {name}": kind for name, kind in sorted(headers.functions.items())})
    return facts


# ---- comparing ----

def takes_from_filler(key, old, new):
    """A reserved field that became smaller, or went, with its end where it was: what was reserved is used now."""
    match = re.fullmatch(r"(struct \w+) field (\w+) (at|size|type)", key)
    if not match or match.group(2) not in FILLERS:
        return False
    name, field = match.group(1, 2)
    before, now = ((int(facts.get(f"{name} field {field} at", -1)), int(facts.get(f"{name} field {field} size", 0))) for facts in (old, new))
    return old[f"{name} size"] == new.get(f"{name} size") and (now[0] < 0 or sum(before) == sum(now))


def says_size(name, facts):
    return name in SIZED or f"{name} field size at" in facts


def grows(key, old, new):
    """The size of a struct that says its own size, and has got more at its end."""
    match = re.fullmatch(r"(struct \w+) size", key)
    return bool(match) and says_size(match.group(1), old) and int(new.get(key, 0)) > int(old[key])


def is_addition_in_place(key, facts, old):
    """A new field is an addition when it lies behind all others or in what was reserved, in a struct that says its size."""
    match = re.fullmatch(r"(struct \w+) field (\w+) at", key)
    if not match or f"{match.group(1)} size" not in old:
        return True  # no field, or all of the struct is new
    name, at = match.group(1), int(facts[key])
    filler = next((one for one in FILLERS if f"{name} field {one} at" in old), None)
    inside = filler and at >= int(old[f"{name} field {filler} at"]) and at < int(old[f"{name} size"])
    return bool(inside) or (says_size(name, old) and at >= last_end(name, old))


def last_end(name, facts):
    """Where the last field of a struct ends: what is behind it up to the struct's size was padding."""
    ends = [int(value) + int(facts[key[:-len("at")] + "size"]) for key, value in facts.items()
            if re.fullmatch(re.escape(name) + r" field \w+ at", key)]
    return max(ends, default=0)


def compare(old, new):
    """(breaks, additions), each a list of sentences."""
    breaks, additions = [], []
    numbers = {"define STK_ABI_MAJOR", "define STK_ABI_MINOR"}
    for key, value in old.items():
        if key in numbers or new.get(key) == value:
            continue
        counter = key.rsplit(" ", 1)[-1] in COUNTERS
        fine = takes_from_filler(key, old, new) or (key in new and (grows(key, old, new) or counter))
        text = f"{key}: was {value}, " + (f"is {new[key]}" if key in new else "is gone")
        (additions if fine else breaks).append(text)
    for key, value in new.items():
        if key not in old and key not in numbers:
            (additions if is_addition_in_place(key, new, old) else breaks).append(f"{key}: new, {value}")
    return breaks, additions


def read_record(path):
    facts = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                key, value = line.rstrip("\n").split(": ", 1)
                facts[key] = value
    return facts


def write_record(path, facts):
    with open(path, "w", encoding="utf-8") as file:
        file.write("# What modules that are built already rely on, on machines of 64 bits. Written by \"make record-abi\"; see abi.py.\n")
        file.writelines(f"{key}: {value}\n" for key, value in facts.items())


def version(facts):
    return tuple(int(facts[f"define STK_ABI_{part}"]) for part in ("MAJOR", "MINOR"))


def advise(old, new, breaks, additions):
    """What to do, and whether the check fails."""
    said = [f"  BREAK     {one}" for one in breaks] + [f"  addition  {one}" for one in additions]
    if not said and version(old) == version(new):
        return ["abi: as recorded"], False
    (major, minor), now = version(old), version(new)
    said.insert(0, f"abi: the headers differ from tests/abi/startalkd.abi, which is of module API {major}.{minor}; they say {now[0]}.{now[1]}")
    if breaks and now[0] == major:
        said.append(f"Modules that are built already would go wrong. Undo it, or, before a release that breaks them all on purpose, set STK_ABI_MAJOR to "
                    f"{major + 1} and STK_ABI_MINOR to 0. While {major}.{minor} is not released yet nothing has to be raised.")
    elif additions and now == (major, minor):
        said.append(f"Modules that are built already go on. When {major}.{minor} is released already, set STK_ABI_MINOR to {minor + 1}.")
    said.append('Then run "make record-abi" and commit the record with the change.')
    return said, True


# ---- symbols ----

def exported(program):
    done = subprocess.run(["nm", "-D", "--defined-only", program], capture_output=True, text=True, check=True)
    return {line.split()[-1].split("@")[0] for line in done.stdout.splitlines()}


def main():
    parser = argparse.ArgumentParser(description="Checks or records what modules rely on.")
    parser.add_argument("action", choices=("check", "record"))
    parser.add_argument("--include", required=True, help="the folder with startalkd/*.h")
    parser.add_argument("--record", required=True, help="the file")
    parser.add_argument("--cc", default="cc")
    args = parser.parse_args()
    if sys.maxsize < 2 ** 32:
        sys.exit("abi: the record is for machines of 64 bits" if args.action == "record" else 0)
    now = describe(args.include, args.cc)
    if args.action == "record":
        write_record(args.record, now)
        return
    old = read_record(args.record)
    said, bad = advise(old, now, *compare(old, now))
    print("\n".join(said))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

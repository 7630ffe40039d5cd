#!/usr/bin/env python3
"""Seeds security bugs into a copy of this project, one at a time, and tells which of them the tests catch.

    tests/mutations/run.py [--target-dir DIR] [--jobs N] [--separately] [NAME...]
    tests/mutations/run.py --check

mutations.toml lists them. The copy and its build lie in a temporary directory. All of them are put into one build, each behind
a switch that an environment variable turns on for one run of the tests: a build takes longer than the tests. The tests beside
the mutated code are run first, then all unit tests, then the suite, until one fails. Needs Python 3.11, no packages. By hand:
it takes as long as some dozens of test runs. Exits 0 only if at least 95 % were caught.

--target-dir DIR  build there instead, to keep what is built for the next time
--jobs N          so many mutations at once (default 2)
--separately      seed and build each by itself, as the line would be written; for what does not fit behind a switch
--check           build nothing: say whether each stands in exactly one place of the code as it is, and exit 1 if one does not
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SWITCH = "SEEDED_MUTATION"
LONGEST_SECONDS = 900
MUTATED = f"""
#[doc(hidden)]
pub fn is_mutated(name: &str) -> bool {{
    static SEEDED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    SEEDED.get_or_init(|| std::env::var("{SWITCH}").ok()).as_deref() == Some(name)
}}
"""


def without_tests(text):
    """The code of a file before its tests."""
    return text.partition("#[cfg(test)]\nmod tests")[0]


def misplaced(mutations):
    """One line for each mutation that does not stand in exactly one place."""
    lines = []
    for name, mutation in mutations.items():
        path = ROOT / mutation["file"]
        found = without_tests(path.read_text()).count(mutation["old"]) if path.exists() else 0
        if found != 1:
            lines.append(f"{name}: `{mutation['old']}` must stand once in {mutation['file']}, not {found} times; correct mutations.toml")
    return lines


def seeded(text, name, mutation, behind_switch):
    """The text of a file with a mutation in it."""
    code = without_tests(text)
    new = mutation["new"]
    if behind_switch:
        new = f'(if crate::is_mutated("{name}") {{ {new} }} else {{ {mutation["old"]} }})'
    return code.replace(mutation["old"], new) + text[len(code):]


def built(copy, target):
    """The test binaries of the copy: unit tests and suite."""
    command = ["cargo", "test", "--no-run", "--lib", "--bins", "--test", "suite", "--message-format", "json-render-diagnostics"]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    done = subprocess.run(command, cwd=copy, env=environment, stdout=subprocess.PIPE)
    if done.returncode != 0:
        return None
    found = {}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message.get("profile", {}).get("test"):
            found[message["target"]["name"] if message["target"]["kind"] != ["bin"] else "bin"] = message["executable"]
    return found["tagalong"], found["suite"]


def failed(binary, copy, name, filters, skipped):
    """The tests that fail, or `hangs`."""
    arguments = [binary, *filters]
    for test in skipped:
        arguments += ["--skip", test]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TAGALONG_")}
    environment |= {"CARGO_MANIFEST_DIR": str(copy)}
    if name:
        environment[SWITCH] = name
    try:
        done = subprocess.run(
            arguments, cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=LONGEST_SECONDS
        )
    except subprocess.TimeoutExpired:
        return ["hangs"]
    output = done.stdout.decode(errors="replace")
    tests = re.findall(r"^test (\S+).* \.\.\. FAILED$", output, re.MULTILINE) or re.findall(r"^    (\S+::\S+)$", output, re.MULTILINE)
    return sorted(set(tests)) if tests or done.returncode == 0 else ["it ends early"]


def beside(file):
    """The filter that selects the unit tests of a file."""
    return str(pathlib.Path(file).relative_to("src").with_suffix("")).replace("/", "::").removesuffix("::mod") + "::"


def judged(binaries, copy, name, mutation, skipped):
    """Which tests catch a mutation."""
    unit, suite = binaries
    return (
        failed(unit, copy, name, [beside(mutation["file"])], skipped)
        or failed(unit, copy, name, [], skipped)
        or failed(suite, copy, name, [], skipped)
    )


def copied(directory):
    copy = pathlib.Path(directory) / "tree"
    ignored = shutil.ignore_patterns("target", ".git", "node_modules", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=ignored)
    return copy


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--target-dir", type=pathlib.Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--separately", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    mutations = tomllib.loads((ROOT / "tests/mutations/mutations.toml").read_text())
    if lines := misplaced(mutations):
        sys.exit("\n".join(lines))
    if options.check:
        print(f"{len(mutations)} mutations, each in one place")
        return
    if unknown := set(options.names) - set(mutations):
        sys.exit(f"mutations.toml has no {', '.join(sorted(unknown))}")
    chosen = {name: mutation for name, mutation in mutations.items() if not options.names or name in options.names}
    missed = []

    def tell(name, caught):
        print(f"{'caught' if caught else 'MISSED'}  {name}: {', '.join(caught[:3]) or chosen[name]['why']}", flush=True)
        if not caught:
            missed.append(name)

    with tempfile.TemporaryDirectory() as directory:
        copy = copied(directory)
        target = (options.target_dir or pathlib.Path(directory) / "target").resolve()
        if options.separately:
            for name, mutation in chosen.items():
                path = copy / mutation["file"]
                original = path.read_text()
                path.write_text(seeded(original, name, mutation, False))
                binaries = built(copy, target)
                tell(name, judged(binaries, copy, None, mutation, []) if binaries else ["the compiler"])
                path.write_text(original)
        else:
            for name, mutation in mutations.items():
                path = copy / mutation["file"]
                path.write_text(seeded(path.read_text(), name, mutation, True))
            library = copy / "src/lib.rs"
            library.write_text(library.read_text().replace("\nmod ", "\n#![allow(unused_parens)]\nmod ", 1) + MUTATED)
            binaries = built(copy, target)
            if not binaries:
                sys.exit("the seeded copy does not compile: correct mutations.toml, or try --separately")
            # What the switches themselves disturb (a test of imports, say) proves nothing.
            skipped = [test for binary in binaries for test in failed(binary, copy, None, [], [])]
            print(f"without a mutation: {len(skipped)} tests fail, and do not count {skipped}", flush=True)
            with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
                runs = {pool.submit(judged, binaries, copy, name, chosen[name], skipped): name for name in chosen}
                for run in concurrent.futures.as_completed(runs):
                    tell(runs[run], run.result())
    print(f"{len(chosen) - len(missed)} of {len(chosen)} caught; missed: {', '.join(missed) or 'none'}")
    sys.exit(0 if len(missed) <= len(chosen) * 0.05 else 1)


if __name__ == "__main__":
    main()

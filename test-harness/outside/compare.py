"""Compares chat templates with jinja2 and vocabularies with llama.cpp's expected ids.

usage: compare.py PROGRAM MODELS

PROGRAM is the binary of outside-comparison, MODELS the directory `vendor/llama.cpp/models` of
llama-cpp-python's source distribution. Prints a table; fails if anything differs that
exceptions.py does not name.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import conversations
import expressions
import reference
from exceptions import EXCEPTIONS, reason

# Starts of the notes about a conversation that was put into a form that the template takes.
REPAIRS = ("the chat template takes no system message", "the chat template wants alternating roles")
# Outcomes that are right, besides that of jinja2. A template without a place for tools drops them
# silently in jinja2.
AS_INTENDED = ("same", "repaired", "tools refused instead of dropped")


def rendering_cases(models):
    """Yields a group, a name, and a case for both renderers."""
    for path in sorted((models / "templates").glob("*.jinja")):
        source = path.read_bytes().decode()
        for name, case in conversations.cases():
            yield "templates", f"{path.stem}: {name}", {"template": source, **case}
    for source in expressions.sources():
        yield "expressions", source, {"template": source, **expressions.CONTEXT}


def vocabulary_cases(models):
    for path in sorted(models.glob("ggml-vocab-*.gguf")):
        texts = path.with_name(path.name + ".inp")
        if texts.exists():
            expected = path.with_name(path.name + ".out").read_text().splitlines()
            texts = texts.read_bytes().decode()
            separator = "\n__ggml_vocab_test__\n"
            texts = texts.split(separator)
            if not texts[-1].strip():
                texts.pop()
            ids = [[int(n) for n in line.split()] for line in expected]
            yield path.stem, {"vocabulary": str(path), "texts": texts}, ids


def judge(expected, got):
    """Returns `same`, or in which way the outcome differs."""
    if expected.get("text") is not None:
        if got.get("code") == "UNSUPPORTED_PARAMETER":
            return "tools refused instead of dropped"
        if "error" in got:
            return "refused here only"
        return "same" if got["text"] == expected["text"] else "different text"
    if "error" in got:
        return "same"
    repaired = any(note.startswith(REPAIRS) for note in got["notes"])
    return "repaired" if repaired else "refused by jinja2 only"


def main():
    program, models = sys.argv[1], Path(sys.argv[2])
    cases = list(rendering_cases(models))
    vocabularies = list(vocabulary_cases(models))
    lines = [json.dumps(case) for _, _, case in cases]
    lines += [json.dumps(case) for _, case, _ in vocabularies]
    done = subprocess.run(
        [program], input="\n".join(lines) + "\n", stdout=subprocess.PIPE, text=True, check=True, timeout=600
    )
    answers = [json.loads(line) for line in done.stdout.split("\n") if line]
    counts, reasons, failures = Counter(), Counter(), []
    for (group, name, case), answer in zip(cases, answers):
        expected = reference.render(case)
        outcome = judge(expected, answer)
        if why := reason(outcome, name):
            outcome = "exception"
            reasons[why] += 1
        elif outcome not in AS_INTENDED:
            failures.append((outcome, name, expected, answer))
        counts[group, outcome] += 1
    for (name, case, expected), answer in zip(vocabularies, answers[len(cases):]):
        if "error" in answer:
            outcome = f"refused: {answer['error']}"
        else:
            # The expected ids are without the begin-of-sequence token.
            longer = [len(a) - len(e) for a, e in zip(answer["ids"], expected)]
            answer["ids"] = [a[1:] if n == 1 else a for n, a in zip(longer, answer["ids"])]
            outcome = "same" if answer["ids"] == expected else "different ids"
            if why := reason(outcome, name):
                outcome = "exception"
                reasons[why] += 1
        if outcome == "different ids":
            compared = zip(case["texts"], expected, answer["ids"])
            text, ids, got = next(
                (one for one in compared if one[1] != one[2]),
                (f"{len(case['texts'])} texts", f"{len(expected)} lines", len(answer["ids"])),
            )
            failures.append((outcome, name, (text, ids), got))
        counts["vocabularies", outcome] += 1
    for outcome, name, expected, answer in failures:
        print(f"{outcome}: {name}\n  expected {str(expected)[:1500]}\n  got      {str(answer)[:1500]}")
    for (group, outcome), count in sorted(counts.items()):
        print(f"{group:14} {outcome:24} {count:6}")
    for why, count in reasons.items():
        print(f"{count:4} exceptions: {why}")
    unused = {why for _, _, why in EXCEPTIONS} - set(reasons)
    for why in unused:
        print(f"no case needs the exception: {why}")
    sys.exit(1 if failures or unused else 0)


if __name__ == "__main__":
    main()

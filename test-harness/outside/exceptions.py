"""Where the outcome may differ from that of jinja2 or llama.cpp, and why.

Each entry has the outcome, a regular expression for the whole name of the case, and the reason.
"""

import re

OBJECTS = r"raise_exception|s\.upper|d\.(items|keys|get)|cycler\('a', 'b'\)|joiner\(\)"
WITHOUT_ATTRIBUTES = "here a value without attributes has undefined ones where jinja2 sometimes raises"
MACROS = "minijinja's macros have no `varargs`, and their attributes and defaults differ"

EXCEPTIONS = [
    ("different ids", r"ggml-vocab-qwen35", "Qwen's own tokenizer normalizes text to NFC, llama.cpp does not"),
    (
        "refused by jinja2 only",
        r"llama-cpp-deepseek-r1: .*",
        "it passes the generator of `map` to `tojson`; here `map` returns a list",
    ),
    (
        "different text",
        rf"\{{\{{ [(\[]*({OBJECTS})[)\]]*( .*)? \}}\}}",
        "the text of a function or object contains its address or internal name",
    ),
    ("different text", r".*\| reverse \}\}", "here `reverse` returns a list instead of an iterator"),
    ("different text", r".*\| map\(.*\{\{ x \| list \}\}\{\{ x \| list \}\}", "here `map` returns a list, which can be read twice"),
    ("different text", r".*\| pprint \}\}", "`pprint` is for debugging; its layout differs"),
    ("different text", r".*\| groupby\('city'\)( \| list)? \}\}", "here the pairs of `groupby` are lists instead of tuples"),
    ("different text", r"\{% macro f\(.*", MACROS),
    ("refused here only", r"\{% macro f\(\) %\}\{\{ varargs \}\}.*", MACROS),
    ("different text", r".*\\N\{BULLET\}.*", "characters are not known by name"),
    ("different text", r".*\\ud83d.*", "a pair of surrogates is one character, as in JSON"),
    ("different text", r"\{\{ (lipsum|self) is defined \}\}", "`lipsum` and `self` do not exist"),
    ("different text", r"\{\{ d\.b\.real \}\}", "numbers have no attributes"),
    ("different text", r"\{\{ d\.items\(\)\[0\] \}\}", "here the views of a dict have an order and a subscript"),
    ("different text", r"\{\{ \{1: 2, none: 3, true: 4.*", "`1` and `true` are different keys"),
    (
        "refused here only",
        r".*\| (urlencode|filesizeformat|wordwrap\(4\)|xmlattr) \}\}",
        "filters for web pages do not exist",
    ),
    ("refused here only", r".*\| random \| length \}\}", "`random` does not exist: a prompt is reproducible"),
    ("refused here only", r".*\.encode\('utf-8'\) \}\}", "values of bytes do not exist"),
    ("refused here only", r".*\.translate\(\{108: 'L'\}\) \}\}", "`translate` does not exist"),
    ("refused here only", r".*%r' % .*", "`%` has no conversion `r`"),
    (
        "refused by jinja2 only",
        r".*\| (groupby\('city'\)|selectattr\('age', 'gt', 1\) \| list|(sum|max|min)\(attribute='age'\)) \}\}",
        WITHOUT_ATTRIBUTES,
    ),
    ("refused by jinja2 only", r".*\| unique \| list \}\}", "here every value has an identity for `unique`"),
    ("refused by jinja2 only", r".*\| tojson\(sort_keys=true\) \}\}", "here keys of different types have an order"),
    ("refused by jinja2 only", r"\{\{ \['a'\] \| sum\(start=''\) \}\}", "here `sum` adds texts"),
]


def reason(outcome, name):
    """Returns why this outcome of a case is an exception, or None."""
    for expected, pattern, why in EXCEPTIONS:
        if outcome == expected and re.fullmatch(pattern, name, re.DOTALL):
            return why
    return None

"""Small templates over the features that chat templates use."""

CONTEXT = {
    "messages": [
        {"role": "user", "content": "a-b-c"},
        {"role": "assistant", "content": "z"},
    ],
    "variables": {
        "s": "Hello, World",
        "words": "  one two\tthree \n",
        "n": 7,
        "f": 2.5,
        "big": 12345678901234567890,
        "tiny": 1e-7,
        "huge": 1e16,
        "none": None,
        "yes": True,
        "items": [3, 1, 2],
        "strings": ["b", "a", "C", "a"],
        "people": [
            {"name": "ann", "age": 3, "city": "X"},
            {"name": "Bob", "age": 1, "city": "Y"},
            {"name": "cy", "age": 2, "city": "X"},
        ],
        "d": {"b": 1, "a": [1, 2.0, None, True, "q'\"\n"], "C": {"x": "é"}},
        "empty": "",
        "nolist": [],
    },
}

VALUES = [
    "none", "true", "s", "n", "f", "big", "tiny", "huge", "items", "d", "empty", "nolist",
    "people", "missing", "(1, 2)", "'x'", "0", "-1", "1.0", "range(3)", "d.items()", "d.keys()",
    "namespace(a=1)", "raise_exception", "s.upper", "100000000000000000000000", "1e400",
    "0.1 + 0.2", "1 / 3", "1e22", "123456789.123", "1e5", "-0.0", "7 // 2", "-7 // 2", "-7 % 3",
    "2 ** 70", "2 ** -1", "7.0 // 2", "true + 1", "[none, true, 1.0, 'a\\'b', \"it's\", {1: 2}]",
    "{'a': 1.5, 2: none}", "cycler('a', 'b')", "joiner()", "()", "(1,)", "messages[0]",
]
TESTS = [
    "defined", "undefined", "none", "iterable", "string", "mapping", "sequence", "number",
    "integer", "float", "boolean", "callable", "true", "false", "sameas none", "not none",
    "in [1, 's']", "eq 1", "odd", "even", "lower", "upper", "divisibleby 2", "escaped",
]
FILTERS = [
    "string", "list", "length", "count", "first", "last", "tojson", "tojson(indent=2)",
    "tojson(ensure_ascii=true)", "tojson(sort_keys=true)", "tojson(separators=(',', ':'))",
    "tojson(indent=4, separators=(',', ': '))", "int", "float", "abs", "upper", "lower", "title",
    "capitalize", "trim", "reverse", "reverse | list", "sort", "unique | list", "join", "join(',')",
    "default('D')", "default('D', true)", "sum", "min", "max", "round", "round(1)",
    "wordcount", "indent", "indent(2)", "indent(2, true)", "indent(width=3, first=true)", "escape",
    "safe", "replace('a', 'b')", "batch(2) | list", "batch(2, 'x') | list", "slice(2) | list",
    "map('string') | list", "map('upper') | list", "select | list", "reject | list",
    "select('string') | list", "select('equalto', 1) | list", "reject('none') | list", "dictsort",
    "items | list", "center(9)", "truncate(5)", "wordwrap(4)", "pprint", "striptags", "xmlattr",
    "urlencode", "format(1)", "random | length", "filesizeformat", "e", "forceescape", "int(5)",
    "int(default=3)", "float(2)", "attr('name')", "trim('a')", "d('x')", "tojson | length",
    "map(attribute='name') | list", "map(attribute='nope', default='-') | list", "first | tojson",
    "groupby('city')", "sort(attribute='age')", "sort(reverse=true)", "sort(case_sensitive=true)",
    "selectattr('age') | list", "selectattr('age', 'gt', 1) | list", "join(', ', 'name')",
    "rejectattr('age', 'equalto', 1) | map(attribute='name') | list", "sum(attribute='age')",
    "unique(attribute='city') | list", "max(attribute='age')", "min(attribute='age')",
]
METHODS = [
    "upper()", "lower()", "strip()", "lstrip()", "rstrip()", "strip('dH')", "split()",
    "split(' ')", "split(', ')", "split(',', 1)", "split(maxsplit=1)", "rsplit()", "rsplit('o', 1)",
    "rsplit(None, 1)", "partition(',')", "rpartition('o')", "partition('none')", "rpartition('q')",
    "removeprefix('He')", "removesuffix('ld')", "removeprefix('x')", "index('o')", "rindex('o')",
    "index('q')", "find('o')", "find('o', 5)", "rfind('o')", "rfind('o', 0, 5)", "find('q')",
    "startswith('He')", "startswith(('x', 'He'))", "startswith('l', 2)", "endswith('ld')",
    "endswith(('x', 'ld'))", "zfill(20)", "center(20)", "center(21, '*')", "ljust(15) ~ '|'",
    "rjust(15, '.')", "title()", "capitalize()", "swapcase()", "casefold()", "count('l')",
    "count('l', 4)", "replace('l', 'L')", "replace('l', 'L', 1)", "replace('', '-')", "isdigit()",
    "isalpha()", "isalnum()", "isnumeric()", "isspace()", "islower()", "isupper()", "istitle()",
    "isdecimal()", "isidentifier()", "isascii()", "isprintable()", "splitlines()",
    "splitlines(true)", "splitlines(keepends=true)", "expandtabs(4)", "join(['a', 'b'])",
    "join([])", "join([1])", "format(1)", "encode('utf-8')", "translate({108: 'L'})", "nope()",
    "__len__()", "split('')", "lower().split('o')[-1]", "format()", "removeprefix()",
]
STRINGS = ["s", "words", "empty", "'ab12'", "'é ß'", "'-42'", "'a\\nb\\r\\nc\\n'", "'Title Case'"]
DICTS = [
    "items()", "items() | list", "keys() | list", "values() | list", "get('a')", "get('q')",
    "get('q', 5)", "copy()", "b", "['b']", "q", "update({'z': 1})", "pop('b')", "keys()", "values()",
    "setdefault('b', 1)", "nope()", "items", "keys", "get", "a[1]", "a[::-1]", "C.x", "C.nope.deep",
]
SLICES = [
    "[0]", "[-1]", "[9]", "[1:]", "[:-1]", "[::-1]", "[::2]", "[::-2]", "[-2:]", "[:0]", "[5:]",
    "[-9:2]", "[2:0:-1]", "[0:2:-1]", "[:1:-1]", "[-1:-3:-1]", "[-2::-1]", "[1::-1]", "[::0]",
    "[none:none]", "['a']", "[1.5]", "[true]",
]
SEQUENCES = ["items", "strings", "s", "'abc'", "(1, 2, 3)", "nolist", "people", "range(4)", "d", "n"]
LISTS = ["index(1)", "count(1)", "append(4)", "pop()", "copy()", "sort()", "insert(0, 1)", "nope()"]
EXPRESSIONS = [
    "'%s-%d' % ('a', 3)", "'%s' % s", "'%s' % 1.5", "'%05.2f|%x|%r' % (f, 255, s)", "'%s %s' % ('a')",
    "'%%' % ()", "'%(a)s' % {'a': 1}", "7 % 4", "'a' 'b' \"c\"", "'a\r\nb'", "'a\nb'", "'a\\\nb'",
    "'\\x41\\u00e9\\U0001F600\\101\\a\\0|\\q\\'\\\"\\\\'", "s ~ n ~ f ~ none ~ true ~ items ~ d",
    "tiny ~ huge ~ big", "1 if n", "1 if not n", "(1 if not n) is defined", "'x' * 3", "3 * 'x'",
    "[1] * 2", "items + [4]", "(1, 2) + (3,)", "'a' + 1", "1 + 'a'", "1 + none", "s + none",
    "1 < 2 < 3", "3 > 2 > 2", "'a' < 'b'", "1 < 'a'", "none < 1", "1 == 1.0", "true == 1", "'1' == 1",
    "none == missing", "missing == missing", "not missing", "missing or 'x'", "missing.a", "missing['a']",
    "missing ~ 'x'", "missing + 'x'", "missing | length", "missing | list", "missing in 'abc'",
    "'a' in missing", "'a' in none", "'b' in d", "'a' in s", "1 in s", "1 in items", "'e' not in s",
    "n in (7, 8)", "none in [none]", "[] == nolist", "[1, 2] < [1, 3]", "(1, 2) == [1, 2]", "d == d",
    "{'a': 1}.a", "{'a': 1}['a']", "{}.get('a') is none", "dict(a=1, b=2)", "dict(d, z=1)", "dict([(1, 2)])",
    "range(5)", "range(1, 10, 3) | list", "range(5, 0, -2) | list", "range(3) | length", "range(3)[1]",
    "range(0)", "lipsum is defined", "namespace is callable", "namespace() is mapping", "loop is defined",
    "self is defined", "messages is sequence", "messages | map(attribute='role') | join(',')",
    "messages | selectattr('role', 'equalto', 'user') | list | length", "messages[0].content.split('-')[1]",
    "messages[0]['role'] in ['user', 'system']", "messages | last", "(messages | last).content",
    "messages[-1]['content']", "messages[:1]", "messages[0] is mapping", "tools is none", "tools",
    "not tools", "documents", "bos_token ~ eos_token", "add_generation_prompt", "none is iterable",
    "f | int", "'12' | int", "'x' | int", "'1.5' | float", "'0x1f' | int", "'1.9' | int", "true | int",
    "n / 2", "8 / 2", "7 // 2.0", "-7 // 2", "2 ** 3 ** 2", "-2 ** 2", "+n", "-f", "- - n", "not not n",
    "1 / 0", "1 // 0", "1 % 0", "n and s", "empty or s", "none or nolist", "n or 1 / 0", "0 and 1 / 0",
    "items | sort", "items | sort | reverse | list", "items | join(d=', ')", "strings | sort",
    "strings | unique | list", "strings | sort(case_sensitive=true)", "strings | map('upper') | join",
    "strings | map('replace', 'a', 'b') | list", "strings | select('in', ['a']) | list",
    "strings | reject('equalto', 'a') | list", "items | select('odd') | list", "items | map('string') | join('-')",
    "items | batch(2) | list", "items | batch(2, 0) | map('list') | list", "items | slice(2) | list",
    "d | items | list", "d | dictsort", "d | dictsort(true)", "d | dictsort(by='value')",
    "d | dictsort(reverse=true)", "d | length", "d | list", "d | first", "d | tojson | string | length",
    "people | groupby('city') | list", "people | groupby('city') | map('first') | list",
    "people | map(attribute='name') | sort | list", "people | selectattr('age', 'ge', 2) | map(attribute='name') | list",
    "people | sort(attribute='name') | map(attribute='name') | list", "people | sum(attribute='age')",
    "people | sort(attribute='city,age') | map(attribute='name') | join",
    "people | map('items') | map('list') | list", "people | tojson", "s | replace('l', 'L', 1)",
    "s | trim | upper | lower", "words | trim | length", "words.split()", "words.strip().split(' ')",
    "s[0] | upper ~ s[1:]", "s | list | join('.')", "s | reverse", "s | first", "s | last", "s | length",
    "'a\\nb\\n\\nc' | indent", "'a\\nb\\n\\nc' | indent(2, first=true, blank=true)",
    "'a\\nb' | indent('> ')", "'abc' | center(10) ~ '|'", "'<a&\"\\'>' | escape", "'<a>' | e | length",
    "'a,b' | replace(',', ';') | upper", "'%s is %s' | format('a', 1)", "'{} {}'.format('a', 1)",
    "'{0} {x}'.format('a', x=2.5)", "'{:>5}|{:03d}|{:.2f}'.format('a', 7, f)", "f | round(0, 'floor')",
    "f | round", "2.675 | round(2)", "3 | round", "f | round(precision=1, method='ceil')", "10 | float",
    "1e3", "1_000", "1.5e-3", "0x1f", "0b11", "0o17", "1.", "'é' | length", "'é' | upper", "'ß' | upper",
    "'ǆ' | title", "'hello world-foo bar' | title", "\"they're bill's\" | title", "'aBC' | capitalize",
    "[1, [2, [3]]] | string", "[1, none, 'a'] | join('|')", "['a', ['b']] | join", "d['a'] | tojson",
    "{'a': {'b': [1, 2, {}], 'c': []}} | tojson(indent=2)", "[] | tojson(indent=2)", "{} | tojson",
    "'\\u2028</script>\\x7f\\x1f\\t\"' | tojson", "'é😀' | tojson(ensure_ascii=True)", "(1, 2) | tojson",
    "{1: 2, none: 3, true: 4, 1.5: 5} | tojson", "{'b': 1, 'a': 2} | tojson(sort_keys=True)",
    "{'b': 1, 'a': [1, {'d': 1, 'c': 2}]} | tojson(sort_keys=True, separators=(',', ':'))",
    "missing | tojson", "[missing] | tojson", "range(3) | tojson", "d.items() | tojson", "1e400 | tojson",
    "-1e400 | tojson", "1e16 | tojson", "1e-7 | tojson", "1.0 | tojson", "100000000000000000000 | tojson",
    "0.1 | tojson", "1e22 | tojson", "123456789012345680.0 | tojson", "tojson is defined",
    "strftime_now('%Y-%m-%d')", "strftime_now('%d %b %Y, %A %j %B %y %%')", "s is string and s is iterable",
    "s is sequence", "d is sequence", "items is sequence", "(1, 2) is sequence", "range(2) is sequence",
    "n is number", "true is number", "true is integer", "f is integer", "s.upper is callable", "s is callable",
    "range is callable", "raise_exception is callable", "d.items is callable", "missing is callable",
    "n is divisibleby(7)", "n is gt 3", "n is greaterthan(3)", "n is in [7]", "n is not in [7]",
    "n is not odd", "s is eq 'x'", "s is ne('x')", "s is == 'x'", "none is none", "none is not none",
    "not n is defined", "n is defined and n > 3", "n is defined == true", "(n is defined) == true",
    "s is filter", "'tojson' is filter", "'odd' is test", "'nope' is filter", "n is sameas 7", "none is sameas none",
    "true is sameas true", "false is sameas(0)", "{'a': 1} is mapping", "s|length>3", "(s|length)>3", "s | length + 1",
    "-1 | abs", "-n | abs", "(-1) | abs", "n * 2 | string", "'a' ~ 1 + 2", "1 + 2 ~ 'a'", "1 ~ 2 * 3", "not 1 == 2",
    "items[0] + items[-1]", "items[n - 7]", "items[missing]", "items.0", "d.a.1", "d.b.real", "s.0",
    "people[0].name", "people.0.name", "people[0]['na' ~ 'me']", "people[0] | attr('name')",
    "cycler('a', 'b').next()", "[1, 2,]", "{'a': 1,}", "(1)", "(1,)", "()", "(1, 2)", "1, 2", "[(1, 2)]",
    "raise_exception('no')", "nope()", "s | nope", "s is nope", "nope.x()", "none.x", "none['x']", "n.x", "s.x",
    "none | length", "n | length", "none | list", "none | join", "none | upper", "none | trim", "n | trim",
    "none | string", "true | string", "true | upper", "n | upper", "none | default('x')", "none | default('x', true)",
    "missing | default('x')", "empty | default('x')", "empty | default('x', true)", "d.nope | default(1)",
    "'a' if missing else 'b'", "'a' if none is defined else 'b'", "'a' if d else 'b'", "'a' if {} else 'b'",
    "('a', 'b') | join", "{'a': 1}.items() | list", "{'a': 1} | items | list", "d.keys() | join(',')",
    "d.keys() | sort", "d.values() | list | length", "d.items() | first", "(d.items() | list)[0][0]", "d.items()[0]",
    "'a' in d.keys()", "d.keys() == ['b', 'a', 'C']", "d.keys() | list == ['b', 'a', 'C']", "s.split(',') | length",
    "s.split(',') is sequence", "s.partition(',') | list", "s.partition(',')[2]", "s.index(',')", "s.upper",
    "[1, 2] | last", "[] | first", "[] | last", "[] | max", "[3, 1] | min", "[] | sum", "['a'] | sum(start='')",
    "[1.5, 2] | sum", "['b', 'A'] | min", "['b', 'A'] | max", "['b', 'A'] | sort", "items | unique | list | length",
]
STATEMENTS = [
    "{% for x in items %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}"
    "{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.previtem }}"
    "{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.changed(x) }};{% endfor %}",
    "{% for x in items if x > 1 %}{{ loop.index }}:{{ x }}{% else %}none{% endfor %}",
    "{% for x in nolist %}x{% else %}none{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }};{% endfor %}", "{% for k, v in d | dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for c in s %}{{ c }}.{% endfor %}", "{% for x in none %}{% endfor %}", "{% for x in missing %}x{% endfor %}",
    "{% for x in n %}{% endfor %}", "{% for x in items %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in items %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in items recursive %}{{ x }}{% endfor %}", "{% for x in items %}{% set y = x %}{% endfor %}{{ y }}",
    "{% for a, b in [(1, 2), (3, 4)] %}{{ a + b }} {% endfor %}", "{% for (a, b) in [(1, 2)] %}{{ a }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [(1,)] %}{% endfor %}",
    "{% for g in people | groupby('city') %}{{ g.grouper }}:{{ g.list | length }} {% endfor %}",
    "{% for city, list in people | groupby('city') %}{{ city }}:{{ list | map(attribute='name') | join }} {% endfor %}",
    "{% for x in items[1:] %}{{ x }}{{ loop.last }}{% endfor %}", "{% for x in items | reverse %}{{ x }}{% endfor %}",
    "{% for x in range(3) %}{{ x }}{% endfor %}", "{% for i in range(items | length) %}{{ items[i] }}{% endfor %}",
    "{% for x in items %}{% for y in items %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% for x in (1, 2) %}{{ x }}{% endfor %}", "{% for x in 1, 2 %}{{ x }}{% endfor %}",
    "{% for x in items if x is odd and loop is defined %}{{ x }}{% endfor %}",
    "{% set x = 1 %}{{ x }}", "{% set x, y = 1, 2 %}{{ x }}{{ y }}", "{% set x = (1, 2) %}{{ x }}",
    "{% set x = 1, 2 %}{{ x }}", "{% set a, b = items %}", "{% set d.x = 1 %}", "{% set d['x'] = 1 %}",
    "{% set x %}a{{ n }}{% endset %}{{ x }}{{ x | length }}", "{% set x | upper %}a{% endset %}{{ x }}",
    "{% set ns = namespace() %}{{ ns.a }}{{ ns.a is defined }}", "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}",
    "{% set ns = namespace(a=1) %}{% for x in items %}{% set ns.a = ns.a + x %}{% endfor %}{{ ns.a }}{{ ns }}",
    "{% set ns = namespace(a=[]) %}{% set ns.a = ns.a + [1] %}{{ ns.a }}", "{% set ns = namespace() %}{% set ns.x %}b{% endset %}{{ ns.x }}",
    "{% set tools = tools if tools is defined else none %}{{ tools }}", "{% set n = n + 1 %}{{ n }}",
    "{% if n %}{% set q = 1 %}{% endif %}{{ q }}", "{% if not n %}{% set s = 1 %}{% endif %}{{ s }}",
    "{% if n == 1 %}a{% elif n == 7 %}b{% else %}c{% endif %}", "{% if n is defined and n is not none %}a{% endif %}",
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, b=3) }}{{ f(b=1, a=2) }}{{ f() }}",
    "{% macro f(a) %}[{{ a }}]{{ caller() if caller }}{% endmacro %}{% call f(1) %}x{% endcall %}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(x) %}{% for y in x %}{{ f(y) if y is iterable and y is not string else y }},{% endfor %}{% endmacro %}{{ f([1, [2, [3]]]) }}",
    "{% macro f(a) -%}\n  {{ a }}\n{%- endmacro %}{{ f(1) ~ f(2) }}{{ f(1) | trim | length }}", "{% macro f() %}{{ n }}{% endmacro %}{{ f() }}{{ f.name }}{{ f.arguments }}",
    "{% macro f(m) %}{{ m.role }}{% endmacro %}{% for m in messages %}{{ f(m) }}{% endfor %}",
    "{% macro f(a, b) %}{{ b is defined }}{{ b }}{% endmacro %}{{ f(1) }}", "{% macro f(n=n) %}{{ n }}{% endmacro %}{{ f() }}",
    "{% macro f(a={}, b=none) %}{{ a }}{{ b }}{% endmacro %}{{ f() }}", "{% macro f() %}{% set n = 1 %}{{ n }}{% endmacro %}{{ f() }}{{ n }}",
    "{% call(x) m %}{% endcall %}", "{% macro m() %}{{ caller(5) }}{% endmacro %}{% call(x) m() %}<{{ x }}>{% endcall %}",
    "{% filter upper %}a{{ s }}{% endfilter %}", "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}",
    "{% raw %}{{ x }}{% endraw %}", "{%- raw -%} {{ x }} {%- endraw -%} ", "{# c #}a{#- c -#} b", "a {#- c #}\n b", "{# {{ x }} {% y %} #}a",
    "a\n  {% if n %}\n  b\n  {% endif %}\nc\n", "a\n  {%+ if n %}\n  b\n  {%- endif +%}\nc", "  {{ n }}\n\n", "{{ n }}\n", "{% if n %}\n\n x{% endif %}\n",
    "a  {%- if n -%}  b  {%- endif -%}  c", "a \n {{- n -}} \n b", "\t{% if n %}x{% endif %}\t\n", "a\r\n{% if n %}\r\nb\r\n{% endif %}\r\nc\r\n", "a\rb{{ 'x\ry' }}",
    "a {% if n %}\n b{% endif %} \n", "x{% if n %} {% endif %}y", "\n\n{% if n %}a{% endif %}", "{%if n%}a{%endif%}", "{%-if n-%} a {%-endif-%}",
    "{% generation %}a{{ n }}{% endgeneration %}", "{%- generation -%} a {%- endgeneration -%} b", "x\n  {% generation %}\n a\n  {% endgeneration %}\nb",
    "{% for x in items %}{% generation %}{{ x }}{{ loop.index }}{% endgeneration %}{% endfor %}", "{% generation %}{% set q = 1 %}{% endgeneration %}{{ q }}",
    "{% generation %}a", "{% set q = 1 %}{% generation %}{% set q = 2 %}{{ q }}{% endgeneration %}{{ q }}", "{% set generation = 1 %}{{ generation }}",
    "{% do items.append(1) %}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}", "{% block a %}{{ n }}{% endblock %}", "{% block a %}x{% endblock %}{{ self.a() }}",
    "{% trans %}x{% endtrans %}", "{% autoescape true %}{{ '<' }}{% endautoescape %}", "{% debug %}", "{% nope %}", "{% if %}{% endif %}", "{% if n %}", "{% endif %}", "{{ }}", "{{ n", "{% for %}{% endfor %}",
    "{{ n }", "{ n }}", "}}", "%}", "{{ 'a", "{{ 1 + }}", "{{ (1 }}", "{{ [1 }}", "{{ {'a' 1} }}", "{{ a b }}", "{{ 1 2 }}", "{{ n. }}", "{{ n | }}", "{{ n is }}", "{{ !n }}", "{{ n && s }}", "{{ n ? 1 : 2 }}", "{{ @n }}", "{{ $n }}",
    "{{ '}}' }}{{ '%}' }}{{ '{{' }}{{ '{#' }}", "{{ {'a': {'b': 1}}['a']['b'] }}", "{{ {'a': {}}}}", "{{ {'a': 1}}}", "{%set x={'a':{}}%}{{x}}",
    "{{ \"a'b\" ~ 'c\"d' }}", "{{ 'a\\'b' }}", "{{ \"\\n\" | length }}", "{{ '\n' | length }}", "{{ '\r\n' | length }}", "{{\nn\n}}", "{{n}}{{-n-}}{{n}}", "{%- set x = 1 -%}\n{{ x }}",
    "{% if messages[0]['role'] == 'user' %}{% set loop_messages = messages[1:] %}{% else %}{% set loop_messages = messages %}{% endif %}{{ loop_messages | length }}",
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + ('' if loop.last else eos_token) }}{% endfor %}{% if add_generation_prompt %}{{ '<|a|>' }}{% endif %}",
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}{% endfor %}ok",
    "{% for message in messages %}{%- if not loop.first and messages[loop.index0 - 1].role == 'user' %}after user{% endif %}{% endfor %}",
    "{%- for m in messages[::-1] %}{% set index = (messages | length - 1) - loop.index0 %}{{ index }}{{ m.role }}{% endfor %}",
    "{%- set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'assistant' %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }}",
    "{{ messages[0].content.split('</think>')[-1].lstrip('\\n') }}", "{{ messages[0].content.split('-')[0].rstrip('\\n').split('a')[-1] }}",
    "{%- if messages[0].content is string %}{{ messages[0].content }}{%- else %}{% for c in messages[0].content %}{{ c.text }}{% endfor %}{% endif %}",
    "{{ messages | tojson }}", "{{ messages[0] | tojson(indent=4) }}", "{{ messages[0].items() | list }}", "{{ messages[0].keys() | list | join }}", "{{ messages[0].tool_calls is defined }}", "{{ messages[0].get('tool_calls') }}", "{{ messages[0].tool_calls }}x", "{{ messages[0]['nope'] is none }}",
    "{%- macro render_extra_keys(d, handled) %}{%- for k in d if k not in handled %}<{{ k }}>{%- if d[k] is mapping %}{{ d[k] | tojson | safe }}{%- else %}{{ d[k] | string }}{%- endif %}</{{ k }}>{%- endfor %}{%- endmacro %}{{ render_extra_keys(d, ['b']) }}",
    "{% set x = [1, 2] %}{% set x = x + [3] %}{{ x }}{{ x | length }}{{ x[0] }}", "{% set x = items[1:] %}{{ x }}{{ x | length }}{{ x is sequence }}{{ x[0] }}{{ x.append(1) }}", "{% set _ = items.append(4) %}{{ items }}", "{% set x = s.split(',') %}{{ x[0] }}{{ x }}{{ x | tojson }}",
    "{% set x = d.keys() %}{{ x }}", "{% set x = d.items() | list %}{{ x }}{{ x[0] }}", "{% set x = people | map(attribute='name') %}{{ x | list }}{{ x | list }}", "{% set x = people | selectattr('age') %}{% if x %}yes{% endif %}{{ x | list | length }}", "{% set x = items | reverse %}{{ x | list }}",
    "{%- set a = n if n else s -%}{{ a }}", "{{ n if n > 10 else s if s else f }}", "{{ (n if n > 10 else s) | upper }}", "{{ 'a' if n else 'b' ~ 'c' }}", "{{ 'x' ~ ('a' if n else 'b') }}", "{{ not n and s }}", "{{ n and not s }}", "{{ [x for x in items] }}", "{{ lambda x: x }}", "{{ n := 1 }}", "{{ *items }}", "{{ dict(**d) }}", "{{ dict(a=1, **{'b': 2}) }}", "{{ range(*[1, 3]) | list }}",
    "{{ loop }}", "{{ varargs }}", "{{ caller }}", "{{ super() }}", "{{ None }}{{ True }}{{ False }}{{ none }}{{ true }}{{ false }}", "{{ NULL }}", "{{ null }}x", "{{ cycler('a', 'b').next() }}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}", "{% set j = joiner(', ') %}{% for x in items %}{{ j() }}{{ x }}{% endfor %}",
    "{% if 'x' in 'xyz' and not ('q' in s or n in items) -%} a {%- endif %}", "{{ '' if loop is defined else 'no' }}", "{% for x in items %}{{ ', ' if not loop.first }}{{ x }}{% endfor %}", "{% for x in items -%}\n  {{ x }}\n{%- endfor %}", "{% for i in range(2) %}{% for j in range(2) %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }}{% endfor %}{% endfor %}",
    "{{ '\\u00e9' }}{{ '\\N{BULLET}' }}", "{{ '\\ud83d\\ude00' }}", "{{ '{}' }}{{ '{{}}' }}", "{% set x = 'a\\\\b' %}{{ x }}", "{{ \"\\t|\\\\n\" }}", "{{ 'a\\/b' }}", "{{ '\\d+' }}", "{{ ('a' 'b') | upper }}", "{{ 'a' 'b' | upper }}", "{{ ['a' 'b', 'c'] }}", "{{ 'a' -}} 'b'", "{{ \"a\" \n 'b' }}",
    "{% set x = 1 %}{% macro f() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ f() }}", "{% for x in items %}{% set n = x %}{{ n }}{% endfor %}{{ n }}", "{% if true %}{% set n = 1 %}{% endif %}{{ n }}", "{% for x in items %}{{ x }}{% endfor %}{{ x }}", "{% set x = none %}{{ x is none }}{{ x is defined }}", "{% set messages = messages[1:] %}{{ messages | length }}",
]


def sources():
    seen = dict.fromkeys(STATEMENTS)
    for value in VALUES:
        seen[f"{{{{ {value} }}}}"] = None
        seen[f"{{{{ [{value}] }}}}"] = None
        seen[f"{{{{ ({value}) ~ '' }}}}"] = None
        for test in TESTS:
            seen[f"{{{{ ({value}) is {test} }}}}"] = None
        for name in FILTERS:
            seen[f"{{{{ ({value}) | {name} }}}}"] = None
    for text in STRINGS:
        for method in METHODS:
            seen[f"{{{{ {text}.{method} }}}}"] = None
    for method in DICTS:
        dot = "" if method.startswith("[") else "."
        seen[f"{{{{ d{dot}{method} }}}}"] = None
    for sequence in SEQUENCES:
        for part in SLICES:
            seen[f"{{{{ {sequence}{part} }}}}"] = None
            seen[f"{{{{ ({sequence}{part}) | list }}}}"] = None
        for method in LISTS:
            seen[f"{{{{ {sequence}.{method} }}}}"] = None
    for expression in EXPRESSIONS:
        seen[f"{{{{ {expression} }}}}"] = None
    return list(seen)

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reference outputs for the chat templates: what Jinja2, set up as transformers does it, prints.

usage: make_templates.py    (writes tests/data/templates/cases.jsonl and snippets.jsonl; made with jinja2 3.1.6, Python 3.11)

The environment is that of transformers' utils/chat_template_utils.py, _compile_jinja_template(): ImmutableSandboxedEnvironment,
trim_blocks, lstrip_blocks, loopcontrols, its generation tag, its tojson, raise_exception and strftime_now (here with a fixed
time). smollm2.jinja is the model's own (Apache-2.0); the others re-create the constructs of the templates whose names they bear.
A snippet's "error" is the exception's class: the C test asks only that there is an error."""
import datetime
import json
import os
import sys

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "templates")
NOW = 1753531200  # 2025-07-26 12:00:00 UTC


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(lineno)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def strftime_now(format):
    return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(format)


env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception
env.globals["strftime_now"] = strftime_now


def render(text, variables):
    try:
        return {"out": env.from_string(text).render(**variables)}
    except Exception as e:  # noqa: BLE001
        return {"error": type(e).__name__}


TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "The weather of a place \u2014 now", "parameters": {
        "type": "object", "properties": {
            "place": {"type": "string", "description": "City <&> 'state'"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            "days": {"type": "array", "items": {"type": "integer"}}, "deep": {"type": "array", "items": {"type": "array",
            "items": {"type": "string"}}}, "any": {"oneOf": [{"type": "number", "default": 1.5}, {"type": ["string", "null"]}]},
            "o": {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "object"}}, "required": ["a"]}},
        "required": ["place"]}, "return": {"type": "string"}}},
    {"type": "function", "function": {"name": "noop", "description": "Nothing"}},
]
U, A, S = "user", "assistant", "system"


def talk(*turns):
    return [{"role": r, "content": c} for r, c in turns]


CALL = [{"id": "abcdefgh1", "type": "function", "function": {"name": "get_weather", "arguments": {"place": "K\u00f6ln", "days": [1, 2]}}}]
TOOL_TALK = [{"role": U, "content": "Weather?"}, {"role": A, "content": "", "tool_calls": CALL},
             {"role": "tool", "content": "{\"t\": 21.5}", "tool_call_id": "abcdefgh1", "name": "get_weather"}]
INPUTS = {
    "single": {"messages": talk((U, "Hello, what is 2+2?"))},
    "no generation prompt": {"messages": talk((U, "Hi"), (A, " four \n")), "add_generation_prompt": False},
    "system": {"messages": talk((S, "  Be brief.\n"), (U, "  Hi there \n"))},
    "multi-turn": {"messages": talk((S, "Be kind."), (U, "One?"), (A, "<think>\nhm\n</think>\n\nTwo."), (U, "Three?"), (A, "Four."),
                                    (U, "\u4f60\u597d \U0001f600 \"q\" \\n"))},
    "tools": {"messages": talk((S, "Use tools."), (U, "Weather?")), "tools": TOOLS},
    "tool call": {"messages": TOOL_TALK, "tools": TOOLS},
    "tool call over": {"messages": TOOL_TALK + talk((A, "21.5 degrees"), (U, "Thanks")), "tools": TOOLS},
    "two tool results": {"messages": TOOL_TALK + [dict(TOOL_TALK[2])], "tools": TOOLS},
    "no thinking": {"messages": talk((U, "Hi")), "enable_thinking": False},
    "no think in system": {"messages": talk((S, "You are a pirate. /no_think"), (U, "Hi"), (A, "Arr"), (U, "Yo"))},
    "reasoning": {"messages": [{"role": U, "content": "Q"}, {"role": A, "content": "A", "reasoning_content": "\nR\n", "thinking": "T"}],
                  "add_generation_prompt": False},
    "parts": {"messages": [{"role": U, "content": [{"type": "text", "text": " Look "}, {"type": "image"}]}]},
    "bad order": {"messages": talk((A, "I begin"), (U, "No"))},
    "tool first": {"messages": [{"role": "tool", "content": "x"}]},
    "empty content": {"messages": talk((S, ""), (U, ""))},
    "control bytes": {"messages": talk((U, "a\u0000b\u001fc\u007f\u2028"))},
}
TOKENS = {"llama3": ("<|begin_of_text|>", "<|eot_id|>"), "deepseek-v3": ("<\uff5cbegin\u2581of\u2581sentence\uff5c>", "</s>"),
          "gemma3": ("<bos>", "<eos>")}

V = {"s": " Hello World ", "u": "\u00c4\u00f6\u00fc\u4f60\u597d\U0001f600", "n": 3, "f": 2.5, "t": True, "z": None, "e": "", "l": [3, 1, 2], "w": ["b", "A", "a", "C"],
     "d": {"b": 1, "a": [1, None, {"x": "y"}], "items": 7, "K": "q'\"\n"}, "r": [{"n": "x", "v": 2}, {"n": "y", "v": 1}, {"n": "X", "v": 2, "o": True}],
     "neg": -7, "big": 9007199254740993, "csv": "a,b,,c", "lines": "one\ntwo\n\nthree"}
EXPR = r"""
s|trim ~ '|'|s ~ n ~ f ~ t ~ z ~ nope ~ '|'|[s, n, f, t, z, e]|d|r|(1,)|(1, 2)|()|[]|{}|u|s.strip()|s.lstrip()|s.rstrip()|s.strip(' H')|u[0]|u[-1]|u[1:3]|u[::-1]|u[99]|u|length
s[::-1]|s[1:]|s[:-1]|s[2:8:2]|l[::-1]|l[1:]|l[:1]|l[-2:]|l[5:1]|l[10:]|l[-10:2]|l[2:-9:-1]|l[0]|l[-1]|l[7]|l['x']|l.x|d.b|d['a']|d.items is callable|d['items']|d.nope|d.nope.x|nope.x|nope['x']|nope()|nope + 1
d.get('b')|d.get('zz')|d.get('zz', 5)|d.keys()|list|d.items()|list|d.values()|list|d|items|list|d|dictsort|d|length|d.keys() | length|'b' in d|'zz' not in d|1 in l|'lo' in s|'' in ''|5 in 'abc'|nope in l|1 in nope
n + 1|n - 5|n * 2|n / 2|7 // 2|-7 // 2|7 % 3|-7 % 3|7 % -3|2 ** 10|2 ** -1|f * 2|f + n|7.5 // 2|-7.5 // 2|7.5 % 2|-7.5 % 2|1 / 0|1 // 0|1 % 0|1.0 / 0|t + t|'a' + 1|'a' + 'b'|'a' * 3|3 * 'ab'|[1] * 2|l + [4]|(1,) + (2,)|l + 'x'|-n|+n|--n|-s|-n ** 2|2 ** 3 ** 2|1 + 2 * 3 - 4|'a' ~ 1 + 2|10 - 2 - 3|big + 1|1_000|1e3|1.5e-7|1e16|1e15|123456789.123|0.1 + 0.2|1e100|5.0|-0.0
1 == 1.0|1 == true|'a' == 'a'|[1, 2] == [1, 2]|(1,) == [1]|{'a': 1} == {'a': 1.0}|none == nope|nope == nope|1 < 2 < 3|1 < 3 < 2|'a' < 'b'|'a' < 1|[1, 2] < [1, 3]|none < 1|1 != 2|1 >= 1|true > false|nope < 1|'Z' < 'a'|3 > 2 == true
not t|not z|t and 5|z or 'x'|e or z or 0|1 and 0 and 2|not 1 == 2|'yes' if t else 'no'|'yes' if z|('yes' if z) is defined|1 if 0 else 2 if 0 else 3|t and not z|not not 5
nope is defined|n is defined|nope is undefined|z is none|s is string|n is string|d is mapping|l is mapping|l is iterable|s is iterable|n is iterable|nope is iterable|l is sequence|d is sequence|nope is sequence|n is sequence|n is number|t is number|t is boolean|n is boolean|n is integer|t is integer|f is float|t is true|t is false|1 is true|z is false|n is odd|n is even|n is divisibleby 3|n is divisibleby(2)|n is not none|n is eq 3|n is equalto(4)|n is ne 3|n is lt 4|n is ge 4|n is in l|9 is in l|z is sameas none|t is sameas true|'abc' is lower|'ABC' is upper|'Abc' is lower|range is callable|s is callable|nope is callable|n is string or t|n is not string and t|s is not defined
s|upper|s|lower|s|title|'hello wORLD-foo (bar) it\'s'|title|'hello wORLD it\'s'.title()|s|capitalize|'hELLO'.capitalize()|u|upper|u|lower|'stra\u00dfe'|upper|nope|upper|n|upper|z|trim|nope|trim|'xxhixx'|trim('x')
l|join|l|join(', ')|w|join('-')|r|join('+', attribute='n')|nope|join('x')|'abc'|join('.')|n|join|l|first|l|last|[]|first|[]|last|s|first|s|last|nope|first|d|first|'abc'|list|d|list|nope|list|n|list|l|length|n|length|nope|length|z|length|z|count
nope|default('x')|z|default('x')|z|default('x', true)|e|d('y', boolean=true)|e|default('y')|nope|default|nope.x|default('q')|d.nope|default('q')|n|default(1, 2, 3)|n|default(foo=1)
s|replace('l', 'L')|s|replace('l', 'L', 1)|'aaa'.replace('a', 'b', 2)|'abc'.replace('', '-')|n|replace(3, 4)|'abc'|replace('', '.')|s.replace('Hello')|d|tojson|d|tojson(indent=2)|d|tojson(indent=0)|r|tojson(indent=4)|u|tojson|u|tojson(ensure_ascii=true)|d|tojson(sort_keys=true)|[1.0, 1e20, 0.1]|tojson|nope|tojson|[nope]|tojson|(1, 2)|tojson|{}|tojson(indent=2)|[]|tojson(indent=2)|[[], {}]|tojson(indent=1)|d|tojson(separators=(',', ':'))|{1: 2, true: 3, none: 4, 1.5: 6}|tojson|'\x7f\x1f\u2028/'|tojson|range(2)|tojson|d|tojson(indent='\t')|'"\\'|tojson
w|sort|w|sort(case_sensitive=true)|w|sort(reverse=true)|l|sort|[1, 'a']|sort|r|sort(attribute='v')|map(attribute='n')|list|r|sort(attribute='v', reverse=true)|map(attribute='n')|join|w|unique|list|w|unique(case_sensitive=true)|list|r|unique(attribute='v')|list|length|l|reverse|list|s|reverse|l|sum|r|sum(attribute='v')|r|sum(attribute='v', start=10)|w|sum|l|min|l|max|w|min|w|max|[]|max|r|max(attribute='v')|n|sum
r|map(attribute='n')|list|r|map(attribute='o', default=0)|list|r|map(attribute='o')|list|w|map('upper')|list|w|map('upper')|join(',')|w|map('replace', 'a', 'z')|list|[[1, 2], [3]]|map('sum')|list|r|selectattr('v', 'equalto', 2)|list|length|r|selectattr('o')|list|length|r|selectattr('o', 'defined')|list|length|r|rejectattr('n', 'in', ['x'])|map(attribute='n')|list|l|select('odd')|list|l|reject('odd')|list|l|select('gt', 1)|list|[0, 1, '', 'a', none]|select|list|[0, 1]|reject|list|l|map('nosuch')|list|w|map('length')|list|r|map(attribute='n')|length|l|select('odd')|last|l|select('odd')|first|{'a': {'b': [5, 6]}}|map('upper')|list|[{'a': {'b': [5, 6]}}]|map(attribute='a.b.1')|list|z|map('upper')|list
'3'|int|'3.9'|int|'x'|int|'x'|int(7)|' 12 '|int|f|int|t|int|nope|int|z|int|'1e3'|int|'3.5'|float|'x'|float|n|float|'1e3'|float|'nan'|float|neg|abs|f|abs|s|abs|2.5|round|3.5|round|2.567|round(2)|2.1|round(method='ceil')|2.9|round(0, 'floor')|n|round|2.675|round(2)|1.25|round(1)|n|string + 'x'|z|string|d.b|string|'<a>'|e|'<a>'|escape|('<a>'|safe) + '<b>'|'<a>'|safe|('<a>'|safe) ~ '<b>'|'<'|e|upper
lines|indent|lines|indent(2)|lines|indent(2, true)|lines|indent(2, blank=true)|lines|indent('> ')|''|indent(2, true)|n|indent
csv.split(',')|csv.split(',', 1)|csv.rsplit(',', 1)|csv.split(',', maxsplit=2)|'  a b  c '.split()|'  a b  c '.split(none, 1)|' a  b c '.rsplit(none, 1)|' a  b c '.rsplit()|''.split()|''.split(',')|'a'.split('')|lines.splitlines()|lines.split('\n')|'a--b'.split('--')|'aXbXc'.split('X')[-1]|','.join(w)|','.join([1])|'-'.join('abc')|s.startswith(' H')|s.endswith('x')|'abc'.startswith(('x', 'a'))|s.find('World')|s.find('zz')|u.find('\u597d')|'banana'.rfind('an')|'banana'.count('an')|'banana'.index('n')|'banana'.index('z')|'abc'.upper()|'ABC'.lower()|'12'.isdigit()|'a1'.isalnum()|'ab'.isalpha()|' '.isspace()|'AB'.isupper()|'ab1'.islower()|'prefix-x'.removeprefix('prefix-')|'x.txt'.removesuffix('.txt')|''.upper()|l.index(2)|l.count(3)|l.append(4)|d.update({})|l.pop()|d.pop('b')|s.nosuch|s.nosuch()|s.__class__|n.x|z.x|z['x']|n[0]|l.sort
range(3)|list|range(1, 4)|list|range(5, 0, -2)|list|range(3)[1]|range(0)|list|range(3)|length|range(1, 2, 0)|range()|dict(a=1, b=2)|dict(d, b=5)|length|namespace(a=1).a|namespace(a=1).b|namespace(d).b|raise_exception('no')|strftime_now('%Y-%m-%d %H:%M %d %b %Y %A %j %%')|true and True|None|False|'a' 'b'|"it's"|'q"'|["it's", 'q"', "both'\""]|'\\n'|'\n\t\u00e9\x41\101'|['\n\t\\\x00\u00e9\u200b']|[[1, [2, {'k': (3,)}]]]|{'a': 1, 'b': 2}.b|{'a': 1}['a']|[1, 2, 3][1]|(1, 2)[0]|{1: 'x'}[1]|{'a': 1, 'a': 2}|{[1]: 2}|[1,]|{'a': 1,}|1, 2|d.a[2].x|d['a'][2]['x']|r[0].n ~ r[1]['n']|'%s' is string|[true, false, none]|1 is defined is defined|l|nosuchfilter|n is nosuchtest|l[|)|1 +|'open
""".strip("\n").split("\n")


def expressions():
    """The table above: separated by `|` where no filter can begin; a piece that is a filter belongs to what is before it"""
    known = set(env.filters) | {"nosuchfilter"}
    for line in EXPR:
        current = None
        for piece in line.split("|"):
            name = piece.strip().split("(")[0].split(" ")[0].split(")")[0].split(".")[0].split("[")[0]
            quoted = current is not None and (current.count("'") - current.count("\\'")) % 2 == 1
            if current is not None and (quoted or name in known and name not in ("e", "d") or piece in ("e", "escape", "e|upper")
                                        and current.endswith(("'", "<")) or current.count("(") > current.count(")")
                                        or piece.startswith(("d('y'", ))):
                current += "|" + piece
                # an expression that ends here is also a case of its own
                continue
            if current is not None:
                yield current
            current = piece
        yield current


STATEMENTS = [
    "{% for x in l %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }};{% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }}|{% endfor %}", "{% for x in l %}{{ loop.previtem is defined }}{% endfor %}",
    "{% for x in [] %}a{% else %}none{% endfor %}", "{% for x in nope %}a{% else %}none{% endfor %}", "{% for x in n %}a{% endfor %}", "{% for x in z %}{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }} of {{ loop.length }} {% else %}no{% endfor %}", "{% for x in l if x > 9 %}{% else %}no{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for a, b in [[1, 2], (3, 4)] %}{{ a + b }} {% endfor %}",
    "{% for a, b in [[1]] %}{% endfor %}", "{% for c in u %}{{ c }}.{% endfor %}", "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}.", "{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }}{{ loop.depth }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% break %}", "{% set x = 1 %}{% for i in l %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}", "{% for i in l %}{{ x is defined }}{% set x = 1 %}{% endfor %}{{ x }}",
    "{% set ns = namespace(c=0) %}{% for i in l %}{% set ns.c = ns.c + i %}{% endfor %}{{ ns.c }}", "{% set ns = namespace(a=[]) %}{% for i in l %}{% set ns.a = ns.a + [i * 2] %}{% endfor %}{{ ns.a }}",
    "{% set d.x = 1 %}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set x %}a{{ n }}b{% endset %}[{{ x }}]", "{% set x | upper | trim %} a{{ n }}b {% endset %}[{{ x }}]",
    "{% if false %}{% set q = 1 %}{% endif %}{{ q }}|{{ q is defined }}", "{% if n == 1 %}a{% elif n == 3 %}b{% elif true %}c{% else %}d{% endif %}", "{% if nope %}a{% else %}b{% endif %}", "{% if not z and l %}y{% endif %}",
    "{% macro m(a, b=2, c=a) %}{{ a }}-{{ b }}-{{ c }};{% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m(b=5) }}{{ m(1, 2, 3) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m() %}{{ x }}{% endmacro %}{% set x = 5 %}{{ m() }}", "{% macro m() %}{% set x = 9 %}{{ x }}{% endmacro %}{% set x = 5 %}{{ m() }}{{ x }}", "{% macro m() %}[{{ i }}]{% endmacro %}{% for i in l %}{{ m() }}{% endfor %}",
    "{% macro f(k) %}{% if k > 1 %}{{ k }},{{ f(k - 1) }}{% else %}end{% endif %}{% endmacro %}{{ f(5) }}", "{% macro m() %}a\n{% endmacro %}{{ m() | upper }}{{ m() + 'x' }}{{ m() | length }}", "{% macro m(x) %}{{ x }}{% endmacro %}{% for i in l %}{{ m(i) }}{% endfor %}{{ m is defined }}",
    "{{ later() }}{% macro later() %}x{% endmacro %}", "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% filter upper %}abc{{ s }}{% endfilter %}", "{% filter replace('a', 'b')|trim %} aaa {% endfilter %}.",
    "{% generation %}abc{% set x = 1 %}{% endgeneration %}{{ x }}", "{% raw %}{{ x }}{% if %}{% endraw %}", "  {%- raw -%}  {{ x }}  {%- endraw -%}  .", "{# c #}a{# {{ x }} #}b", "a\n{# c #}\nb", "a\n  {# c #}\n  b", "a {#- c -#} b", "a\n  {{- n -}}  \n b", "a\n  {{ n }}  \n b",
    "x\n  {% if true %}\n  y\n  {% endif %}\nz", "x\n  {%- if true -%}\n  y\n  {%- endif -%}\nz", "x\n  {%+ if true +%}\n  y\n  {%+ endif +%}\nz", "x  {% if true %}\n\ny{% endif %}\n", "{% if true %}   {% if true %}\nq{% endif %}{% endif %}", "a\r\nb\rc\n", "a\n\n", "a\n", "", "\n", "{{ 'a\nb' }}", "{%-   if true   -%}  x  {%-endif-%}  y",
    "{{ {'a': {'b': 1}}['a']['b'] }}", "{{ {'a': {}} }}", "{{ '}}' }}", "{{ \"{% if %}\" }}", "{ { % {x} %} }}", "{{", "{{ n", "{% if", "{% if true %}", "{% endif %}", "{% for x in l %}{% endif %}", "{% nosuch %}", "{{ }}", "{% %}", "{% if %}{% endif %}", "{% for in l %}{% endfor %}", "{% set %}", "{% set 1 = 2 %}", "{% set x = %}", "{{ n n }}", "{{ n. }}", "{{ n.(1) }}", "{{ 'a' b }}", "{{ n | }}", "{{ n is }}", "{# open", "{% raw %}", "{{ a b c }}", "{{ (1, 2 }}", "{{ [1, 2 }}", "{{ f(a=1, 2) }}", "{% macro m(a=1, b) %}{% endmacro %}", "{% macro %}{% endmacro %}", "{{ n }}}", "{{ '\\'' }}", "{{ 1.__class__ }}", "{{ ''.__class__.__mro__ }}", "{{ ().__class__.__base__ }}",
    "{{ messages }}", "{{ loop }}", "{{ loop.index }}", "{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}", "{% set it = l | select('odd') %}{{ it | list }}{{ it | list }}", "{% set it = l | select('odd') %}{{ it | first }}{{ it | list }}", "{% for k, v in d | items %}{{ k }}{% endfor %}", "{% for k, v in d | dictsort(by='key', reverse=true) %}{{ k }}{% endfor %}", "{% for k, v in {'b': 2, 'a': 3} | dictsort(by='value') %}{{ k }}{% endfor %}",
    "{%- for x in l -%}\n {{ x }}\n{%- endfor %}", "{% for x in l -%}\n {{ x }}\n{% endfor %}", "{% for x in range(3) %}{% set y = x %}{% if y is odd %}{{ y }}{% endif %}{% endfor %}", "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}", "{% set t = t ~ 'x' %}{{ t }}", "{% for x in l %}{% set l = [] %}{{ x }}{{ l }}{% endfor %}{{ l }}", "{{ s if s is defined else 'q' }}", "{% set range = 5 %}{{ range }}", "{% for s in l %}{{ s }}{% endfor %}{{ s }}", "{% set x = x | default(3) %}{{ x }}", "{{ x }}{% set x = 1 %}{{ x }}", "{% for m in r %}{% if loop.first %}{% set x = m.n %}{% endif %}{{ x }}.{% endfor %}",
]


def main():
    assert jinja2.__version__ == "3.1.6" and sys.version_info[:2] == (3, 11), "the versions in the header"
    os.environ["TZ"] = "UTC"
    n = 0
    with open(os.path.join(HERE, "cases.jsonl"), "w") as f:
        for file in sorted(os.listdir(HERE)):
            if not file.endswith(".jinja"):
                continue
            name = file[:-6]
            bos, eos = TOKENS.get(name, ("<s>", "</s>"))
            with open(os.path.join(HERE, file)) as t:
                text = t.read()
            for case, given in INPUTS.items():
                variables = {"add_generation_prompt": True, "tools": None, "documents": None, **given}
                row = {"name": f"{name}: {case}", "file": file, "bos": bos, "eos": eos, "vars": json.dumps(given, ensure_ascii=False),
                       **render(text, {**variables, "bos_token": bos, "eos_token": eos})}
                f.write(json.dumps(row, ensure_ascii=False) + "\n")
                n += 1
    m = 0
    with open(os.path.join(HERE, "snippets.jsonl"), "w") as f:
        f.write(json.dumps({"vars": json.dumps(V, ensure_ascii=False)}, ensure_ascii=False) + "\n")  # for all that follow
        for text in ["{{ " + e.strip() + " }}" for e in expressions()] + STATEMENTS:
            f.write(json.dumps({"name": text.replace("\n", "\\n").replace("\r", "\\r"), "text": text, **render(text, V)}, ensure_ascii=False) + "\n")
            m += 1
    print(n, "cases,", m, "snippets")


main()

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The template language: each row of snippets.jsonl prints what Jinja2 prints, and fails where it fails; then templates that
 * want too much, which must be refused by the limit that they meet, and constructs that are not known, refused by name.
 * usage: test_jinja DIRECTORY
 */
#include "token/jinja.h"
#include "token/template_fixture.h"

static int render(const char *text, size_t n, const struct bmi_json *vars, struct bmi_str *out,
		  struct bmi_error *err)
{
	bmi_auto(bmi_jinja) t = NULL;
	struct bmi_jinja_var v[32];
	size_t n_vars = 0;
	int r = bmi_jinja_parse(text, n, &t, err);

	for (const struct bmi_json *c = vars ? vars->child : NULL; c && n_vars < 32; c = c->next)
		v[n_vars++] = (struct bmi_jinja_var){ .name = c->key, .n_name = c->n_key, .json = c };
	return r < 0 ? r : bmi_jinja_render(t, v, n_vars, TEMPLATE_NOW, out, err);
}

/* The text `before`, then `unit` n times, then `mid`, then `tail` n times, then `after`. */
static const struct hostile {
	const char *name, *before, *unit, *mid, *tail, *after;
	unsigned n;
	int want;
	const char *says;
} hostiles[] = {
	{ "nested brackets", "{{ ", "[", "", "]", " }}", 100000, -E2BIG, "nested" },
	{ "nested parentheses", "{{ ", "(", "1", ")", " }}", 100000, -E2BIG, "nested" },
	{ "nested targets", "{% for ", "(", "x", ")", " in [] %}{% endfor %}", 100000, -E2BIG, "nested" },
	{ "nested ifs", "", "{% if 1 %}", "", "{% endif %}", "", 20000, -E2BIG, "nested" },
	{ "nested conditions", "{{ ", "1 if 1 else ", "1", "", " }}", 50000, -E2BIG, "nested" },
	{ "signs", "{{ ", "-", "1", "", " }}", 100000, -E2BIG, "nested" },
	{ "nots", "{{ ", "not ", "1", "", " }}", 100000, -E2BIG, "nested" },
	{ "a long sum", "{{ 1", "+1", "", "", " }}", 100000, -E2BIG, "nested" },
	{ "a chain of filters", "{{ 1", "|abs", "", "", " }}", 100000, -E2BIG, "nested" },
	{ "a chain of attributes", "{{ x", ".a", "", "", " }}", 100000, -E2BIG, "nested" },
	{ "a template too large", "", "0123456789abcdef", "", "", "", 65537, -E2BIG, "1048576" },
	{ "loops in loops", "", "{% for x in range(100000) %}", "", "{% endfor %}", "", 5, -E2BIG, "more than" },
	{ "a range too long", "{{ range(100001) }}", "", "", "", "", 0, -E2BIG, "100000" },
	{ "a range past 64 bits", "{{ range(-9223372036854775807, 9223372036854775807) }}", "", "", "", "", 0,
	  -E2BIG, "100000" },
	{ "text that doubles",
	  "{% set ns = namespace(s='0123456789abcdef') %}"
	  "{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
	  "", "", "", "", 0, -E2BIG, "bytes" },
	{ "a list that doubles",
	  "{% set ns = namespace(s=[1, 2]) %}"
	  "{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
	  "", "", "", "", 0, -E2BIG, "more than" },
	{ "text repeated", "{{ 'ab' * 9223372036854775807 }}", "", "", "", "", 0, -E2BIG, "repetitions" },
	{ "a list repeated", "{{ [1] * 9223372036854775807 }}", "", "", "", "", 0, -E2BIG, "repetitions" },
	{ "a list that holds itself often",
	  "{% set ns = namespace(s=[1]) %}"
	  "{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
	  "{{ ns.s }}",
	  "", "", "", "", 0, -E2BIG, "more than" },
	{ "the same compared",
	  "{% set ns = namespace(s=[1], t=[1]) %}"
	  "{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% set "
	  "ns.t = [ns.t, ns.t] %}{% endfor %}"
	  "{{ ns.s == ns.t }}",
	  "", "", "", "", 0, -E2BIG, "steps" },
	{ "the same as JSON",
	  "{% set ns = namespace(s=[1]) %}"
	  "{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
	  "{{ ns.s|tojson }}",
	  "", "", "", "", 0, -E2BIG, "more than" },
	{ "a deep list",
	  "{% set ns = namespace(s=[1]) %}"
	  "{% for i in range(5000) %}{% set ns.s = [ns.s] %}{% endfor %}"
	  "{{ ns.s }}",
	  "", "", "", "", 0, -E2BIG, "deep" },
	{ "a deep list as JSON",
	  "{% set ns = namespace(s=[1]) %}"
	  "{% for i in range(5000) %}{% set ns.s = [ns.s] %}{% endfor %}"
	  "{{ ns.s|tojson }}",
	  "", "", "", "", 0, -E2BIG, "deep" },
	{ "a macro that calls itself", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "", "", "", "", 0,
	  -E2BIG, "nested" },
	{ "a macro that calls itself twice",
	  "{% macro m(k) %}{% if k %}{{ m(k - 1) }}{{ m(k - 1) }}{% endif %}{% endmacro %}{{ m(60) }}", "",
	  "", "", "", 0, -E2BIG, "more than" },
	{ "much output", "{% for i in range(100000) %}{{ '0123456789abcdef' * 64 }}{% endfor %}", "", "", "",
	  "", 0, -E2BIG, "bytes" },
	{ "replacing by much", "{{ ('a' * 10000).replace('a', 'b' * 10000) }}", "", "", "", "", 0, -E2BIG,
	  "bytes" },
	{ "joining much", "{{ range(100000)|join('x' * 10000) }}", "", "", "", "", 0, -E2BIG, "bytes" },
	{ "indenting much", "{{ ('\\n' * 100000)|indent(1000, blank=true) }}", "", "", "", "", 0, -E2BIG,
	  "bytes" },
	{ "many names", "", "{% set a = 1 %}",
	  "{% for i in range(100000) %}"
	  "{% for j in range(100000) %}{% set ns = i in range(100000) %}{% endfor %}{% endfor %}",
	  "", "", 2, -E2BIG, "more than" },
	{ "a huge power", "{{ 2 ** 100000000 }}", "", "", "", "", 0, -EOPNOTSUPP, "power" },
	{ "an integer too large", "{{ 9223372036854775807 + 1 }}", "", "", "", "", 0, -EOPNOTSUPP, "64 bits" },
	{ "a number too long", "{{ 123456789012345678901 }}", "", "", "", "", 0, -EOPNOTSUPP, "64 bits" },
	{ "the least integer divided", "{{ (-9223372036854775807 - 1) // -1 }}", "", "", "", "", 0,
	  -EOPNOTSUPP, "64 bits" },
	{ "not UTF-8", "\xff", "", "", "", "", 0, -EILSEQ, "UTF-8" },
	{ "half a surrogate", "{{ '\\ud800' }}", "", "", "", "", 0, -EOPNOTSUPP, "half a character" },
	{ "include", "{% include 'x' %}", "", "", "", "", 0, -EOPNOTSUPP, "'include'" },
	{ "import", "a\n{% import 'x' as y %}", "", "", "", "", 0, -EOPNOTSUPP, "line 2: the tag 'import'" },
	{ "extends", "{% extends 'x' %}", "", "", "", "", 0, -EOPNOTSUPP, "'extends'" },
	{ "call", "{% call x() %}{% endcall %}", "", "", "", "", 0, -EOPNOTSUPP, "'call'" },
	{ "a filter", "{% if false %}{{ x|pprint }}{% endif %}", "", "", "", "", 0, -EOPNOTSUPP, "'pprint'" },
	{ "a test", "{% if false %}{{ x is escaped }}{% endif %}", "", "", "", "", 0, -EOPNOTSUPP, "'escaped'" },
	{ "a method", "{{ 'x'.zfill(3) }}", "", "", "", "", 0, -EOPNOTSUPP, "'zfill'" },
	{ "identity", "{{ 1 is sameas 1 }}", "", "", "", "", 0, -EOPNOTSUPP, "'sameas'" },
	{ "formatting", "{{ '%s' % 1 }}", "", "", "", "", 0, -EOPNOTSUPP, "formatting" },
	{ "star arguments", "{{ range(*x) }}", "", "", "", "", 0, -EOPNOTSUPP, "'*'" },
	{ "recursive", "{% for x in [] recursive %}{% endfor %}", "", "", "", "", 0, -EOPNOTSUPP, "recursive" },
	{ "varargs", "{% macro m() %}{{ varargs }}{% endmacro %}", "", "", "", "", 0, -EOPNOTSUPP, "varargs" },
	{ "a function", "{{ lipsum() }}", "", "", "", "", 0, -EOPNOTSUPP, "'lipsum'" },
	{ "a conversion", "{{ strftime_now('%c') }}", "", "", "", "", 0, -EOPNOTSUPP, "%c" },
	{ "raise_exception", "\n\n{{ raise_exception('no ' ~ 'tools') }}", "", "", "", "", 0, -EINVAL,
	  "line 3: the template says: no tools" },
};

static bool check_hostile(unsigned number, const struct hostile *h)
{
	bmi_auto_str text = { 0 }, out = { 0 };
	struct bmi_error err = { 0 };
	bool ok;
	int r;

	bmi_str_puts(&text, h->before);
	for (unsigned i = 0; i < h->n; i++)
		bmi_str_puts(&text, h->unit);
	bmi_str_puts(&text, h->mid);
	for (unsigned i = 0; i < h->n; i++)
		bmi_str_puts(&text, h->tail);
	bmi_str_puts(&text, h->after);
	r = render(text.bytes, text.n, NULL, &out, &err);
	ok = r == h->want && strstr(err.msg, h->says) && out.n == 0;
	printf("%sok %u - refused: %s\n", ok ? "" : "not ", number, h->name);
	if (!ok)
		printf("# want %d '%s'\n# got %d '%s', %zu bytes\n", h->want, h->says, r, err.msg, out.n);
	return ok;
}

int main(int argc, char **argv)
{
	size_t n_text;
	char *text = read_whole(argc > 1 ? argv[1] : ".", "snippets.jsonl", &n_text), *line = text;
	struct bmi_json_doc *head = NULL, *vars = NULL;
	const size_t n_hostile = sizeof(hostiles) / sizeof(hostiles[0]);
	unsigned number = 0;
	bool ok = true;

	printf("1..%zu\n", count_lines(text) - 1 + n_hostile);
	for (char *end; (end = strchr(line, '\n')); line = end + 1) {
		bmi_auto_str out = { 0 };
		struct bmi_error err = { 0 };
		struct bmi_json_doc *row = NULL;
		const struct bmi_json *v, *t;

		if (bmi_json_parse(line, (size_t)(end - line), &row, &err) < 0) {
			printf("Bail out! %s\n", err.msg);
			return 2;
		}
		if (!head) { /* the variables of all rows */
			head = row;
			v = bmi_json_get(bmi_json_root(row), "vars");
			if (bmi_json_parse(v->str, v->n, &vars, &err) < 0)
				return 2;
			continue;
		}
		t = bmi_json_get(bmi_json_root(row), "text");
		const int r = render(t->n ? t->str : "", t->n, bmi_json_root(vars), &out, &err);

		ok = tell(++number, bmi_json_root(row), r, &out, err.msg) && ok;
		bmi_json_free(row);
	}
	for (size_t i = 0; i < n_hostile; i++)
		ok = check_hostile(++number, &hostiles[i]) && ok;
	bmi_json_free(vars);
	bmi_json_free(head);
	free(text);
	return ok ? 0 : 1;
}

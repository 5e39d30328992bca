/** Templates that would take the process with them: each ends soon, with the bound that it passes. */
import assert from "node:assert/strict";
import { BoundError, Template, TemplateError, UnsupportedError } from "../../../src/preference/jinja/mod.ts";

const now = new Date(0);
const render = (source: string, variables = {}) => new Template(source).render(variables, { now });

/** What a template is stopped for, in less than `most` ms. */
function stopped(source: string, bound: RegExp, most = 3_000): void {
  const start = performance.now();
  assert.throws(() => render(source), (error: Error) => {
    assert.ok(error instanceof TemplateError, String(error.stack));
    assert.match(error.message, bound);
    return true;
  });
  const took = performance.now() - start;
  assert.ok(took < most, `${took} ms`);
}

const STEPS = /takes more than \d+ (?:steps|ms)/;
const BYTES = /makes texts and lists of more than \d+ bytes/;
const DEPTH = /levels deep/;
const nested = (count: number, body: string) =>
  "{% for a in range(2000) %}".repeat(count) + body + "{% endfor %}".repeat(count);
const doubled = (field: string, first: string, operator: string, times = 60) =>
  `{% set n = namespace(${field}=${first}) %}{% for a in range(${times}) %}{% set n.${field} = n.${field} ${operator} n.${field} %}{% endfor %}`;
/** A list with itself twice in it, 40 times: it has 41 lists, and 2^40 ways to the innermost. */
const LISTS = "{% set n = namespace(x=[1]) %}{% for i in range(40) %}{% set n.x = [n.x, n.x] %}{% endfor %}";

for (
  const [what, source, bound] of [
    ["loops without end", nested(5, "{{ 1 }}"), STEPS],
    ["loops without end or a body", nested(3, ""), STEPS],
    [
      "loops over generators",
      "{% for a in range(100000)|map('string') %}{% for b in range(100000)|select('odd') %}{% endfor %}{% endfor %}",
      STEPS,
    ],
    ["filters without end", "{% for a in range(9999) %}{% set x = range(99999)|sum %}{% endfor %}", STEPS],
    [
      "sorts without end",
      "{% for a in range(9999) %}{% set x = range(99999)|sort(reverse=true) %}{% endfor %}",
      /more than/,
    ],
    ["doubles a text", doubled("x", "'ab'", "~"), BYTES],
    ["adds a text to itself", doubled("x", "'ab'", "+"), BYTES],
    ["doubles a list", doubled("x", "[1]", "+"), BYTES],
    ["doubles a tuple", doubled("x", "(1,)", "+"), BYTES],
    [
      "doubles a text 20 times, a list 15 times, and prints it",
      "{% set n = namespace(s='a' * 2, l=[]) %}{% for i in range(20) %}{% set n.s = n.s ~ n.s %}{% endfor %}{% set n.l = [n.s] %}" +
      "{% for i in range(15) %}{% set n.l = n.l + n.l %}{% endfor %}{{ n.l }}",
      BYTES,
    ],
    ["repeats a text", "{{ 'a' * 10**9 }}", BYTES],
    ["repeats a list", "{{ [1] * 10**9 }}", BYTES],
    [
      "repeats an empty text",
      "{% for a in range(99999) %}{% for b in range(99999) %}{{ '' * 10**9 }}{% endfor %}{% endfor %}",
      STEPS,
    ],
    ["pads by %", "{{ '%1000000000d' % 1 }}", BYTES],
    ["pads by % with zeros", "{{ '%01000000000d' % 1 }}{{ '%.999999999d' % 1 }}", BYTES],
    ["pads by a star", "{{ '%*d' % (10**9, 1) }}", BYTES],
    ["pads by format", "{{ '{:>999999999}'.format(1) }}", BYTES],
    ["pads by format with zeros", "{{ '{:0999999999}'.format(1) }}", BYTES],
    ["groups digits that pad", "{{ '{:0999999999,}'.format(1) }}", BYTES],
    ["pads by ljust", "{{ 'a'.ljust(10**9) }}", BYTES],
    ["pads by zfill", "{{ 'a'.zfill(10**9) }}", BYTES],
    ["centres", "{{ 'a'|center(10**9) }}", BYTES],
    ["indents by much", "{{ 'a\nb'|indent(10**9) }}", BYTES],
    ["indents JSON by much", "{{ [1]|tojson(indent=10**9) }}", BYTES],
    ["expands tabs", "{{ '\t'.expandtabs(10**9) }}", BYTES],
    ["writes a date with a width", "{{ strftime_now('%999999999d') }}", BYTES],
    ["replaces nothing by much", "{% set x = 'a' * 10**6 %}{{ x.replace('', x) }}", BYTES],
    ["replaces each by much", "{% set x = 'a' * 10**6 %}{{ x|replace('a', x) }}", BYTES],
    ["joins by much", "{{ range(99999)|join('a' * 10**6) }}", BYTES],
    ["joins texts by much", "{{ ('a' * 10**6).join('b' * 10**6) }}", BYTES],
    ["fills a batch", "{{ [1]|batch(10**9, 'x')|list }}", BYTES],
    ["makes many slices", "{{ [1]|slice(10**9)|list }}", /more than/],
    ["wraps by much", "{{ ('a ' * 10**5)|wordwrap(1, wrapstring='b' * 10**6) }}", BYTES],
    ["escapes", "{% for a in range(9999) %}{% set x = ('<' * 10**6)|e %}{% endfor %}", /more than/],
    [
      "compares lists of lists of lists",
      "{% set n = namespace(a=[1], b=[1]) %}{% for i in range(40) %}{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}" +
      "{% endfor %}{{ n.a == n.b }}",
      STEPS,
    ],
    [
      "prints lists of lists of lists",
      LISTS + "{{ n.x }}",
      /more than/,
    ],
    [
      "writes them as JSON",
      LISTS + "{{ n.x|tojson }}",
      /more than/,
    ],
    [
      "nests a list",
      "{% set n = namespace(x=[]) %}{% for a in range(9999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}",
      DEPTH,
    ],
    ["calls itself", "{%- macro m() %}{{ m() }}{% endmacro %}{{ m() }}", DEPTH],
    [
      "calls itself twice",
      "{%- macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(90) }}",
      STEPS,
    ],
    ["recurs", "{% set x = [1] %}{% for a in x recursive %}{{ loop(x) }}{% endfor %}", DEPTH],
    [
      "writes without end",
      "{% set x = 'a' * 10**6 %}{% for a in range(99) %}{{ x }}{% endfor %}",
      /writes more than/,
    ],
    [
      "searches without end",
      "{% set x = 'a' * 10**7 %}{% for a in range(99999) %}{{ 'b' in x }}{% endfor %}",
      STEPS,
    ],
    ["counts to a billion", "{{ range(1000000000) }}", /Range too big/],
    ["counts in steps of nothing", "{{ range(1, 2, 0) }}", /must not be zero/],
    ["makes a huge number", "{{ 9 ** 9 ** 9 }}", /an integer past 2\^53 is not supported/],
    ["writes many digits", "{{ '%.999999999f' % 1.5 }}", /a precision past/],
    ["nests brackets", "{{ " + "[".repeat(10_000) + "]".repeat(10_000) + " }}", DEPTH],
    ["nests blocks", "{% if 1 %}".repeat(5_000), DEPTH],
    ["negates", "{{ " + "not ".repeat(10_000) + "1 }}", DEPTH],
    ["signs", "{{ " + "-".repeat(10_000) + "1 }}", DEPTH],
    ["adds and adds", "{{ " + "1+".repeat(20_000) + "1 }}", /more than 400 links in a row/],
    ["asks and asks", "{{ x" + ".x".repeat(20_000) + " }}", /more than 400 links in a row/],
    ["filters and filters", "{{ x" + "|e".repeat(20_000) + " }}", /more than 400 links in a row/],
  ] as const
) {
  Deno.test(`render() stops a template that ${what}`, () => stopped(source, bound));
}

Deno.test("render() gives every rendering the whole budget", () => {
  const template = new Template("{% for a in range(90000) %}{% set x = a * 2 %}{% endfor %}done");
  for (let round = 0; round < 9; round++) assert.equal(template.render({}, { now }), "done");
});

Deno.test("Template parses sources of the most characters, whatever they repeat", () => {
  const repeated = (part: string) => part.repeat(Math.floor(65_536 / part.length));
  for (
    const source of [
      repeated("{% if a %}{% set b = 1 %}{% endif %}"),
      repeated("{{ a }} "),
      repeated("{# a #}"),
      repeated("{% raw %}{% endraw %}"),
      repeated("{% set a = b %}"),
      Array.from({ length: 2_000 }, (_, i) => `{% if a${i} %}{% set b${i} = 1 %}{% endif %}`).join(""),
      Array.from({ length: 3_000 }, (_, i) => `{% set v${i} = ${i} %}`).join(""),
      "{{ f(" + Array.from({ length: 8_000 }, (_, i) => `a${i}=1`).join(",") + ") }}",
      "{% macro m(" + Array.from({ length: 8_000 }, (_, i) => `a${i}`).join(",") + ") %}{% endmacro %}",
      "{% for a in b %}".repeat(70) + "{{ loop }}".repeat(4_000) + "{% endfor %}".repeat(70),
      "{{ '" + repeated("\\x41"),
      "{% " + repeated(" "),
      repeated("{%  "),
      "{% raw %}" + repeated("{%  "),
      repeated("{{ '"),
      "a" + repeated(" \n"),
    ]
  ) {
    try {
      new Template(source);
    } catch (error) {
      assert.ok(error instanceof TemplateError, String(error));
    }
  }
});

Deno.test("a template is refused by the name of what is not supported", () => {
  for (
    const [source, name] of [
      ["{% include 'a' %}", "{% include %}"],
      ["{% block a %}{% endblock %}", "{% block %}"],
      ["{{ 'a'.encode() }}", "str.encode"],
      ["{{ [1]|random }}", "the filter random"],
      ["{{ 2 ** 60 }}", "an integer past 2^53"],
      ["{{ [1]|map('string') }}", "printing a generator"],
      ["{{ lipsum() }}", "lipsum()"],
      ["{{ '<%s>'|e|format('<') }}", "the filter format on escaped text"],
      ["{{ {}.items() < {}.items() }}", "comparing what a dict's keys() or items() give"],
      ["{{ [1] - {}.keys() }}", "a difference of what a dict's keys() or items() give"],
    ] as const
  ) {
    assert.throws(() => render(source), (error: Error) => {
      assert.ok(error instanceof UnsupportedError);
      assert.equal(error.message, `${name} is not supported`);
      return true;
    });
  }
  assert.throws(() => render("{{ n }}", { n: 2 ** 60 }), { message: /past 2\^53/ });
});

Deno.test("a bound is an error of its own", () => {
  assert.throws(() => render("{{ 'a' * 10**9 }}"), BoundError);
});

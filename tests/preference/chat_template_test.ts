import assert from "node:assert/strict";
import { ChatTemplate } from "../../src/preference/chat_template.ts";

const render = (source: string, variables = {}) => new ChatTemplate(source).render(variables);

Deno.test("render() gives a template its variables and Python's constants and range", () => {
  assert.equal(
    render(
      "{% if True and not None %}{{ range(3) | join }} {{ range(5, 0, -2) | join }} {{ a }}{% endif %}",
      { a: 1 },
    ),
    "012 531 1",
  );
  assert.equal(render("{{ true and True and not (false or False or none or None) }}"), "true");
  assert.equal(
    render("{% for x in l %}\n  {% if x %}\n{{ x }}\n  {% endif %}\n{% endfor %}\n", { l: ["a", 0] }),
    "a\n",
  );
});

Deno.test("render() passes on what the template raises", () => {
  assert.throws(() => render("{{ raise_exception('roles') }}"), { message: "roles" });
});

const nested = (count: number) =>
  "{% for a in range(2000) %}".repeat(count) + "{{ 1 }}" + "{% endfor %}".repeat(count);
for (
  const [what, source, message] of [
    ["loops without end", nested(5), /takes more than/],
    ["loops without end or a body", nested(3).replace("{{ 1 }}", ""), /takes more than/],
    [
      "doubles a text",
      "{% set n = namespace(x='ab') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
      /text/,
    ],
    [
      "doubles a list",
      "{% set n = namespace(x=[1]) %}{% for a in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
      /list/,
    ],
    ["counts to a billion", "{{ range(1000000000) }}", /range/],
    ["counts in steps of nothing", "{{ range(1, 2, 0) }}", /range/],
    ["calls itself", "{%- macro m() %}{{ m() }}{% endmacro %}{{ m() }}", /./],
  ] as const
) {
  Deno.test(`render() stops a template that ${what}`, () => {
    assert.throws(() => render(source), { message });
  });
}

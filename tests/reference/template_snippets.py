"""Small templates, each for one thing that Jinja2 and Python do: make_templates.py keeps what they print."""

VARIABLES = {
    "n": None,
    "t": True,
    "i": 7,
    "f": 2.5,
    "s": "  Hello, World \t\n",
    "u": "a\u00e9\u4e2d\U0001f600e\u0301b",
    "l": [3, 1, 2],
    "e": [],
    "d": {"b": 1, "a": {"c": [1, None, "x'y"]}, "items": "own", "update": 5},
    "m": [
        {"role": "system", "content": "be brief", "n": 1},
        {"role": "user", "content": "hi", "n": 3},
        {"role": "assistant", "content": "", "n": 2},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": {"type": "int", "default": 1.5}}}}],
}

# expressions, printed
EXPRESSIONS = r"""
n | t | i | f | s | l | d
none | true | True | False | None
1 | 1.0 | 1e3 | 1e16 | 1e15 | 123456789012345680.0 | 1e-4 | 1e-5 | 0.1 + 0.2 | 1/3 | -0.0 | 2.50 | 1_000 | 0x1f | 0b101 | 0o17 | 5e-324 | 1.7976931348623157e308
[1, 2.0, 'a', "b'c", 'd"e', none, true] | (1,) | () | (1, 2) | {} | {'a': 1, 2: 'b', none: [], true: {}} | {1: 'a', 1.0: 'b', true: 'c'} | ['\n\t\\', '\x00', '\u200b', 'é', '\U0001f600', '\xad']
'a' 'b' | "\x41\u0042\n" | '\q' | 'a\
b' | '\101' | "tab\there"
7 // 2 | -7 // 2 | 7 % 3 | -7 % 3 | 7 % -3 | 7.5 // 2 | -7.5 % 2 | 7 / 2 | 6 / 2 | 2 ** 10 | 2 ** -1 | 2 ** 0.5 | -2 ** 2 | (-2) ** 2 | 2 ** 3 ** 2 | 1 // 0 | 1 / 0 | 1 % 0 | 0 ** 0 | true + true | true * 3 | 10 - 2.5 | 3 * 1.5
'ab' * 3 | 3 * 'ab' | 'ab' * -1 | [1] * 2 | (1,) * 2 | 'a' + 'b' | [1] + [2] | (1,) + (2,) | 'a' + 1 | 1 + 'a' | [1] + (2,) | 'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1] | 1 ~ 2
1 == 1.0 | 1 == true | '1' == 1 | '' == false | none == false | [1] == [1.0] | {'a': 1} == {'a': 1.0} | [] == () | 'a' != 'b' | undefined == undefined | undefined == none | 0 == false | [1, [2]] == [1, [2]]
1 < 2 | 1 < 2 < 3 | 3 > 2 > 2 | 'a' < 'b' | [1, 2] < [1, 3] | (1,) < (1, 2) | 1 < 'a' | 'Z' < 'a' | '\ue000' < '\U0001f600' | 1 <= 1.0 | none < 1
1 in [1, 2] | '1' in 'a1' | 1 in 'a1' | 'a' in d | 'x' not in l | 3 in (1, 2) | 1 in none | 1 in undefined | none in [none] | 'a' in {'a': 1}.values() | 1 in {'a': 1}.values() | 2 in range(3) | '' in 'abc'
not 1 | not '' | 1 and 2 | 0 and 2 | 0 or 'x' | '' or none | 1 if true | 1 if false | 1 if false else 2 | 1 if 0 else 2 if 0 else 3 | not not 5 | 1 and 0 or 3 | not 1 == 2
l[0] | l[-1] | l[5] | l['0'] | l.0 | d['b'] | d.b | d.a.c[2] | d.items | d['items'] | d.items() | d.update | d['update'] | d.x | d.x.y | d['x']['y'] | s.foo | n.foo | d.keys() | d.values() | d.get('b') | d.get('z') | d.get('z', 4) | d.get(1, 2, 3) | d.get(default=2)
u[0] | u[1] | u[3] | u[-1] | u[-3] | u[10] | u[1:4] | u[::-1] | u[::2] | u[-2:] | u[:-1] | u|length | u|reverse | u|list | u|first | u|last | u|upper | u.find('b') | u.index('e') | u|center(12) ~ '|'
l[1:] | l[:-1] | l[::-1] | l[::2] | l[5:] | l[-2:] | l[2:0:-1] | l[::0] | (1, 2, 3)[1:] | 'abcdef'[4:1:-1] | 'abcdef'[-3:-1] | 'abc'[none:2] | range(10)[2:8:3] | range(5)[::-1] | [1, 2][true] | 'abc'['a'] | l[1.0]
range(3) | range(3)|list | range(1, 7, 2)|list | range(5, 0, -2)|list | range(0) | range(1, 2, 0) | range(3)[1] | range(100001) | range(1000)|length | range('a') | range(2, 5)|last | range(3)|reverse|list
s.strip() | s.lstrip() | s.rstrip() ~ '|' | 'xxaxx'.strip('x') | '\n\n  a \n'.strip('\n') | '<think>a</think>'.strip('<>think') | 'abc'.lstrip('ab') | 'abc'.rstrip('bc') | '\ufeffa\x1c'.strip() | '\x85 a\u3000'.strip() | 'a'.strip(none) | 'a'.strip(1) | '😀a😀'.strip('😀')
'a,b,,c'.split(',') | 'a b  c'.split() | ' a b '.split() | 'a,b,c'.split(',', 1) | 'a,b,c'.rsplit(',', 1) | '  a  b  c '.split(none, 1) | '  a  b  c '.rsplit(none, 1) | 'abc'.split('') | ''.split() | ''.split(',') | 'a</think>b'.split('</think>')[-1] | 'aXbXc'.split('X')[1] | 'a\nb\r\nc\x85d\u2028e'.splitlines() | 'a\n\nb\n'.splitlines(true) | 'a b'.split(sep=' ', maxsplit=1) | 'aXXb'.partition('XX') | 'a.b.c'.rpartition('.') | 'abc'.partition('z')
'a' in 'abc'.split('b') | 'Hello'.upper() | 'Straße'.upper() | 'ΑΣ'.lower() | 'hello world'.title() | "they're bill's".title() | 'hello WORLD'.capitalize() | 'ǆ'.capitalize() | 'ß'.capitalize() | 'Hello'.swapcase() | 'ß'.casefold() | 'İ'.lower()
'hello'.replace('l', 'L') | 'hello'.replace('l', 'L', 1) | 'abc'.replace('', '-') | 'abc'.replace('', '-', 2) | 'aaa'.replace('aa', 'b') | 'hello'.find('l') | 'hello'.rfind('l') | 'hello'.find('z') | 'hello'.index('z') | 'hello'.count('l') | 'hello'.count('') | 'hello'.find('l', 3) | 'hello'.find('l', -2) | 'hello'.startswith('he') | 'hello'.startswith(('x', 'h')) | 'hello'.startswith('l', 2) | 'hello'.endswith('lo') | 'hello'.endswith('') | 'hello'.removeprefix('he') | 'hello'.removesuffix('lo') | 'hello'.removesuffix('')
'a'.center(5, '*') | 'ab'.center(5) ~ '|' | 'abc'.center(6, '-') | 'a'.ljust(3) ~ '|' | 'a'.rjust(3, '0') | '-42'.zfill(6) | 'a'.zfill(3) | 'a\tb'.expandtabs() | 'a\tb'.expandtabs(4) | 'a'.ljust(3, 'xy')
'abc'.isalpha() | 'ab1'.isalnum() | '12'.isdigit() | '½'.isnumeric() | '²'.isdigit() | '²'.isdecimal() | ' \t'.isspace() | 'Abc'.istitle() | 'ABC'.isupper() | 'abc'.islower() | 'a1'.islower() | ''.isalpha() | 'é'.isascii() | 'a_1'.isidentifier() | '1a'.isidentifier() | 'a\n'.isprintable()
', '.join(['a', 'b']) | ', '.join('abc') | ', '.join([1]) | ''.join(d) | '-'.join(('x',)) | ','.join(m|map(attribute='role'))
'%s' % 'a' | '%d' % 3.7 | '%5.2f|' % 3.14159 | '%-5d|' % 42 | '%05d' % 42 | '%+d' % 5 | '% d' % 5 | '%x %X %o' % (255, 255, 8) | '%#x %#o' % (255, 8) | '%e' % 12345.678 | '%g %g %g' % (0.0001, 1e10, 100000.0) | '%s %s' % (1, 'a') | '%(a)s %(b)d' % {'a': 'x', 'b': 2} | '%s' % [1, 2] | '%r' % 'a' | '%%' % () | '%s' % none | '%d' % 'a' | '%s' | '%s %s' % 1 | '%s' % (1, 2) | '%c%c' % ('a', 98) | '%.3s|' % 'abcdef' | '%*d' % (5, 42) | '%5s|%-5s|' % ('a', 'b') | '%i' % true | 'abc' % [] | '%s' % undefined | '%.0f' % 0.5 | '%.0f' % 1.5 | '%.2f' % 2.675 | '%.1f' % 0.25 | '%f' % 1e20 | '%a' % 'é' | '%z' % 1 | '%' % 1
'{}'.format(1) | '{} {}'.format(1, 'a') | '{1} {0}'.format(1, 2) | '{a}'.format(a=1) | '{0.real}'.format(5) | '{a[b]}'.format(a={'b': 2}) | '{[0]}'.format([9]) | '{:>5}|{:<5}|{:^5}|'.format('a', 'b', 'c') | '{:05d} {:+d} {:x} {:#x} {:b} {:,}'.format(42, 5, 255, 255, 5, 1234567) | '{:.2f} {:.3e} {:g} {:%} {:.1%}'.format(3.14159, 12345.6789, 0.0001, 0.25, 0.5) | '{!r} {!s}'.format('a', 'b') | '{{}}'.format() | '{} {0}'.format(1) | '{}'.format() | '{:*^9}'.format('mid') | '{:{}}'.format('a', 5) ~ '|' | '{:.3}'.format('abcdef') | '{:d}'.format('a') | '{:s}'.format(1) | '{:10.3f}|'.format(2.5) | '{:<8}|'.format(1.5) | '{:=+6d}'.format(42) | '{:_}'.format(1234567) | '{:,.2f}'.format(1234567.891) | '{:c}'.format(97) | '{:e}'.format(0) | '{:.0f}'.format(2.5) | '{:G}'.format(1e-10) | '{:n}'.format(5) | '{'.format() | '}'.format() | '{:08.2f}'.format(-3.14159) | '{:010,}'.format(1234) | '{}'.format(none) | '{:5}'.format(true) | '{:5}'.format(none) | '{a.b}'.format(a={'b': 1}) | '{x}'.format_map({'x': 1}) | '{:z}'.format(1) | '{:1.1}'.format(10.0) | '{:.3}'.format(3.0)
s|trim | ' a '|trim ~ '|' | 'xax'|trim('x') | 5|trim | none|trim | 'a b'|upper | 'A'|lower | 'hello world-foo (bar'|title | 'hELLO'|capitalize | 'a'|center(5) ~ '|' | 'a a a'|replace('a', 'b', 2) | 121|replace(1, 'x') | 'a b c'|wordcount | 'é_1 中 x-y'|wordcount | 'abc'|reverse | 'abc'|list | 5|string ~ 'x' | none|string | [1]|string
'a\nb\n\nc'|indent | 'a\nb'|indent(2, true) | 'a\n\nb'|indent(2, blank=true) | 'a\nb'|indent('> ') | 'a\nb\n'|indent ~ '|' | 1|indent
'foo bar baz qux'|truncate(9) | 'foo bar baz qux'|truncate(9, true) | 'foo bar baz qux'|truncate(11) | 'foo bar baz qux'|truncate(11, false, '...', 0) | 'abc'|truncate(2) | u|truncate(3, true, '', 0)
'a long line of words that must be broken somewhere'|wordwrap(12) | 'averyveryverylongword and-hyphen-ated'|wordwrap(8) | 'averylongword'|wordwrap(5, false) | 'a b\n\nc d'|wordwrap(2) | 'one two-three'|wordwrap(9, break_on_hyphens=false) | 'one--two three'|wordwrap(6)
'42'|int | '42.7'|int | 'x'|int | 'x'|int(-1) | 42.9|int | -42.9|int | '0x1f'|int(0, 16) | '1f'|int(base=16) | ' 12 '|int | '1_000'|int | none|int | true|int | '٣'|int | '1e3'|int | 'inf'|int | undefined|int | '101'|int(base=2) | [1]|int(5)
'4.5'|float | 'x'|float | 3|float | 'nan'|float | '1e400'|float | none|float(1.5) | '.5'|float | '1_0.5'|float | '-inf'|float
42.55|round | 42.55|round(1) | 42.55|round(1, 'floor') | 42.51|round(1, 'ceil') | 2.5|round | 3.5|round | 2.675|round(2) | 42|round | 1234|round(-2) | 1250|round(-2) | 1234.5|round(-2) | 'a'|round | 42.5|round(0, 'x') | 7|round(1, 'floor') | 0.5|round|int
-3|abs | -3.5|abs | true|abs | 'a'|abs | 1000|filesizeformat | 1|filesizeformat | 1500000|filesizeformat | 1024|filesizeformat(true)
l|sort | l|sort(reverse=true) | ['b', 'A', 'c']|sort | ['b', 'A', 'c']|sort(case_sensitive=true) | m|sort(attribute='n')|map(attribute='role')|list | [1, 'a']|sort | m|sort(attribute='role,n')|map(attribute='n')|list | 'cab'|sort | [[2], [1]]|sort | none|sort | [(1, 'b'), (1, 'a')]|sort(attribute='0')
l|min | l|max | e|min | ['b', 'A']|min | ['b', 'A']|max | m|max(attribute='n') | l|sum | [1.5, 2]|sum | m|sum(attribute='n') | ['a']|sum | [[1], [2]]|sum(start=[]) | l|sum(start=10) | 'abc'|max
l|first | e|first | e|first is undefined | l|last | l|length | d|length | 5|length | none|length | undefined|length | l|count | 'abc'|first | d|first | d.items()|first | l|map('string')|last | l|map('string')|first | l|map('string')|length
['a', 'B']|map('upper')|list | ['a', 'b']|map('upper')|join(',') | m|map(attribute='role')|join('-') | m|map(attribute='zz', default='?')|join | m|map(attribute='zz')|list | [1, 2]|map('nope')|list | ['1', '2']|map('int')|sum | ['ab', 'cd']|map('first')|join | ['a b', 'c']|map('replace', ' ', '_')|list | m|map('length')|list | [1]|map|list
l|select('odd')|list | l|reject('odd')|list | l|select|list | [0, 1, none, '']|select|list | [0, 1]|reject|list | l|select('gt', 1)|list | l|select('divisibleby', 3)|list | l|select('in', [1, 2])|list | m|selectattr('role', 'equalto', 'user')|list | m|selectattr('role', '==', 'user')|first | m|rejectattr('role', 'eq', 'user')|map(attribute='role')|list | m|selectattr('content')|list|length | m|selectattr('zz', 'defined')|list | l|select('nope')|list | m|selectattr|list | true if m|selectattr('role', 'eq', 'zz') else false | m|selectattr('n', '>=', 2)|map(attribute='n')|list | m|selectattr('role', 'in', ['user'])|list|length
[1, 1, 2, 'a', 'A']|unique|list | ['a', 'A']|unique(true)|list | m|unique(attribute='role')|list|length | [[1]]|unique|list | [1, true, 1.0]|unique|list
range(7)|batch(3)|list | range(7)|batch(3, 'x')|list | range(7)|slice(3)|list | range(7)|slice(3, 'x')|list | e|batch(2)|list | e|slice(2)|list | range(3)|slice(5)|list
m|groupby('role') | m|groupby('n')|map(attribute='grouper')|list | (m|groupby('role'))[0].list|length | ['a', 'A', 'b']|groupby(0)|list | m|groupby('zz', default=0)|length
d|dictsort | {'b': 1, 'A': 2}|dictsort | {'b': 1, 'A': 2}|dictsort(true) | {'b': 1, 'a': 2}|dictsort(false, 'value') | {'b': 1, 'a': 2}|dictsort(reverse=true) | {'a': 1}|dictsort(by='x') | {'a': 1}|items|list | none|items|list | undefined|items|list | d|items|first
d|tojson | u|tojson | u|tojson(ensure_ascii=true) | tools|tojson | tools|tojson(indent=2) | tools|tojson(indent=4) | [1, [2, {}], []]|tojson(indent=1) | d|tojson(separators=(',', ':')) | d|tojson(sort_keys=true) | {1: 2, none: 3, true: 4, 1.5: 5}|tojson | 'a"\\\n\t\x01\x7f/<>&\''|tojson | 2.0|tojson | 1e20|tojson | none|tojson | true|tojson | undefined|tojson | [undefined]|tojson | (1, 2)|tojson | range(3)|tojson | d.items()|tojson | {(1, 2): 3}|tojson | ('inf'|float)|tojson | {}|tojson(indent=2) | {'b': 1, 'a': 2}|tojson(indent=2, sort_keys=true) | tools|tojson(indent='\t') | 'é'|tojson(true) | [1]|tojson(indent=0)
undefined | undefined.x | undefined['x'] | undefined() | undefined + 1 | undefined|default('d') | none|default('d') | none|default('d', true) | ''|default('d', boolean=true) | undefined|d | undefined|list | undefined|join | undefined|upper | undefined|string | [undefined] | undefined ~ 'a' | undefined|length | undefined|first | not undefined | undefined or 'x' | undefined is defined | d.zz is defined | d.zz is undefined | undefined == '' | -undefined | undefined[1:] | undefined % 2
1 is odd | 2 is even | 6 is divisibleby 3 | 6 is divisibleby(4) | n is none | n is not none | t is true | f is float | i is integer | t is integer | t is number | t is boolean | s is string | d is mapping | l is mapping | l is sequence | d is sequence | s is sequence | i is sequence | l is iterable | i is iterable | undefined is iterable | range is callable | i is callable | 'A' is upper | 'a' is lower | 1 is sameas 1 | t is sameas true | 1 is eq 1 | 1 is ne 2 | 2 is gt 1 | 1 is lessthan 2 | 1 is in [1] | 'a' is in 'abc' | 'upper' is filter | 'nope' is filter | 'odd' is test | l is escaped | 'a' is odd | 1 is nope | d.items() is sequence | d.keys() is iterable | (1,) is sequence | 1 is ge 1 | 1 is le 0 | 1 is not odd | f is number | none is number | 3 is eq(3) and true
'<a>'|e | '<a>'|escape ~ '<b>' | ('<a>'|e) + '<b>' | '<a>'|e|length | '<a>'|e|string | '<a>'|safe | '<a>'|e|e | '<a>'|e|forceescape | ['<']|map('e')|list | '<p>a <b>b</b>  &amp; c</p>'|striptags | 'a b/c?d=é'|urlencode | {'a': 1, 'b c': 'd/e'}|urlencode | {'a': 1, 'b': none, 'c': '<'}|xmlattr | {'a b': 1}|xmlattr | {'a': 1}|xmlattr(false) | '<a>'|safe == '<a>' | 'x' in '<x>'|e
dict(a=1) | dict([('a', 1), ['b', 2]]) | dict({'a': 1}, b=2) | dict() | dict.fromkeys(['a', 'b'], 0) | namespace(a=1) | namespace(a=1).a | namespace({'b': 2}).b | namespace(a=1).zz | namespace(_a=1) | cycler(1, 2).next() | cycler() | joiner() | strftime_now('%Y-%m-%d') | strftime_now('%d %B %Y') | strftime_now('%-d %b %y %j %U %W %V %a %A %H:%M:%S %p %I %e|%c|%x|%X|%D|%F|%T|%G|%u|%w|%%|%f|%C|%h|%n|%t|%R|%r|%k|%l|%s|%z|%Z|%_d|%^a|%#p|%3d|%q')
d.copy() | l.copy() | l.index(2) | l.index(9) | l.count(1) | l.append(4) | l.pop() | d.pop('b') | d.clear() | d.setdefault('a', 1) | l.sort() | d.__class__ | ''.__class__ | d._x | s.__len__() | (1, 2).count(1) | (1, 2).index(2) | l|attr('append') | d|attr('b') | d|attr('keys')() | range(3).start | l.nope() | d.b() | 5() | 'a'() | none()
'a'.join | l.append is defined | d.update is defined | m[0].role | m[0]['role'] | m[-1].content == '' | m[1:]|length | m[::-1]|map(attribute='role')|join(',') | tools[0].function.parameters.x.default | m[0].items()|list | m|map(attribute='content')|select|join('|') | (m|last).role
['<b>'|e|trim, '<b>'|e|upper, '<b>'|e|center(15), '<b>'|e|indent(2, true), '<b>'|e|last, '<b>'|e|reverse, ('<b>'|e)[1:4], ('<b>'|e)[0]] | ('<b>'|e|trim) + '<i>' | '<b> <i>'|e|truncate(9, end='<', leeway=0)
s|wordwrap(3) | 'ab cdefgh'|wordwrap(3) | 'ab-cdefgh'|wordwrap(3) | 'a\nb'.splitlines('x') | 'a\nb'.splitlines(2) | 'ŉǰιẖ'.casefold()|tojson(ensure_ascii=true) | -0.0 // 1 | 0 // -2.5 | l in d.keys() | l in d.values() | l is filter | d is test
[1, 2, 3,] | (1, 2,) | {'a': 1,} | [] == e | {**d} | [*l] | l[0, 1] | 1 if | a b | 1 + | (1 | 'a | {1} | 1 is | x|  | d. | f(a=1, a=2) | range(*[1, 3])|list | dict(**{'a': 1}) | dict(**{'a': 1}, b=2) | 'a'|upper() | 'a'|nope | 'a' | upper | 1 2 | a.1.b | l[ | 1 not in l | not 1 in l | 1 is not none | -1|abs | -2.5|round | (-1)|abs | 'a' + 'b'|upper | 'a' ~ 'b'|upper | 2 * 3|string | l|length > 2 | l|length + 1 | -l[0] | +5 | - - 5 | not true and false | 1 < 2 == true | 'a' if 1 else 'b' ~ 'c' | [x for x in l] | lambda x: x | i++ | 0777 | 1. | .5 | 1..real | 'é' == 'e\u0301' | true.x | 1.5.real | 'a'.upper().lower() | ('a').upper() | ['a'][0] | {'a': 1}['a'] | {'a': 1}.a | 'x'.join(['1', '2']).upper() | [1, 2][0] | (1, 2)[0] | "a" "b" | 1,2 | 1, | (),
"""

# whole templates
TEMPLATES = [
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}",
    "{% for x in l %}{{ loop.previtem }}-{{ x }}-{{ loop.nextitem }},{% endfor %}",
    "{% for x in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}{% endfor %}",
    "{% for x in l %}{{ loop }}{% endfor %}",
    "{% for x in l if x > 1 %}{{ x }}{{ loop.last }}{{ loop.length }}{% endfor %}",
    "{% for x in l if x > 9 %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in e %}{{ x }}{% else %}empty{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}",
    "{% for c in u %}[{{ c }}]{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4], 'xy'] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for a, b in [(1,)] %}{{ a }}{% endfor %}",
    "{% for x in none %}{% endfor %}",
    "{% for x in undefined %}a{% else %}b{% endfor %}",
    "{% for x in 5 %}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% break %}{% else %}else{% endfor %}",
    "{% for x in l %}{% continue %}{% else %}else{% endfor %}",
    "{% break %}",
    "{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for x in l %}{% set y %}a{% break %}{% endset %}{% endfor %}{{ y }}|",
    "{% for x in l recursive %}{{ x }}{% endfor %}",
    "{% for x in [1, [2, [3]]] recursive %}{% if x is sequence %}({{ loop(x) }}){% else %}{{ x }}:{{ loop.depth }}{% endif %}{% endfor %}",
    "{% for x in l %}{{ loop(l) }}{% endfor %}",
    "{% for x in l %}{% for y in l %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for x in l %}{% set outer = loop %}{% for y in l %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for loop in l %}{% endfor %}",
    "{% for x in l %}{% set loop = 1 %}{% endfor %}",
    "{{ loop }}|{{ loop is defined }}",
    "{% for x in l %}{% endfor %}{{ x is defined }}",
    "{% set x = 0 %}{% for y in l %}{% set x = x + y %}{{ x }}{% endfor %}|{{ x }}",
    "{% set ns = namespace(x=0) %}{% for y in l %}{% set ns.x = ns.x + y %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(found=false, items=[]) %}{% for y in l %}{% set ns.items = ns.items + [y] %}{% endfor %}{{ ns.items }}{{ ns.found }}{{ ns }}",
    "{% set ns.x = 1 %}",
    "{% set d.x = 1 %}",
    "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a, b = [1] %}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set (a, b) = (1, 2) %}{{ b }}{{ a }}",
    "{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}",
    "{% set x %}a{{ i }}b{% endset %}[{{ x }}]{{ x|length }}",
    "{% set x | upper %}abc{% endset %}{{ x }}",
    "{% set x | replace('a', 'b') | upper %}abc{% endset %}{{ x }}",
    "{% set x | replace(q, 'b') %}abc{% endset %}{{ x }}",
    "{% if t %}{% set x = 1 %}{% endif %}{{ x }}",
    "{% if not t %}{% set x = 1 %}{% endif %}{{ x }}|{{ x is defined }}",
    "{% if not t %}{% set i = 1 %}{% endif %}{{ i }}",
    "{% set i = i + 1 %}{{ i }}",
    "{% set i = 1 %}{% if t %}{% set i = 2 %}{% else %}{% set i = 3 %}{% endif %}{{ i }}",
    "{% for x in l %}{% if x == 1 %}{% set y = x %}{% endif %}{{ y }}.{% endfor %}{{ y }}",
    "{% for x in l %}{{ y }}{% set y = x %}{% endfor %}",
    "{% set y = 9 %}{% for x in l %}{{ y }}{% set y = x %}{{ y }} {% endfor %}{{ y }}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% with a = 1, b = a %}{{ b }}{% endwith %}|",
    "{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% with %}{% set z = 1 %}{{ z }}{% endwith %}{{ z }}",
    "{% with (a, b) = (1, 2) %}{{ a }}{{ b }}{% endwith %}",
    "{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c='z') }}{{ m(b=1, a=2) }}{{ m() }}",
    "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}",
    "{% macro m(a=b, b=1) %}{{ a }}{{ b }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, a=3) }}",
    "{% macro m(a) %}{{ a }}{{ varargs }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}",
    "{% macro m(a, a) %}{% endmacro %}",
    "{% macro m(a=1, b) %}{% endmacro %}",
    "{% macro m(x) %}{{ caller() }}{{ x }}{% endmacro %}{% call m(1) %}body{% endcall %}",
    "{% macro m(x) %}{{ caller(x, 2) }}{% endmacro %}{% call(a, b=3) m(1) %}{{ a }}{{ b }}{% endcall %}",
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}{% call m() %}{% endcall %}",
    "{% macro m() %}x{% endmacro %}{% call m() %}{% endcall %}",
    "{% macro m(caller) %}{{ caller }}{% endmacro %}",
    "{% macro m(n) %}{{ n }}{% if n > 0 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(3) }}",
    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}b{% endmacro %}{{ a() }}",
    "{{ b() }}{% macro b() %}b{% endmacro %}",
    "{% macro m() %}{{ i }}{% endmacro %}{% set i = 9 %}{{ m() }}",
    "{% macro m() %}{{ q }}{% endmacro %}{{ m() }}{% set q = 9 %}{{ m() }}",
    "{% macro m() %}{% set i = 1 %}{{ i }}{% endmacro %}{{ m() }}{{ i }}",
    "{% macro m(x) %}  {{ x }}  {% endmacro %}[{{ m(1)|trim }}]{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.caller }}",
    "{% macro m() %}{% endmacro %}{{ m }}",
    "{% for x in l %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro m(messages) %}{% for x in messages %}{{ x.role }}{{ ',' if not loop.last }}{% endfor %}{% endmacro %}{{ m(m) }}",
    "{% macro render(messages) %}{% for x in messages %}{{ x.role }}{{ ',' if not loop.last }}{% endfor %}{% endmacro %}{{ render(m) }}",
    "{% filter upper %}abc{{ s }}{% endfilter %}",
    "{% filter replace('a', 'b') | upper %}aac{% endfilter %}",
    "{% filter trim %}  a  {% endfilter %}",
    "{% filter nope %}a{% endfilter %}",
    "{% filter length %}abc{% endfilter %}",
    "{% filter e %}<a>{% endfilter %}{% filter first %}abc{% endfilter %}",
    "{% raw %}{{ a }}{% if %}{% endraw %}",
    "a {%- raw -%}  {{ x }}  {%- endraw -%}  b",
    "{% raw %}\n{{ a }}\n{% endraw %}\nb",
    "{# comment #}a{#- c -#} b {# {{ x }} #}c",
    "a\n{# c #}\nb",
    "a\n  {# c #}  \nb",
    "{# unended",
    "{% if t %}\n  a\n{% endif %}\nb",
    "  {% if t %}\n  a\n  {% endif %}\n  b",
    "a  {%- if t -%}  b  {%- endif -%}  c",
    "a\n\n  {%- if t %}\n\n b\n{%- endif %}\n\nc",
    "a {%+ if t %} b {%+ endif +%}\n c",
    "  {%+ if t %}x{% endif %}",
    "{% if t +%}\na{% endif %}",
    "a\n  {{ i }}  \nb",
    "a\n  {{- i -}}  \nb",
    "{{- i }}",
    "{{ -1 }}{{-1}}|{{ - 1 }}",
    "a\n",
    "a\n\n",
    "\n",
    "",
    "{{ i }}\n",
    "{% if t %}a{% endif %}\n",
    "a\r\nb\rc\n{% if t %}\r\nx{% endif %}",
    "{{ 'a\r\nb' }}",
    "\ta\n\t{% if t %}\n\tb\n\t{% endif %}\n",
    "a{% if t %}   \n b{% endif %}",
    "{%- for x in l -%}\n {{ x }} \n{%- endfor -%}\n",
    "{% for x in l %}\n- {{ x }}\n{% endfor %}\nend",
    "{% for x in l -%}\n{{ x }}\n{%- endfor %}",
    "{% if i > 5 and i < 10 %}a{% elif i %}b{% else %}c{% endif %}",
    "{% if n %}a{% elif e %}b{% elif f %}c{% else %}d{% endif %}",
    "{% if undefined %}a{% else %}b{% endif %}",
    "{% if m[0].role == 'system' and m[0]['content'] is string %}{% set sys = m[0].content %}{% set rest = m[1:] %}{% else %}{% set rest = m %}{% endif %}{{ sys }}{{ rest|length }}",
    "{% if 'a' is nope %}{% endif %}",
    "{% if false %}{{ 'a'|nope }}{% endif %}ok",
    "{% if true %}{{ 'a'|nope }}{% endif %}",
    "{% if false %}{% for x in l %}{{ 'a'|nope }}{% endfor %}{% endif %}ok",
    "{{ 'a'|nope if false else 'b' }}",
    "{% generation %}a{{ i }}{% endgeneration %}b",
    "{%- generation -%}  a  {%- endgeneration -%}  b",
    "{% generation %}{% set z = 1 %}{{ z }}{% endgeneration %}{{ z }}",
    "{% for x in l %}{% generation %}{{ x }}{% endgeneration %}{% endfor %}",
    "{% for x in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "{% print 1, 2 %}{% print 'a' %}",
    "{% do l.append(1) %}",
    "{% set x = l.append(1) %}",
    "{% trans %}a{% endtrans %}",
    "{% unknown %}",
    "{% if t %}",
    "{% endif %}",
    "{% for x in l %}{% endif %}",
    "{{ i",
    "{% if t",
    "{{ i }",
    "{{ {'a': {'b': 1}} }}",
    "{{ {'a': {}}}}",
    "{{ ('}}') }}{{ '%}' }}{{ '{{' }}",
    "{{ raise_exception('bad ' ~ i) }}",
    "{% if i %}{{ raise_exception() }}{% endif %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}",
    "{% set j = joiner('|') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}",
    "{% set g = l|map('string') %}{{ g|list }}{{ g|list }}",
    "{% set g = l|select('odd') %}{% for x in g %}{{ x }}{{ loop.last }}{% endfor %}{{ g|list }}",
    "{% set g = l|map('string') %}{% for x in g %}{{ x }}{{ loop.length }}{{ loop.revindex }}{% endfor %}",
    "{% for x in l|reverse %}{{ x }}{% endfor %}{{ l|reverse|list }}{{ l|reverse|first }}",
    "{% for g in m|groupby('role') %}{{ g.grouper }}:{{ g.list|length }};{% endfor %}",
    "{% for role, items in m|groupby('role') %}{{ role }}:{{ items|length }};{% endfor %}",
    "{% for row in range(5)|batch(2, '-') %}{{ row|join(',') }};{% endfor %}",
    "{% set x = 'a' if i > 5 %}{{ x }}{% set y = 'a' if i > 50 %}{{ y }}{{ y is defined }}",
    "{% for t in tools %}{{ t.function.name }}{% for k, v in t.function.parameters.items() %}{{ k }}:{{ v.type }}{{ v['default'] }}{% endfor %}{% endfor %}",
    "{% for x in m %}{% if loop.first and x.role != 'system' %}{{ raise_exception('x') }}{% endif %}{% if (x.role == 'user') != (loop.index0 % 2 == 0) %}{{ x.role }}{% endif %}{% endfor %}",
    "{% set ns = namespace(last=-1) %}{% for x in m[::-1] %}{% set index = (m|length - 1) - loop.index0 %}{% if ns.last < 0 and x.role == 'user' %}{% set ns.last = index %}{% endif %}{% endfor %}{{ ns.last }}",
    "{% set messages = m %}{% for message in messages %}{% set content = message.content if message.content is string else '' %}{{ '<|' ~ message.role ~ '|>' + content }}{% endfor %}",
    "{%- macro t(p) -%}{%- if p.type == 'array' -%}list[{{ t(p['items']) }}]{%- elif p.type is iterable and p.type is not string -%}{{ p.type|join('|') }}{%- else -%}{{ p.type }}{%- endif -%}{%- endmacro -%}{{ t({'type': 'array', 'items': {'type': ['a', 'b']}}) }}",
    "{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}",
    "{% with x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endwith %}",
    "{% for x in l %}{% with y = x * 2 %}{{ y }}{% if y > 4 %}{% break %}{% endif %}{% endwith %}{% endfor %}",
    "{% set x = [] %}{% for y in l %}{% set x = x + [y] %}{% endfor %}{{ x }}",
    "{% for x in [[1, 2], [3]] %}{% for y in x %}{{ y }}{% else %}-{% endfor %}{% else %}={% endfor %}",
    "{% for x in l recursive %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in e recursive %}{{ x }}{% else %}none{% endfor %}",
    "{% for k, v in d|dictsort %}{{ k }}{% endfor %}",
    "{% for k, v in d|items %}{{ k }}{% endfor %}",
    "{% set a %}{% set b %}x{% endset %}{{ b }}{% endset %}{{ a }}{{ b }}",
    "{% include 'x' %}",
    "{{ self }}",
    "{% set self = 1 %}{{ self }}",
    "{% set range = 1 %}{{ range }}",
    "{% macro m(range) %}{{ range }}{% endmacro %}{{ m(3) }}{{ range(2)|list }}",
    "{% set true = 1 %}",
    "{% for none in l %}{% endfor %}",
    "{% set x = {'a': [1, 2, {'b': (1, 2)}]} %}{{ x }}{{ x|tojson }}{{ x.a[2].b[1] }}",
    "{% if l is defined and l is not none and l|length > 0 %}yes{% endif %}",
    "{% if not (m[0].role == 'system') %}a{% else %}b{% endif %}",
    "{{ m[0].content.strip() ~ '\n' ~ m[1]['content'] | trim + '!' }}",
    "{{ 'a' if m[0]['role'] == 'system' else 'b' }}{{ m|length - 1 }}{{ (m|length) - 1 }}",
    "{% set ns = namespace(a=1) %}{% macro m() %}{% set ns.a = 2 %}{% endmacro %}{{ m() }}{{ ns.a }}",
    "{% set _x = 1 %}{{ _x }}",
    "{% set é = 1 %}{{ é }}",
    "{% if true: %}a{% endif %}",
    "{% for x in l: %}{{ x }}{% endfor %}",
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}",
    "{% for x, in [(1,)] %}{{ x }}{% endfor %}",
    "{% set x, = [1] %}{{ x }}",
    "{%if t%}a{%endif%}{{i}}{#c#}",
    "{{ i }}{{ '' }}{{ n }}{{ t }}",
    "{% for x in l %}{{ x }}{{ ', ' if not loop.last else '.' }}{% endfor %}",
    "{% for x in l %}{{ loop.index is divisibleby 2 }}{% endfor %}",
    "{{ l | map('string') | join(', ') | upper | replace('1', 'one') }}",
    "{% set x = namespace(a=[]) %}{% for y in l if y is odd %}{% set x.a = x.a + [y * 2] %}{% endfor %}{{ x.a | sort | reverse | list }}",
]


def sources():
    for line in EXPRESSIONS.strip().replace("a\\\nb", "a\\\0b").split("\n"):
        line = line.replace("a\\\0b", "a\\\nb")
        for part in line.split(" | "):
            yield "{{ " + part + " }}"
    yield from TEMPLATES

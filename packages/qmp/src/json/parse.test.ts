import test from 'ava';
import { formatJson } from './format.js';
import { JsonError, parseJson } from './parse.js';

const DEPTH = 8;
/** Objects without prototype, as JSON shows them. */
const plain = (text: string): unknown => JSON.parse(formatJson(parseJson(text, DEPTH)));
const problem = (
  t: { throws: (body: () => unknown, expected: object) => { message: string } | undefined },
  text: string,
) => t.throws(() => parseJson(text, DEPTH), { instanceOf: JsonError })?.message;

test('what JSON.parse reads, it reads the same way', t => {
  for (const text of [
    '{}',
    '[]',
    ' { "a" : [ 1 , -2.5e3 , true , false , null ] , "b" : { "c" : "d" } } ',
    '"\\u00e9\\n\\t\\"\\\\\\/\\b\\f\\r"',
    '"é漢😀"',
    '-1',
    '0.1',
    '1E2',
    '[[[[[[[[]]]]]]]]',
  ])
    t.deepEqual(plain(text), JSON.parse(text), text);
});

test('strings may stand in single quotes', t => {
  t.deepEqual(plain(`{'a': 'it\\'s "so"', "b": "don't"}`), { a: 'it\'s "so"', b: "don't" });
});

test('integers keep all their digits, both ways', t => {
  const text = '[9007199254740991, 9007199254740992, 18446744073709551615, -9223372036854775808]';
  t.is(formatJson(parseJson(text, DEPTH)), text);
});

test('a member called __proto__ is a member like others', t => {
  const value = parseJson('{"__proto__": {"polluted": 1}, "constructor": 2}', DEPTH);
  t.is(formatJson(value), '{"__proto__": {"polluted": 1}, "constructor": 2}');
  t.is(({} as { polluted?: unknown }).polluted, undefined);
});

test('what is no JSON is refused, with the reason', t => {
  const cases: readonly [string, RegExp][] = [
    ['', /expecting value/],
    ['foo', /invalid keyword 'foo'/],
    ['{"a": tru}', /invalid keyword 'tru'/],
    ['{"a": 1,}', /name of a member/],
    ['[1,]', /expecting value/],
    ['[1 2]', /',' or '\]'/],
    ['{"a" 1}', /missing ':'/],
    ['{"a": 1 "b": 2}', /',' or '\}'/],
    ['{a: 1}', /name of a member/],
    ['{"a": 1, "a": 2}', /'a' is given twice/],
    ['01', /after the value/],
    ['+1', /expecting value/],
    ['.5', /expecting value/],
    ['NaN', /invalid keyword/],
    ['"\\x"', /escape sequence/],
    ['"\\u12g4"', /hexadecimal/],
    ['"a\nb"', /control character/],
    ['"abc', /no end/],
    ['1 2', /after the value/],
    ['[[[[[[[[[]]]]]]]]]', /too deeply/],
  ];
  for (const [text, expected] of cases) t.regex(problem(t, text) ?? '', expected, text);
});

test('what is not ASCII goes out escaped', t => {
  t.is(formatJson({ a: 'é😀', b: undefined, c: [null, true] }), '{"a": "\\u00e9\\ud83d\\ude00", "c": [null, true]}');
});

import test, { type ExecutionContext } from 'ava';
import { formatJson } from './format.js';
import { JsonError } from './parse.js';
import { JSON_LIMITS, JsonStream, type JsonLimits } from './stream.js';

/** What comes out of `chunks`: values as JSON, errors as `!message`. */
function read(chunks: readonly (string | Uint8Array)[], limits: JsonLimits = JSON_LIMITS): string[] {
  const stream = new JsonStream(limits);
  const found: string[] = [];
  for (const chunk of chunks) {
    stream.push(typeof chunk === 'string' ? Buffer.from(chunk) : chunk);
    for (let next = stream.next(); next !== undefined; next = stream.next())
      found.push(next instanceof JsonError ? `!${next.message}` : formatJson(next.value));
  }
  return found;
}

/** How many bytes Node was told to copy from one buffer to another since. Nothing else may run until the test ends. */
function countCopies(t: ExecutionContext): () => number {
  let bytes = 0;
  const { copy } = Buffer.prototype;
  const { set } = Uint8Array.prototype;
  const { concat } = Buffer;
  Buffer.prototype.copy = function (this: Buffer, ...parameters: Parameters<typeof copy>) {
    const count = copy.apply(this, parameters);
    bytes += count;
    return count;
  };
  Uint8Array.prototype.set = function (array, offset) {
    bytes += array.length;
    set.call(this, array, offset);
  };
  Buffer.concat = (list, length) => {
    const whole = concat(list, length);
    bytes += whole.length;
    return whole;
  };
  t.teardown(() => {
    Buffer.prototype.copy = copy;
    Uint8Array.prototype.set = set;
    Buffer.concat = concat;
  });
  return () => bytes;
}

test('several values in a packet, and on a line', t => {
  t.deepEqual(read(['{"a": 1}{"b": 2} {"c": 3}\r\n[4]\n5 "six" true\n']), [
    '{"a": 1}',
    '{"b": 2}',
    '{"c": 3}',
    '[4]',
    '5',
    '"six"',
    'true',
  ]);
});

test('a value over any packets is the same value', t => {
  const text = `{"execute": "x{y]z\\"", 'é': ["漢", {"a": '}'}, -1.5e3]}\n {"b": 12}\nnull\n`;
  const whole = read([text]);
  t.is(whole.length, 3);
  const bytes = Buffer.from(text);
  t.deepEqual(read([...bytes].map(byte => Uint8Array.of(byte))), whole);
  for (let cut = 1; cut < bytes.length; cut++)
    t.deepEqual(read([bytes.subarray(0, cut), bytes.subarray(cut)]), whole, `cut at ${cut}`);
});

test('nothing comes out before a value has ended', t => {
  t.deepEqual(read(['{"a": [1, 2', ', "}"', ']']), []);
  t.deepEqual(read(['tr', 'ue']), []);
  t.deepEqual(read(['tr', 'ue', '\n']), ['true']);
});

test('after what is no JSON, the next value is read', t => {
  const good = '{"g": 1}';
  const cases: readonly (readonly [string, number])[] = [
    ['foo\n', 1],
    ['{"a": foo}\n', 1],
    ['{"a": 1,}', 1],
    ['}\n', 1],
    [']]\n', 2],
    [',\n', 1],
    ['{"a": [1}', 1],
    ['{"a": "half a line\n', 1],
    ['{"a": "half a line"\n', 1],
    ['{"a" "b"}\n', 1],
    ['\u0001', 1],
    ['{"a": \u0000', 1],
    ['"\u0007"\n', 1],
  ];
  for (const [bad, errors] of cases) {
    const found = read([`${bad}${good}\n`]);
    t.is(found.at(-1), good, JSON.stringify(bad));
    t.true(
      found.slice(0, -1).every(each => each.startsWith('!')),
      JSON.stringify(found),
    );
    t.true(found.length - 1 >= errors, JSON.stringify(found));
  }
});

test('a client that sends 0xff is read afresh, wherever it was', t => {
  for (const before of ['{"a": [', '{"a": "text', "['", '[tru']) {
    const found = read([before, Uint8Array.of(0xff), '{"g": 1}\n']);
    t.deepEqual(found, [`!stray 0xff${/"text|'/.test(before) ? ' in string' : ''}`, '{"g": 1}'], before);
  }
});

/** What real QEMU was seen to report before anything else comes; `x` after it tells what is passed over. */
const STRAY: readonly (readonly [string, ...string[]])[] = [
  ['%p', "!stray '%'"],
  ['@ foo "bar', "!stray '@'"],
  ['@@@ foo {}', "!stray '@'", '{}'],
  ['@"{}', "!stray '@'", '{}'],
  ['@\tfoo', "!stray '@'"],
  ['@\u0001foo', "!stray '@'", '!stray 0x01'],
  ['{\u0001', '!stray 0x01'],
  ['{"a": @}', "!stray '@'", '!expecting value'],
  ['[1.]{}', "!stray ']'", '{}'],
  ["{'a':'\nfoo", '!stray 0x0a in string'],
  ['"a\tb"', '!stray 0x09 in string'],
  ['1.x', "!stray 'x'"],
  ['1x ', '1', "!invalid keyword 'x'"],
  ['-01 ', "!stray '1'"],
  ['1e5e ', '100000', "!invalid keyword 'e'"],
  ['1E+5-2 ', '100000', '-2'],
  ['1.5.5 ', '1.5', "!stray '.'"],
  ['aB', "!invalid keyword 'a'", "!stray 'B'"],
  ['5"a"', '5', '"a"'],
];

for (const [text, ...expected] of STRAY) {
  test(`reported at once: ${JSON.stringify(text)}`, t => {
    t.deepEqual(read([text]), expected);
    t.deepEqual(read([...text]), expected, 'a byte at a time');
    t.deepEqual(read([text, '\n{"g": 1}\n']), [...expected, '{"g": 1}']);
  });
}

test('bytes that are not UTF-8 are refused', t => {
  const found = read([Uint8Array.of(0x22, 0xc3, 0x28, 0x22, 0x0a), '{"g": 1}\n']);
  t.deepEqual(found, ['!invalid UTF-8 sequence in string', '{"g": 1}']);
});

test('nesting has a limit, whether the brackets close or not', t => {
  const limits = { ...JSON_LIMITS, depth: 4 };
  t.deepEqual(read(['[[[[]]]]\n'], limits), ['[[[[]]]]']);
  for (const deep of ['[[[[[', '[[[[[]]]]]', '{"a":{"a":{"a":{"a":{"a":1}}}}}', '['.repeat(100_000)]) {
    const found = read([`${deep}\n{"g": 1}\n`], limits);
    t.deepEqual(found, ['!the value is nested too deeply', '{"g": 1}']);
  }
});

test('a value has a largest size, in brackets, as a string and as a word', t => {
  const limits = { ...JSON_LIMITS, bytes: 64 };
  const fits = `"${'x'.repeat(62)}"`;
  t.deepEqual(read([`${fits}\n`], limits), [fits]);
  for (const large of [`"${'x'.repeat(63)}"`, `[${'1,'.repeat(40)}1]`, 'x'.repeat(65), `{"a":${' '.repeat(64)}1}`]) {
    const found = read([large, '\n{"g": 1}\n'], limits);
    t.deepEqual(found, ['!the value is larger than 64 bytes', '{"g": 1}'], large);
  }
});

test('of a large value in small packets each byte is copied a few times', t => {
  const text = `["${'x'.repeat(1 << 20)}"]`;
  const chunks = Array.from({ length: Math.ceil(text.length / 16) }, (_, index) =>
    text.slice(index * 16, index * 16 + 16),
  );
  const copied = countCopies(t);
  t.is(read(chunks)[0]?.length, text.length);
  // Whoever copies what there is for each packet copies 32 GiB.
  t.log(`${copied()} bytes`);
  t.true(copied() >= text.length && copied() < 8 * text.length, `${copied()} bytes`);
});

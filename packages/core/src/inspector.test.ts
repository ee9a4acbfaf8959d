import { bit, bits, record, wide } from '@remora/bits';
import test from 'ava';
import { Inspector } from './inspector.js';

const Entry = record('entry', 'here', 8, { present: bit(0), mode: bits(3, 1), address: wide(63, 12) });

function sample(): Inspector {
  const into = new Inspector();
  const words = Int32Array.of(0, 0x5007, 1);
  into.value('name', 'vtd0').value('base', 0xfed90000n).value('bytes', Uint8Array.of(1, 0xab));
  into.record('entry', Entry, words, 1);
  into.child('queue').value('head', 3).child('last').value('types', ['iotlb', 2n]);
  words.fill(0);
  return into;
}

test('as JSON', t => {
  t.deepEqual(JSON.parse(JSON.stringify(sample())), {
    name: 'vtd0',
    base: '0xfed90000',
    bytes: '01 ab',
    entry: { present: 1, mode: 3, address: '0x100005' },
    queue: { head: 3, last: { types: ['iotlb', '0x2'] } },
  });
});

test('as text', t => {
  t.is(
    sample().toString(),
    [
      'name: vtd0',
      'base: 0xfed90000',
      'bytes: 01 ab',
      'entry: present=1 mode=3 address=0x100005',
      'queue:',
      '  head: 3',
      '  last:',
      '    types: ["iotlb","0x2"]',
    ].join('\n'),
  );
});

test('a record of zeros says so', t => {
  t.is(new Inspector().record('entry', Entry, new Int32Array(2)).toString(), 'entry: (all zero)');
});

test('typed arrays, maps, sets and nested objects', t => {
  const into = new Inspector();
  into
    .value('words', Int32Array.of(1, -1))
    .value('map', new Map([[1, { a: 1n }]]))
    .value('set', new Set(['x']));
  into.value('nothing', undefined).value('null', null);
  t.deepEqual(into.toJSON(), { words: [1, -1], map: { 1: { a: '0x1' } }, set: ['x'], nothing: undefined, null: null });
});

test('a child is the same each time; a value given twice is the last one', t => {
  const into = new Inspector();
  t.is(into.child('a'), into.child('a'));
  t.deepEqual(into.value('b', 1).value('b', 2).toJSON(), { a: {}, b: 2 });
});

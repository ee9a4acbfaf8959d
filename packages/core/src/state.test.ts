import test, { type ExecutionContext } from 'ava';
import { sectionBytes, sectionFrom, StateError, StateReader, StateWriter, VirtualClock } from './index.js';

function written(write: (into: StateWriter) => void): StateReader {
  const into = new StateWriter();
  write(into);
  return new StateReader(sectionFrom(sectionBytes(into.section), 'file'), 'devices.x');
}

function fails(t: ExecutionContext, read: () => unknown, message: string): void {
  t.throws(read, { instanceOf: StateError, message });
}

test('what was written is read: flags, numbers, texts, bytes, words, parts and lists', t => {
  const from = written(into => {
    into
      .flag('on', true)
      .flag('off', false)
      .integer('n', 2 ** 53 - 1)
      .integer('m', -5)
      .text('name', 'grün 中');
    into.bytes('bytes', Uint8Array.of(1, 2, 255)).words('words', Int32Array.of(-1, 7));
    into.child('part', 3).integer('deep', 1);
    into.list('list', [10, 20], (each, item) => each.integer('item', item));
  });
  t.deepEqual([from.flag('on'), from.flag('off')], [true, false]);
  t.deepEqual([from.integer('n'), from.integer('m', { min: -10 })], [2 ** 53 - 1, -5]);
  t.is(from.text('name'), 'grün 中');
  const bytes = new Uint8Array(3);
  from.bytes('bytes', bytes);
  t.deepEqual(bytes, Uint8Array.of(1, 2, 255));
  t.deepEqual(from.anyWords('words', 2), Int32Array.of(-1, 7));
  const part = from.child('part', 3);
  t.is(part.version, 3);
  t.is(part.integer('deep'), 1);
  t.deepEqual(
    from.list('list').map(each => each.integer('item')),
    [10, 20],
  );
  t.notThrows(() => from.done());
});

test('the same state is the same bytes, however large, and a copy of what it was', t => {
  const words = Int32Array.from({ length: 5000 }, (_, index) => index * 0x9e3779b1);
  const make = (): Uint8Array => {
    const into = new StateWriter();
    for (let index = 0; index < 50; index++)
      into
        .child(`part${index}`)
        .words('words', words)
        .text('t', 'x'.repeat(index * 97));
    return sectionBytes(into.section);
  };
  const bytes = make();
  t.deepEqual(make(), bytes);
  t.deepEqual(sectionBytes(sectionFrom(bytes, 'file')), bytes);
  const into = new StateWriter().words('words', words);
  const before = words[7]!;
  words[7] = 1;
  t.is(new StateReader(into.section).anyWords('words', 5000)[7], before);
});

test('what is missing, of another type, length or range is told with its place', t => {
  const from = written(into => {
    into.integer('n', 9).flag('f', true).words('w', new Int32Array(3)).bytes('b', new Uint8Array(5));
    into.list('l', [1, 2, 3], (each, item) => each.integer('i', item));
    into.child('part').child('inner').text('t', 'x');
  });
  fails(t, () => from.integer('gone'), 'devices.x.gone: is missing');
  fails(t, () => from.integer('f'), 'devices.x.f: a flag found, a number expected');
  fails(t, () => from.flag('n'), 'devices.x.n: a number found, a flag expected');
  fails(t, () => from.integer('n', { max: 8 }), 'devices.x.n: 9 found, a whole number from 0 to 8 expected');
  fails(t, () => from.words('w', new Int32Array(4)), 'devices.x.w: 3 words found, 4 words expected');
  fails(t, () => from.bytes('b', new Uint8Array(4)), 'devices.x.b: 5 bytes found, 4 bytes expected');
  fails(t, () => from.anyBytes('b', 4), 'devices.x.b: 5 bytes found, at most 4 bytes expected');
  fails(t, () => from.list('l', 2), 'devices.x.l: a list of 3 found, a list of at most 2 expected');
  fails(t, () => from.child('n'), 'devices.x.n: a number found, a section expected');
  fails(
    t,
    () => from.child('part').child('inner').integer('t'),
    'devices.x.part.inner.t: a text found, a number expected',
  );
  fails(t, () => from.list('l')[1]!.flag('i'), 'devices.x.l[1].i: a number found, a flag expected');
});

test('a newer version, and what nobody asked for, is refused; a part that is not needed may be absent', t => {
  const from = written(into => {
    into.child('new', 3).flag('f', true);
    into.child('part').integer('asked', 1).integer('unknown', 2);
  });
  fails(
    t,
    () => from.child('new', 2),
    'devices.x.new: version 3 found, only versions up to 2 are known to this Remora',
  );
  fails(t, () => from.child('new'), 'devices.x.new: version 3 found, only version 1 is known to this Remora');
  t.is(from.optional('absent'), undefined);
  fails(t, () => from.done(), 'devices.x.part: is unknown to this Remora');
  from.child('new', 3).flag('f');
  from.child('part').integer('asked');
  fails(t, () => from.done(), 'devices.x.part.unknown: is unknown to this Remora');
  t.notThrows(() => from.done(name => name === 'part'));
});

test('nothing is written twice, and no number that a double does not hold', t => {
  const into = new StateWriter().flag('f', true);
  t.throws(() => into.integer('f', 1), { message: 'f is written twice' });
  t.throws(() => into.child('part').integer('n', 0.5), {
    instanceOf: StateError,
    message: 'part.n: 0.5 is not a whole number',
  });
  t.throws(() => into.integer('n', 2 ** 53), { instanceOf: StateError });
});

test('timers fire when they would have, and in the order in which they were set, whoever is loaded first', t => {
  const clock = new VirtualClock();
  const fired: string[] = [];
  clock.step(100);
  const first = clock.after(50, () => undefined);
  const second = clock.after(50, () => undefined);
  const gone = clock.after(5, () => undefined);
  clock.step(10);
  const from = written(into => {
    clock.save(into.child('clock'));
    into.timer('second', second, clock.now).timer('first', first, clock.now).timer('gone', gone, clock.now);
  });
  const other = new VirtualClock();
  other.load(from.child('clock'));
  t.is(other.now, 110);
  const note = (what: string) => (): void => void fired.push(`${what} at ${other.now}`);
  t.not(from.timer('second', other, note('second')), undefined);
  other.after(40, note('later'));
  t.not(from.timer('first', other, note('first')), undefined);
  t.is(from.timer('gone', other, note('gone')), undefined);
  from.done();
  other.step(39);
  t.deepEqual(fired, []);
  other.step(1);
  t.deepEqual(fired, ['first at 150', 'second at 150', 'later at 150']);
});

test('a clock that is ahead, or waited for, keeps its time: what is left of a delay counts from now', t => {
  const clock = new VirtualClock();
  clock.step(1000);
  const timer = clock.after(70, () => undefined);
  const from = written(into => {
    clock.save(into.child('clock'));
    into.timer('timer', timer, clock.now);
  });
  const busy = new VirtualClock();
  busy.after(5, () => undefined);
  busy.load(from.child('clock'));
  t.is(busy.now, 0);
  t.is(from.timer('timer', busy, () => undefined)?.deadline, 70);
});

test('bytes that are no sections are refused, wherever they are cut or changed', t => {
  const into = new StateWriter();
  into
    .integer('n', 1)
    .text('t', 'text')
    .words('w', Int32Array.of(1, 2))
    .list('l', [1], (each, i) => each.integer('i', i));
  into.child('part').flag('f', true);
  const bytes = sectionBytes(into.section);
  for (let length = 0; length < bytes.length; length++) {
    t.throws(() => sectionFrom(bytes.subarray(0, length), 'file'), { instanceOf: StateError, message: /^file: / });
  }
  t.throws(() => sectionFrom(Uint8Array.of(...bytes, 0), 'file'), { instanceOf: StateError });
  for (let at = 0; at < bytes.length; at++) {
    const changed = bytes.slice();
    changed[at]! ^= 0xff;
    try {
      sectionFrom(changed, 'file');
    } catch (failure) {
      t.true(failure instanceof StateError, String(failure));
    }
  }
  const deep = new Uint8Array(10_000);
  for (let at = 0; at + 12 <= deep.length; at += 12) deep.set([1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0x61, 6], at);
  t.throws(() => sectionFrom(deep, 'file'), { instanceOf: StateError });
});

// DSA 8.3: what each operation does to memory, and what its completion record says.
import test from 'ava';
import { DESCRIPTOR_BYTES, Flag, Operation, Status } from './spec/index.js';
import { descriptor } from './driver/index.js';
import { pattern, RECORD, rig } from './rig.test.helper.js';

const SOURCE = 0x10_0ff0;
const TARGET = 0x20_0abc;
const OTHER = 0x30_0abc;
const LIST = 0x8000;

test('8.3.1 No-op: completes, and nothing else', t => {
  const { run, peek } = rig();
  t.like(run({ operation: Operation.NOOP }), { status: Status.SUCCESS, completed: 0, fault: 0n });
  t.deepEqual(peek(0, 0x1000), new Uint8Array(0x1000));
});

test('8.3.4 Memory Move: any length and alignment, within and across pages', t => {
  const { run, poke, peek } = rig();
  for (const [from, to, size] of [
    [SOURCE, TARGET, 1],
    [SOURCE, TARGET, 4096],
    [0x10_0000, 0x20_0000, 8192],
    [SOURCE, TARGET, 0x1_2345],
  ] as const) {
    const bytes = pattern(size, size);
    poke(from, bytes);
    poke(to - 1, new Uint8Array(size + 2).fill(0xee));
    t.like(run({ operation: Operation.MEMMOVE, source: from, destination: to, size }), {
      status: Status.SUCCESS,
      completed: size,
      result: 0,
    });
    t.is(Buffer.compare(peek(to, size), bytes), 0);
    t.deepEqual([peek(to - 1, 1)[0], peek(to + size, 1)[0]], [0xee, 0xee]);
  }
});

test('8.3.4 Memory Move: buffers that overlap, in either direction', t => {
  for (const shift of [-5000, -1, 1, 777, 4096, 9000]) {
    const { run, poke, peek } = rig();
    const bytes = pattern(0x5000);
    poke(SOURCE, bytes);
    const { status, result } = run({
      operation: Operation.MEMMOVE,
      source: SOURCE,
      destination: SOURCE + shift,
      size: bytes.length,
    });
    t.deepEqual([status, result], [Status.SUCCESS, shift > 0 ? 1 : 0]);
    t.is(Buffer.compare(peek(SOURCE + shift, bytes.length), bytes), 0, `${shift}`);
  }
});

test('8.3.5 Fill: eight bytes, repeated', t => {
  const { run, peek } = rig();
  run({ operation: Operation.FILL, source: 0x8877_6655_4433_2211n, destination: TARGET, size: 5003 });
  const expected = Uint8Array.from({ length: 5003 }, (_, i) => 0x11 * ((i % 8) + 1));
  t.is(Buffer.compare(peek(TARGET, 5003), expected), 0);
  t.is(peek(TARGET + 5003, 1)[0], 0);
});

test('8.3.6 Compare: where it differs first, and what was expected', t => {
  const { run, poke } = rig();
  const bytes = pattern(9000);
  poke(SOURCE, bytes);
  poke(TARGET, bytes);
  const compare = (more = {}) =>
    run({ operation: Operation.COMPARE, source: SOURCE, destination: TARGET, size: 9000, ...more });
  t.like(compare(), { status: Status.SUCCESS, result: 0, completed: 9000 });
  t.like(compare({ flags: Flag.CHECK_RESULT, extra0: 1 }), { status: Status.FALSE_PREDICATE, result: 0 });
  poke(TARGET + 8000, Uint8Array.of(bytes[8000]! ^ 1));
  t.like(compare(), { status: Status.SUCCESS, result: 1, completed: 8000 });
  t.like(compare({ flags: Flag.CHECK_RESULT, extra0: 1 }), { status: Status.SUCCESS, result: 1 });
  t.like(compare({ flags: Flag.CHECK_RESULT }), { status: Status.FALSE_PREDICATE, result: 1, completed: 8000 });
});

test('8.3.7 Compare Pattern', t => {
  const { run, poke } = rig();
  const value = 0x8877_6655_4433_2211n;
  const bytes = Uint8Array.from({ length: 5000 }, (_, i) => 0x11 * ((i % 8) + 1));
  poke(SOURCE, bytes);
  const compare = () => run({ operation: Operation.COMPARE_PATTERN, source: SOURCE, destination: value, size: 5000 });
  t.like(compare(), { status: Status.SUCCESS, result: 0, completed: 5000 });
  poke(SOURCE + 4321, Uint8Array.of(0));
  t.like(compare(), { status: Status.SUCCESS, result: 1, completed: 4321 });
});

test('8.3.10 Dualcast: two copies', t => {
  const { run, poke, peek } = rig();
  const bytes = pattern(6000);
  poke(SOURCE, bytes);
  t.like(run({ operation: Operation.DUALCAST, source: SOURCE, destination: TARGET, extra0: OTHER, size: 6000 }), {
    status: Status.SUCCESS,
    completed: 6000,
  });
  t.is(Buffer.compare(peek(TARGET, 6000), bytes), 0);
  t.is(Buffer.compare(peek(OTHER, 6000), bytes), 0);
});

test('8.3.11 CRC Generation: CRC-32C, in one piece or continued', t => {
  const { run, poke } = rig();
  const text = new TextEncoder().encode('123456789');
  poke(SOURCE, text);
  const crc = (more = {}) => run({ operation: Operation.CRC, source: SOURCE, size: 9, ...more });
  t.like(crc(), { status: Status.SUCCESS, value: 0xe306_9283, completed: 9 });
  const head = crc({ size: 4 }).value;
  t.is(crc({ source: SOURCE + 4, size: 5, extra0: head }).value, 0xe306_9283);
  poke(OTHER, new Uint8Array(Uint32Array.of(head).buffer));
  t.is(crc({ source: SOURCE + 4, size: 5, flags: Flag.READ_CRC_SEED, extra2: OTHER }).value, 0xe306_9283);
  // Neither inverted nor reflected: the plain remainder, by another way.
  let plain = 0;
  for (const byte of text) {
    plain ^= byte << 24;
    for (let i = 0; i < 8; i++) plain = plain < 0 ? (plain << 1) ^ 0x1edc_6f41 : plain << 1;
  }
  t.is(crc({ flags: Flag.BYPASS_CRC_REFLECTION | Flag.BYPASS_DATA_REFLECTION }).value, plain >>> 0);
});

test('8.3.12 Copy with CRC', t => {
  const { run, poke, peek } = rig();
  const bytes = pattern(7000);
  poke(SOURCE, bytes);
  const { value } = run({ operation: Operation.CRC, source: SOURCE, size: 7000 });
  t.like(run({ operation: Operation.COPY_CRC, source: SOURCE, destination: TARGET, size: 7000 }), {
    status: Status.SUCCESS,
    value,
    completed: 7000,
  });
  t.is(Buffer.compare(peek(TARGET, 7000), bytes), 0);
});

test('8.3.17 Cache Flush: what is in memory stays', t => {
  const { run, poke, peek } = rig();
  poke(TARGET, pattern(5000));
  t.like(run({ operation: Operation.CACHE_FLUSH, destination: TARGET, size: 5000 }), { status: Status.SUCCESS });
  t.deepEqual(peek(TARGET, 5000), pattern(5000));
});

test('8.3.2 Batch: descriptors one after the other, each with its record; then its own', t => {
  const { run, poke, peek, driver } = rig();
  const place = (index: number, values: Parameters<typeof descriptor>[0]) =>
    poke(LIST + DESCRIPTOR_BYTES * index, descriptor(values));
  poke(SOURCE, pattern(100));
  place(0, { operation: Operation.MEMMOVE, source: SOURCE, destination: TARGET, size: 100, completion: RECORD + 32 });
  place(1, { operation: Operation.MEMMOVE, source: TARGET, destination: OTHER, size: 100, flags: Flag.FENCE });
  t.like(run({ operation: Operation.BATCH, source: LIST, size: 2 }), { status: Status.SUCCESS, completed: 2 });
  t.like(driver.completion(RECORD + 32), { status: Status.SUCCESS, completed: 100 });
  t.deepEqual(peek(OTHER, 100), pattern(100));
  place(0, { operation: 0x3f, completion: RECORD + 32 });
  poke(OTHER, new Uint8Array(100));
  t.like(run({ operation: Operation.BATCH, source: LIST, size: 2 }), { status: Status.BATCH_FAILED, completed: 1 });
  t.like(driver.completion(RECORD + 32), { status: Status.OPERATION });
  t.deepEqual(peek(OTHER, 100), new Uint8Array(100), 'the fence holds what follows a failure');
  place(1, { operation: Operation.MEMMOVE, source: SOURCE, destination: OTHER, size: 100 });
  t.like(run({ operation: Operation.BATCH, source: LIST, size: 2 }), { status: Status.BATCH_FAILED, completed: 2 });
  t.deepEqual(peek(OTHER, 100), pattern(100));
  for (const operation of [Operation.BATCH, Operation.DRAIN]) {
    place(0, { operation, source: LIST, size: operation === Operation.BATCH ? 2 : 0, completion: RECORD + 32 });
    t.is(run({ operation: Operation.BATCH, source: LIST, size: 2 }).status, Status.BATCH_FAILED);
    t.is(driver.completion(RECORD + 32).status, Status.OPERATION);
  }
});

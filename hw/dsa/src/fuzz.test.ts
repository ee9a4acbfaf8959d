// Random registers, portals and descriptors: nothing throws, memory changes only where it may, and a reset brings all back.
import test from 'ava';
import fc from 'fast-check';
import { Operation, Reg, Status, Table } from './spec/index.js';
import { descriptor, type DescriptorValues } from './driver/index.js';
import { PORTALS, pattern, RECORD, REGISTERS, rig } from './rig.test.helper.js';

/** Descriptors are about what lies below; what lies above must stay as it is. */
const ARENA = 0x10_0000;
const WATCHED = 0x80_0000;
const WATCHED_BYTES = 0x1_0000;
const INTACT = pattern(WATCHED_BYTES);

const low = fc.oneof(
  { weight: 6, arbitrary: fc.nat(ARENA / 64 - 1).map(line => line * 64) },
  { weight: 3, arbitrary: fc.nat(ARENA - 1) },
  { weight: 1, arbitrary: fc.constantFrom(REGISTERS + Reg.CMD, PORTALS, 0xfee0_0000, 0xffff_fff0) },
);
const high = fc.oneof({ weight: 9, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(0xffff_ffff) });
const flags = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(0x0c, 0x0c, 0x8c, 0x0d, 0x1c, 0, 4, 0x1_000c, 0x7_000c) },
  { weight: 1, arbitrary: fc.nat(0xff_ffff) },
);
const operation = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...Object.values(Operation)) },
  { weight: 1, arbitrary: fc.nat(0xff) },
);
const size = fc.oneof(
  { weight: 6, arbitrary: fc.nat(0x3000) },
  { weight: 2, arbitrary: fc.nat(32) },
  { weight: 1, arbitrary: fc.nat(0xffff_ffff) },
);
const sometimes = fc.oneof({ weight: 8, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(0xffff_ffff) });
/** The sixteen words of anything. */
const wild = fc
  .tuple(sometimes, flags, operation, low, high, low, high, low, high, size, sometimes, low)
  .map(([w0, w1, op, c, ch, s, sh, d, dh, n, w9, e]) =>
    Uint32Array.of(w0, (w1 | (op << 24)) >>> 0, c, ch, s, sh, d, dh, n, w9, e, 0, 0, 0, 0, 0),
  );
/** Fields that an operation has, of these. */
const FIELDS: Readonly<Record<number, readonly string[]>> = {
  [Operation.BATCH]: ['list', 'count'],
  [Operation.MEMMOVE]: ['source', 'destination', 'size'],
  [Operation.FILL]: ['source', 'destination', 'size'],
  [Operation.COMPARE]: ['source', 'destination', 'size'],
  [Operation.COMPARE_PATTERN]: ['source', 'destination', 'size'],
  [Operation.DUALCAST]: ['source', 'destination', 'size', 'other'],
  [Operation.CRC]: ['source', 'size'],
  [Operation.COPY_CRC]: ['source', 'destination', 'size'],
  [Operation.CACHE_FLUSH]: ['destination', 'size'],
};
const tame = fc
  .record({
    operation: fc.constantFrom(...Object.values(Operation)),
    source: low,
    destination: low,
    size: fc.integer({ min: 1, max: 0x3000 }),
    line: fc.nat(ARENA / 64 - 1),
    count: fc.integer({ min: 2, max: 8 }),
    completion: fc.nat(ARENA / 32 - 1),
  })
  .map(({ operation: code, source, destination, size: bytes, line, count, completion }) => {
    const has = (field: string): boolean => FIELDS[code]?.includes(field) === true;
    const values: DescriptorValues = {
      operation: code,
      completion: completion * 32,
      source: has('list') ? line * 64 : has('source') ? source : 0,
      destination: has('destination') ? destination : 0,
      size: has('count') ? count : has('size') ? bytes : 0,
      extra0: has('other') ? (destination + 0x4_0000) % 0x1_0000_0000 : 0,
    };
    return new Uint32Array(descriptor(values).buffer);
  });
const words = fc.oneof({ weight: 4, arbitrary: tame }, { weight: 1, arbitrary: wild });

const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ queue: fc.nat(3), page: fc.nat(3), words }) },
  { weight: 3, arbitrary: fc.record({ line: fc.nat(ARENA / 64 - 1), words }) },
  {
    weight: 3,
    arbitrary: fc.record({
      offset: fc.oneof(fc.constantFrom(...Object.values(Reg)), fc.nat(Table.END), fc.nat(0xffff)),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 8 }),
      write: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.record({ command: fc.nat(0xf), operand: fc.nat(0xf) }) },
);

test('random programs', t => {
  let done = 0;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const { driver, device, addressSpace, poke, peek, run, clock, map } = rig(
        { 'work-queues': 4 },
        [{ maxTransferShift: 14 }, {}, {}],
        3,
      );
      poke(WATCHED, INTACT);
      for (const each of steps) {
        if ('queue' in each) driver.submit(each.queue, new Uint8Array(each.words.buffer), each.page);
        else if ('line' in each) poke(each.line * 64, new Uint8Array(each.words.buffer));
        else if ('command' in each) driver.command(each.command, each.operand, 1);
        else if (each.write) addressSpace.write(0, REGISTERS + each.offset, each.bytes);
        else addressSpace.read(0, REGISTERS + each.offset, each.bytes);
        clock.step(10_000);
      }
      for (let at = 0; at < ARENA; at += 32) if (peek(at, 1)[0] === Status.SUCCESS) done++;
      t.is(Buffer.compare(peek(WATCHED, WATCHED_BYTES), INTACT), 0);
      for (const phase of ['enter', 'hold', 'exit'] as const) device.reset(phase);
      map();
      driver.start();
      t.is(run({ operation: Operation.FILL, source: 1, destination: RECORD + 0x1000, size: 8 }).status, 1);
    }),
    { seed: 1, numRuns: 150 },
  );
  t.true(done > 100, `${done} descriptors did something`);
});

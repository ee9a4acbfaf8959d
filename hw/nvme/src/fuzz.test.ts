// Random registers, doorbells, queues and commands: nothing throws, memory changes only where it may, and a reset brings all back.
import { Inspector } from '@remora/core';
import test from 'ava';
import fc from 'fast-check';
import { CommandLayout, Reg } from './spec/index.js';
import { BAR, MSIX_TABLE, pattern, rig } from './rig.test.helper.js';

/** Where queues and data of random commands are: what lies above must stay as it is. */
const ARENA = 0x4_0000;
const WATCHED = 0x4_0000;
const WATCHED_BYTES = 0x8000;
const INTACT = pattern(WATCHED_BYTES);

const address = fc.oneof(
  fc.nat(ARENA / 4096 - 1).map(page => BigInt(page * 4096)),
  fc.nat(ARENA / 2).map(BigInt),
  fc.constantFrom(
    BigInt(BAR),
    BigInt(BAR + Reg.DOORBELLS),
    BigInt(MSIX_TABLE),
    0xfee0_0000n,
    0xffff_ffff_ffff_f000n,
    2n ** 40n,
  ),
);
const dword = fc.oneof(
  fc.nat(0xff),
  fc.nat(9).map(n => n << 16),
  fc.nat(0xffff_ffff),
);
const small = fc.nat(3).map(n => ({ id: n }));
const queueDword = fc.tuple(small, fc.nat(12)).map(([{ id }, size]) => id + size * 0x1_0000);
const command = fc
  .record({
    opcode: fc.oneof(fc.nat(0x0c), fc.constantFrom(0x80, 0x18), fc.nat(0xff)),
    nsid: fc.oneof(fc.constantFrom(1, 0xffff_ffff), fc.nat(3)),
    prp1: address,
    prp2: address,
    cdw10: fc.oneof(dword, queueDword),
    cdw11: fc.oneof(dword, fc.constantFrom(1, 3, 0x1_0001, 0x1_0003, 0x2_0001)),
    cdw12: fc.oneof(fc.nat(0xff), dword),
    cdw13: dword,
    fuse: fc.constantFrom(0, 0, 0, 0, 0, 1),
    psdt: fc.constantFrom(0, 0, 0, 0, 0, 1),
    cid: fc.nat(0xffff),
  })
  .map(values => new Uint8Array(CommandLayout.encode(values).buffer));

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ at: fc.nat(ARENA / 64 - 1), command }) },
  { weight: 6, arbitrary: fc.record({ doorbell: fc.nat(9), value: fc.oneof(fc.nat(12), dword) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      offset: fc.oneof(fc.constantFrom(...Object.values(Reg)), fc.nat(0x1100)),
      size: fc.constantFrom(1, 2, 4, 8),
      value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      write: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ pages: fc.tuple(fc.nat(15), fc.nat(15)), entries: fc.integer({ min: 1, max: 20 }) }),
  },
  { weight: 1, arbitrary: fc.record({ words: fc.array(address, { maxLength: 20 }), page: fc.nat(ARENA / 4096 - 1) }) },
);

test('random programs', t => {
  let commands = 0;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), steps => {
      const { driver, device, addressSpace, map, enableMsi } = rig(
        { size: '1M', mdts: 2, max_ioqpairs: 4 },
        { start: false },
      );
      enableMsi(2);
      driver.poke(WATCHED, INTACT);
      for (const each of steps) {
        if ('command' in each) {
          driver.poke(each.at * 64, each.command);
        } else if ('doorbell' in each) {
          driver.setRegister(Reg.DOORBELLS + 4 * each.doorbell, each.value);
        } else if ('pages' in each) {
          driver.setRegister(Reg.CC, 0);
          driver.setRegister(Reg.AQA, each.entries * 0x1_0001);
          driver.setRegister(Reg.ASQ, each.pages[0] * 4096);
          driver.setRegister(Reg.ACQ, each.pages[1] * 4096);
          driver.setRegister(Reg.CC, 0x0046_0001);
        } else if ('words' in each) {
          driver.poke(each.page * 4096, new Uint8Array(BigUint64Array.from(each.words).buffer));
        } else {
          const bytes = new Uint8Array(8);
          new DataView(bytes.buffer).setBigUint64(0, each.value, true);
          const data = bytes.subarray(0, each.size);
          if (each.write) addressSpace.write(0, BAR + each.offset, data);
          else addressSpace.read(0, BAR + each.offset, data);
        }
      }
      commands += ended(device);
      t.is(Buffer.compare(driver.peek(WATCHED, WATCHED_BYTES), INTACT), 0);
      for (const phase of ['enter', 'hold', 'exit'] as const) device.reset(phase);
      map();
      driver.enable();
      driver.createQueues(1);
      driver.expect(0, { opcode: 0x80, nsid: 1, cdw10: 0 });
      driver.write(9, pattern(512));
      t.deepEqual(driver.read(9, 1), pattern(512));
    }),
    { seed: 1, numRuns: 200 },
  );
  t.true(commands > 100, `${commands} commands did something`);
});

/** Commands that ended, of those that are counted. */
function ended(device: ReturnType<typeof rig>['device']): number {
  const into = new Inspector();
  device.inspect(into);
  const { reads, writes, errors } = into.toJSON() as Record<string, number>;
  return reads! + writes! + errors!;
}

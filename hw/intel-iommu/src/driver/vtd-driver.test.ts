import { Access, Errno, NO_PASID } from '@remora/core';
import test from 'ava';
import { Fault, GlobalCommand, Granularity, PasidIotlbGranularity, Reg } from '../spec/index.js';
import {
  firstStagePasid,
  legacyContext,
  legacyPassThrough,
  nestedPasid,
  passThroughPasid,
  secondStagePasid,
} from './entry-values.js';
import { PageTable } from './page-table.js';
import type { VtdRegisters } from './registers.js';
import { Rig } from './rig.test.helper.js';
import { VtdDriver } from './vtd-driver.js';

const DEVICE = 0x0018;
const DOMAIN = 5;
const ALL = Access.READ_WRITE | Access.EXECUTE;

/** A unit whose CAP shows `set` and hides `clear` (bits of its low and high dword). */
class OtherCapabilities implements VtdRegisters {
  readonly below: VtdRegisters;
  readonly set: readonly [lo: number, hi: number];
  readonly clear: readonly [lo: number, hi: number];

  constructor(below: VtdRegisters, set: readonly [number, number], clear: readonly [number, number]) {
    this.below = below;
    this.set = set;
    this.clear = clear;
  }

  read32(offset: number): number {
    return this.below.read32(offset);
  }

  write32(offset: number, value: number): void {
    this.below.write32(offset, value);
  }

  read64(offset: number, out: Int32Array): void {
    this.below.read64(offset, out);
    if (offset !== Reg.CAP) return;
    for (const word of [0, 1]) out[word] = (out[word]! | this.set[word]!) & ~this.clear[word]!;
  }

  write64(offset: number, hi: number, lo: number): void {
    this.below.write64(offset, hi, lo);
  }
}

const ESRTPS_HI = 0x8000_0000 | 0;
const RWBF_LO = 0x10;

test('legacy mode: a mapping lands, stays cached after an unmap, and is gone after the flush', t => {
  const rig = new Rig();
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages);
  const table = new PageTable(rig.memory, rig.pages, { stage: 'second', levels: 4 });
  driver.start(undefined, () => t.is(driver.attach(DEVICE, legacyContext(table, DOMAIN)), 0));
  t.is(table.map(0x40000, 0x3100, 2, Access.READ_WRITE), 0);
  t.like(rig.request(DEVICE, 0x4000_1234, Access.WRITE), { to: (0x310_1234n & ~0xfffn) | 0x234n });
  t.is(table.unmap(0x40000, 2), 0);
  t.like(rig.request(DEVICE, 0x4000_1234, Access.WRITE), { to: 0x3101234n });
  t.is(driver.iotlbInvalidate(Granularity.PAGE, DOMAIN, { hi: 0, lo: 0x4000_0000, addressMask: 1 }), 0);
  t.deepEqual(rig.request(DEVICE, 0x4000_1234, Access.WRITE), { fault: Fault.LGN_2 });
  t.deepEqual(driver.handleFaults(), [
    { requesterId: DEVICE, pasid: NO_PASID, hi: 0, lo: 0x4000_1000, write: true, reason: Fault.LGN_2 },
  ]);
  t.deepEqual(driver.handleFaults(), []);
});

test('legacy mode: pass-through, a function without an entry, and one that is taken out', t => {
  const rig = new Rig();
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages);
  driver.start();
  t.is(driver.attach(DEVICE, legacyPassThrough(4, DOMAIN)), 0);
  t.deepEqual(rig.request(DEVICE, 0xabc_d123, Access.READ), { to: 0xabc_d123n, access: ALL });
  t.deepEqual(rig.request(DEVICE + 1, 0x1000), { fault: Fault.LCT_2 });
  t.deepEqual(rig.request(0x1_18, 0x1000), { fault: Fault.LRT_2 });
  t.is(driver.detach(DEVICE, DOMAIN), 0);
  t.deepEqual(rig.request(DEVICE, 0x1000), { fault: Fault.LRT_2 });
  t.is(driver.detach(DEVICE, DOMAIN), -Errno.EINVAL);
});

test('scalable mode: first and second stage, pass-through and nesting, each under its own PASID', t => {
  const rig = new Rig({ nesting: true });
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable' });
  const make = (stage: 'first' | 'second'): PageTable => new PageTable(rig.memory, rig.pages, { stage, levels: 4 });
  const [first, second, inner] = [make('first'), make('second'), make('first')];
  driver.start();
  t.is(driver.attach(DEVICE, {}), 0);
  t.is(first.map(0x10, 0x3010, 1, Access.READ), 0);
  t.is(second.map(0x10, 0x3020, 1, Access.READ_WRITE), 0);
  // The nested first stage is identity-mapped by the second, but for the page that it maps to.
  t.is(inner.map(0x77, 0x99, 1, Access.READ_WRITE), 0);
  const tables = inner.walk(0x77).steps.map(step => step.table);
  for (const frame of tables) t.is(second.map(frame, frame, 1, Access.READ_WRITE), 0);
  t.is(second.map(0x99, 0x3030, 1, Access.READ_WRITE), 0);
  t.is(driver.addPasid(DEVICE, 0, secondStagePasid(second, 2)), 0);
  t.is(driver.addPasid(DEVICE, 1, firstStagePasid(first, 1)), 0);
  t.is(driver.addPasid(DEVICE, 0x8_0000, nestedPasid(inner, second, 2)), 0);
  t.is(driver.addPasid(DEVICE, 0xf_ffff, passThroughPasid(3)), 0);

  t.like(rig.request(DEVICE, 0x10_008, Access.WRITE), { to: 0x302_0008n });
  t.like(rig.request(DEVICE, 0x10_008, Access.READ, 1), { to: 0x301_0008n });
  t.deepEqual(rig.request(DEVICE, 0x10_008, Access.WRITE, 1), { fault: Fault.SGN_6 });
  t.like(rig.request(DEVICE, 0x77_008, Access.WRITE, 0x8_0000), { to: 0x303_0008n });
  t.like(rig.request(DEVICE, 0x123_456, Access.READ, 0xf_ffff), { to: 0x123_456n });
  t.deepEqual(rig.request(DEVICE, 0x1000, Access.READ, 2), { fault: Fault.SPT_2 });
  t.deepEqual(rig.request(DEVICE, 0x1000, Access.READ, 0x1000), { fault: Fault.SPD_2 });
});

test('removing a PASID takes its entry out of every cache; the other ones stay', t => {
  const rig = new Rig({ nesting: true });
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable' });
  const table = new PageTable(rig.memory, rig.pages, { stage: 'first', levels: 4 });
  const second = new PageTable(rig.memory, rig.pages, { stage: 'second', levels: 4 });
  table.map(1, 0x3001, 1, Access.READ);
  second.map(1, 0x3002, 1, Access.READ);
  driver.start();
  t.is(driver.attach(DEVICE, {}), 0);
  t.is(driver.addPasid(DEVICE, 0, secondStagePasid(second, DOMAIN)), 0);
  t.is(driver.addPasid(DEVICE, 7, firstStagePasid(table, DOMAIN)), 0);
  const before = rig.pages.inUse;
  t.is(driver.addPasid(DEVICE, 700, firstStagePasid(table, DOMAIN)), 0);
  for (const pasid of [NO_PASID, 7, 700]) t.true('to' in rig.request(DEVICE, 0x1000, Access.READ, pasid));
  t.is(driver.removePasid(DEVICE, 700), 0);
  t.is(rig.pages.inUse, before + 1, 'its table stays until the function goes');
  t.deepEqual(rig.request(DEVICE, 0x1000, Access.READ, 700), { fault: Fault.SPT_2 });
  t.like(rig.request(DEVICE, 0x1000, Access.READ, 7), { to: 0x300_1000n });
  t.is(driver.removePasid(DEVICE, 700), -Errno.EINVAL);
  t.is(driver.removePasid(DEVICE, 0), 0);
  t.deepEqual(rig.request(DEVICE, 0x1000), { fault: Fault.SPT_2 });
  // Second-stage translations are tagged by domain: another table under the same id must not meet the old ones.
  const other = new PageTable(rig.memory, rig.pages, { stage: 'second', levels: 4 });
  other.map(1, 0x3003, 1, Access.READ);
  t.is(driver.addPasid(DEVICE, 0, secondStagePasid(other, DOMAIN)), 0);
  t.like(rig.request(DEVICE, 0x1000), { to: 0x300_3000n });
});

test('a directory covers the PASIDs that it was made for, and is as large as they need', t => {
  for (const [pasidBits, pages] of [
    [13, 1],
    [16, 2],
    [20, 32],
  ] as const) {
    const rig = new Rig({ nesting: true });
    const driver = new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable', pasidBits });
    t.is(driver.pasidEntry(DEVICE, 2 ** pasidBits, passThroughPasid(1)), -Errno.EINVAL);
    t.is(rig.pages.inUse, pages);
    t.is(driver.pasidEntry(DEVICE, 2 ** pasidBits - 1, passThroughPasid(1)), 0);
    t.deepEqual(
      [...driver.directory(DEVICE)!.entries()].map(({ pasid }) => pasid),
      [2 ** pasidBits - 1],
    );
    driver.start();
    t.is(driver.attach(DEVICE, {}), 0);
    t.like(rig.request(DEVICE, 0x5000, Access.READ, 2 ** pasidBits - 1), { to: 0x5000n });
    const beyond = pasidBits === 20 ? Fault.SPD_2 : Fault.SCT_7;
    t.deepEqual(rig.request(DEVICE, 0x5000, Access.READ, pasidBits === 20 ? 5 : 2 ** pasidBits), { fault: beyond });
  }
});

test('the present bit of an entry is written last, and cleared first when the entry changes', t => {
  const rig = new Rig({ nesting: true });
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable' });
  t.is(driver.pasidEntry(DEVICE, 5, passThroughPasid(1)), 0);
  /** Which words of the entry are written, in order, and whether its first word is present afterwards. */
  const storesOf = (action: () => void): { first: number; words: number; present: boolean }[] => {
    rig.memory.log = [];
    action();
    const base = Math.min(...rig.memory.log.map(store => store.address));
    let present = false;
    return rig.memory.log.map(({ address, words }) => {
      if (address === base) present = (words[0]! & 1) === 1;
      return { first: (address - base) / 4, words: words.length, present };
    });
  };
  t.deepEqual(
    storesOf(() => driver.pasidEntry(DEVICE, 6, passThroughPasid(1))),
    [
      { first: 1, words: 15, present: false },
      { first: 0, words: 1, present: true },
    ],
  );
  t.deepEqual(
    storesOf(() => driver.pasidEntry(DEVICE, 6, passThroughPasid(2))),
    [
      { first: 0, words: 1, present: false },
      { first: 1, words: 15, present: false },
      { first: 0, words: 1, present: true },
    ],
  );
  t.deepEqual(
    storesOf(() => driver.clearPasidEntry(DEVICE, 6)),
    [
      { first: 0, words: 1, present: false },
      { first: 1, words: 15, present: false },
    ],
  );
  t.is(driver.contextEntry(DEVICE, {}), 0);
  t.deepEqual(
    storesOf(() => driver.contextEntry(DEVICE + 1, {})),
    [
      { first: 1, words: 7, present: false },
      { first: 0, words: 1, present: true },
    ],
  );
});

test('without a queue invalidations go through CCMD, IVA and IOTLB', t => {
  const rig = new Rig({ 'caching-mode': true });
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages);
  const table = new PageTable(rig.memory, rig.pages, { stage: 'second', levels: 4 });
  driver.setRootTable();
  t.is(driver.attach(DEVICE, legacyContext(table, DOMAIN)), 0);
  driver.enableTranslation();
  t.deepEqual(rig.takeOperations(), ['RTADDR', 'GCMD SRTP', 'CCMD', '0xf8', 'GCMD TE']);
  table.map(1, 0x3001, 1, Access.READ);
  t.true('to' in rig.request(DEVICE, 0x1000));
  table.unmap(1, 1);
  t.true('to' in rig.request(DEVICE, 0x1000));
  t.is(driver.iotlbInvalidate(Granularity.PAGE, DOMAIN, { hi: 0, lo: 0x1000, addressMask: 0 }), 0);
  t.deepEqual(rig.takeOperations(), ['0xf0', '0xf8']);
  t.deepEqual(rig.request(DEVICE, 0x1000), { fault: Fault.LGN_3 });
  // Too wide a range is answered with "not performed".
  t.is(driver.iotlbInvalidate(Granularity.PAGE, DOMAIN, { hi: 0, lo: 0, addressMask: 40 }), -Errno.EIO);
  t.is(driver.contextCacheInvalidate(0), -Errno.EIO);
  t.is(driver.pasidCacheInvalidate(3), -Errno.EOPNOTSUPP);
  t.throws(() => driver.queue, { message: /not enabled/ });
});

test('a new root table is followed by global flushes if the unit does not flush by itself', t => {
  for (const [mode, expected] of [
    ['legacy', ['context-cache g=1', 'iotlb g=1 dw=1 dr=1']],
    ['scalable', ['context-cache g=1', 'pasid-cache g=3', 'iotlb g=1 dw=1 dr=1']],
  ] as const) {
    const rig = new Rig({ 'x-scalable-mode': 'on' });
    const registers = new OtherCapabilities(rig.registers, [RWBF_LO, 0], [0, ESRTPS_HI]);
    const driver = new VtdDriver(registers, rig.memory, rig.pages, { mode });
    driver.start();
    t.deepEqual(rig.takeOperations().slice(3), [
      'GCMD WBF QIE',
      mode === 'legacy' ? 'RTADDR' : 'RTADDR ttm=1',
      'GCMD SRTP QIE',
      ...expected.map(descriptor => `IQT ${descriptor}, wait sw=1`),
      'GCMD TE QIE',
    ]);
  }
});

test('what is enabled already is turned off first, and stop() turns everything off in order', t => {
  const rig = new Rig({ intremap: true });
  const first = new VtdDriver(rig.registers, rig.memory, rig.pages);
  first.start();
  first.setInterruptTable(rig.pages.allocate(1), 7, false);
  first.enableInterruptRemapping();
  rig.takeOperations();
  const second = new VtdDriver(rig.registers, rig.memory, rig.pages);
  second.start();
  t.deepEqual(rig.takeOperations(), [
    ...['GCMD TE IRE', 'IQT', 'IQA', 'GCMD TE QIE IRE', 'GCMD QIE IRE'],
    ...['RTADDR', 'GCMD SRTP QIE IRE', 'GCMD TE QIE IRE'],
  ]);
  second.stop();
  t.deepEqual(rig.takeOperations(), ['GCMD QIE IRE', 'GCMD QIE', 'GCMD']);
});

test('a stopped driver returns every page', t => {
  const rig = new Rig({ nesting: true });
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable' });
  const table = new PageTable(rig.memory, rig.pages, { stage: 'first', levels: 4 });
  driver.start();
  for (const requesterId of [0x18, 0x80, 0x1ff]) {
    t.is(driver.attach(requesterId, {}), 0);
    t.is(driver.addPasid(requesterId, 0x1234, firstStagePasid(table, 1)), 0);
  }
  table.free();
  driver.stop();
  driver.free();
  t.is(rig.pages.inUse, 0);
});

test('a unit that is not there, or lacks the mode, is refused', t => {
  const rig = new Rig();
  const answering = (value: number): VtdRegisters => ({
    read32: () => value,
    write32: () => undefined,
    read64: (_offset, out) => void out.fill(value),
    write64: () => undefined,
  });
  for (const value of [0, -1]) {
    t.throws(() => new VtdDriver(answering(value), rig.memory, rig.pages), { message: /no unit answers/ });
  }
  t.throws(() => new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable' }), {
    message: /no scalable mode/,
  });
});

test('a unit that never answers a handshake makes the driver give up', t => {
  const rig = new Rig();
  const deaf: VtdRegisters = {
    read32: offset => (offset === Reg.GSTS ? 0 : rig.registers.read32(offset)),
    write32: () => undefined,
    read64: (offset, out) => rig.registers.read64(offset, out),
    write64: () => undefined,
  };
  const driver = new VtdDriver(deaf, rig.memory, rig.pages);
  t.throws(() => driver.enableTranslation(), { message: /GSTS bit 0x80000000/ });
});

for (const vcmdLayout of ['3.0', '3.3'] as const) {
  test(`virtual commands in layout ${vcmdLayout}`, t => {
    const given = new Set<number>();
    let next = 0xf_fffd;
    const rig = new Rig(
      { 'x-scalable-mode': 'modern', 'vcmd-layout': vcmdLayout },
      {
        virtualCommand: (opcode, pasid) => {
          if (opcode === 1 && next > 0xf_ffff) return { status: 'no-pasid', result: 0 };
          if (opcode === 1) {
            given.add(next);
            return { status: 'ok', result: next++ };
          }
          return { status: given.delete(pasid) ? 'ok' : 'no-pasid', result: 0 };
        },
      },
    );
    const driver = new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable', vcmdLayout });
    t.deepEqual(
      [driver.allocPasid(), driver.allocPasid(), driver.allocPasid(), driver.allocPasid()],
      [0xf_fffd, 0xf_fffe, 0xf_ffff, -Errno.ENOSPC],
    );
    t.is(driver.freePasid(0xf_fffe), 0);
    t.deepEqual([...given], [0xf_fffd, 0xf_ffff]);
    t.is(driver.freePasid(0xf_fffe), -Errno.EINVAL);
  });
}

test('without virtual commands there is no such device', t => {
  const rig = new Rig({ nesting: true });
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable' });
  t.is(driver.allocPasid(), -Errno.ENODEV);
  t.is(driver.freePasid(1), -Errno.ENODEV);
});

test('several fault records are taken in the order of the faults, from the first one on, and the message comes once', t => {
  const rig = new Rig({ nesting: true, 'fault-records': 3 });
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable' });
  const table = new PageTable(rig.memory, rig.pages, { stage: 'first', levels: 4 });
  driver.start({ hi: 0, lo: 0xfee01004, data: 0x22 });
  t.is(driver.attach(DEVICE, {}), 0);
  t.is(driver.addPasid(DEVICE, 9, firstStagePasid(table, 1)), 0);
  rig.request(DEVICE, 0x1000, Access.READ, 9);
  rig.request(DEVICE, 0x2000, Access.WRITE, 8);
  t.deepEqual(
    driver.handleFaults().map(({ pasid, lo, write, reason }) => [pasid, lo, write, reason]),
    [
      [9, 0x1000, false, Fault.SFS_2],
      [8, 0x2000, true, Fault.SPT_2],
    ],
  );
  t.deepEqual(rig.messages, [[0xfee01004, 0x22]]);
  // The next records wrap around, and one fault too many is lost.
  for (const page of [3, 4, 5, 6]) rig.request(DEVICE, page * 0x1000, Access.READ, 9);
  t.deepEqual(
    driver.handleFaults().map(fault => fault.lo),
    [0x3000, 0x4000, 0x5000],
  );
  t.is(rig.faults.length, 6);
  rig.request(DEVICE, 0x7000, Access.READ, 9);
  t.is(driver.handleFaults().length, 1);
  driver.maskFaultEvents();
  rig.request(DEVICE, 0x8000, Access.READ, 9);
  t.is(rig.messages.length, 3);
});

test('whoever claims a fault may look for more: each is taken once', t => {
  const rig = new Rig({ nesting: true, 'fault-records': 3 });
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable' });
  driver.start();
  for (const page of [1, 2, 3]) rig.request(DEVICE, page * 0x1000, Access.READ, 9);
  const claimed: number[] = [];
  const claim = ({ lo }: { readonly lo: number }): boolean => {
    claimed.push(lo);
    if (claimed.length === 1) driver.handleFaults(claim);
    return true;
  };
  t.deepEqual(driver.handleFaults(claim), []);
  t.deepEqual(claimed, [0x1000, 0x2000, 0x3000]);
});

test('a PASID-selective flush drops the PASID; a page-selective one its range', t => {
  const rig = new Rig({ nesting: true });
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages, { mode: 'scalable' });
  const table = new PageTable(rig.memory, rig.pages, { stage: 'first', levels: 4 });
  driver.start();
  driver.attach(DEVICE, {});
  driver.addPasid(DEVICE, 1, firstStagePasid(table, DOMAIN));
  table.map(0, 0x3000, 8, Access.READ);
  const cached = (): number[] =>
    [0, 1, 2, 3, 4, 5, 6, 7].filter(page => 'to' in rig.request(DEVICE, page * 0x1000, Access.READ, 1));
  t.is(cached().length, 8);
  table.unmap(0, 8);
  t.is(cached().length, 8);
  t.is(driver.pasidIotlbInvalidate(PasidIotlbGranularity.PAGE, DOMAIN, 1, { hi: 0, lo: 0x4000, addressMask: 1 }), 0);
  t.deepEqual(cached(), [0, 1, 2, 3, 6, 7]);
  t.is(driver.pasidIotlbInvalidate(PasidIotlbGranularity.PASID, DOMAIN, 2), 0);
  t.deepEqual(cached(), [0, 1, 2, 3, 6, 7]);
  t.is(driver.pasidIotlbInvalidate(PasidIotlbGranularity.PASID, DOMAIN, 1), 0);
  t.deepEqual(cached(), []);
});

test('GCMD is never read: one command a write, the enabled bits carried along', t => {
  const rig = new Rig();
  const driver = new VtdDriver(rig.registers, rig.memory, rig.pages);
  driver.start();
  t.is(rig.registers.read32(Reg.GSTS), GlobalCommand.TE | GlobalCommand.SRTP | GlobalCommand.QIE);
  driver.disableTranslation();
  t.deepEqual(rig.takeOperations().slice(-2), ['GCMD TE QIE', 'GCMD QIE']);
  t.deepEqual(rig.request(DEVICE, 0x5000), { to: 0x5000n, access: ALL });
});

// What a unit does is written down so that it can be replayed: the model agrees with itself, and another unit is found out at the right line.
import test, { type ExecutionContext } from 'ava';
import { type UnitFactory, VtdUnit } from '@hw/intel-iommu';
import { firstStagePasid, legacyContext, nestedPasid, passThroughPasid } from '@hw/intel-iommu/driver';
import { Fault, Granularity, InterruptEntry, Reg, WaitDescriptor } from '@hw/intel-iommu/spec';
import { Access, Errno, MemTx, type MemoryPort, NO_PASID, type Translation, TxAttrs } from '@remora/core';
import { replayFile, type ReplayResult } from '@remora/tools';
import { DEVICE, ordinary, RecordedGuest, type RecordedGuestOptions, REGISTERS } from './recorded-guest.js';

const DOMAIN = 5;
const MESSAGE = { hi: 0, lo: 0xfee0_1000 | 0, data: 0x4041 };
const { READ, WRITE, READ_WRITE, EXECUTE, PRIVILEGED } = Access;

/** Replays without a mismatch. Returns how much of each kind was compared. */
async function agrees(t: ExecutionContext, guest: RecordedGuest): Promise<ReplayResult['comparedByKind']> {
  const { differences, comparedByKind } = await replayFile(guest.path);
  t.deepEqual(differences, []);
  return comparedByKind;
}

/** Maps, unmaps, faults, resets: what a driver of legacy mode does. */
async function legacy(t: ExecutionContext, options: RecordedGuestOptions = {}): Promise<RecordedGuest> {
  const guest = await RecordedGuest.start(t, options);
  t.is(guest.request(0x1_2345), 0x1_2345n);
  for (let boot = 0; boot < 2; boot++) {
    const driver = guest.drive();
    const table = guest.table('second');
    driver.start(MESSAGE, () => driver.attach(DEVICE, legacyContext(table, DOMAIN)));
    table.map(0x40000, 0x3100, 8, READ_WRITE);
    table.map(0x41000, 0x3200, 1, READ);
    for (const page of [0, 3, 7, 3]) guest.request(0x4000_0010 + page * 0x1000, WRITE);
    guest.request(0x4000_0010, 0);
    guest.request(0x4100_0ff8, WRITE);
    driver.handleFaults();
    table.unmap(0x40000, 8);
    guest.request(0x4000_0010, WRITE);
    driver.iotlbInvalidate(Granularity.PAGE, DOMAIN, { hi: 0, lo: 0x4000_0000, addressMask: 3 });
    guest.request(0x4000_0010, WRITE);
    driver.handleFaults();
    // The same tables say something else now.
    table.map(0x40000, 0x3300, 8, READ_WRITE);
    guest.request(0x4000_0010, WRITE);
    driver.stop();
    guest.unit.reset();
  }
  return guest;
}

test('legacy mode, two boots: every kind of line, and no mismatch', async t => {
  const guest = await legacy(t);
  const lines = guest.finish();
  const { R = 0, ...compared } = await agrees(t, guest);
  t.true(R > 20);
  t.deepEqual(compared, { RESET: 3, T: 15, TF: 4, F: 4, IRQ: 4, MW: 2 });
  t.regex(lines[0]!, /^# vtd-trace 1 remora 1\.0 cap=[0-9a-f]{16} ecap=[0-9a-f]{16} aw=48 cm=0 sm=0 flts=0 pasid=0$/);
  t.is(lines[1], '# cmd a test');
  t.is(lines[2], 'RESET cap=80d2008c222f0606 ecap=0000000000000f42');
  t.is(lines[3], 'T 00:03.0 - 12345 r -> 12000 fff rw off');
  t.is(lines.at(-1), '# end');
});

test('an operation comes before what happens during it', async t => {
  const guest = await legacy(t);
  const lines = guest.finish();
  const at = lines.findIndex(line => line.startsWith('TF '));
  t.is(lines[at], 'TF 00:03.0 - 41000ff8 w -> 5 fff');
  t.true(lines.slice(at + 1, at + 3).every(line => / (MR|F) /.test(line)));
  t.true(lines.slice(at, at + 6).includes(' IRQ fee01000 4041'));
});

test('memory is told of when it is read first, and when it has changed, and not otherwise', async t => {
  const guest = await RecordedGuest.start(t, { name: 'plain.trace' });
  const driver = guest.drive();
  const table = guest.table('second');
  driver.start(undefined, () => driver.attach(DEVICE, legacyContext(table, DOMAIN)));
  const walk = (): number => {
    driver.iotlbInvalidate(Granularity.GLOBAL);
    guest.request(0x4000_0000);
    return 0;
  };
  table.map(0x40000, 0x3100, 1, READ_WRITE);
  walk();
  walk();
  table.unmap(0x40000, 1);
  table.map(0x40000, 0x3200, 1, READ_WRITE);
  walk();
  const lines = guest.finish();
  const walks = lines.flatMap((line, at) =>
    line.startsWith('T ') ? [lines.slice(at + 1).findIndex(each => !each.startsWith(' '))] : [],
  );
  // Root, context and four levels; nothing; the leaf.
  t.deepEqual(walks, [6, 0, 1]);
  await agrees(t, guest);
});

test('scalable mode: nested stages, accessed and dirty bits, PASIDs, execution and privileged mode', async t => {
  const guest = await RecordedGuest.start(t, {
    unit: { nesting: true, 'x-smpwcs': true },
    driver: { mode: 'scalable' },
  });
  const driver = guest.drive();
  const [first, second, inner] = [guest.table('first', false), guest.table('second'), guest.table('first', false)];
  driver.start(MESSAGE);
  driver.attach(DEVICE, {});
  first.map(0x10, 0x3010, 1, READ_WRITE);
  inner.map(0x77, 0x99, 1, READ_WRITE);
  for (const { table } of inner.walk(0x77).steps) second.map(table, table, 1, READ_WRITE);
  second.map(0x99, 0x3030, 1, READ_WRITE);
  t.is(driver.addPasid(DEVICE, 0, passThroughPasid(3)), 0);
  t.is(driver.addPasid(DEVICE, 1, firstStagePasid(first, 1, { pwsnp: 1, sre: 1 })), 0);
  t.is(driver.addPasid(DEVICE, 0x8_0000, nestedPasid(inner, second, 2, { pwsnp: 1 })), 0);
  t.is(guest.request(0x12_3456), 0x12_3456n);
  t.is(guest.request(0x1_0008, READ, 1), 0x301_0008n);
  t.is(guest.request(0x1_0008, WRITE, 1), 0x301_0008n);
  guest.request(0x1_0008, READ | PRIVILEGED, 1);
  guest.request(0x1_0008, READ | EXECUTE | PRIVILEGED, 1);
  t.is(guest.request(0x7_7008, WRITE, 0x8_0000), 0x303_0008n);
  t.is(guest.request(0x7_8008, WRITE, 0x8_0000), Fault.SFS_2);
  const lines = guest.finish();
  t.regex(lines[0]!, / aw=48 cm=0 sm=1 flts=1 pasid=1$/);
  t.is(lines[1], '# cmd a test -device intel-iommu,nesting=on,x-smpwcs=on');
  t.true(lines.some(line => line.startsWith('T 00:03.0 1 10008 rp ')));
  t.true(lines.some(line => / 1 10008 rxp -> /.test(line)));
  const { MW = 0, TF = 0, T } = await agrees(t, guest);
  t.deepEqual([T! + TF, TF >= 1, MW > 8], [7, true, true]);
});

test('interrupts: remapped, blocked, suppressed by FPD, and those that somebody only asks for', async t => {
  const guest = await RecordedGuest.start(t, { unit: { intremap: true } });
  const driver = guest.drive();
  const table = guest.pages.allocate(1);
  const entry = (index: number, values: Parameters<typeof InterruptEntry.encode>[0]): unknown =>
    guest.memory.store(0, table * 0x1000 + index * 16, InterruptEntry.encode(values), 0, 4);
  driver.start(MESSAGE);
  t.is(guest.interrupt(0xfee0_0000, 0x31), 0x31);
  driver.setInterruptTable(table, 7, false);
  driver.enableInterruptRemapping();
  entry(1, { p: 1, v: 0x41, dst: 0x300, svt: 1, sid: DEVICE });
  entry(2, { p: 1, v: 0x42, svt: 1, sid: DEVICE + 1 });
  entry(3, { fpd: 1 });
  const handle = (index: number): number => 0xfee0_0010 | (index << 5);
  t.is(guest.interrupt(handle(1), 0), 0x41);
  t.is(guest.interrupt(handle(1), 0, false), 0x41);
  t.is(guest.interrupt(handle(2), 0), -Fault.IR_7);
  t.is(guest.interrupt(handle(2), 0, false), -Fault.IR_7);
  t.is(guest.interrupt(handle(3), 0), -Fault.IR_3);
  const lines = guest.finish().filter(line => /^ ?(I|IF|F|FPD) /.test(line));
  t.deepEqual(lines, [
    'I 0018 fee00030 0 f -> fee03000 41',
    'I 0018 fee00030 0 n -> fee03000 41',
    'IF 0018 fee00050 0 f -> 26',
    ' F 0018 hi=0000002600000018 lo=0002000000000000',
    'IF 0018 fee00050 0 n -> 0',
    'IF 0018 fee00070 0 f -> 0',
  ]);
  t.like(await agrees(t, guest), { I: 2, IF: 3, F: 1, IRQ: 1 });
});

test('memory that does not answer, and memory that answers later', async t => {
  const guest = await RecordedGuest.start(t);
  const driver = guest.drive();
  const NOWHERE = 0x20_0000;
  driver.start(MESSAGE, () => driver.attach(DEVICE, legacyContext({ rootFrame: NOWHERE, levels: 4 }, DOMAIN)));
  t.is(guest.request(0x1000), Fault.LCT_4);
  t.is(guest.request(0x1000), Fault.LCT_4);
  guest.addMemory(NOWHERE * 0x1000);
  t.is(guest.request(0x1000), Fault.LGN_3);
  const lines = guest.finish().filter(line => line.startsWith(` MR ${(NOWHERE * 0x1000).toString(16)} `));
  t.deepEqual(lines, [' MR 200000000 8 ERR', ' MR 200000000 8 0000000000000000']);
  t.like(await agrees(t, guest), { TF: 3, F: 3 });
});

test('tables that lie in the registers are read as the registers were', async t => {
  const guest = await RecordedGuest.start(t);
  const driver = guest.drive();
  driver.start(undefined, () =>
    driver.attach(DEVICE, legacyContext({ rootFrame: REGISTERS / 0x1000, levels: 4 }, DOMAIN)),
  );
  guest.request(0x1000);
  const lines = guest.finish();
  t.true(lines.some(line => line.startsWith('  R ') || line.startsWith(' R ')));
  await agrees(t, guest);
});

test('device TLBs that have done at once what they are told', async t => {
  const done: number[] = [];
  const guest = await RecordedGuest.start(t, {
    unit: { 'device-iotlb': true },
    environment: { endpoint: id => ({ invalidate: () => done.push(id) > 0, pageResponse: () => undefined }) },
  });
  const driver = guest.drive();
  driver.start();
  t.is(driver.deviceTlbInvalidate(DEVICE, 0, 0x5000, 12), 0);
  t.deepEqual(done, [DEVICE]);
  const lines = guest.finish();
  t.true(lines.includes(' N 00:03.0 - 5000 fff devtlb'));
  t.is((await agrees(t, guest))['N'], 1);
});

/** Drops the status words of waits. */
const lossy: UnitFactory = (config, environment, ...rest) => {
  const { memory } = environment;
  const losing: MemoryPort = {
    load: (...parameters) => memory.load(...parameters),
    read: (...parameters) => memory.read(...parameters),
    write: (...parameters) => memory.write(...parameters),
    store: (hi, lo, from, at, count) => (count === 1 ? MemTx.OK : memory.store(hi, lo, from, at, count)),
  };
  return new VtdUnit(config, { ...environment, memory: losing }, ...rest);
};

/** Answers its fifth translation with the page before. */
class Slipping extends VtdUnit {
  #count = 0;

  override translate(...parameters: Parameters<VtdUnit['translate']>): number {
    const reason = super.translate(...parameters);
    const out: Translation = parameters[5];
    if (++this.#count === 5) out.lo -= 0x1000;
    return reason;
  }
}

/** Keeps its root table over a reset. */
class Remembering extends VtdUnit {
  override reset(): void {
    const kept = this.registers.get(Reg.RTADDR);
    super.reset();
    this.registers.set(Reg.RTADDR, kept);
  }
}

const WRONG: Readonly<Record<string, { makeUnit: UnitFactory; first: RegExp }>> = {
  'a unit that writes no status': { makeUnit: lossy, first: /^ MW / },
  'a unit that answers with another page, once': {
    makeUnit: (...parameters) => new Slipping(...parameters),
    first: /^T /,
  },
};

for (const [what, { makeUnit, first }] of Object.entries(WRONG)) {
  test(`${what} does not agree with the recording, at the right line`, async t => {
    const guest = await legacy(t);
    const lines = guest.finish();
    const { mismatches, differences } = await replayFile(guest.path, { makeUnit });
    t.true(mismatches > 0);
    const { line } = differences[0]!;
    t.regex(lines[line - 1]!, first);
    const alike = lines.slice(0, line).filter(each => first.test(each)).length;
    t.is(alike, what.includes('once') ? 5 : 1);
  });
}

test('the recording of a wrong unit does not agree with the model', async t => {
  const guest = await legacy(t, { makeUnit: (...parameters) => new Slipping(...parameters) });
  guest.finish();
  const { mismatches } = await replayFile(guest.path);
  t.is(mismatches, 1);
  const { differences } = await replayFile(guest.path, { makeUnit: (...parameters) => new Slipping(...parameters) });
  t.deepEqual(differences, []);
});

test('a register that survives a reset is seen when it is read', async t => {
  const guest = await legacy(t);
  const attrs = new TxAttrs();
  guest.unit.mmio.read(Reg.RTADDR, 4, attrs);
  guest.finish();
  const { differences } = await replayFile(guest.path, { makeUnit: (...parameters) => new Remembering(...parameters) });
  t.deepEqual(
    differences.map(({ expected }) => expected),
    ['R 020 4 0'],
  );
});

test('a recorded unit does what an ordinary one does', async t => {
  const [one, other] = [await RecordedGuest.start(t), await RecordedGuest.start(t, { makeUnit: ordinary })];
  for (const guest of [one, other]) {
    const driver = guest.drive();
    const table = guest.table('second');
    driver.start(MESSAGE, () => driver.attach(DEVICE, legacyContext(table, DOMAIN)));
    table.map(0x40, 0x3100, 1, READ_WRITE);
    t.is(guest.request(0x4_0123), 0x310_0123n);
    t.is(guest.request(0x5_0123), Fault.LGN_3);
    t.is(driver.handleFaults().length, 1);
    guest.recorder.end();
    t.is(guest.request(0x4_0123), 0x310_0123n, 'also when nothing is recorded any more');
  }
});

/** What cannot be replayed: the recording says where it ends, and the reader refuses it. */
const UNKNOWN: Readonly<Record<string, { options?: RecordedGuestOptions; act: (guest: RecordedGuest) => void }>> = {
  'a device sent a page request': {
    act: ({ unit }) => unit.pageRequest({ requesterId: DEVICE } as never),
  },
  'a device sent a translated request': {
    act: ({ unit }) => unit.translatedRequest(DEVICE, NO_PASID, 0, 0, READ),
  },
  'a device asked for a translation': {
    act: ({ unit }) => unit.translationRequest(DEVICE, NO_PASID, 0, 0, READ, {} as never),
  },
  'a device took its time over an invalidation': {
    options: {
      unit: { 'device-iotlb': true },
      environment: { endpoint: () => ({ invalidate: () => false, pageResponse: () => undefined }) },
    },
    act: invalidateDeviceTlb,
  },
  'a device TLB was to be invalidated that is not there': {
    options: { unit: { 'device-iotlb': true }, environment: { endpoint: () => undefined } },
    act: invalidateDeviceTlb,
  },
  'a host refused an invalidation': {
    options: { environment: { propagation: { contextCacheInvalidate: () => -Errno.EIO } } },
    act: guest => {
      const driver = guest.drive();
      driver.start();
      driver.contextCacheInvalidate(Granularity.GLOBAL);
    },
  },
};

function invalidateDeviceTlb(guest: RecordedGuest): void {
  const driver = guest.drive();
  driver.start();
  try {
    driver.deviceTlbInvalidate(DEVICE);
  } catch {
    // Nobody waits that long.
  }
}

for (const [problem, { options, act }] of Object.entries(UNKNOWN)) {
  test(`a recording ends where it could not be replayed: ${problem}`, async t => {
    const guest = await RecordedGuest.start(t, options);
    guest.request(0x1000);
    try {
      act(guest);
    } catch {
      // The call is not a whole one.
    }
    guest.request(0x1000);
    t.is(guest.recorder.problem, problem);
    const lines = guest.finish();
    t.is(lines.filter(line => line.startsWith('T ')).length, 1);
    t.is(lines.at(-1), '# truncated');
    await t.throwsAsync(replayFile(guest.path), { message: /the recording was cut off/ });
  });
}

test('an operation within another one, which is no read of registers, cannot be replayed', async t => {
  const attrs = new TxAttrs();
  let handler = (): void => undefined;
  const guest = await RecordedGuest.start(t, {
    environment: { sendMsi: () => handler() },
  });
  handler = () => guest.unit.mmio.write(Reg.FSTS, 0, 4, attrs);
  const driver = guest.drive();
  driver.start(MESSAGE);
  t.is(guest.recorder.problem, undefined);
  t.is(guest.request(0x1000), Fault.LRT_2);
  t.is(guest.recorder.problem, 'an operation came during another one');
  t.false(guest.finish().some(line => line.startsWith('TF ')));
});

test('a recording has one unit', async t => {
  const guest = await RecordedGuest.start(t);
  t.throws(
    () =>
      guest.recorder.units(ordinary)(guest.unit.config, { name: 'b', memory: guest.memory, sendMsi: () => undefined }),
    {
      message: 'a recording has one unit',
    },
  );
});

test('a status word to where nothing answers, and then something does', async t => {
  const guest = await RecordedGuest.start(t);
  const driver = guest.drive();
  driver.start(MESSAGE);
  const STATUS = 0x2_0000_0000;
  const wait = WaitDescriptor.encode({ type: 5, sw: 1, statusData: 7, statusAddressHigh: STATUS / 2 ** 32 });
  t.true(driver.queue.submit(wait) < 0);
  guest.addMemory(STATUS);
  t.is(driver.queue.submit(wait), 0);
  const lines = guest.finish().filter(line => line.includes(` ${STATUS.toString(16)} `));
  t.deepEqual(lines, [' MR 200000000 4 ERR', ' MR 200000000 4 07000000', ' MW 200000000 4 07000000']);
  await agrees(t, guest);
});

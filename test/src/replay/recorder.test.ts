// What is done to a unit, and what it does, is written down so that it can be replayed: the model agrees with itself.
import test, { type ExecutionContext } from 'ava';
import { firstStagePasid, legacyContext, nestedPasid, passThroughPasid } from '@hw/intel-iommu/driver';
import { Fault, Granularity, InterruptEntry, WaitDescriptor } from '@hw/intel-iommu/spec';
import { Access } from '@remora/core';
import { replayFile, type ReplayResult } from '@remora/tools';
import { textFile } from './altered-recording.js';
import { DEVICE, legacyGuest, MESSAGE, RecordedGuest, REGISTERS } from './recorded-guest.js';

const DOMAIN = 5;
const { READ, WRITE, READ_WRITE, EXECUTE, PRIVILEGED } = Access;

/** Replays without a mismatch. Returns how much of each kind was compared. */
async function agrees(
  t: ExecutionContext,
  guest: Pick<RecordedGuest, 'path'>,
): Promise<ReplayResult['comparedByKind']> {
  const { differences, comparedByKind } = await replayFile(guest.path);
  t.deepEqual(differences, []);
  return comparedByKind;
}

test('legacy mode, two boots: every kind of line, and no mismatch', async t => {
  const guest = await legacyGuest(t);
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
  const guest = await legacyGuest(t);
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

test('memory that another processor changes during an operation holds for the next one', async t => {
  const guest = await RecordedGuest.start(t, { name: 'plain.trace' });
  const driver = guest.drive();
  const table = guest.table('second');
  driver.start(undefined, () => driver.attach(DEVICE, legacyContext(table, DOMAIN)));
  for (const frame of [0x3100, 0x3200]) {
    table.unmap(0x40000, 1);
    table.map(0x40000, frame, 1, READ_WRITE);
    driver.iotlbInvalidate(Granularity.GLOBAL);
    guest.request(0x4000_0000);
  }
  const lines = guest.finish();
  const [first, second] = lines.flatMap((line, at) => (line.startsWith('T ') ? [at] : []));
  // As if the unit had read the leaf again while it answered the first request.
  const [changed] = lines.splice(second! + 1, 1);
  t.regex(changed!, /^ MR \w+ 8 0300200300000000$/);
  lines.splice(first! + 7, 0, changed!);
  await agrees(t, { path: await textFile(t, lines) });
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
  t.true(lines.includes(' N 00:03.0 - 5000 fff devtlb done'));
  t.is((await agrees(t, guest))['N'], 1);
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

test('a recorded unit does its work, also when nothing is recorded any more', async t => {
  const guest = await RecordedGuest.start(t);
  const driver = guest.drive();
  const table = guest.table('second');
  driver.start(MESSAGE, () => driver.attach(DEVICE, legacyContext(table, DOMAIN)));
  table.map(0x40, 0x3100, 1, READ_WRITE);
  t.is(guest.request(0x4_0123), 0x310_0123n);
  t.is(guest.request(0x5_0123), Fault.LGN_3);
  t.is(driver.handleFaults().length, 1);
  const lines = guest.finish();
  t.is(guest.request(0x4_0123), 0x310_0123n);
  t.is(guest.request(0x5_0123), Fault.LGN_3);
  t.is(driver.handleFaults().length, 1);
  t.deepEqual(guest.finish(), lines);
});

// NVMe 1.4, 5.14 and 5.2: log pages and asynchronous events; 5.1: Abort.
import test from 'ava';
import { code, rig } from '../rig.test.helper.js';
import { AdminOpcode, FeatureId, IoOpcode, LogPage, Reg, Status } from '../spec/index.js';
import { transfer } from '../driver/index.js';

const EVENT = { opcode: AdminOpcode.ASYNC_EVENT_REQUEST };
const HOUR = 3600e9;

test('error log: newest first; command, status, location, block and namespace', t => {
  const { driver } = rig();
  t.true(driver.logPage(LogPage.ERROR, 4096).every(byte => byte === 0));
  const [beyond] = driver.submit(1, { ...transfer(IoOpcode.READ, 0x12_3456_789a, 1), prp1: 0x8000 });
  t.is(driver.poll(1)[0]!.status, 0x6000 | Status.LBA_OUT_OF_RANGE, 'more, and do not retry');
  const [opcode] = driver.submit(0, { opcode: 0x77, nsid: 5 });
  driver.poll(0);
  const log = new DataView(driver.logPage(LogPage.ERROR, 192).buffer);
  t.deepEqual([log.getBigUint64(0, true), log.getBigUint64(64, true), log.getBigUint64(128, true)], [2n, 1n, 0n]);
  t.deepEqual([log.getUint16(8, true), log.getUint16(10, true)], [0, opcode]);
  t.deepEqual([log.getUint16(12, true), log.getUint16(14, true)], [(0x4000 | Status.INVALID_OPCODE) << 1, 0]);
  t.is(log.getUint32(24, true), 5);
  t.deepEqual([log.getUint16(72, true), log.getUint16(74, true)], [1, beyond]);
  t.deepEqual([log.getUint16(76, true), log.getUint16(78, true)], [(0x4000 | Status.LBA_OUT_OF_RANGE) << 1, 40]);
  t.is(log.getBigUint64(80, true), 0x12_3456_789an);
  for (let count = 0; count < 70; count++) driver.run(0, { opcode: 0x77, cdw10: count });
  const full = new DataView(driver.logPage(LogPage.ERROR, 4096).buffer);
  t.deepEqual([full.getBigUint64(0, true), full.getBigUint64(63 * 64, true)], [72n, 9n]);
  t.deepEqual([full.getUint32(16, true), full.getUint32(63 * 64 + 16, true)], [69, 6]);
});

test('SMART: temperature, data units, commands, hours, shutdowns, media errors, errors', t => {
  const { driver, clock, device } = rig();
  driver.write(0, new Uint8Array(1024 * 512));
  driver.write(0, new Uint8Array(512));
  driver.read(0, 8);
  driver.run(0, { opcode: 0x77 });
  clock.step(3 * HOUR + 5);
  const smart = (): DataView => new DataView(driver.logPage(LogPage.SMART, 512).buffer);
  const log = smart();
  t.deepEqual([log.getUint8(0), log.getUint16(1, true), log.getUint8(3), log.getUint8(4)], [0, 323, 100, 10]);
  const count = (at: number): bigint => log.getBigUint64(at, true);
  t.deepEqual([count(32), count(48)], [1n, 2n], 'units of 512000 bytes, begun');
  t.deepEqual([count(64), count(80)], [1n, 2n]);
  t.deepEqual([count(112), count(128), count(144), count(160), count(176)], [1n, 3n, 0n, 0n, 1n]);
  driver.enable();
  t.is(smart().getBigUint64(144, true), 1n, 'it was not shut down');
  driver.shutdown();
  driver.enable();
  t.is(smart().getBigUint64(144, true), 1n);
  for (const phase of ['enter', 'hold', 'exit'] as const) device.reset(phase);
  t.pass();
});

test('firmware slot, changed namespaces, commands supported and effects', t => {
  const { driver } = rig();
  const firmware = driver.logPage(LogPage.FIRMWARE, 512);
  t.is(firmware[0], 1);
  t.is(Buffer.from(firmware.subarray(8, 16)).toString(), '1.0     ');
  t.true(driver.logPage(LogPage.CHANGED_NAMESPACES, 4096).every(byte => byte === 0));
  const effects = new DataView(driver.logPage(LogPage.EFFECTS, 4096).buffer);
  const supported = (base: number): number[] =>
    Array.from({ length: 256 }, (_, opcode) => opcode).filter(opcode => effects.getUint32(base + 4 * opcode, true) & 1);
  t.deepEqual(
    supported(0),
    Object.values(AdminOpcode).sort((a, b) => a - b),
  );
  t.deepEqual(
    supported(1024),
    Object.values(IoOpcode).sort((a, b) => a - b),
  );
  t.is(effects.getUint32(1024 + 4, true), 3, 'Write changes blocks');
  // Each of them is known: with nothing right, they fail otherwise than unknown ones.
  for (const opcode of supported(1024)) t.not(code(driver.run(1, { opcode, nsid: 9 })), Status.INVALID_OPCODE);
  for (const opcode of supported(0)) {
    if (opcode === AdminOpcode.ASYNC_EVENT_REQUEST) continue;
    t.not(code(driver.run(0, { opcode, nsid: 9, cdw10: 0xff })), Status.INVALID_OPCODE);
  }
});

test('log pages from an offset on; beyond their end are zeroes; what is refused', t => {
  const { driver, allocate } = rig();
  t.is(Buffer.from(driver.logPage(LogPage.FIRMWARE, 8, 8)).toString(), '1.0     ');
  t.deepEqual(driver.logPage(LogPage.FIRMWARE, 16, 504), new Uint8Array(16));
  const page = allocate(1);
  const get = (cdw10: number, cdw12 = 0, nsid = 0xffff_ffff): number =>
    driver.run(0, { opcode: AdminOpcode.GET_LOG_PAGE, nsid, prp1: page.device, cdw10, cdw12 }).status & 0x47ff;
  t.is(get(0x80), 0x4000 | Status.INVALID_LOG_PAGE);
  t.is(get(0), 0x4000 | Status.INVALID_LOG_PAGE);
  t.is(get(LogPage.FIRMWARE, 516), 0x4000 | Status.INVALID_FIELD);
  t.is(get(LogPage.FIRMWARE, 2), 0x4000 | Status.INVALID_FIELD);
  t.is(get(LogPage.SMART, 0, 2), 0x4000 | Status.INVALID_NAMESPACE_OR_FORMAT);
  t.is(get(LogPage.SMART, 0, 1), 0);
  const long = { opcode: AdminOpcode.GET_LOG_PAGE, cdw10: LogPage.ERROR + 0xffff_0000, cdw11: 0xffff };
  t.is(code(driver.run(0, { ...long, prp1: page.device })), Status.INVALID_FIELD, 'longer than a transfer');
});

test('5.2: so many requests as AERL says, with identifiers of their own', t => {
  const { driver } = rig({ aerl: 1 });
  driver.submit(0, { ...EVENT, cid: 5 }, { ...EVENT, cid: 5 }, { ...EVENT, cid: 6 }, { ...EVENT, cid: 7 });
  t.deepEqual(
    driver.poll(0).map(each => [each.cid, code(each)]),
    [
      [5, Status.COMMAND_ID_CONFLICT],
      [7, Status.ASYNC_EVENT_LIMIT_EXCEEDED],
    ],
  );
});

test('5.2: an event waits for a request, and its type then for its log page to be read', t => {
  const { driver } = rig();
  const wrongDoorbell = (): void => driver.setRegister(Reg.DOORBELLS + 8 * 9, 1);
  const wrongValue = (): void => driver.setRegister(Reg.DOORBELLS + 8, 0xffff);
  const events = (): number[] => driver.poll(0).map(({ result }) => result);
  wrongDoorbell();
  wrongDoorbell();
  t.deepEqual(events(), []);
  driver.submit(0, EVENT, EVENT, EVENT);
  t.deepEqual(events(), [0x01_0000], 'once');
  wrongValue();
  t.deepEqual(events(), [], 'the log page has not been read');
  t.is(driver.expect(0, { opcode: AdminOpcode.GET_LOG_PAGE, prp1: 0x8000, cdw10: LogPage.ERROR | 0x8000 }).status, 0);
  t.deepEqual(events(), [], 'read, and the event retained');
  const [cid] = driver.submit(0, { opcode: AdminOpcode.GET_LOG_PAGE, prp1: 0x8000, cdw10: LogPage.ERROR });
  const [read, event] = driver.poll(0);
  t.deepEqual([read?.cid, event?.result], [cid, 0x01_0100]);
  driver.enable();
  driver.setRegister(Reg.DOORBELLS + 8 * 9, 1);
  driver.submit(0, EVENT);
  t.deepEqual(events(), [0x01_0000], 'a reset forgets requests, events and masks');
});

test('5.2: of events that nobody asks for, some are kept', t => {
  const { driver } = rig({ aer_max_queued: 1 });
  driver.setRegister(Reg.DOORBELLS + 8 * 9, 1);
  driver.setRegister(Reg.DOORBELLS + 8, 0xffff);
  driver.submit(0, EVENT);
  t.deepEqual(
    driver.poll(0).map(({ result }) => result),
    [0x01_0000],
  );
  driver.logPage(LogPage.ERROR, 64);
  driver.submit(0, EVENT);
  t.deepEqual(driver.poll(0), []);
});

test('5.2: a temperature beyond its threshold, if the host wants to hear of that', t => {
  const { driver } = rig();
  const threshold = (kelvin: number) =>
    driver.run(0, { opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.TEMPERATURE_THRESHOLD, cdw11: kelvin });
  driver.submit(0, EVENT);
  threshold(300);
  t.is(driver.logPage(LogPage.SMART, 512)[0], 2);
  threshold(330);
  t.is(driver.logPage(LogPage.SMART, 512)[0], 0);
  driver.expect(0, { opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.ASYNC_EVENT, cdw11: 2 });
  driver.submit(0, { opcode: AdminOpcode.SET_FEATURES, cdw10: FeatureId.TEMPERATURE_THRESHOLD, cdw11: 300 });
  t.deepEqual(
    driver.poll(0).map(({ result }) => result),
    [0, 0x02_0101],
  );
});

test('an event waits for room in the completion queue, too', t => {
  const { driver } = rig({}, { start: false });
  driver.enable({ entries: 4 });
  const identify = { opcode: AdminOpcode.IDENTIFY, prp1: 0x8000, cdw10: 1 };
  driver.submit(0, EVENT, identify, identify);
  driver.submit(0, identify);
  driver.setRegister(Reg.DOORBELLS + 8 * 9, 1);
  t.deepEqual(
    driver.poll(0).map(({ result }) => result),
    [0, 0, 0],
  );
  t.deepEqual(
    driver.poll(0).map(({ result }) => result),
    [0x01_0000],
  );
});

test('5.1: Abort takes requests for events back; all else is done already', t => {
  const { driver } = rig();
  driver.submit(0, { ...EVENT, cid: 0x77 }, { ...EVENT, cid: 0x78 });
  const [cid] = driver.submit(0, { opcode: AdminOpcode.ABORT, cdw10: 0x78 << 16 });
  t.deepEqual(
    driver.poll(0).map(each => [each.cid, code(each), each.result]),
    [
      [0x78, Status.COMMAND_ABORT_REQUESTED, 0],
      [cid, 0, 0],
    ],
  );
  t.is(driver.expect(0, { opcode: AdminOpcode.ABORT, cdw10: 0x78 << 16 }).result, 1);
  t.is(driver.expect(0, { opcode: AdminOpcode.ABORT, cdw10: (3 << 16) | 1 }).result, 1);
  t.is(code(driver.run(0, { opcode: AdminOpcode.ABORT, cdw10: 9 })), Status.INVALID_FIELD);
  driver.setRegister(Reg.DOORBELLS + 8 * 9, 1);
  t.is(driver.poll(0)[0]?.cid, 0x77);
});

test('5.1: an Abort aborts nothing if there is room for its own completion only', t => {
  const { driver } = rig({}, { start: false });
  driver.enable({ entries: 4 });
  const identify = { opcode: AdminOpcode.IDENTIFY, prp1: 0x8000, cdw10: 1 };
  driver.submit(0, { ...EVENT, cid: 0x77 }, identify, identify);
  driver.submit(0, { opcode: AdminOpcode.ABORT, cdw10: 0x77 << 16 });
  t.deepEqual(
    driver.poll(0).map(({ result }) => result),
    [0, 0, 1],
  );
});

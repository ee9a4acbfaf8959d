// NVMe 1.4, 5.13 and 5.21: Get and Set Features.
import test from 'ava';
import { rig } from '../rig.test.helper.js';
import { AdminOpcode, FeatureId, Reg, Status } from '../spec/index.js';

const MS = 1e6;

function features(options: Parameters<typeof rig>[0] = {}) {
  const each = rig(options, { start: false });
  const { driver, allocate } = each;
  driver.enable();
  const page = allocate(1);
  const set = (cdw10: number, cdw11: number, nsid = 0): { status: number; result: number } => {
    const { status, result } = driver.run(0, {
      opcode: AdminOpcode.SET_FEATURES,
      nsid,
      prp1: page.device,
      cdw10,
      cdw11,
    });
    return { status: status & 0x47ff, result };
  };
  const get = (cdw10: number, cdw11 = 0, nsid = 0): number => {
    const command = { opcode: AdminOpcode.GET_FEATURES, nsid, prp1: page.device, cdw10, cdw11 };
    return driver.expect(0, command).result >>> 0;
  };
  const refused = (cdw10: number, cdw11 = 0, nsid = 0): number => {
    const command = { opcode: AdminOpcode.GET_FEATURES, nsid, prp1: page.device, cdw10, cdw11 };
    return driver.run(0, command).status & 0x47ff;
  };
  return { ...each, page, set, get, refused };
}

const OK = { status: 0, result: 0 };
const invalid = { status: 0x4000 | Status.INVALID_FIELD, result: 0 };

/** Feature, default, what is written, what of it stays. */
const NUMBERS: readonly (readonly [id: number, fallback: number, written: number, kept: number, nsid?: number])[] = [
  [FeatureId.ARBITRATION, 7, 0x0102_03ff, 0x0102_0307],
  [FeatureId.POWER_MANAGEMENT, 0, 0x20, 0x20],
  [FeatureId.ERROR_RECOVERY, 0, 0xffff_1234, 0x1234, 1],
  [FeatureId.VOLATILE_WRITE_CACHE, 1, 0xfffe, 0],
  [FeatureId.INTERRUPT_COALESCING, 0, 0xff_0403, 0x0403],
  [FeatureId.WRITE_ATOMICITY, 0, 3, 1],
  [FeatureId.ASYNC_EVENT, 0, 0x31f, 0x31f],
];

for (const [id, fallback, written, kept, nsid = 0] of NUMBERS) {
  test(`feature ${id}: default, current and saved value, capabilities, and a reset`, t => {
    const { driver, set, get } = features();
    t.is(get(id, 0, nsid), fallback);
    t.deepEqual(set(id, written, nsid), OK);
    t.is(get(id, 0, nsid), kept);
    t.is(get(id | (1 << 8), 0, nsid), fallback, 'default');
    t.is(get(id | (2 << 8), 0, nsid), fallback, 'saved');
    t.is(get(id | (3 << 8), 0, nsid), nsid === 0 ? 4 : 6, 'capabilities');
    driver.enable();
    t.is(get(id, 0, nsid), fallback);
  });
}

test('number of queues: what there is, whatever is asked for; not once there are queues', t => {
  const { driver, set, get } = features({ max_ioqpairs: 8 });
  t.deepEqual(set(FeatureId.NUMBER_OF_QUEUES, 0x0001_0001), { status: 0, result: 0x0007_0007 });
  t.is(get(FeatureId.NUMBER_OF_QUEUES), 0x0007_0007);
  t.deepEqual(set(FeatureId.NUMBER_OF_QUEUES, 0xffff), invalid);
  t.deepEqual(set(FeatureId.NUMBER_OF_QUEUES, 0xffff_0000), invalid);
  driver.createQueues(1);
  t.is(set(FeatureId.NUMBER_OF_QUEUES, 0).status, 0x4000 | Status.COMMAND_SEQUENCE_ERROR);
  driver.deleteQueues(1);
  t.is(set(FeatureId.NUMBER_OF_QUEUES, 0).status, 0);
});

test('temperature thresholds: over and under, of the composite temperature', t => {
  const { set, get, refused } = features();
  const [over, under] = [0, 1 << 20];
  t.deepEqual([get(FeatureId.TEMPERATURE_THRESHOLD, over), get(FeatureId.TEMPERATURE_THRESHOLD, under)], [343, 0]);
  t.deepEqual(set(FeatureId.TEMPERATURE_THRESHOLD, over | 350), OK);
  t.deepEqual(set(FeatureId.TEMPERATURE_THRESHOLD, under | (0xf << 16) | 270), OK, 'of all sensors');
  t.deepEqual([get(FeatureId.TEMPERATURE_THRESHOLD, over), get(FeatureId.TEMPERATURE_THRESHOLD, under)], [350, 270]);
  t.is(get(FeatureId.TEMPERATURE_THRESHOLD | (1 << 8), over), 343);
  t.deepEqual(set(FeatureId.TEMPERATURE_THRESHOLD, 1 << 16), invalid, 'there is no sensor 1');
  t.deepEqual(set(FeatureId.TEMPERATURE_THRESHOLD, 2 << 20), invalid);
  t.is(refused(FeatureId.TEMPERATURE_THRESHOLD, 0xf << 16), invalid.status);
});

test('interrupt vectors: coalescing may be disabled for each; that of the admin queue is', t => {
  const { set, get, refused } = features({ msix_qsize: 40 });
  t.deepEqual([get(FeatureId.INTERRUPT_VECTOR, 0), get(FeatureId.INTERRUPT_VECTOR, 3)], [0x1_0000, 3]);
  t.deepEqual(set(FeatureId.INTERRUPT_VECTOR, 0x1_0003), OK);
  t.is(get(FeatureId.INTERRUPT_VECTOR, 3), 0x1_0003);
  t.is(get(FeatureId.INTERRUPT_VECTOR | (1 << 8), 3), 3);
  t.deepEqual(set(FeatureId.INTERRUPT_VECTOR, 40), invalid);
  t.is(refused(FeatureId.INTERRUPT_VECTOR, 40), invalid.status);
});

test('timestamp: what the host set, and the time since; or the time since a reset', t => {
  const { driver, clock, page, set, get } = features();
  const now = (): bigint => {
    get(FeatureId.TIMESTAMP);
    return new DataView(driver.peek(page.cpu, 8).buffer).getBigUint64(0, true);
  };
  clock.step(250 * MS);
  t.is(now(), 250n);
  driver.poke(page.cpu, Uint8Array.of(0xf0, 0xff, 0xff, 0xff, 0x12, 0, 0xff, 0xff));
  t.deepEqual(set(FeatureId.TIMESTAMP, 0), OK);
  clock.step(0x20 * MS);
  t.is(now(), 0x0002_0013_0000_0010n, 'set by the host');
  driver.enable();
  clock.step(MS);
  t.is(now(), 1n);
});

test('host identifier: of 8 or of 16 bytes', t => {
  const { driver, page, set, get } = features();
  const id = Uint8Array.from({ length: 16 }, (_, i) => i + 1);
  driver.poke(page.cpu, id);
  t.deepEqual(set(FeatureId.HOST_IDENTIFIER, 1), OK);
  driver.poke(page.cpu, new Uint8Array(16));
  get(FeatureId.HOST_IDENTIFIER, 1);
  t.deepEqual(driver.peek(page.cpu, 17), Uint8Array.of(...id, 0));
  driver.poke(page.cpu, new Uint8Array(16));
  get(FeatureId.HOST_IDENTIFIER, 0);
  t.deepEqual(driver.peek(page.cpu, 16), Uint8Array.of(...id.subarray(0, 8), ...new Uint8Array(8)));
});

test('what is refused: unknown features, saving, namespaces that do not go with the feature, data out of reach', t => {
  const { driver, set, refused } = features();
  for (const id of [0x00, 0x03, 0x0c, 0x0f, 0x7f, 0xc0]) {
    t.deepEqual(set(id, 0), invalid);
    t.is(refused(id), invalid.status);
  }
  t.is(refused(FeatureId.ARBITRATION | (4 << 8)), invalid.status);
  t.is(set((FeatureId.ARBITRATION | 0x8000_0000) >>> 0, 0).status, 0x4000 | Status.FEATURE_NOT_SAVEABLE);
  t.deepEqual(set(FeatureId.POWER_MANAGEMENT, 1), invalid, 'there is one power state');
  t.is(set(FeatureId.ARBITRATION, 0, 1).status, 0x4000 | Status.FEATURE_NOT_NAMESPACE_SPECIFIC);
  t.is(set(FeatureId.ARBITRATION, 0, 2).status, 0x4000 | Status.INVALID_NAMESPACE_OR_FORMAT);
  t.deepEqual(set(FeatureId.ARBITRATION, 0, 0xffff_ffff), OK);
  t.is(set(FeatureId.ERROR_RECOVERY, 0, 0).status, 0x4000 | Status.INVALID_NAMESPACE_OR_FORMAT);
  t.is(refused(FeatureId.ERROR_RECOVERY), 0x4000 | Status.INVALID_NAMESPACE_OR_FORMAT);
  for (const opcode of [AdminOpcode.SET_FEATURES, AdminOpcode.GET_FEATURES]) {
    const command = { opcode, cdw10: FeatureId.TIMESTAMP };
    t.is(driver.run(0, { ...command, prp1: 0x1000_0000 }).status & 0x47ff, 0x4000 | Status.DATA_TRANSFER_ERROR);
    t.is(driver.run(0, { ...command, prp1: 0x8001 }).status & 0x47ff, 0x4000 | Status.PRP_OFFSET_INVALID);
  }
  t.is(driver.register(Reg.CSTS), 1);
});

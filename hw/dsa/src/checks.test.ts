// DSA 8.1 to 8.3: descriptors that are not what they must be. Nothing of them is done, and software is told.
import test from 'ava';
import { Flag, Operation, Reg, Status, Swerr } from './spec/index.js';
import { descriptor, type DescriptorValues } from './driver/index.js';
import { pattern, RECORD, rig, type Rig } from './rig.test.helper.js';

const MOVE = { operation: Operation.MEMMOVE, source: 0x10_0000, destination: 0x20_0000, size: 64 };

const WRONG: readonly [string, DescriptorValues, number, number?][] = [
  ['an operation that OPCAP does not have', { ...MOVE, operation: 0x07 }, Status.OPERATION],
  ['a reserved flag', { ...MOVE, flags: 0x40 }, Status.FLAGS, 0x40],
  ['block on fault where the queue does not allow it', { ...MOVE, flags: 0x2 }, Status.FLAGS, 0x2],
  ['a fence outside of batches', { ...MOVE, flags: 0x1 }, Status.FLAGS, 0x1],
  ['a flag of another operation', { ...MOVE, flags: Flag.CHECK_RESULT }, Status.FLAGS, Flag.CHECK_RESULT],
  ['a field that the operation does not have', { ...MOVE, extra1: 1 }, Status.RESERVED],
  ['addresses of an operation that has none', { ...MOVE, operation: Operation.NOOP }, Status.RESERVED],
  ['no bytes', { ...MOVE, size: 0 }, Status.TRANSFER_SIZE],
  ['more bytes than the queue allows', { ...MOVE, size: 2 ** 21 + 1 }, Status.TRANSFER_SIZE],
  ['a source beyond all addresses', { ...MOVE, source: 2n ** 64n - 63n }, Status.TRANSFER_SIZE],
  ['a target beyond all addresses', { ...MOVE, destination: 2n ** 64n - 1n }, Status.TRANSFER_SIZE],
  ['a batch of one', { operation: Operation.BATCH, source: 0x8000, size: 1 }, Status.DESCRIPTOR_COUNT],
  ['a batch of 33', { operation: Operation.BATCH, source: 0x8000, size: 33 }, Status.DESCRIPTOR_COUNT],
  ['a list between lines', { operation: Operation.BATCH, source: 0x8020, size: 2 }, Status.LIST_ALIGNMENT],
  [
    'targets at different places in their pages',
    { ...MOVE, operation: Operation.DUALCAST, extra0: 0x30_0010 },
    Status.DUALCAST_ALIGNMENT,
  ],
  ['two targets in one', { ...MOVE, operation: Operation.DUALCAST, extra0: 0x20_0000 }, Status.OVERLAP],
  ['a CRC of what is overwritten', { ...MOVE, operation: Operation.COPY_CRC, destination: 0x10_003f }, Status.OVERLAP],
  [
    'a seed between words',
    { operation: Operation.CRC, source: 0x10_0000, size: 4, flags: Flag.READ_CRC_SEED, extra2: 0x30_0002 },
    Status.ADDRESS_ALIGNMENT,
  ],
  ['an interrupt that is not there', { ...MOVE, interrupt: 99 }, Status.INTERRUPT_HANDLE],
  ["interrupt 0, which is the device's", { ...MOVE, interrupt: 0 }, Status.INTERRUPT_HANDLE],
];

for (const [name, values, status, invalid] of WRONG) {
  test(`refused: ${name}`, t => {
    const { run, poke, peek, sent, driver } = rig();
    poke(0x10_0000, pattern(0x1000));
    t.like(run(values), { status, completed: 0, value: invalid ?? 0 });
    t.deepEqual(peek(0x20_0000, 0x1000), new Uint8Array(0x1000));
    t.deepEqual(sent(), []);
    t.is(driver.register(Reg.SWERR), 0, 'the completion record has told it');
    t.is(run(MOVE).status, Status.SUCCESS, 'the next one is done');
  });
}

test('a result needs a record to be written to', t => {
  for (const operation of [Operation.COMPARE, Operation.CRC]) {
    const { driver } = rig();
    const { size, source } = MOVE;
    driver.submit(0, { operation, size, source, ...(operation === Operation.CRC ? {} : { destination: 0x20_0000 }) });
    t.like(swerr({ driver }), { valid: 1, error: Status.FLAGS, invalidFlags: Flag.REQUEST_COMPLETION });
  }
});

test('9.2.15 SWERR: the first error that no record tells, until software has seen it', t => {
  const { driver, sent } = rig();
  driver.submit(0, { ...MOVE, size: 0 });
  driver.submit(0, { ...MOVE, operation: 0x3f });
  t.deepEqual(swerr({ driver }), {
    valid: 1,
    overflow: 1,
    descriptorValid: 1,
    queueValid: 1,
    batch: 0,
    write: 0,
    privileged: 0,
    error: Status.TRANSFER_SIZE,
    queue: 0,
    operation: Operation.MEMMOVE,
    pasid: 0,
    batchIndex: 0,
    invalidFlags: 0,
    addressLo: 0,
    addressHi: 0,
  });
  t.deepEqual(sent(), [], 'the interrupt is off');
  driver.setRegister(Reg.SWERR, 3);
  t.like(swerr({ driver }), { valid: 0, overflow: 0 });
  driver.setRegister(Reg.GENCTRL, 1);
  driver.submit(0, { ...MOVE, operation: 0x3f });
  t.like(swerr({ driver }), { valid: 1, overflow: 0, error: Status.OPERATION, operation: 0x3f });
  t.deepEqual(sent(), [0]);
  t.is(driver.register(Reg.INTCAUSE), 1);
  driver.setRegister(Reg.INTCAUSE, 1);
  t.is(driver.register(Reg.INTCAUSE), 0);
});

test('a record that is not aligned is not written', t => {
  const { driver, peek } = rig();
  driver.submit(0, { ...MOVE, completion: RECORD + 16 });
  t.like(swerr({ driver }), { valid: 1, error: Status.COMPLETION_ALIGNMENT });
  t.deepEqual(peek(RECORD, 64), new Uint8Array(64));
});

test('9.3 a portal takes 64 bytes, in order or not; what is incomplete is nothing', t => {
  const { driver, addressSpace, run, poke, peek } = rig();
  const portal = 0xe100_0000;
  poke(0x10_0000, pattern(64));
  const bytes = descriptor({ ...MOVE, completion: RECORD });
  for (const at of [60, 32, 0, 4, 8, 12, 16, 20, 24, 28, 36, 40, 44, 48, 52]) {
    addressSpace.write(0, portal + at, bytes.subarray(at, at + 4));
  }
  t.is(driver.completion(RECORD).status, Status.NONE);
  addressSpace.write(0, portal + 56, bytes.subarray(56, 60));
  t.is(driver.completion(RECORD).status, Status.SUCCESS);
  t.deepEqual(peek(0x20_0000, 64), pattern(64));
  poke(RECORD, new Uint8Array(32));
  addressSpace.write(0, portal + 64, bytes.subarray(0, 32));
  addressSpace.write(0, portal + 128 + 32, bytes.subarray(32));
  addressSpace.write(0, portal + 64 + 32, bytes.subarray(32));
  t.is(driver.completion(RECORD).status, Status.NONE, 'halves of different lines');
  t.is(run(MOVE).status, Status.SUCCESS);
  t.deepEqual(peek(portal, 4), new Uint8Array(4).fill(0xff));
});

function swerr({ driver }: Pick<Rig, 'driver'>) {
  const words = Int32Array.from({ length: 8 }, (_, index) => driver.register(Reg.SWERR + 4 * index));
  return Swerr.decode(words);
}

// DSA 9.2: registers, their tables, and the commands by which software enables what it has configured.
import { Config } from '@remora/pci';
import test from 'ava';
import { Command, CommandError, Operation, PAGE, QueueState, Reg, Status, Table, WQCFG_BYTES } from './spec/index.js';
import type { QueueValues } from './driver/index.js';
import { PORTALS, RECORD, rig } from './rig.test.helper.js';

const NO_QUEUES: readonly QueueValues[] = [];

test('9.2.1 to 9.2.7: what the capability registers say', t => {
  const { driver } = rig({ 'work-queues': 4, engines: 2, groups: 3, 'queue-size': 64 }, NO_QUEUES);
  const qword = (offset: number): bigint =>
    (BigInt(driver.register(offset + 4)) << 32n) | BigInt(driver.register(offset));
  t.is(driver.register(Reg.VERSION), 0x100);
  t.is(qword(Reg.GENCAP), 0x80b5_001en);
  t.is(qword(Reg.WQCAP), (0xbn << 48n) | 0x4_0040n);
  t.is(qword(Reg.GRPCAP), 0x1_6003n);
  t.is(qword(Reg.ENGCAP), 2n);
  t.is(qword(Reg.OPCAP), (1n << 32n) | 0x3_027fn);
  t.is(qword(Reg.OFFSETS), 0x8_0006_0004n);
  t.is(driver.register(Reg.CMDCAP), 0x7ffe);
  const { driver: rich } = rig({ ats: true, pri: true, pasid: false }, NO_QUEUES);
  t.is(rich.register(Reg.GENCAP) & 1, 1);
  t.is(rich.register(Reg.WQCAP + 4), 0xe_0000, 'dedicated mode, ATS, priorities; nothing is shared');
});

const WRONG: readonly [string, QueueValues, number][] = [
  ['no room', { size: 0 }, CommandError.QUEUE_SIZE],
  ['no priority', { priority: 0 }, CommandError.PRIORITY],
  ['shared, without PASID', { dedicated: 0 }, CommandError.PASID],
  ['PASID, which the function does not have enabled', { pasidEnable: 1 }, CommandError.PASID],
  ['blocking on faults, which the device cannot', { blockOnFault: 1 }, CommandError.BLOCK_ON_FAULT],
  ['larger batches than the device has', { maxBatchShift: 6 }, CommandError.BATCH_SIZE],
  ['longer transfers than the device has', { maxTransferShift: 22 }, CommandError.TRANSFER_SIZE],
];

for (const [name, values, error] of WRONG) {
  test(`a work queue is not enabled: ${name}`, t => {
    const { driver } = rig({}, NO_QUEUES);
    driver.probe();
    driver.configureQueue(0, values);
    driver.configureGroup(0, 1, 1);
    t.is(driver.command(Command.ENABLE_DEVICE), 0);
    t.is(driver.command(Command.ENABLE_WQ, 0), error);
    t.is(driver.queueState(0), QueueState.DISABLED);
  });
}

test('the device is not enabled: sizes, groups, bus mastering; and not twice', t => {
  const { driver, config } = rig({}, NO_QUEUES);
  driver.probe();
  driver.configureQueue(0, { size: 100 });
  driver.configureQueue(1, { size: 29 });
  driver.configureGroup(0, 3, 1);
  t.is(driver.command(Command.ENABLE_DEVICE), CommandError.QUEUE_SIZES);
  driver.configureQueue(1, { size: 28 });
  driver.configureGroup(0, 3, 0);
  t.is(driver.command(Command.ENABLE_DEVICE), CommandError.GROUP);
  driver.configureGroup(0, 3, 1);
  driver.configureGroup(1, 2, 2);
  t.is(driver.command(Command.ENABLE_DEVICE), CommandError.GROUP_QUEUE);
  driver.configureGroup(1, 4, 1);
  t.is(driver.command(Command.ENABLE_DEVICE), CommandError.GROUP_ENGINE);
  driver.configureGroup(1, 0, 0);
  config.write(Config.COMMAND, 2, 2);
  t.is(driver.command(Command.ENABLE_DEVICE), CommandError.BUS_MASTER);
  config.write(Config.COMMAND, 6, 2);
  t.is(driver.register(Reg.GENSTS), 0);
  t.is(driver.command(Command.ENABLE_DEVICE), 0);
  t.is(driver.register(Reg.GENSTS), 1);
  t.is(driver.command(Command.ENABLE_DEVICE), CommandError.DEVICE_ENABLED);
});

test('commands that make no sense are refused', t => {
  const { driver } = rig({}, NO_QUEUES);
  driver.probe();
  t.is(driver.command(Command.ENABLE_WQ, 0), CommandError.DEVICE_NOT_ENABLED);
  t.is(driver.command(Command.DISABLE_DEVICE), CommandError.DISABLE_NOT_ENABLED);
  for (const command of [Command.DRAIN_ALL, Command.ABORT_WQ, Command.RESET_WQ, Command.DRAIN_PASID]) {
    t.is(driver.command(command, 1), CommandError.NOT_ENABLED);
  }
  for (const command of [0, 15, 31]) t.is(driver.command(command), CommandError.INVALID_COMMAND);
  driver.start([{}]);
  t.is(driver.command(Command.ENABLE_WQ, 0), CommandError.QUEUE_ENABLED);
  t.is(driver.command(Command.ENABLE_WQ, 8), CommandError.INVALID_QUEUE);
  t.is(driver.command(Command.DISABLE_WQ, 0x100), CommandError.INVALID_QUEUE);
  t.is(driver.command(Command.DRAIN_WQ, 0x1_0001), CommandError.INVALID_QUEUE);
  t.is(driver.command(Command.REQUEST_INTERRUPT_HANDLE, 3), 3 << 8);
  t.is(driver.command(Command.REQUEST_INTERRUPT_HANDLE, 9), CommandError.INTERRUPT_INDEX);
  t.is(driver.command(Command.REQUEST_INTERRUPT_HANDLE, 0x1_0001), CommandError.INTERRUPT_INDEX);
  t.is(driver.command(Command.RELEASE_INTERRUPT_HANDLE, 3), 0);
});

test('configuration holds while it is in use', t => {
  const { driver, run } = rig({}, [{}, {}]);
  driver.configureGroup(0, 0, 0);
  driver.configureQueue(0, { size: 7, maxTransferShift: 3 });
  t.is(run({ operation: Operation.FILL, destination: 0x20_0000, size: 100 }).status, Status.SUCCESS);
  t.is(driver.command(Command.DISABLE_WQ, 1), 0);
  driver.configureQueue(0, { size: 7, maxTransferShift: 3 });
  t.is(driver.register(Table.WQCFG), 16, 'sizes wait for the device');
  t.is(driver.command(Command.ENABLE_WQ, 0), 0);
  t.is(run({ operation: Operation.FILL, destination: 0x20_0000, size: 100 }).status, Status.TRANSFER_SIZE);
  t.is(driver.register(Table.WQCFG + WQCFG_BYTES), 16);
});

test('a queue that is off takes nothing, and SWERR says so; reset clears what was configured', t => {
  const { driver, peek } = rig({}, [{}, {}]);
  t.is(driver.command(Command.RESET_WQ, 2), 0);
  t.is(driver.queueState(1), QueueState.DISABLED);
  t.is(driver.register(Table.WQCFG + WQCFG_BYTES + 8), 0);
  driver.submit(1, { operation: Operation.NOOP, completion: RECORD });
  t.is(driver.register(Reg.SWERR) & 0xffff, (Status.QUEUE_NOT_ENABLED << 8) | 9);
  driver.setRegister(Reg.SWERR, 3);
  driver.submit(5, { operation: Operation.NOOP, completion: RECORD });
  t.is(driver.register(Reg.SWERR) >>> 16, 5);
  t.is(driver.command(Command.DISABLE_DEVICE), 0);
  t.deepEqual([driver.register(Reg.GENSTS), driver.queueState(0)], [0, QueueState.DISABLED]);
  t.is(driver.command(Command.RESET_DEVICE), 0);
  t.is(driver.register(Table.WQCFG), 0);
  t.is(driver.register(Table.GRPCFG), 0);
  t.deepEqual(peek(RECORD, 32), new Uint8Array(32));
  driver.start();
  driver.submit(0, { operation: Operation.NOOP, completion: RECORD });
  t.is(driver.completion(RECORD).status, Status.SUCCESS);
});

test('interrupts: of commands by vector 0, of descriptors by theirs, as MSIXPERM lets them', t => {
  const { driver, run, sent } = rig();
  t.is(driver.command(Command.DRAIN_ALL, 0, 1), 0);
  t.deepEqual([sent(), driver.register(Reg.INTCAUSE)], [[0], 2]);
  driver.setRegister(Reg.INTCAUSE, 2);
  t.is(driver.register(Reg.INTCAUSE), 0);
  t.is(run({ operation: Operation.NOOP, interrupt: 3 }).status, Status.SUCCESS);
  t.deepEqual(sent(), [3]);
  driver.setRegister(Table.MSIXPERM + 8 * 3, (77 << 12) | 8);
  t.is(run({ operation: Operation.NOOP, interrupt: 3 }).status, Status.INTERRUPT_HANDLE, 'it is of PASID 77');
  driver.setRegister(Table.MSIXPERM + 8 * 3, 4);
  t.is(run({ operation: Operation.NOOP, interrupt: 3 }).status, Status.SUCCESS, 'permissions are ignored');
  t.deepEqual(sent(), [3]);
});

test('a function-level reset brings everything back to power-on', t => {
  const { driver, config, device, map } = rig();
  const express = device.fn.capabilities.find(0x10)!;
  config.write(express + 8, 0x8000, 2);
  map();
  t.is(driver.register(Reg.GENSTS), 0);
  t.is(driver.register(Table.WQCFG), 0);
  driver.start();
});

test('registers beyond the tables, and portals beyond the queues, are nothing', t => {
  const { driver, addressSpace } = rig({ 'work-queues': 3 });
  driver.setRegister(0x5000, 0xffff_ffff);
  t.is(driver.register(0x5000), 0);
  for (let at = 0; at < 64; at += 8) addressSpace.write(0, PORTALS + 3 * 4 * PAGE + at, new Uint8Array(8));
  t.is(driver.register(Reg.SWERR), 0);
});

// NVMe 1.4, 3.1: registers, and how the controller is enabled, disabled and shut down (7.6).
import { Command, Config } from '@remora/pci';
import test from 'ava';
import { BAR, rig } from '../rig.test.helper.js';
import { Reg } from '../spec/index.js';

const EN = 1;
const SIZES = (6 << 16) | (4 << 20);
const RDY = 1;
const CFS = 2;

test('1b36:0010, mass storage, NVM Express; a 64-bit BAR 0, MSI, MSI-X and Express with function-level reset', t => {
  const { config, device } = rig({}, { start: false });
  t.deepEqual([config.get16(0), config.get16(2), config.get32(8) >>> 8], [0x1b36, 0x0010, 0x010802]);
  t.deepEqual([config.get16(0x2c), config.get16(0x2e)], [0x1af4, 0x1100]);
  t.is(config.get8(Config.INTERRUPT_PIN), 1);
  config.write(Config.BAR0, 0xffff_ffff, 4);
  t.is(config.get32(Config.BAR0), 0xffff_c004);
  for (const id of [0x05, 0x10, 0x11]) t.not(device.fn.capabilities.find(id), undefined, `capability ${id}`);
  const bare = rig({ msi: false, msix: false }, { start: false }).device.fn.capabilities;
  t.deepEqual([bare.find(0x05), bare.find(0x11)], [undefined, undefined]);
});

test('3.1.1, 3.1.2: CAP and VS, in dwords and quadwords, words and bytes', t => {
  const { driver, addressSpace } = rig({}, { start: false });
  t.is(driver.register(Reg.CAP), 0x0f01_07ff);
  t.is(driver.register(Reg.CAP + 4), 0x0040_0820);
  t.is(driver.register(Reg.VS), 0x0001_0400);
  const bytes = new Uint8Array(8);
  addressSpace.read(0, BAR, bytes);
  t.is(new DataView(bytes.buffer).getBigUint64(0, true), 0x0040_0820_0f01_07ffn);
  addressSpace.read(0, BAR + 1, bytes.subarray(0, 1));
  t.is(bytes[0], 0x07);
  addressSpace.read(0, BAR + 2, bytes.subarray(0, 2));
  t.deepEqual([...bytes.subarray(0, 2)], [0x01, 0x0f]);
  driver.setRegister(Reg.CAP, 0);
  t.is(driver.register(Reg.CAP), 0x0f01_07ff);
  t.is(rig({ mqes: 15 }, { start: false }).driver.capabilities.mqes, 15);
});

test('what is no register is zero, and takes nothing', t => {
  const { driver } = rig();
  for (const offset of [0x18, Reg.NSSR, 0x38, 0x50, 0xe00, 0xffc, Reg.DOORBELLS, Reg.DOORBELLS + 4]) {
    if (offset < Reg.DOORBELLS) driver.setRegister(offset, 0x4e56_4d65);
    t.is(driver.register(offset), 0, `0x${offset.toString(16)}`);
  }
  t.is(driver.status.rdy, 1);
});

test('3.1.8 to 3.1.10: AQA, ASQ and ACQ keep what is no reserved bit, and are written by halves', t => {
  const { driver, addressSpace } = rig({}, { start: false });
  driver.setRegister(Reg.AQA, 0xffff_ffff);
  t.is(driver.register(Reg.AQA), 0x0fff_0fff);
  addressSpace.write(0, BAR + Reg.ASQ, new Uint8Array(8).fill(0xff));
  t.deepEqual([driver.register(Reg.ASQ), driver.register(Reg.ASQ + 4)], [0xffff_f000, 0xffff_ffff]);
  driver.setRegister(Reg.ACQ, 0x1234_5678);
  driver.setRegister(Reg.ACQ + 4, 0x9abc);
  t.deepEqual([driver.register(Reg.ACQ), driver.register(Reg.ACQ + 4)], [0x1234_5000, 0x9abc]);
  addressSpace.write(0, BAR + Reg.ACQ, Uint8Array.of(0, 0));
  t.is(driver.register(Reg.ACQ), 0x1234_5000, 'registers are not written by words');
});

test('enabling: ready at once; disabling: everything but the admin queues’ registers is reset', t => {
  const { driver } = rig({}, { start: false });
  t.is(driver.register(Reg.CSTS), 0);
  driver.enable({ entries: 8 });
  t.is(driver.register(Reg.CSTS), RDY);
  const asq = driver.register(Reg.ASQ);
  driver.setRegister(Reg.INTMS, 5);
  driver.setRegister(Reg.CC, SIZES);
  t.is(driver.register(Reg.CSTS), 0);
  t.is(driver.register(Reg.INTMS), 0);
  t.deepEqual([driver.register(Reg.AQA), driver.register(Reg.ASQ)], [0x0007_0007, asq]);
  t.is(driver.register(Reg.CC), SIZES);
});

test('what the controller cannot be enabled with is a fatal status, until it is disabled', t => {
  const { driver, allocate } = rig({}, { start: false });
  const base = allocate(16).device;
  const attempt = (cc: number, aqa = 0x0007_0007, asq = base, acq = base + 0x1000): number => {
    driver.setRegister(Reg.AQA, aqa);
    driver.setRegister(Reg.ASQ, asq);
    driver.setRegister(Reg.ACQ, acq);
    driver.setRegister(Reg.CC, cc | EN);
    const status = driver.register(Reg.CSTS);
    driver.setRegister(Reg.CC, 0);
    t.is(driver.register(Reg.CSTS), 0);
    return status;
  };
  t.is(attempt(SIZES), RDY);
  t.is(attempt(SIZES | (6 << 4)), RDY, 'all command sets');
  t.is(attempt(0), RDY, 'entry sizes are not needed yet');
  t.is(attempt(SIZES, 0x0007_0000), CFS, 'a submission queue of one entry');
  t.is(attempt(SIZES, 0x0000_0007), CFS, 'a completion queue of one entry');
  t.is(attempt(SIZES | (5 << 7)), CFS, 'pages of 128 KiB');
  t.is(attempt(SIZES | (1 << 11)), CFS, 'weighted round robin');
  for (const css of [1, 5, 7]) t.is(attempt(SIZES | (css << 4)), CFS, `command set ${css}`);
  const large = (base + 0xffff) & ~0xffff;
  t.is(attempt(SIZES | (4 << 7), 0x0007_0007, large, large), RDY, 'pages of 64 KiB');
  t.is(attempt(SIZES | (4 << 7), 0x0007_0007, large + 0x1000, large), CFS, 'not aligned to them');
});

test('while it is enabled, only entry sizes and shutdown change in CC', t => {
  const { driver } = rig();
  const before = driver.register(Reg.CC);
  driver.setRegister(Reg.CC, before | (3 << 7) | (6 << 4) | (1 << 11));
  t.is(driver.register(Reg.CC), before);
  driver.setRegister(Reg.CC, (before & ~0xff_0000) | (7 << 16) | (5 << 20));
  t.is(driver.register(Reg.CC), (before & ~0xff_0000) | (7 << 16) | (5 << 20));
});

test('7.6.2: a shutdown is complete at once, and forgotten when the host takes it back or resets', t => {
  const { driver } = rig();
  driver.shutdown();
  t.is(driver.register(Reg.CSTS), RDY | (2 << 2));
  driver.setRegister(Reg.CC, EN | SIZES);
  t.is(driver.register(Reg.CSTS), RDY);
  driver.setRegister(Reg.CC, EN | SIZES | (2 << 14));
  t.is(driver.status.shst, 2, 'abrupt');
  driver.setRegister(Reg.CC, 0);
  t.is(driver.register(Reg.CSTS), 0);
});

test('doorbells of a controller that is not ready have no effect', t => {
  const { driver } = rig();
  driver.setRegister(Reg.CC, 0);
  for (let queue = 0; queue < 3; queue++) {
    driver.setRegister(Reg.DOORBELLS + 8 * queue, 3);
    driver.setRegister(Reg.DOORBELLS + 8 * queue + 4, 3);
  }
  t.is(driver.register(Reg.CSTS), 0);
});

test('a function-level reset and a reset of the machine bring back all registers', t => {
  for (const how of ['function', 'machine'] as const) {
    const { driver, device, map, config } = rig();
    driver.setRegister(Reg.INTMS, 7);
    const express = device.fn.capabilities.find(0x10)!;
    if (how === 'function') config.write(express + 8, config.get16(express + 8) | 0x8000, 2);
    else for (const phase of ['enter', 'hold', 'exit'] as const) device.reset(phase);
    t.is(config.get16(Config.COMMAND) & (Command.MASTER | Command.MEMORY), 0);
    map();
    for (const offset of [Reg.CC, Reg.CSTS, Reg.AQA, Reg.ASQ, Reg.ACQ, Reg.INTMS])
      t.is(driver.register(offset), 0, `${how} 0x${offset.toString(16)}`);
    driver.enable();
    t.is(driver.identify().length, 4096);
  }
});

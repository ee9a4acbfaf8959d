/**
 * The driver's operations next to those of Linux: every register write up to TE, with the descriptors behind each tail write. The test titles
 * name the recordings (kernels 6.1 and 7.2 on QEMU 10.2.2).
 */
import { Access } from '@remora/core';
import test from 'ava';
import type { VtdConfig } from '../config/index.js';
import { legacyContext, secondStagePasid } from './entry-values.js';
import { PageTable } from './page-table.js';
import { recordedOperations, recordedText } from './recorded.test.helper.js';
import { Rig } from './rig.test.helper.js';
import { VtdDriver } from './vtd-driver.js';

/** Requester ids and domain ids, in the order in which Linux attaches: 00:00.0, :03.0 to :07.0, :1f.0, :1f.2, :1f.3. */
const FUNCTIONS: readonly (readonly [requesterId: number, domain: number])[] = [
  [0x00, 2],
  [0x18, 3],
  [0x20, 4],
  [0x28, 5],
  [0x30, 6],
  [0x38, 7],
  [0xf8, 8],
  [0xfa, 8],
  [0xfb, 8],
];

function rig(
  options: Partial<VtdConfig>,
  mode: 'legacy' | 'scalable',
): { rig: Rig; driver: VtdDriver; table: PageTable } {
  const made = new Rig({ compat: 'qemu-10.2', ...options });
  const driver = new VtdDriver(made.registers, made.memory, made.pages, { mode });
  const table = new PageTable(made.memory, made.pages, { stage: 'second', levels: 4 });
  return { rig: made, driver, table };
}

/** The first fault of the recording: FSTS, the record from its end, then both are cleared. */
const RECORDED_HANDLER = `R 034 4 2
R 22c 4 80ffff05
R 228 4 30
R 220 8 10200000
W 22c 4 80000000
R 22c 4 ffff05
W 034 4 83
`;

test('A61: legacy mode, caching mode', t => {
  const { rig: machine, driver, table } = rig({ 'caching-mode': true }, 'legacy');
  driver.enableQueue();
  driver.setRootTable();
  // The interrupt core of Linux programs the message when it activates it, and again when it chooses a processor.
  driver.routeFaultEvents(0, 0xfee01004, 0x22);
  driver.enableFaultEvents(0, 0xfee01004, 0x22);
  for (const [requesterId, domain] of FUNCTIONS) t.is(driver.attach(requesterId, legacyContext(table, domain)), 0);
  driver.enableTranslation();
  const recorded = recordedOperations('A61');
  t.is(recorded.length, 31);
  t.true(recorded.includes('IQT iotlb g=2 dw=1 dr=1 did=8, wait sw=1'));
  t.deepEqual(machine.takeOperations(), recorded);
});

test('B72: scalable mode with second-stage tables, caching mode', t => {
  const { rig: machine, driver, table } = rig({ 'x-scalable-mode': 'on', 'caching-mode': true }, 'scalable');
  driver.enableQueue();
  driver.setRootTable();
  driver.routeFaultEvents(0, 0xfee00000, 0x21);
  driver.enableFaultEvents(0, 0xfee00000, 0x21);
  for (const [requesterId] of FUNCTIONS) t.is(driver.attach(requesterId, {}), 0);
  for (const [requesterId, domain] of FUNCTIONS) {
    t.is(driver.addPasid(requesterId, 0, secondStagePasid(table, domain)), 0);
  }
  driver.enableTranslation();
  const recorded = recordedOperations('B72');
  t.is(recorded.length, 49);
  t.true(recorded.includes('IQT pasid-cache g=1 did=8, wait sw=1'));
  t.deepEqual(machine.takeOperations(), recorded);
});

test('C61: scalable mode with first-stage tables; without caching mode new entries need no flush', t => {
  const { rig: machine, driver } = rig({ 'x-scalable-mode': 'on', 'x-flts': true }, 'scalable');
  const table = new PageTable(machine.memory, machine.pages, { stage: 'first', levels: 4 });
  driver.start({ hi: 0, lo: 0xfee01004, data: 0x22 }, () => {
    for (const [requesterId, domain] of FUNCTIONS) {
      t.is(driver.attach(requesterId, {}), 0);
      t.is(driver.addPasid(requesterId, 0, { pgtt: 1, fsptptr: table.rootFrame, did: domain }), 0);
    }
  });
  const recorded = recordedOperations('C61');
  t.is(recorded.length, 13);
  // start() programs the fault message once.
  t.deepEqual(machine.takeOperations(), recorded.toSpliced(recorded.indexOf('FEDATA'), 3));
});

test('D61: interrupt remapping comes first', t => {
  const { rig: machine, driver, table } = rig({ intremap: true, eim: true }, 'legacy');
  driver.enableQueue();
  driver.setInterruptTable(machine.pages.allocate(256), 0xf, true);
  driver.enableInterruptRemapping();
  driver.routeFaultEvents(0, 0xfee01004, 0x21);
  driver.enableFaultEvents(0, 0xfee01004, 0x21);
  driver.clearFaultStatus();
  for (const index of [1, 1, 8, 8]) t.is(driver.interruptEntryCacheInvalidate(index), 0);
  driver.setRootTable();
  for (const [requesterId, domain] of FUNCTIONS) t.is(driver.attach(requesterId, legacyContext(table, domain)), 0);
  driver.enableTranslation();
  const recorded = recordedOperations('D61');
  t.is(recorded.length, 22);
  t.true(recorded.includes('GCMD SRTP QIE IRE'));
  t.deepEqual(machine.takeOperations(), recorded);
});

test('E61leg: the fault handler reads and clears a record in the same order', t => {
  const machine = new Rig({ compat: 'qemu-10.2' });
  const accesses: string[] = [];
  const note = (kind: string, offset: number, value?: number): void => {
    accesses.push(
      `${kind} ${offset.toString(16).padStart(3, '0')}${value === undefined ? '' : ` ${(value >>> 0).toString(16)}`}`,
    );
  };
  const driver = new VtdDriver(
    {
      read32: offset => (note('R', offset), machine.registers.read32(offset)),
      write32: (offset, value) => (note('W', offset, value), machine.registers.write32(offset, value)),
      read64: (offset, out) => (note('R', offset), machine.registers.read64(offset, out)),
      write64: (offset, hi, lo) => machine.registers.write64(offset, hi, lo),
    },
    machine.memory,
    machine.pages,
  );
  const table = new PageTable(machine.memory, machine.pages, { stage: 'second', levels: 4 });
  driver.start(undefined, () => void driver.attach(0x30, legacyContext(table, 6)));
  machine.request(0x30, 0x1020_0000, Access.WRITE);
  accesses.length = 0;
  t.is(driver.handleFaults().length, 1);
  t.deepEqual(accesses, ['R 034', 'R 22c', 'R 228', 'R 220', 'W 22c 80000000', 'R 22c', 'W 034 83']);
  t.true(recordedText('E61leg').includes(RECORDED_HANDLER));
});

/**
 * The driver's operations next to those of Linux. The expectations are decoded from the recordings that the test titles name (kernels 6.1
 * and 7.2 on QEMU 10.2.2): every register write up to TE, with the descriptors behind each tail write.
 */
import test from 'ava';
import type { VtdConfig } from '../config/index.js';
import { legacyContext, secondStagePasid } from './entry-values.js';
import { PageTable } from './page-table.js';
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
/** The interrupt core of Linux programs the fault message twice: when it activates it and when it chooses a processor. */
const FAULT_MESSAGE = ['FEDATA', 'FEADDR', 'FEUADDR'];

function rig(
  options: Partial<VtdConfig>,
  mode: 'legacy' | 'scalable',
): { rig: Rig; driver: VtdDriver; table: PageTable } {
  const made = new Rig({ compat: 'qemu-10.2', ...options });
  const driver = new VtdDriver(made.registers, made.memory, made.pages, { mode });
  const table = new PageTable(made.memory, made.pages, { stage: 'second', levels: 4 });
  return { rig: made, driver, table };
}

function sid(requesterId: number): string {
  return requesterId === 0 ? '' : ` sid=0x${requesterId.toString(16)}`;
}

test('A61: legacy mode, caching mode', t => {
  const { rig: machine, driver, table } = rig({ 'caching-mode': true }, 'legacy');
  driver.enableQueue();
  driver.setRootTable();
  driver.routeFaultEvents(0, 0xfee01004, 0x22);
  driver.enableFaultEvents(0, 0xfee01004, 0x22);
  for (const [requesterId, domain] of FUNCTIONS) t.is(driver.attach(requesterId, legacyContext(table, domain)), 0);
  driver.enableTranslation();
  t.deepEqual(machine.takeOperations(), [
    ...['IQT', 'IQA', 'GCMD QIE', 'RTADDR', 'GCMD SRTP QIE'],
    ...FAULT_MESSAGE,
    ...FAULT_MESSAGE,
    'FECTL',
    ...FUNCTIONS.flatMap(([requesterId, domain]) => [
      `IQT context-cache g=3${sid(requesterId)}, wait sw=1`,
      `IQT iotlb g=2 dw=1 dr=1 did=${domain}, wait sw=1`,
    ]),
    'GCMD TE QIE',
  ]);
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
  t.deepEqual(machine.takeOperations(), [
    ...['IQT', 'IQA qs=1 dw=1', 'GCMD QIE', 'RTADDR ttm=1', 'GCMD SRTP QIE'],
    ...FAULT_MESSAGE,
    ...FAULT_MESSAGE,
    'FECTL',
    ...FUNCTIONS.flatMap(([requesterId]) => [
      `IQT context-cache g=3${sid(requesterId)}, wait sw=1`,
      'IQT iotlb g=2 dw=1 dr=1, wait sw=1',
    ]),
    ...FUNCTIONS.flatMap(([, domain]) => [
      `IQT pasid-cache g=1 did=${domain}, wait sw=1`,
      `IQT pasid-iotlb g=2 did=${domain}, wait sw=1`,
    ]),
    'GCMD TE QIE',
  ]);
});

test('C61: scalable mode with first-stage tables; without caching mode new entries need no flush', t => {
  const { rig: machine, driver } = rig({ 'x-scalable-mode': 'on', 'x-flts': true }, 'scalable');
  const table = new PageTable(machine.memory, machine.pages, { stage: 'first', levels: 4 });
  driver.routeFaultEvents(0, 0, 0);
  machine.takeOperations();
  driver.start({ hi: 0, lo: 0xfee01004, data: 0x22 }, () => {
    for (const [requesterId, domain] of FUNCTIONS) {
      t.is(driver.attach(requesterId, {}), 0);
      t.is(driver.addPasid(requesterId, 0, { pgtt: 1, fsptptr: table.rootFrame, did: domain }), 0);
    }
  });
  t.deepEqual(machine.takeOperations(), [
    ...['IQT', 'IQA qs=1 dw=1', 'GCMD QIE', 'RTADDR ttm=1', 'GCMD SRTP QIE'],
    ...FAULT_MESSAGE,
    ...['FECTL', 'GCMD TE QIE'],
  ]);
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
  t.deepEqual(machine.takeOperations(), [
    ...['IQT', 'IQA', 'GCMD QIE', 'IRTA s=0xf eime=1', 'GCMD QIE SIRTP', 'IQT iec, wait sw=1', 'GCMD QIE IRE'],
    ...FAULT_MESSAGE,
    ...FAULT_MESSAGE,
    ...['FECTL', 'FSTS'],
    ...[1, 1, 8, 8].map(index => `IQT iec g=1 iidx=${index}, wait sw=1`),
    ...['RTADDR', 'GCMD SRTP QIE IRE', 'GCMD TE QIE IRE'],
  ]);
});

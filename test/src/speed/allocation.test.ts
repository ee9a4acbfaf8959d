/** Hot paths make no garbage: counted on the heap, not timed. */
import test from 'ava';
import { frameHi, frameLo } from '@remora/bits';
import { Access, AddressSpace, NO_PASID, PAGE_BYTES, Ram, Region, Translation, TxAttrs } from '@remora/core';
import { AtsCompletion, type HostIOMMUContext, HostIommuFlag, RemappedInterrupt, Stage1Format } from '@remora/iommu';
import { owner } from '@remora/testing';
import { InterruptEntry, PostedInterruptEntry, Reg, VTD_BASE, VtdUnit } from '@hw/intel-iommu';
import { vtdConfig } from '@hw/intel-iommu/config';
import {
  deviceTlbDescriptor,
  firstStagePasid,
  FrameAllocator,
  iotlbDescriptor,
  MemoryMappedRegisters,
  nestedPasid,
  PageTable,
  pasidDeviceTlbDescriptor,
  pasidIotlbDescriptor,
  secondStagePasid,
  VtdDriver,
} from '@hw/intel-iommu/driver';
import { Rig } from '../rig/rig.js';
import { bytesEach, isClean } from './garbage.js';

const REQUESTER = 0x18;
const DOMAIN = 7;
const FIRST = 5;
const SECOND = 6;
const NESTED = 7;
const PAGES = 1024;
/** Low address words from bit 31 on: no small integers. */
const FIRST_PAGE = 0x1_234f_8000;
const FIRST_TARGET = 0x100_8000;
const SECOND_TARGET = 0x20f_8000;

/** A unit with a PASID of each kind, whose IOTLB has `entries`. */
function unitWith(entries: number) {
  const system = Region.container('system', 2 ** 40);
  const memory = new AddressSpace('memory', system);
  system.add(0, Region.ram('ram', Ram.allocate(0x400 * PAGE_BYTES)));
  const config = vtdConfig({
    ...{ 'x-scalable-mode': 'on', 'x-flts': true, nesting: true, 'iotlb-entries': entries },
    ...{ 'device-iotlb': true, svm: true },
  });
  const fn = { invalidate: () => true, pageResponse: () => undefined };
  const unit = new VtdUnit(config, { name: 'unit', memory, sendMsi: () => undefined, endpoint: () => fn });
  system.add(VTD_BASE, Region.mmio('registers', unit.mmioBytes, unit.mmio));
  const pages = new FrameAllocator(memory, 1, 0x3ff);
  const first = new PageTable(memory, pages, { stage: 'first', levels: 4 });
  const second = new PageTable(memory, pages, { stage: 'second', levels: 4 });
  // The first stage's tables are where they are; its pages lead above 4 GiB, and on through the second stage.
  second.map(0, 0, 0x400, Access.READ_WRITE);
  for (let page = 0; page < PAGES; page++) {
    first.map(FIRST_PAGE + page, FIRST_TARGET + page, 1, Access.READ_WRITE);
    second.map(FIRST_PAGE + page, SECOND_TARGET + page, 1, Access.READ_WRITE);
    second.map(FIRST_TARGET + page, SECOND_TARGET + page, 1, Access.READ_WRITE);
  }
  const registers = new MemoryMappedRegisters(memory, VTD_BASE);
  const driver = new VtdDriver(registers, memory, pages, { mode: 'scalable' });
  driver.start(undefined, () => {
    driver.contextEntry(REQUESTER, { dte: 1, pre: 1 });
    driver.pasidEntry(REQUESTER, FIRST, firstStagePasid(first, DOMAIN));
    driver.pasidEntry(REQUESTER, SECOND, secondStagePasid(second, DOMAIN + 1));
    driver.pasidEntry(REQUESTER, NESTED, nestedPasid(first, second, DOMAIN));
    driver.pasidEntry(REQUESTER, 0, secondStagePasid(second, DOMAIN + 1));
  });
  return { unit, driver, memory };
}

test('the measurement sees an object, an array and a boxed number', t => {
  let kept: unknown;
  const box = { value: 0 as unknown };
  t.true(bytesEach(index => (kept = { index })) >= 12);
  t.true(bytesEach(index => (kept = [index])) >= 16);
  t.true(bytesEach(index => (box.value = index + 0.5)) >= 8);
  t.truthy(kept);
});

for (const [kind, pasid] of [
  ['first-stage', FIRST],
  ['second-stage', SECOND],
  ['nested', NESTED],
  ['without a PASID', NO_PASID],
] as const) {
  for (const [what, entries] of [
    ['hits', 4 * PAGES],
    ['walks', 1],
  ] as const) {
    test(`translation makes no garbage: ${what}, ${kind}`, t => {
      const { unit } = unitWith(entries);
      const out = new Translation();
      let refused = 0;
      isClean(t, index => {
        const page = FIRST_PAGE + ((index * 7) % PAGES);
        refused |= unit.translate(REQUESTER, pasid, frameHi(page), frameLo(page), Access.READ, out);
      });
      t.is(refused, 0);
    });
  }
}

for (const [what, entries] of [
  ['hits', 4 * PAGES],
  ['walks', 1],
] as const) {
  test(`translation requests make no garbage: ${what}`, t => {
    const { unit } = unitWith(entries);
    const out = new AtsCompletion();
    let refused = 0;
    isClean(t, index => {
      const page = FIRST_PAGE + ((index * 7) % PAGES);
      refused |= unit.translationRequest(REQUESTER, NESTED, frameHi(page), frameLo(page), Access.READ_WRITE, out);
      refused |= unit.translatedRequest(REQUESTER, NO_PASID, out.hi, out.lo, Access.READ);
    });
    t.is(refused, 0);
    t.is(out.access, Access.READ_WRITE);
  });
}

test('page requests make no garbage', t => {
  const { unit } = unitWith(4 * PAGES);
  const attrs = new TxAttrs();
  // The last frame, which no table has.
  unit.mmio.write64!(Reg.PQA, 0, 0x3f_f000, attrs);
  const request = { requesterId: REQUESTER, pasid: FIRST, hi: 1, lo: 0x234f_8000, access: 1, group: 3, last: true };
  let taken = true;
  isClean(t, () => {
    taken = unit.pageRequest(request) && taken;
    unit.mmio.write(Reg.PQH, unit.mmio.read(Reg.PQT, 4, attrs), 4, attrs);
    unit.mmio.write(Reg.PRS, 1, 4, attrs);
  });
  t.true(taken);
});

test('invalidation descriptors make no garbage: pages, PASIDs, domains, device TLBs', t => {
  const { unit, driver } = unitWith(4 * PAGES);
  const { queue } = driver;
  const attrs = new TxAttrs();
  const out = new Translation();
  const range = { hi: frameHi(FIRST_PAGE), lo: frameLo(FIRST_PAGE), addressMask: 3, leaf: true };
  const tables = { ...range, leaf: false };
  const kinds = [
    pasidIotlbDescriptor(3, DOMAIN, FIRST, range),
    pasidIotlbDescriptor(2, DOMAIN, FIRST),
    iotlbDescriptor(3, DOMAIN + 1, { reads: true, writes: true }, tables),
    iotlbDescriptor(2, DOMAIN, { reads: true, writes: true }),
    deviceTlbDescriptor(REQUESTER, 1, 0x234f_8000, 14),
    pasidDeviceTlbDescriptor(REQUESTER, FIRST, 1, 0x234f_8000, 12, false),
    iotlbDescriptor(1, 0, { reads: true, writes: true }),
    pasidIotlbDescriptor(3, DOMAIN, NESTED, tables),
  ];
  // The whole ring, once; from then on only the tail is written.
  while (queue.tail % kinds.length !== 0) queue.submit();
  for (let slot = 0; slot < queue.entries; slot++) queue.post(kinds[slot % kinds.length]!);
  let tail = queue.tail;
  let refused = 0;
  isClean(t, () => {
    refused |= unit.translate(REQUESTER, FIRST, frameHi(FIRST_PAGE), frameLo(FIRST_PAGE), Access.READ, out);
    tail = (tail + 1) % queue.entries;
    unit.mmio.write(Reg.IQT, tail * 32, 4, attrs);
    refused |= unit.mmio.read(Reg.IQH, 4, attrs) ^ (tail * 32);
  });
  t.is(refused, 0);
});

test('interrupt remapping makes no garbage: remapped, posted, blocked', t => {
  const system = Region.container('system', 2 ** 40);
  const memory = new AddressSpace('memory', system);
  system.add(0, Region.ram('ram', Ram.allocate(0x40 * PAGE_BYTES)));
  const unit = new VtdUnit(vtdConfig({ intremap: true, eim: true, 'x-pi': true }), {
    name: 'unit',
    memory,
    sendMsi: () => undefined,
  });
  system.add(VTD_BASE, Region.mmio('registers', unit.mmioBytes, unit.mmio));
  const driver = new VtdDriver(
    new MemoryMappedRegisters(memory, VTD_BASE),
    memory,
    new FrameAllocator(memory, 8, 0x38),
  );
  driver.enableQueue();
  driver.setInterruptTable(1, 7, true);
  driver.enableInterruptRemapping();
  const descriptor = 0x2000;
  memory.store(0, 0x1010, InterruptEntry.encode({ p: 1, v: 0x41, dst: 0x8000_0003, sid: REQUESTER, svt: 1 }), 0, 4);
  memory.store(0, 0x1020, PostedInterruptEntry.encode({ p: 1, im: 1, v: 0x41, pdaLow: descriptor / 64 }), 0, 4);
  const out = new RemappedInterrupt();
  const request = (index: number): number => 0xfee0_0010 + index * 32;
  let reasons = 0;
  isClean(t, () => (reasons |= unit.remapInterrupt(REQUESTER, 0, request(1), 0, out)));
  t.deepEqual([out.send, out.hi >>> 0, out.lo >>> 0, out.data], [true, 0x8000_0000, 0xfee0_3000, 0x41]);
  isClean(t, () => (reasons |= unit.remapInterrupt(REQUESTER, 0, request(2), 0, out)));
  t.is(reasons, 0);
  isClean(t, () => (reasons |= unit.remapInterrupt(REQUESTER + 1, 0, request(1), 0, out)));
  t.is(reasons, 0x26);
});

test('flushes for a host, collected into a batch, make no garbage', t => {
  const rig = owner(t)(new Rig({ functions: [] }));
  const { propagation } = rig.iommu;
  let flushed = 0;
  const context: HostIOMMUContext = {
    name: 'host',
    flags: HostIommuFlag.NESTING,
    stage1Format: Stage1Format.INTEL_VTD,
    replacesAtomically: true,
    pasidAlloc: () => FIRST,
    pasidFree: () => 0,
    bindStage1: () => 0,
    unbindStage1: () => 0,
    flushStage1Caches: batch => {
      batch.accepted = 0;
      for (; batch.accepted < batch.length; flushed++) batch.begin(batch.accepted++);
      return 0;
    },
  };
  propagation.attach(rig.machine.board.rootBus, REQUESTER, context);
  rig.entry(FIRST, { did: DOMAIN, root: PAGE_BYTES });
  rig.pasidCache(1, DOMAIN, FIRST);
  let refused = 0;
  isClean(t, index => {
    for (let page = FIRST_PAGE; page < FIRST_PAGE + 4; page++) {
      const lo = frameLo(page + index);
      refused |= propagation.pasidIotlbInvalidate(3, DOMAIN, FIRST, frameHi(page + index), lo, 0, true);
    }
    refused |= propagation.settle() + 1;
  });
  t.is(refused, 0);
  t.true(flushed > 100_000);
});

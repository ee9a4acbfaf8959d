/**
 * Requests that miss the IOTLB, through the whole unit: context record, PASID record, IOTLB, page walk, insertion. The IOTLB is as small
 * as it can be, so that nearly every request walks; the peer has the same one.
 */
import { frameHi, frameLo, Random } from '@remora/bits';
import { Access, AddressSpace, PAGE_BYTES, Ram, Region, Translation } from '@remora/core';
import { SPECIFICATION, VTD_BASE, VtdUnit } from '@hw/intel-iommu';
import { vtdConfig } from '@hw/intel-iommu/config';
import {
  firstStagePasid,
  FrameAllocator,
  MemoryMappedRegisters,
  nestedPasid,
  PageTable,
  VtdDriver,
} from '@hw/intel-iommu/driver';
import { leave, mix, type Kernel, type MakeKernel } from './kernel.js';

const REQUESTER = 0x18;
const PASID = 5;
const DOMAIN = 7;
const IOTLB_ENTRIES = 16;
const REQUESTS = 2 ** 17;
/** First frame that requests are translated to, above 4 GiB and so above the interrupt range. */
const FIRST_TARGET = 0x100_0000;
/** First frame of the virtual range, above 4 GiB, too. */
const FIRST_PAGE = 0x1_2340_0000;

/**
 * First-stage translation by a table of four levels, or, nested, over a second stage of four levels: 24 entries are read. Unless `whole`, with
 * the paging-structure cache, which leaves the entry of the last table to be read, and three of them if nested.
 */
export function walk(nested: boolean, whole: boolean): MakeKernel {
  return (entries, folder) => translating(entries, folder, nested, whole);
}

function translating(entries: number, folder: string, nested: boolean, whole: boolean): Kernel {
  const random = new Random(entries);
  // Tables of either stage, and what the driver needs. Pages that requests are translated to are nowhere: nobody reads them.
  const tableFrames = Math.ceil(entries / 512) + 64;
  const hostFrames = 2 * tableFrames + Math.ceil((entries + tableFrames) / 512) + 0x400;
  const ram = Ram.allocate(hostFrames * PAGE_BYTES);
  const system = Region.container('system', 2 ** 40);
  const memory = new AddressSpace('memory', system);
  system.add(0, Region.ram('ram', ram));
  const config = vtdConfig({
    'x-scalable-mode': 'on',
    'x-flts': true,
    nesting: true,
    'iotlb-entries': IOTLB_ENTRIES,
  });
  const behaviour = { ...SPECIFICATION, pagingStructuresCached: !whole };
  const unit = new VtdUnit(config, { name: 'unit', memory, sendMsi: () => undefined }, behaviour);
  system.add(VTD_BASE, Region.mmio('registers', unit.mmioBytes, unit.mmio));

  // The guest's frames: first those of its tables, scattered over the host's, then those that it maps.
  const scattered = random.shuffle(Int32Array.from({ length: tableFrames }, (_, frame) => frame));
  const guest = nested ? ram.view(scattered) : ram;
  const hostPages = new FrameAllocator(memory, tableFrames, hostFrames - tableFrames);
  const guestPages = new FrameAllocator(guest, 1, tableFrames - 1);
  const first = new PageTable(guest, guestPages, { stage: 'first', levels: 4 });
  const targets = random.shuffle(Int32Array.from({ length: entries }, (_, page) => FIRST_TARGET + page));
  for (let page = 0; page < entries; page++) first.map(FIRST_PAGE + page, targets[page]!, 1, Access.READ_WRITE);
  const second = new PageTable(memory, hostPages, { stage: 'second', levels: 4 });
  if (nested) {
    for (let frame = 0; frame < tableFrames; frame++) second.map(frame, scattered[frame]!, 1, Access.READ_WRITE);
    const hosts = random.shuffle(Int32Array.from({ length: entries }, (_, page) => 2 * FIRST_TARGET + page));
    for (let page = 0; page < entries; page++) second.map(FIRST_TARGET + page, hosts[page]!, 1, Access.READ_WRITE);
  }

  const driver = new VtdDriver(new MemoryMappedRegisters(memory, VTD_BASE), memory, hostPages, { mode: 'scalable' });
  driver.start(undefined, () => {
    driver.contextEntry(REQUESTER, {});
    driver.pasidEntry(REQUESTER, PASID, nested ? nestedPasid(first, second, DOMAIN) : firstStagePasid(first, DOMAIN));
  });

  const requests = new Int32Array(REQUESTS * 2);
  for (let i = 0; i < REQUESTS; i++) {
    const page = FIRST_PAGE + random.below(entries);
    requests[i * 2] = frameLo(page) | (random.below(PAGE_BYTES) & ~3);
    requests[i * 2 + 1] = frameHi(page);
  }
  const image = new Int32Array(ram.size / 4);
  memory.load(0, 0, image, 0, image.length);
  leave(folder, 'memory', image);
  leave(folder, 'requests', requests);
  leave(
    folder,
    'setup',
    Int32Array.of(Number(nested), first.rootFrame, second.rootFrame, REQUESTER, PASID, IOTLB_ENTRIES, Number(whole)),
  );

  let sum = 0;
  const out = new Translation();
  return {
    run() {
      sum = 0;
      for (let i = 0; i < requests.length; i += 2) {
        const reason = unit.translate(REQUESTER, PASID, requests[i + 1]!, requests[i]!, Access.READ, out);
        sum = mix(mix(mix(sum, out.lo), out.hi), reason | (out.access << 8));
      }
      return REQUESTS;
    },
    checksum: () => sum,
  };
}

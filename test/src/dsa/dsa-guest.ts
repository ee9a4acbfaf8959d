/** A q35 machine with a vIOMMU, a dsa behind it, and a guest that drives both: with PASID, or without one. */
import assert from 'node:assert/strict';
import { Access } from '@remora/core';
import { createMachine, type Machine } from '@remora/machine';
import { Guest, GuestAts } from '@remora/machines';
import type { DsaConfig } from '@hw/dsa';
import { type Completion, type DescriptorValues, DsaDriver, type QueueValues } from '@hw/dsa/driver';
import dsaPlugin from '@hw/dsa/plugin';
import {
  firstStagePasid,
  legacyContext,
  type PageRequestHandler,
  type PageRequestQueue,
  type PageTable,
  secondStagePasid,
} from '@hw/intel-iommu/driver';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import q35Plugin from '@hw/q35/plugin';

export const BDF = '00:07.0';
export const RID = 0x38;
export const PAGE = 4096;
export const PASID = 9;
const DOMAIN = 3;
const SHARED_DOMAIN = 4;
const REGISTERS = 0xe000_0000;
const PORTALS = 0xe100_0000;
const MSIX_TABLE = 0xe200_0000;
/** No memory is at these addresses: what is not translated goes nowhere. */
const FIRST_IOVA_FRAME = 0x7_0000;
const FIRST_FRAME = 0x1000;

/** How requests are translated: by their requester, or by their PASID; `shared` has a device TLB and page requests, too. */
export const MODES = ['legacy', 'second', 'first', 'pasid', 'shared'] as const;
export type Mode = (typeof MODES)[number];

const UNIT: Readonly<Record<Mode, string>> = {
  legacy: '',
  second: ',x-scalable-mode=on',
  first: ',x-scalable-mode=on,x-flts=on',
  pasid: ',x-scalable-mode=on,x-flts=on,pasid-bits=20',
  shared: ',x-scalable-mode=on,x-flts=on,pasid-bits=20,device-iotlb=on,svm=on',
};

/** A page: where the processor has it, and where the device. */
export interface Both {
  readonly cpu: number;
  readonly device: number;
}

export class DsaGuest implements Disposable {
  readonly vm: Machine;
  readonly guest: Guest;
  readonly driver: DsaDriver;
  readonly table: PageTable;
  /** Undefined in modes without page requests. */
  readonly requests: PageRequestQueue | undefined;
  readonly record: Both;
  #frame = FIRST_FRAME;
  #iova = FIRST_IOVA_FRAME;

  constructor(mode: Mode, queues: readonly QueueValues[] = [{}], handler?: PageRequestHandler, engines = 1) {
    const options: Partial<DsaConfig> = mode === 'shared' ? { ats: true, pri: true } : {};
    this.vm = createMachine(undefined, {
      board: 'q35,memory=32M',
      plugins: [q35Plugin, intelIommuPlugin, dsaPlugin],
      devices: [`intel-iommu${UNIT[mode]}`, { driver: 'dsa', options: { id: 'dsa0', addr: '07.0', ...options } }],
    });
    this.vm.start();
    const tagged = mode === 'pasid' || mode === 'shared';
    const staged = mode === 'legacy' || mode === 'second';
    this.guest = new Guest(this.vm, { mode: mode === 'legacy' ? 'legacy' : 'scalable', pasidBits: 20 });
    const { iommu } = this.guest;
    this.table = staged ? this.guest.secondStage() : this.guest.firstStage();
    let requests: PageRequestQueue | undefined;
    iommu.start(undefined, () => {
      if (handler !== undefined) requests = iommu.enablePageRequests({ handler });
      if (mode === 'legacy') {
        assert.equal(iommu.attach(RID, legacyContext(this.table, DOMAIN)), 0);
        return;
      }
      assert.equal(iommu.attach(RID, mode === 'shared' ? { dte: 1, pre: 1 } : {}), 0);
      // Requests without PASID find nothing where those with one are meant.
      const plain = tagged ? this.guest.firstStage() : this.table;
      const values = mode === 'second' ? secondStagePasid(plain, DOMAIN) : firstStagePasid(plain, DOMAIN);
      assert.equal(iommu.addPasid(RID, 0, values), 0);
      if (tagged) assert.equal(iommu.addPasid(RID, PASID, firstStagePasid(this.table, SHARED_DOMAIN)), 0);
    });
    this.requests = requests;
    this.#setUp(mode);
    this.driver = new DsaDriver({ memory: this.vm.memory, registers: REGISTERS, portals: PORTALS });
    this.driver.start(
      queues.map(values => ({
        ...(tagged ? { pasidEnable: 1, pasid: PASID } : {}),
        ...(mode === 'shared' ? { blockOnFault: 1 } : {}),
        ...values,
      })),
      engines,
    );
    this.record = this.page();
  }

  /** Pages of memory, side by side for the processor and for the device, and with a hole behind them for the device. */
  page(pages = 1, access: number = Access.READ_WRITE): Both {
    this.#iova -= pages + 1;
    assert.equal(this.table.map(this.#iova, this.#frame, pages, access), 0);
    this.#frame += pages;
    return { cpu: (this.#frame - pages) * PAGE, device: this.#iova * PAGE };
  }

  /** As page, but the device finds nothing there until `appear`. */
  hidden(): Both {
    const place = this.page();
    assert.equal(this.table.unmap(place.device / PAGE, 1), 0);
    return place;
  }

  appear({ cpu, device }: Both, access: number = Access.READ_WRITE): void {
    assert.equal(this.table.map(device / PAGE, cpu / PAGE, 1, access), 0);
  }

  poke(at: number, bytes: Uint8Array): void {
    this.vm.memory.write(0, at, bytes);
  }

  peek(at: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    this.vm.memory.read(0, at, bytes);
    return bytes;
  }

  submit(values: DescriptorValues, queue = 0): void {
    this.poke(this.record.cpu, new Uint8Array(PAGE));
    this.driver.submit(queue, { completion: this.record.device, ...values });
  }

  get completion(): Completion {
    return this.driver.completion(this.record.cpu);
  }

  run(values: DescriptorValues): Completion {
    this.submit(values);
    return this.completion;
  }

  [Symbol.dispose](): void {
    this.vm[Symbol.dispose]();
  }

  #setUp(mode: Mode): void {
    const { config } = this.vm;
    for (const [register, value] of [
      [0x10, REGISTERS],
      [0x14, 0],
      [0x18, PORTALS],
      [0x1c, 0],
      [0x20, MSIX_TABLE],
    ] as const)
      config.write(BDF, register, value, 4);
    config.write(BDF, 0x04, 6, 2);
    if (mode !== 'pasid' && mode !== 'shared') return;
    const ats = new GuestAts(this.vm, BDF);
    ats.enablePasid();
    if (mode !== 'shared') return;
    ats.enable();
    ats.enablePageRequests(32);
  }
}

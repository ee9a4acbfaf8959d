/**
 * A host that does not nest, a VM with a vIOMMU in caching mode on it, and the guest's software. What the guest does is said in one line; it is
 * judged by the ioctls that the host gets, by what the host holds, and by where DMA through the host's own unit lands.
 */
import assert from 'node:assert/strict';
import { Access, Errno } from '@remora/core';
import type { KernelKnobs, SimulatedHost } from '@remora/host-sim';
import { createMachine, type Host, type Machine } from '@remora/machine';
import { Guest, type GuestEngine, lendingHost } from '@remora/machines';
import { FaultPlan } from '@remora/testing';
import { VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA, VfioIommuType1DmaMap, VfioIommuType1DmaUnmap } from '@remora/uapi';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import { Fsts, Granularity, type IntelIommu, PasidCacheGranularity, Reg } from '@hw/intel-iommu';
import {
  iotlbDescriptor,
  legacyContext,
  legacyPassThrough,
  PageTable,
  type PageTableOptions,
  passThroughPasid,
  secondStagePasid,
} from '@hw/intel-iommu/driver';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import q35Plugin from '@hw/q35/plugin';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import { HostLog } from '../rig/host-log.js';
import { LentFunctions, type Placement } from '../rig/lent-functions.js';

export const PAGE = 4096;
export const RW = Access.READ_WRITE;
/** The guest's own structures; tests use the frames below. */
const FIRST_FRAME = 0x200;
const FRAMES = 0xa00;
/** What the engine writes. */
export const FILL = 0xa1b2_c3d4;
const FILLED = Uint8Array.of(0xd4, 0xc3, 0xb2, 0xa1);

export interface ShadowRigOptions {
  readonly mode?: 'legacy' | 'scalable';
  /** Further options of intel-iommu. */
  readonly iommu?: string;
  readonly knobs?: Partial<KernelKnobs>;
  readonly functions?: readonly Placement[];
  /** MiB of guest RAM; default 16. */
  readonly memory?: number;
  /** Whether the guest enables translation, with no function attached; default true. */
  readonly start?: boolean;
}

/** A call that changes what is mapped: frames of IOVA and of guest memory. */
export interface MapCall {
  readonly call: 'map' | 'unmap';
  readonly iova: number;
  readonly pages: number;
  /** map: first guest frame, and Access bits. */
  readonly to?: number;
  readonly access?: number;
  /** Unless it succeeded. */
  readonly result?: number;
}

/** A mapping that the host holds. */
export interface HostMapping {
  readonly iova: number;
  readonly pages: number;
  readonly to: number;
  readonly access: number;
}

export class ShadowRig implements Disposable {
  readonly hostLevel: Host<SimulatedHost>;
  readonly machine: Machine;
  readonly log: HostLog;
  readonly plan: FaultPlan;
  readonly mode: 'legacy' | 'scalable';
  readonly #lent: LentFunctions;
  /** Where the process has the guest's RAM. */
  readonly #base: number;
  #guest: Guest | undefined;
  #taken = 0;

  constructor(options: ShadowRigOptions = {}) {
    this.mode = options.mode ?? 'legacy';
    this.#lent = new LentFunctions(options.functions ?? [{ addr: '03.0' }]);
    this.hostLevel = lendingHost({ memory: 64 * 0x10_0000, kernel: { nestingType: false, ...options.knobs } });
    let log: HostLog | undefined;
    let plan: FaultPlan | undefined;
    const scalable = this.mode === 'scalable' ? ',x-scalable-mode=on' : '';
    const more = options.iommu === undefined ? '' : `,${options.iommu}`;
    try {
      this.machine = createMachine(this.hostLevel, {
        board: `q35,memory=${options.memory ?? 16}M`,
        plugins: [q35Plugin, intelIommuPlugin, vfioPciPlugin, dmaEnginePlugin],
        devices: [
          `intel-iommu,id=intel-iommu,caching-mode=on${scalable}${more}`,
          ...this.#lent.placements.flatMap(({ later }, index) => (later === true ? [] : this.deviceString(index))),
        ],
        interpose: syscalls => (log = new HostLog((plan = new FaultPlan(syscalls)))),
      });
      this.machine.start();
    } catch (failure) {
      this.hostLevel[Symbol.dispose]();
      throw failure;
    }
    this.log = log!;
    this.plan = plan!;
    const { processes } = this.platform.dump() as { processes: { mappings: { address: number }[] }[] };
    this.#base = processes[0]!.mappings[0]!.address;
    this.#lent.openBridges(this.machine);
    if (options.start !== false) this.boot();
    this.take();
  }

  /** The guest's software starts afresh: translation is on, and no function has an entry. */
  boot(): void {
    this.#guest = undefined;
    this.guest.iommu.start();
    this.guest.iommu.queue.recovers = false;
  }

  get guest(): Guest {
    return (this.#guest ??= new Guest(this.machine, { mode: this.mode, firstFrame: FIRST_FRAME, frames: FRAMES }));
  }

  get platform(): SimulatedHost {
    return this.hostLevel.platform;
  }

  get iommu(): IntelIommu {
    return this.machine.device<IntelIommu>('intel-iommu');
  }

  deviceString(index = 0): string {
    return this.#lent.deviceString(index);
  }

  deviceId(index = 0): string {
    return this.#lent.deviceId(index);
  }

  requesterId(index = 0): number {
    return this.#lent.requesterId(index);
  }

  engine(index = 0): GuestEngine {
    return this.#lent.engineBehindBridge(this.machine, index) ?? this.guest.engine(this.#lent.bdf(index));
  }

  // The guest's tables.

  table(options: Partial<PageTableOptions> = {}): PageTable {
    return new PageTable(this.machine.memory, this.guest.pages, { stage: 'second', levels: 4, ...options });
  }

  /** Puts a function behind a table, with the flushes that Linux gives. Returns the first one's failure, or 0. */
  attach(table: PageTable, domain: number, index = 0): number {
    const { iommu } = this.guest;
    const id = this.requesterId(index);
    if (this.mode === 'legacy') return iommu.attach(id, legacyContext(table, domain));
    if (iommu.directory(id) === undefined) assert.equal(iommu.attach(id, {}), 0);
    assert.equal(iommu.pasidEntry(id, 0, secondStagePasid(table, domain)), 0);
    return iommu.pasidCacheInvalidate(PasidCacheGranularity.PASID, domain, 0);
  }

  passThrough(domain: number, index = 0): number {
    const { iommu } = this.guest;
    const id = this.requesterId(index);
    if (this.mode === 'legacy') return iommu.attach(id, legacyPassThrough(4, domain));
    if (iommu.directory(id) === undefined) assert.equal(iommu.attach(id, {}), 0);
    assert.equal(iommu.pasidEntry(id, 0, passThroughPasid(domain)), 0);
    return iommu.pasidCacheInvalidate(PasidCacheGranularity.PASID, domain, 0);
  }

  /** A page-selective flush of the smallest aligned range that holds these pages. */
  flushPages(domain: number, frame: number, pages = 1): number {
    return this.guest.iommu.invalidate(this.pagesDescriptor(domain, frame, pages));
  }

  pagesDescriptor(domain: number, frame: number, pages = 1): Int32Array {
    let addressMask = 0;
    while (Math.floor(frame / 2 ** addressMask) !== Math.floor((frame + pages - 1) / 2 ** addressMask)) addressMask++;
    const range = { hi: Math.floor(frame / 0x10_0000), lo: (frame % 0x10_0000) * PAGE, addressMask, leaf: false };
    return iotlbDescriptor(Granularity.PAGE, domain, { reads: true, writes: true }, range);
  }

  flushDomain(domain: number): number {
    return this.guest.iommu.iotlbInvalidate(Granularity.DOMAIN, domain);
  }

  flushAll(): number {
    return this.guest.iommu.iotlbInvalidate(Granularity.GLOBAL);
  }

  /** Maps and reports it, as Linux does. */
  map(table: PageTable, domain: number, iova: number, to: number, pages = 1, access: number = RW): number {
    assert.equal(table.map(iova, to, pages, access), 0);
    return this.flushPages(domain, iova, pages);
  }

  unmap(table: PageTable, domain: number, iova: number, pages = 1): number {
    assert.equal(table.unmap(iova, pages), 0);
    return this.flushPages(domain, iova, pages);
  }

  /** Queues a descriptor that the unit must refuse: IQE, and the head stays on it. */
  refused(descriptor: Int32Array): void {
    const { queue } = this.guest.iommu;
    const index = queue.tail;
    assert.equal(queue.submit(descriptor), -Errno.EINVAL, 'the descriptor is refused');
    assert.notEqual(this.guest.registers.read32(Reg.FSTS) & Fsts.IQE, 0, 'IQE is set');
    assert.equal(queue.head, index, 'IQH stays on the descriptor');
  }

  /** Clears IQE: the unit tries the same descriptor again. Returns whether it went through. */
  clearError(): boolean {
    this.guest.registers.write32(Reg.FSTS, Fsts.IQE);
    return (this.guest.registers.read32(Reg.FSTS) & Fsts.IQE) === 0;
  }

  /** Replaces the refused descriptor and lets the queue go on. */
  goOn(): void {
    assert.ok(this.guest.iommu.queue.recover());
  }

  // The host's end.

  /** The calls that changed what is mapped, since the last time. */
  take(): MapCall[] {
    const calls = this.log.calls.slice(this.#taken);
    this.#taken = this.log.calls.length;
    return calls.flatMap(({ request, bytes, result }) => {
      const view = new DataView(Uint8Array.from(Buffer.from(bytes, 'hex')).buffer);
      const failed = result < 0 ? { result } : {};
      if (request === VFIO_IOMMU_MAP_DMA) {
        const { iova, size, vaddr, flags } = VfioIommuType1DmaMap.fields;
        const to = (vaddr.number(view) - this.#base) / PAGE;
        const place = { iova: iova.number(view) / PAGE, pages: size.number(view) / PAGE };
        return { call: 'map', ...place, to, access: flags.get(view), ...failed };
      }
      if (request !== VFIO_IOMMU_UNMAP_DMA) return [];
      const { iova, size } = VfioIommuType1DmaUnmap.fields;
      return { call: 'unmap', iova: iova.number(view) / PAGE, pages: size.number(view) / PAGE, ...failed };
    });
  }

  /** What the container of host group `group` (1 and up) holds; undefined if the group has none. */
  held(group = 1): HostMapping[] | undefined {
    interface Held {
      readonly iovaFrame: number;
      readonly pages: number;
      readonly address: number;
      readonly access: number;
    }
    const { groups } = this.platform.dump() as {
      groups: { group: number; container: { backend: { mappings: Held[] } } | null }[];
    };
    return groups
      .find(each => each.group === group)
      ?.container?.backend.mappings.map(({ iovaFrame, pages, address, access }) => ({
        iova: iovaFrame,
        pages,
        to: (address - this.#base) / PAGE,
        access,
      }));
  }

  /** Whether the engine's write to the IOVA frame arrives at the guest frame `to`, in the host's own memory, and nowhere else. */
  writes(engine: GuestEngine, iova: number, to: number): boolean {
    const before = this.#hostBytes(to);
    const { ok } = engine.fill({ to: iova * PAGE, length: 4, pattern: FILL });
    const arrived = Buffer.from(FILLED).equals(this.#hostBytes(to)) && !before.equals(Buffer.from(FILLED));
    this.guest.write(to, new Uint8Array(4));
    assert.equal(ok, arrived, 'the engine knows whether it arrived');
    return arrived;
  }

  /** Whether the engine may read the IOVA frame, and gets what is in guest frame `from`; it writes that to `to`. */
  reads(
    engine: GuestEngine,
    iova: number,
    from: number,
    to: { readonly iova: number; readonly frame: number },
  ): boolean {
    this.guest.write(from, FILLED);
    const { ok } = engine.copy({ from: iova * PAGE, to: to.iova * PAGE, length: 4 });
    const arrived = Buffer.from(FILLED).equals(this.#hostBytes(to.frame));
    this.guest.write(to.frame, new Uint8Array(4));
    this.guest.write(from, new Uint8Array(4));
    assert.equal(ok, arrived);
    return arrived;
  }

  [Symbol.dispose](): void {
    this.hostLevel[Symbol.dispose]();
  }

  #hostBytes(guestFrame: number): Buffer {
    const address = this.platform.hpaOf(this.machine.board.ram, guestFrame);
    assert.ok(address !== undefined);
    const bytes = Buffer.alloc(4);
    this.platform.memory.read(Math.floor(address / 2 ** 32), address % 2 ** 32, bytes);
    return bytes;
  }
}

/** A map call as `take` tells it. */
export function mapped(iova: number, to: number, pages = 1, access: number = RW): MapCall {
  return { call: 'map', iova, pages, to, access };
}

export function unmapped(iova: number, pages = 1): MapCall {
  return { call: 'unmap', iova, pages };
}

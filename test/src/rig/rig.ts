/**
 * A host, a VM on it and the guest's software, wired for tests of propagation: what the guest does is said in one line, and what
 * the host was handed is taken as bytes.
 */
import assert from 'node:assert/strict';
import { frameHi, frameLo } from '@remora/bits';
import { Errno } from '@remora/core';
import type { HostSyscalls } from '@remora/host';
import type { KernelKnobs, SimulatedHost } from '@remora/host-sim';
import { createMachine, type Host, type Machine } from '@remora/machine';
import { Guest, type GuestEngine, lendingHost } from '@remora/machines';
import { FaultPlan } from '@remora/testing';
import dmaEnginePlugin from '@hw/dma-engine/plugin';
import { Fsts, GlobalCommand, type IntelIommu, PasidEntry, Reg } from '@hw/intel-iommu';
import {
  contextCacheDescriptor,
  iotlbDescriptor,
  pasidCacheDescriptor,
  pasidDeviceTlbDescriptor,
  pasidIotlbDescriptor,
  type PasidValues,
} from '@hw/intel-iommu/driver';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import q35Plugin from '@hw/q35/plugin';
import type { VfioPci } from '@hw/vfio-pci';
import vfioPciPlugin from '@hw/vfio-pci/plugin';
import { BIND, CACHE_INVALIDATE, type HostCall, PASID_REQUEST } from '../behaviours/host-bytes.js';
import { HostLog } from './host-log.js';
import { LentFunctions, type Placement } from './lent-functions.js';

export type { Placement } from './lent-functions.js';

export interface RigOptions {
  /** Further options of intel-iommu, which is modern unless they say otherwise. */
  readonly iommu?: string;
  /** Further options of each vfio-pci. */
  readonly vfio?: string;
  /** Objects that devices name: `iommufd,id=iommufd0`. */
  readonly objects?: readonly string[];
  readonly layout?: '3.0' | '3.3';
  /** Functions that the host lends; default: one at 03.0. */
  readonly functions?: readonly Placement[];
  /** Further devices. */
  readonly extra?: readonly string[];
  readonly knobs?: Partial<KernelKnobs>;
  readonly seed?: number;
  /** MiB of guest RAM, more than 2; default 16. */
  readonly memory?: number;
  /** PASID bits of the guest's directories. */
  readonly pasidBits?: number;
  /** Whether the guest sets its unit up; default true. */
  readonly start?: boolean;
  /** Whether guest invalidations leave the vIOMMU; default true. */
  readonly propagation?: boolean;
  /** A host to share with other rigs; the caller closes it. */
  readonly host?: Host<SimulatedHost>;
  /** Stands next to the host, behind the rig's own log and fault plan. */
  readonly interpose?: (syscalls: HostSyscalls) => HostSyscalls;
}

export interface PasidFields extends PasidValues {
  readonly did: number;
  /** Byte address of the first-stage root; unless `pgtt` says otherwise the entry is a first-stage one. */
  readonly root?: number;
}

const NESTING_CALLS = new Set([PASID_REQUEST, BIND, CACHE_INVALIDATE]);
/** Domain id of requests without PASID. */
const PLAIN_DOMAIN = 1;
/** Where the guest's own structures are, and how many frames they may take. */
const FIRST_FRAME = 0x200;
const MAX_FRAMES = 0x800;
/** One-shot bits of GSTS, which must not be written back. */
const LEVEL_BITS = 0x96ff_ffff;

export class Rig implements Disposable {
  readonly hostLevel: Host<SimulatedHost>;
  readonly machine: Machine;
  readonly log: HostLog;
  readonly plan: FaultPlan;
  readonly #options: RigOptions;
  readonly #lent: LentFunctions;
  readonly #qword = new Int32Array(2);
  #guest: Guest | undefined;
  #taken = 0;

  constructor(options: RigOptions = {}) {
    this.#options = options;
    this.#lent = new LentFunctions(options.functions ?? [{ addr: '03.0' }], options.vfio);
    this.hostLevel = options.host ?? lendingHost({ seed: options.seed ?? 1, ...kernelOf(options) });
    let log: HostLog | undefined;
    let plan: FaultPlan | undefined;
    try {
      this.machine = createMachine(this.hostLevel, {
        board: `q35,memory=${options.memory ?? 16}M`,
        plugins: [q35Plugin, intelIommuPlugin, vfioPciPlugin, dmaEnginePlugin],
        objects: options.objects ?? [],
        devices: [
          this.#iommuString(),
          ...this.#lent.placements.flatMap(({ later }, index) => (later === true ? [] : this.deviceString(index))),
          ...(options.extra ?? []),
        ],
        interpose: syscalls => (log = new HostLog((plan = new FaultPlan(options.interpose?.(syscalls) ?? syscalls)))),
      });
      this.machine.start();
    } catch (failure) {
      if (options.host === undefined) this.hostLevel[Symbol.dispose]();
      throw failure;
    }
    this.log = log!;
    this.plan = plan!;
    this.#lent.openBridges(this.machine);
    if (options.start !== false) this.#startGuest();
    this.take();
  }

  get guest(): Guest {
    return (this.#guest ??= new Guest(this.machine, {
      vcmdLayout: this.#options.layout ?? '3.3',
      firstFrame: FIRST_FRAME,
      frames: Math.min(MAX_FRAMES, this.machine.board.ram.frames - FIRST_FRAME),
      ...(this.#options.pasidBits === undefined ? {} : { pasidBits: this.#options.pasidBits }),
    }));
  }

  get iommu(): IntelIommu {
    return this.machine.device<IntelIommu>('intel-iommu');
  }

  /** What the host holds. */
  get host(): { pasids(): number[]; bound(): number[]; dump(): Record<string, unknown>; platform: SimulatedHost } {
    const platform = this.hostLevel.platform;
    return {
      platform,
      dump: () => platform.dump(),
      pasids: () => pasidsOf(platform.dump()),
      bound: () => boundOf(platform.dump()),
    };
  }

  /** The guest's software starts afresh, as after a system reset: it knows nothing of what it had. */
  boot(): void {
    this.#guest = undefined;
    this.#lent.openBridges(this.machine);
    this.#startGuest();
  }

  // The guest's registers.

  read64(offset: number): bigint {
    this.#registers.read64(offset, this.#qword);
    return (BigInt(this.#qword[1]! >>> 0) << 32n) | BigInt(this.#qword[0]! >>> 0);
  }

  write64(offset: number, value: bigint): void {
    this.#registers.write64(offset, Number(value >> 32n), Number(BigInt.asUintN(32, value)));
  }

  write32(offset: number, value: number): void {
    this.#registers.write32(offset, value);
  }

  /** RTADDR and SRTP; the other commands stay as they are. */
  setRoot(frame: number, scalable: boolean): void {
    this.#registers.write64(Reg.RTADDR, frameHi(frame), frameLo(frame) | (scalable ? 0x400 : 0));
    const status = this.#registers.read32(Reg.GSTS) & LEVEL_BITS;
    this.#registers.write32(Reg.GCMD, status | GlobalCommand.SRTP);
  }

  // The guest's tables.

  /** Requester id of host function `index` in the guest (of the slot 03.0, if there is none). */
  requesterId(index = 0): number {
    return this.#lent.requesterId(index);
  }

  /** The engine behind host function `index`, with its BARs placed anew: as a guest finds it after a reset or a plug. */
  engine(index = 0): GuestEngine {
    return this.#lent.engineBehindBridge(this.machine, index) ?? this.guest.engine(this.#lent.bdf(index));
  }

  /** The option string of host function `index`, as `machine.plug` takes it. */
  deviceString(index = 0): string {
    return this.#lent.deviceString(index);
  }

  /** Id of the vfio-pci device of host function `index`. */
  deviceId(index = 0): string {
    return this.#lent.deviceId(index);
  }

  /** Writes a present PASID entry. */
  entry(pasid: number, fields: PasidFields, index = 0): void {
    const { root, ...values } = fields;
    const first = root === undefined ? {} : { pgtt: 1, fsptptr: root / 4096 };
    assert.equal(this.guest.iommu.pasidEntry(this.requesterId(index), pasid, { ...first, ...values }), 0);
  }

  clearEntry(pasid: number, index = 0): void {
    this.guest.iommu.clearPasidEntry(this.requesterId(index), pasid);
  }

  /** Clears the directory entry under which `pasid` is. */
  clearDirectoryEntry(pasid: number): void {
    this.#writeDirectory(pasid, 0);
  }

  /** Puts a table with an entry for `pasid` behind the end of the directory. */
  plantBeyondDirectory(pasid: number, { did, root }: PasidFields): void {
    const table = this.guest.page();
    const entry = PasidEntry.encode({ p: 1, pgtt: 1, did, fsptptr: (root ?? 0) / 4096 });
    this.guest.write(table, new Uint8Array(entry.buffer), (pasid % 64) * 64);
    this.#writeDirectory(pasid, table * 4096 + 1);
  }

  /** A PASID by virtual command. */
  allocate(): number {
    const pasid = this.guest.iommu.allocPasid();
    assert.ok(pasid > 0, `no PASID: ${pasid}`);
    this.take();
    return pasid;
  }

  /** The PASID that the host gave last. */
  lastAllocated(): number {
    const call = this.log.calls.findLast(({ request, result }) => request === PASID_REQUEST && result === 0);
    assert.ok(call, 'the host gave no PASID');
    return new DataView(call.answer.buffer).getUint32(16, true);
  }

  /** A PASID with a first stage that is bound at the host. */
  bound(did: number, root: number): number {
    const pasid = this.allocate();
    this.entry(pasid, { did, root });
    this.pasidCache(1, did, pasid);
    assert.ok(this.host.bound().includes(pasid), 'the host has it bound');
    this.take();
    return pasid;
  }

  /** Whether the vIOMMU has the entry in its PASID cache. */
  isCached(pasid: number, index = 0): boolean {
    return this.iommu.propagation.functions.all[index]?.pasids.has(pasid) ?? false;
  }

  /** VFIO IOMMU type of the container of host function `index`. */
  containerType(index = 0): number | undefined {
    const { connection } = this.machine.device<VfioPci>(this.deviceId(index));
    return connection !== undefined && 'container' in connection ? connection.container.type : undefined;
  }

  // The guest's queue.

  /** Descriptors, as words. */
  readonly descriptor = {
    contextCache: contextCacheDescriptor,
    iotlb: (g: number, did: number) =>
      iotlbDescriptor(g, did, { reads: true, writes: true }, g === 3 ? range({ address: 0 }) : undefined),
    pasidCache: pasidCacheDescriptor,
    pasidIotlb: (g: number, did: number, pasid: number, pages?: Pages) =>
      pasidIotlbDescriptor(g, did, pasid, range(pages)),
    pasidDeviceTlb: (sid: number, pasid: number) => pasidDeviceTlbDescriptor(sid, pasid, 0, 0, 64),
  };

  contextCache(granularity: number, did = 0, sid = 0, functionMask = 0): void {
    this.done(this.descriptor.contextCache(granularity, did, sid, functionMask));
  }

  pasidCache(granularity: number, did: number, pasid: number): void {
    this.done(this.descriptor.pasidCache(granularity, did, pasid));
  }

  pasidIotlb(granularity: number, did: number, pasid: number, pages?: Pages): void {
    this.done(this.descriptor.pasidIotlb(granularity, did, pasid, pages));
  }

  /** Queues a descriptor that the unit must execute. */
  done(descriptor: Int32Array): void {
    assert.equal(this.guest.iommu.queue.submit(descriptor), 0, 'the descriptor and its wait complete');
  }

  /** Queues a descriptor that the unit must refuse: IQE, the head stays on it, its wait does not complete. */
  refused(descriptor: Int32Array): void {
    const { queue } = this.guest.iommu;
    const index = queue.tail;
    assert.equal(queue.submit(descriptor), -Errno.EINVAL, 'the descriptor is refused');
    assert.notEqual(this.#registers.read32(Reg.FSTS) & Fsts.IQE, 0, 'IQE is set');
    assert.equal(queue.head, index, 'IQH stays on the descriptor');
  }

  /** Replaces the refused descriptor and lets the queue go on. */
  goOn(): void {
    assert.ok(this.guest.iommu.queue.recover());
  }

  /** Clears IQE and nothing else: the unit tries the same descriptor again. */
  clearError(): void {
    this.#registers.write32(Reg.FSTS, Fsts.IQE);
    assert.equal(this.#registers.read32(Reg.FSTS) & Fsts.IQE, 0, 'the queue goes on');
  }

  // The host's end.

  /** The nesting calls since the last time: request and bytes. */
  take(): HostCall[] {
    const calls = this.log.calls.slice(this.#taken).filter(({ request }) => NESTING_CALLS.has(request));
    this.#taken = this.log.calls.length;
    return calls.map(({ request, bytes }) => ({ request, bytes }));
  }

  /** File descriptors on which `request` was called since the last `take`. */
  descriptorsOf(request: number): number[] {
    return this.log.calls.slice(this.#taken).flatMap(call => (call.request === request ? [call.fd] : []));
  }

  [Symbol.dispose](): void {
    if (this.#options.host === undefined) this.hostLevel[Symbol.dispose]();
    else this.machine[Symbol.dispose]();
  }

  get #registers(): Guest['registers'] {
    return (this.#guest ?? this.#bare()).registers;
  }

  /** Registers without a driver, for units that it would not take. */
  #bare(): Pick<Guest, 'registers'> {
    return { registers: Guest.registersOf(this.machine) };
  }

  #iommuString(): string {
    const { layout = '3.3', iommu, propagation = true } = this.#options;
    const parts = ['intel-iommu', 'id=intel-iommu', 'x-scalable-mode=modern', `vcmd-layout=${layout}`];
    if (!propagation) parts.push('propagation=off');
    if (iommu !== undefined) parts.push(iommu);
    return parts.join(',');
  }

  #startGuest(): void {
    const { iommu } = this.guest;
    iommu.start(undefined, () => {
      const { placements } = this.#lent;
      for (const index of placements.length === 0 ? [0] : placements.keys()) {
        iommu.contextEntry(this.requesterId(index), {});
        this.entry(0, { did: PLAIN_DOMAIN, pgtt: 4 }, index);
      }
    });
    iommu.queue.recovers = false;
  }

  #writeDirectory(pasid: number, value: number): void {
    const directory = this.guest.iommu.directory(this.requesterId());
    assert.ok(directory);
    const words = Int32Array.of(value | 0, Math.floor(value / 2 ** 32));
    const byte = (pasid >>> 6) * 8;
    this.guest.write(directory.frame + Math.floor(byte / 4096), new Uint8Array(words.buffer), byte % 4096);
  }
}

export interface Pages {
  readonly address: number;
  readonly addressMask?: number;
  readonly leaf?: boolean;
}

function range(pages: Pages | undefined): { hi: number; lo: number; addressMask: number; leaf: boolean } | undefined {
  if (pages === undefined) return undefined;
  const { address, addressMask = 0, leaf = false } = pages;
  return { hi: Math.floor(address / 2 ** 32), lo: address % 2 ** 32, addressMask, leaf };
}

function kernelOf({ knobs }: RigOptions): { kernel?: Partial<KernelKnobs> } {
  return knobs === undefined ? {} : { kernel: knobs };
}

/** PASIDs that any process owns. */
function pasidsOf(dump: Record<string, unknown>): number[] {
  const owned = dump['pasids'] as readonly { readonly pasid: number }[];
  return owned.map(({ pasid }) => pasid).sort((a, b) => a - b);
}

/** PASIDs in nested mode in the physical unit's tables. */
function boundOf(dump: Record<string, unknown>): number[] {
  const { functions } = dump['iommu'] as { functions: readonly { pasids: readonly { pasid: number }[] }[] };
  const all = functions.flatMap(each => each.pasids.map(({ pasid }) => pasid)).filter(pasid => pasid !== 0);
  return [...new Set(all)].sort((a, b) => a - b);
}

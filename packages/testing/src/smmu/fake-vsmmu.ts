/** A VM's share of the SMMU in plain memory: its StreamIDs, its commands, its hardware queues, its events. */
import { Errno } from '@remora/core';
import type {
  HostHardwareQueue,
  HostInvalidation,
  HostNestedDomain,
  HostNestedOptions,
  HostPagingDomain,
  HostViommu,
  ViommuReport,
} from '@remora/iommu';
import { convertSmmuCommand, SMMU_COMMAND_BYTES, SMMU_COMMAND_WORDS } from './commands.js';
import type { FakeSmmuDriver } from './fake-smmu-driver.js';
import { readStage1Words, SMMU_STE_BYTES, type SmmuStage1 } from './stage1-words.js';
import type { SmmuStage2 } from './stage2.js';
import { SmmuType } from './types.js';

/** Commands of one batch; the 64th place is the SYNC's. */
const BLOCK = 63;
/** iommu_viommu_tegra241_cmdqv: where the VM's page of queue registers is, for mmap. */
const CMDQV_BYTES = 16;
const CMDQV_PAGE = { offset: 0x1_0000, length: 0x1_0000 };
const SMALLEST_QUEUE = 32;

/** A ring that the unit reads by itself. */
export interface SmmuQueue extends HostHardwareQueue {
  readonly index: number;
  /** Host-physical byte address. */
  readonly base: number;
  readonly length: number;
}

/** What a guest's stream table entry says, over its VM's second stage. Its caches are flushed through the vIOMMU. */
export class SmmuNested implements HostNestedDomain {
  readonly kind = 'nested';
  readonly vsmmu: FakeVsmmu;
  readonly stage1: SmmuStage1;

  constructor(vsmmu: FakeVsmmu, stage1: SmmuStage1) {
    this.vsmmu = vsmmu;
    this.stage1 = stage1;
  }

  get parent(): HostPagingDomain {
    return this.vsmmu.parent;
  }

  [Symbol.dispose](): void {}
}

export class FakeVsmmu implements HostViommu {
  readonly driver: FakeSmmuDriver;
  readonly parent: SmmuStage2;
  readonly type: number;
  readonly eventTypes: readonly number[];
  readonly hardwareQueueTypes: readonly number[];
  /** By index. */
  readonly queues = new Map<number, SmmuQueue>();
  readonly #report: ViommuReport;
  /** The unit's StreamID by the guest's. */
  readonly #streams = new Map<number, number>();
  readonly #result: HostInvalidation = { processed: 0, result: 0 };

  private constructor(driver: FakeSmmuDriver, parent: SmmuStage2, type: number, report: ViommuReport) {
    this.driver = driver;
    this.parent = parent;
    this.type = type;
    this.#report = report;
    const cmdqv = type === SmmuType.VIOMMU_CMDQV;
    this.eventTypes = cmdqv ? [SmmuType.EVENT_SMMUV3, SmmuType.EVENT_CMDQV] : [SmmuType.EVENT_SMMUV3];
    this.hardwareQueueTypes = cmdqv ? [SmmuType.HW_QUEUE_CMDQV] : [];
  }

  static create(
    driver: FakeSmmuDriver,
    parent: SmmuStage2,
    type: number,
    data: Uint8Array,
    report: ViommuReport,
  ): FakeVsmmu | number {
    if (type === SmmuType.VIOMMU_CMDQV && data.length > 0) {
      if (data.length < CMDQV_BYTES) return -Errno.EINVAL;
      const view = new DataView(data.buffer, data.byteOffset, CMDQV_BYTES);
      view.setUint32(0, CMDQV_PAGE.offset, true);
      view.setUint32(8, CMDQV_PAGE.length, true);
    }
    return new FakeVsmmu(driver, parent, type, report);
  }

  serves(requesterId: number): boolean {
    return this.driver.serves(requesterId);
  }

  /** The guest's StreamID of a function. */
  virtualOf(requesterId: number): number | undefined {
    return [...this.#streams].find(([, sid]) => sid === requesterId)?.[0];
  }

  createNested(dataType: number, data: Uint8Array, options: HostNestedOptions): HostNestedDomain | number {
    if (dataType !== SmmuType.HWPT_SMMUV3 || options.pasid) return -Errno.EOPNOTSUPP;
    if (data.length < SMMU_STE_BYTES) return -Errno.EINVAL;
    const stage1 = readStage1Words(data);
    return typeof stage1 === 'number' ? stage1 : new SmmuNested(this, stage1);
  }

  /**
   * Commands are converted one by one and issued in blocks. As Linux 7.3.4 does (peers.md 3.4): where one cannot be converted, those of its block that
   * were converted before it are not issued, and counted all the same.
   */
  invalidate(dataType: number, entryLength: number, entries: Uint8Array, count: number): HostInvalidation {
    if (dataType !== SmmuType.INVALIDATE_SMMUV3) return this.#done(0, -Errno.EINVAL);
    if (count > 0 && entryLength < SMMU_COMMAND_BYTES) return this.#done(0, -Errno.EINVAL);
    let block: Int32Array[] = [];
    for (let index = 0; index < count; index++) {
      const entry = entries.subarray(index * entryLength, (index + 1) * entryLength);
      if (entry.subarray(SMMU_COMMAND_BYTES).some(byte => byte !== 0)) return this.#done(0, -Errno.E2BIG);
      const command = new Int32Array(SMMU_COMMAND_WORDS);
      new Uint8Array(command.buffer).set(entry.subarray(0, SMMU_COMMAND_BYTES));
      const illegal = convertSmmuCommand(command, this.parent.id, virtual => this.#streams.get(virtual >>> 0));
      if (illegal !== 0) return this.#done(index, illegal);
      block.push(command);
      if (block.length < BLOCK && index < count - 1) continue;
      const refused = this.driver.issue(block);
      if (refused !== 0) return this.#done(index, refused);
      block = [];
    }
    return this.#done(count, 0);
  }

  createVirtualDevice(requesterId: number, virtHi: number, virtLo: number): Disposable | number {
    const virtual = virtLo >>> 0;
    if (virtHi !== 0) return -Errno.EINVAL;
    if (!this.driver.hasOneStream(requesterId)) return -Errno.EOPNOTSUPP;
    if (this.#streams.has(virtual)) return -Errno.EEXIST;
    this.#streams.set(virtual, requesterId);
    return { [Symbol.dispose]: () => void this.#streams.delete(virtual) };
  }

  /** Ascending from index 0, one after the other. */
  createHardwareQueue(type: number, index: number, base: number, length: number): SmmuQueue | number {
    if (!this.hardwareQueueTypes.includes(type)) return -Errno.EOPNOTSUPP;
    if (index >= this.driver.queues) return -Errno.EINVAL;
    if (this.queues.has(index)) return -Errno.EEXIST;
    const needs = this.queues.get(index - 1);
    if (index > 0 && needs === undefined) return -Errno.EIO;
    if (length < SMALLEST_QUEUE || !Number.isInteger(Math.log2(length)) || base % length !== 0) return -Errno.EINVAL;
    const queue = { index, base, length, needs, [Symbol.dispose]: () => void this.queues.delete(index) };
    this.queues.set(index, queue);
    return queue;
  }

  /** An event about one of the VM's streams goes up, with the guest's StreamID. False if it is not the VM's, or nobody there asked for it. */
  reportFault(requesterId: number, words: Int32Array): boolean {
    const virtual = this.virtualOf(requesterId);
    if (virtual === undefined) return false;
    const record = words.slice();
    record[1] = virtual;
    return this.#report(SmmuType.EVENT_SMMUV3, new Uint8Array(record.buffer)) === 0;
  }

  /** Queues of the VM have errors: bit n for index n. */
  reportQueueErrors(map: number): boolean {
    const record = new Int32Array([map, 0, 0, 0]);
    return this.#report(SmmuType.EVENT_CMDQV, new Uint8Array(record.buffer)) === 0;
  }

  [Symbol.dispose](): void {}

  #done(processed: number, result: number): HostInvalidation {
    this.#result.processed = processed;
    this.#result.result = result;
    return this.#result;
  }
}

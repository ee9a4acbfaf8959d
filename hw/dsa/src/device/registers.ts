/** The registers in BAR 0: what they hold at reset, what software may write, and when (DSA 9.2). */
import { NO_PASID, type StateReader, type StateWriter } from '@remora/core';
import { PasidLayout, type PciFunction } from '@remora/pci';
import type { DsaConfig } from '../config.js';
import {
  Cause,
  Command,
  DeviceState,
  Gencap,
  Genctrl,
  Gensts,
  GroupConfig,
  GRPCFG_BYTES,
  Grpcap,
  MSIXPERM_BYTES,
  MsixPermission,
  Offsets,
  Operation,
  QueueConfig,
  QueueState,
  Reg,
  Table,
  TABLE_UNIT,
  VERSION_1_0,
  WQCFG_BYTES,
  Wqcap,
} from '../spec/index.js';

/** log2 of the longest transfer and the largest batch. Linux's defaults for a work queue are 2 MiB and 32. */
const MAX_TRANSFER_SHIFT = 21;
const MAX_BATCH_SHIFT = 5;
const READ_BUFFERS = 96;
const GENCFG_WRITABLE = 0xff;
const GENCTRL_WRITABLE = 0x3;
/** VALID and OVERFLOW: cleared by writing 1. */
const SWERR_CLEARABLE = 0x3;
/** Words of a WQCFG entry that software writes: all but what the device reports. */
const QUEUE_MASKS = QueueConfig.reserved.map(word => ~word);
QUEUE_MASKS[6] = 0;
const GROUP_FLAGS = ~GroupConfig.reserved[10]!;
const GROUP_FLAGS_WORD = 10;
const GROUP_ENGINES_WORD = 8;
const PERMISSION_MASK = ~MsixPermission.reserved[0]!;

export class Registers {
  readonly words = new Int32Array(Table.END / 4);
  readonly queues: number;
  readonly groups: number;
  readonly engines: number;
  readonly vectors: number;
  readonly #config: DsaConfig;
  readonly #fn: PciFunction;
  readonly #pasidAt: number | undefined;

  /** `pasidAt` is where the PASID capability is. */
  constructor(config: DsaConfig, fn: PciFunction, pasidAt: number | undefined) {
    this.#config = config;
    this.#fn = fn;
    this.#pasidAt = pasidAt;
    this.queues = config['work-queues'];
    this.groups = config.groups;
    this.engines = config.engines;
    this.vectors = config['work-queues'] + 1;
    this.reset();
  }

  read(offset: number): number {
    return offset < Table.END ? this.words[offset >>> 2]! : 0;
  }

  /** Whatever is not a command: that is its reader's. */
  write(offset: number, value: number): void {
    if (offset >= Table.MSIXPERM) this.#writePermission(offset, value);
    else if (offset >= Table.WQCFG) this.#writeQueue(offset - Table.WQCFG, value);
    else if (offset >= Table.GRPCFG) this.#writeGroup(offset - Table.GRPCFG, value);
    else if (offset === Reg.GENCFG && this.state === DeviceState.DISABLED) this.#put(offset, value & GENCFG_WRITABLE);
    else if (offset === Reg.GENCTRL) this.#put(offset, value & GENCTRL_WRITABLE);
    else if (offset === Reg.INTCAUSE) this.words[offset >>> 2]! &= ~value;
    else if (offset === Reg.SWERR) this.words[offset >>> 2]! &= ~(value & SWERR_CLEARABLE);
  }

  /** One of DeviceState. */
  get state(): number {
    return Gensts.fields.state.get(this.words, Reg.GENSTS >>> 2);
  }

  set state(state: number) {
    Gensts.fields.state.set(this.words, Reg.GENSTS >>> 2, state);
  }

  /** Whether requests with PASID may be privileged: Privileged Mode Enable of the PASID capability. */
  get privilege(): boolean {
    const at = this.#pasidAt;
    return at !== undefined && PasidLayout.fields.privilegedEnable.get(this.#fn.config.words, at / 4) !== 0;
  }

  /** Word index of a work queue's entry of WQCFG. */
  queueAt(queue: number): number {
    return (Table.WQCFG + WQCFG_BYTES * queue) >>> 2;
  }

  /** One of QueueState. */
  queueState(queue: number): number {
    return QueueConfig.fields.state.get(this.words, this.queueAt(queue));
  }

  setQueueState(queue: number, state: number): void {
    QueueConfig.fields.state.set(this.words, this.queueAt(queue), state);
  }

  queueEnabled(queue: number): boolean {
    return this.queueState(queue) === QueueState.ENABLED;
  }

  /** The configuration of a work queue as after reset. */
  clearQueue(queue: number): void {
    const at = this.queueAt(queue);
    const size = this.words[at]!;
    this.words.fill(0, at, at + WQCFG_BYTES / 4);
    // The queues' sizes go with the device's configuration.
    this.words[at] = size;
  }

  groupAt(group: number): number {
    return (Table.GRPCFG + GRPCFG_BYTES * group) >>> 2;
  }

  /** The group that a work queue is in; -1 for none. */
  groupOf(queue: number): number {
    for (let group = 0; group < this.groups; group++) {
      if (((this.words[this.groupAt(group)]! >>> queue) & 1) !== 0) return group;
    }
    return -1;
  }

  /** The engines of a group, a bit each. */
  enginesOf(group: number): number {
    return this.words[this.groupAt(group) + GROUP_ENGINES_WORD]!;
  }

  /** Marks a cause of interrupt 0; whether that is to be sent is the caller's question. */
  cause(bits: number): void {
    this.words[Reg.INTCAUSE >>> 2]! |= bits;
    this.#fn.msi(0);
  }

  get softwareErrorInterrupt(): boolean {
    return Genctrl.fields.softwareErrorInterrupt.get(this.words, Reg.GENCTRL >>> 2) !== 0;
  }

  /** SWERR was filled. */
  softwareError(): void {
    if (this.softwareErrorInterrupt) this.cause(Cause.SOFTWARE_ERROR);
  }

  /** Whether a descriptor of `pasid` may raise vector `index`. */
  permits(index: number, pasid: number): boolean {
    if (index < 1 || index >= this.vectors) return false;
    const at = (Table.MSIXPERM + MSIXPERM_BYTES * index) >>> 2;
    const { ignore, pasidEnable, pasid: permitted } = MsixPermission.fields;
    if (ignore.get(this.words, at) !== 0) return true;
    return pasidEnable.get(this.words, at) === 0 ? pasid === NO_PASID : pasid === permitted.get(this.words, at);
  }

  reset(): void {
    this.words.fill(0);
    this.words[Reg.VERSION >>> 2] = VERSION_1_0;
    this.#define(
      Reg.GENCAP,
      Gencap.encode({
        blockOnFault: this.#config.pri ? 1 : 0,
        overlappingCopy: 1,
        cacheControlMemory: 1,
        cacheControlCache: 1,
        commandCapabilities: 1,
        maxTransferShift: MAX_TRANSFER_SHIFT,
        maxBatchShift: MAX_BATCH_SHIFT,
        configurable: 1,
      }),
    );
    this.#define(
      Reg.WQCAP,
      Wqcap.encode({
        totalSize: this.#config['queue-size'],
        queues: this.queues,
        shared: this.#config.pasid ? 1 : 0,
        dedicated: 1,
        ats: this.#config.ats ? 1 : 0,
        priority: 1,
      }),
    );
    this.#define(Reg.GRPCAP, Grpcap.encode({ groups: this.groups, readBuffers: READ_BUFFERS, readBufferControl: 1 }));
    this.words[Reg.ENGCAP >>> 2] = this.engines;
    for (const operation of Object.values(Operation)) {
      this.words[(Reg.OPCAP >>> 2) + (operation >>> 5)]! |= 1 << (operation & 31);
    }
    const unit = TABLE_UNIT;
    this.#define(
      Reg.OFFSETS,
      Offsets.encode({ grpcfg: Table.GRPCFG / unit, wqcfg: Table.WQCFG / unit, msixperm: Table.MSIXPERM / unit }),
    );
    for (const command of Object.values(Command)) this.words[Reg.CMDCAP >>> 2]! |= 1 << command;
  }

  save(into: StateWriter): void {
    into.words('registers', this.words);
  }

  load(from: StateReader): void {
    from.words('registers', this.words);
  }

  #define(offset: number, value: Int32Array): void {
    this.words.set(value, offset >>> 2);
  }

  #put(offset: number, value: number): void {
    this.words[offset >>> 2] = value;
  }

  #writePermission(offset: number, value: number): void {
    const within = offset - Table.MSIXPERM;
    if (within % MSIXPERM_BYTES === 0 && within / MSIXPERM_BYTES < this.vectors) {
      this.#put(offset, value & PERMISSION_MASK);
    }
  }

  /** A work queue is configured while it is disabled, its size while the device is. */
  #writeQueue(within: number, value: number): void {
    const queue = Math.floor(within / WQCFG_BYTES);
    const word = (within % WQCFG_BYTES) >>> 2;
    if (queue >= this.queues || this.queueState(queue) !== QueueState.DISABLED) return;
    if (word === 0 && this.state !== DeviceState.DISABLED) return;
    const at = this.queueAt(queue) + word;
    this.words[at] = value & QUEUE_MASKS[word]!;
  }

  #writeGroup(within: number, value: number): void {
    const group = Math.floor(within / GRPCFG_BYTES);
    const word = (within % GRPCFG_BYTES) >>> 2;
    if (group >= this.groups || this.state !== DeviceState.DISABLED) return;
    const at = this.groupAt(group) + word;
    if (word === 0) this.words[at] = value & (2 ** this.queues - 1);
    else if (word === GROUP_ENGINES_WORD) this.words[at] = value & (2 ** this.engines - 1);
    else if (word === GROUP_FLAGS_WORD) this.words[at] = value & GROUP_FLAGS;
  }
}

/** A bare-metal driver of the accelerator: uses registers, portals and memory only, in the order of Linux's idxd. */
import type { MemoryPort } from '@remora/core';
import {
  Command,
  CommandStatus,
  CommandWord,
  GRPCFG_BYTES,
  Offsets,
  PAGE,
  PORTAL_PAGES,
  QueueConfig,
  RECORD_BYTES,
  Reg,
  TABLE_UNIT,
  WQCFG_BYTES,
} from '../spec/index.js';
import { type Completion, completionOf, descriptor, type DescriptorValues } from './descriptors.js';

export interface DsaPlace {
  readonly memory: MemoryPort;
  /** Where BAR 0 and BAR 2 are. */
  readonly registers: number;
  readonly portals: number;
}

/** The configuration of a work queue, as fields of QueueConfig. */
export type QueueValues = Partial<
  Record<
    | 'size'
    | 'threshold'
    | 'dedicated'
    | 'blockOnFault'
    | 'atsDisable'
    | 'priority'
    | 'pasid'
    | 'pasidEnable'
    | 'privileged'
    | 'maxTransferShift'
    | 'maxBatchShift',
    number
  >
>;

/** Those of Linux: 2 MiB, 32 descriptors. */
const QUEUE_DEFAULTS: QueueValues = { size: 16, dedicated: 1, priority: 10, maxTransferShift: 21, maxBatchShift: 5 };
const TWO_32 = 0x1_0000_0000;
const ENGINES_OFFSET = 32;

export class DsaDriver {
  readonly #place: DsaPlace;
  #grpcfg = 0;
  #wqcfg = 0;
  #line = 0;

  constructor(place: DsaPlace) {
    this.#place = place;
  }

  register(offset: number): number {
    const bytes = new Uint8Array(4);
    this.#place.memory.read(...split(this.#place.registers + offset), bytes);
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  setRegister(offset: number, value: number): void {
    const bytes = new Uint8Array(Uint32Array.of(value).buffer);
    this.#place.memory.write(...split(this.#place.registers + offset), bytes);
  }

  /** Finds the tables. */
  probe(): void {
    const words = Int32Array.of(this.register(Reg.OFFSETS), this.register(Reg.OFFSETS + 4));
    this.#grpcfg = Offsets.fields.grpcfg.get(words, 0) * TABLE_UNIT;
    this.#wqcfg = Offsets.fields.wqcfg.get(words, 0) * TABLE_UNIT;
  }

  /** Work queues and engines of a group, a bit each. */
  configureGroup(group: number, queues: number, engines: number): void {
    this.setRegister(this.#grpcfg + GRPCFG_BYTES * group, queues);
    this.setRegister(this.#grpcfg + GRPCFG_BYTES * group + ENGINES_OFFSET, engines);
  }

  configureQueue(queue: number, values: QueueValues = {}): void {
    const words = QueueConfig.encode({ ...QUEUE_DEFAULTS, ...values });
    for (const [index, word] of words.entries()) this.setRegister(this.#wqcfg + WQCFG_BYTES * queue + 4 * index, word);
  }

  /** The state of a work queue. */
  queueState(queue: number): number {
    const words = Int32Array.from({ length: QueueConfig.words }, (_, index) =>
      this.register(this.#wqcfg + WQCFG_BYTES * queue + 4 * index),
    );
    return QueueConfig.fields.state.get(words, 0);
  }

  /** Gives a command. Returns its error, and its result in bits 23:8 as CMDSTS has it; undefined if it is not complete. */
  command(command: number, operand = 0, interrupt = 0): number | undefined {
    this.setRegister(Reg.CMD, CommandWord.encode({ command, operand, interrupt })[0]!);
    return this.commandStatus();
  }

  commandStatus(): number | undefined {
    const status = this.register(Reg.CMDSTS);
    return CommandStatus.fields.active.get(Int32Array.of(status), 0) === 0 ? status : undefined;
  }

  /** One group of all queues and engines; each of `queues` as its values say. @throws Error if the device does not take it. */
  start(queues: readonly QueueValues[] = [{}], engines = 1): void {
    this.probe();
    for (const [queue, values] of queues.entries()) this.configureQueue(queue, values);
    this.configureGroup(0, 2 ** queues.length - 1, engines);
    this.#demand(Command.ENABLE_DEVICE);
    for (const queue of queues.keys()) this.#demand(Command.ENABLE_WQ, queue);
  }

  /** Stores a descriptor to the next line of a portal, in pieces of 8 bytes. `page`: 0 unlimited, 1 limited. */
  submit(queue: number, values: DescriptorValues | Uint8Array, page = 0): void {
    const bytes = values instanceof Uint8Array ? values : descriptor(values);
    const at = this.#place.portals + (queue * PORTAL_PAGES + page) * PAGE + this.#line;
    this.#line = (this.#line + bytes.length) % PAGE;
    for (let done = 0; done < bytes.length; done += 8) {
      this.#place.memory.write(...split(at + done), bytes.subarray(done, done + 8));
    }
  }

  /** The completion record at `address`. */
  completion(address: number): Completion {
    const bytes = new Uint8Array(RECORD_BYTES);
    this.#place.memory.read(...split(address), bytes);
    return completionOf(bytes);
  }

  #demand(command: number, operand = 0): void {
    const status = this.command(command, operand);
    if (status !== 0) throw new Error(`command ${command} of ${operand}: ${status?.toString(16) ?? 'not complete'}`);
  }
}

function split(address: number): [number, number] {
  return [Math.floor(address / TWO_32), address % TWO_32];
}

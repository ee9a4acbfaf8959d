/**
 * A driver of the controller that uses registers and memory only, as a guest would: it plays the guest in tests, and shows how a
 * controller is driven. It polls.
 */
import type { MemoryPort } from '@remora/core';
import { AdminOpcode, Cap, Cc, Cns, Csts, IDENTIFY_BYTES, IoOpcode, QueueFlags, Reg } from '../spec/index.js';
import { type Page, type Prps, prpsFor } from './prps.js';
import { type CommandValues, type Completion, QueuePair } from './queue-pair.js';

export interface NvmeDriverOptions {
  /** Physical memory, as the processor sees it. */
  readonly memory: MemoryPort;
  /** Where BAR 0 is in it. */
  readonly bar: number;
  /** Pages of 4096 bytes that nobody else uses, one after another in both address spaces. */
  readonly allocate: (pages: number) => Page;
}

export interface EnableOptions {
  /** Entries of the admin queues. */
  readonly entries?: number;
  /** Fields of CC beyond the usual ones. */
  readonly cc?: Parameters<typeof Cc.encode>[0];
}

export interface IoQueueOptions {
  readonly entries?: number;
  /** Without one, it has no interrupts. */
  readonly vector?: number;
}

/** A command that failed, where the caller expected none to. */
export class NvmeError extends Error {
  override readonly name = 'NvmeError';
  readonly completion: Completion;

  constructor(command: CommandValues, completion: Completion) {
    super(`opcode 0x${command.opcode.toString(16)} ended with status 0x${completion.status.toString(16)}`);
    this.completion = completion;
  }
}

const PAGE = 4096;
const TWO_32 = 0x1_0000_0000;
const SQ_SIZE = 6;
const CQ_SIZE = 4;

export class NvmeDriver {
  readonly #options: NvmeDriverOptions;
  readonly #queues: QueuePair[] = [];
  readonly #word = new Uint8Array(4);
  readonly #view = new DataView(this.#word.buffer);

  constructor(options: NvmeDriverOptions) {
    this.#options = options;
  }

  register(offset: number): number {
    const address = this.#options.bar + offset;
    this.#options.memory.read(Math.floor(address / TWO_32), address % TWO_32, this.#word);
    return this.#view.getUint32(0, true);
  }

  setRegister(offset: number, value: number): void {
    const address = this.#options.bar + offset;
    this.#view.setUint32(0, value >>> 0, true);
    this.#options.memory.write(Math.floor(address / TWO_32), address % TWO_32, this.#word);
  }

  get status(): ReturnType<typeof Csts.decode> {
    return Csts.decode(Int32Array.of(this.register(Reg.CSTS)));
  }

  get capabilities(): ReturnType<typeof Cap.decode> {
    return Cap.decode(Int32Array.of(this.register(Reg.CAP), this.register(Reg.CAP + 4)));
  }

  /** Sets the admin queues up and enables the controller. @throws Error if it does not become ready. */
  enable({ entries = 32, cc = {} }: EnableOptions = {}): void {
    this.disable();
    const { submission, completion } = this.#place(0, entries);
    this.setRegister(Reg.AQA, (entries - 1) * 0x1_0001);
    this.#setAddress(Reg.ASQ, submission.device);
    this.#setAddress(Reg.ACQ, completion.device);
    this.setRegister(Reg.CC, Cc.encode({ en: 1, iosqes: SQ_SIZE, iocqes: CQ_SIZE, ...cc })[0]!);
    if (this.status.rdy !== 1 || this.status.cfs !== 0) throw new Error('the controller did not become ready');
  }

  /** A controller reset. */
  disable(): void {
    this.setRegister(Reg.CC, 0);
    this.#queues.length = 0;
  }

  /** Tells the controller that power will go. */
  shutdown(): void {
    this.setRegister(Reg.CC, this.register(Reg.CC) | Cc.encode({ shn: 1 })[0]!);
  }

  queue(id: number): QueuePair {
    return this.#queues[id]!;
  }

  /** Puts commands into a queue and rings its doorbell once. Returns their identifiers. */
  submit(id: number, ...commands: readonly CommandValues[]): number[] {
    const queue = this.queue(id);
    const cids = commands.map(command => queue.put(command));
    this.setRegister(Reg.DOORBELLS + 8 * id, queue.tail);
    return cids;
  }

  /** All completions that are there, and gives their places back. */
  poll(id: number): Completion[] {
    const queue = this.queue(id);
    const completions: Completion[] = [];
    for (let each = queue.take(); each !== undefined; each = queue.take()) completions.push(each);
    if (completions.length > 0) this.setRegister(Reg.DOORBELLS + 8 * id + 4, queue.head);
    return completions;
  }

  /** One command, to its completion. @throws Error if none comes. */
  run(id: number, command: CommandValues): Completion {
    const [cid] = this.submit(id, command);
    const completion = this.poll(id).find(each => each.cid === cid);
    if (completion === undefined) throw new Error(`opcode 0x${command.opcode.toString(16)} was not completed`);
    return completion;
  }

  /** As `run`, and it succeeds. @throws NvmeError if it does not. */
  expect(id: number, command: CommandValues): Completion {
    const completion = this.run(id, command);
    if (completion.status !== 0) throw new NvmeError(command, completion);
    return completion;
  }

  /** Creates I/O queues of number `id`. */
  createQueues(id: number, { entries = 64, vector }: IoQueueOptions = {}): void {
    const { submission, completion } = this.#place(id, entries);
    const cdw10 = id + (entries - 1) * 0x1_0000;
    const flags = vector === undefined ? 0 : QueueFlags.INTERRUPTS + vector * 0x1_0000;
    this.expect(0, {
      ...{ opcode: AdminOpcode.CREATE_IO_CQ, prp1: completion.device, cdw10 },
      cdw11: QueueFlags.CONTIGUOUS + flags,
    });
    this.expect(0, {
      ...{ opcode: AdminOpcode.CREATE_IO_SQ, prp1: submission.device, cdw10 },
      cdw11: QueueFlags.CONTIGUOUS + id * 0x1_0000,
    });
  }

  deleteQueues(id: number): void {
    this.expect(0, { opcode: AdminOpcode.DELETE_IO_SQ, cdw10: id });
    this.expect(0, { opcode: AdminOpcode.DELETE_IO_CQ, cdw10: id });
  }

  /** A data structure of Identify. */
  identify(cns: number = Cns.CONTROLLER, nsid = 0, cdw11 = 0): Uint8Array {
    const page = this.#options.allocate(1);
    this.expect(0, { opcode: AdminOpcode.IDENTIFY, nsid, prp1: page.device, cdw10: cns, cdw11 });
    return this.peek(page.cpu, IDENTIFY_BYTES);
  }

  /** The first `bytes` bytes of a log page, or as many from `offset` on. */
  logPage(id: number, bytes: number, offset = 0): Uint8Array {
    const page = this.#options.allocate(Math.ceil(bytes / PAGE));
    const cdw10 = id + ((bytes / 4 - 1) & 0xffff) * 0x1_0000;
    const prps = this.prps(page, bytes);
    this.expect(0, { opcode: AdminOpcode.GET_LOG_PAGE, nsid: 0xffff_ffff, ...prps, cdw10, cdw12: offset });
    return this.peek(page.cpu, bytes);
  }

  /** Reads or writes blocks of namespace 1 through queue `id`, in a buffer of its own. */
  read(start: number, blocks: number, blockBytes = 512, id = 1): Uint8Array {
    const bytes = blocks * blockBytes;
    const page = this.#options.allocate(Math.ceil(bytes / PAGE));
    this.expect(id, { ...transfer(IoOpcode.READ, start, blocks), ...this.prps(page, bytes) });
    return this.peek(page.cpu, bytes);
  }

  write(start: number, data: Uint8Array, blockBytes = 512, id = 1): void {
    const page = this.#options.allocate(Math.ceil(data.length / PAGE));
    this.poke(page.cpu, data);
    this.expect(id, { ...transfer(IoOpcode.WRITE, start, data.length / blockBytes), ...this.prps(page, data.length) });
  }

  /** PRPs for `bytes` bytes from the beginning of `page` on, in pages that follow each other. */
  prps(page: Page, bytes: number): Prps {
    const pages = Array.from({ length: Math.ceil(bytes / PAGE) }, (_, index) => ({
      cpu: page.cpu + index * PAGE,
      device: page.device + index * PAGE,
    }));
    const { memory, allocate } = this.#options;
    return prpsFor({ pages, offset: 0, bytes, memory, page: () => allocate(1) });
  }

  peek(cpu: number, bytes: number): Uint8Array {
    const out = new Uint8Array(bytes);
    this.#options.memory.read(Math.floor(cpu / TWO_32), cpu % TWO_32, out);
    return out;
  }

  poke(cpu: number, from: Uint8Array): void {
    this.#options.memory.write(Math.floor(cpu / TWO_32), cpu % TWO_32, from);
  }

  #place(id: number, entries: number): { submission: Page; completion: Page } {
    const { memory, allocate } = this.#options;
    const submission = allocate(Math.ceil((entries << SQ_SIZE) / PAGE));
    const completion = allocate(Math.ceil((entries << CQ_SIZE) / PAGE));
    this.#queues[id] = new QueuePair(memory, { id, entries, submission: submission.cpu, completion: completion.cpu });
    return { submission, completion };
  }

  #setAddress(register: number, address: number): void {
    this.setRegister(register, address % TWO_32);
    this.setRegister(register + 4, Math.floor(address / TWO_32));
  }
}

/** A command on `blocks` blocks of namespace 1 from `start` on, without its PRPs. */
export function transfer(opcode: number, start: number, blocks: number): CommandValues {
  return { opcode, nsid: 1, cdw10: start % TWO_32, cdw11: Math.floor(start / TWO_32), cdw12: blocks - 1 };
}

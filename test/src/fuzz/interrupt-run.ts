/** Runs a fuzz program of interrupt requests: tables of entries, remapped and posted, are set up as Linux does it and then bent. */
import type { Configuration } from './configurations.js';
import type { Coverage } from './coverage.js';
import { HIGH, LOW, NOWHERE, ROM, type FuzzMemory } from './fuzz-memory.js';
import type { InterruptOperation, InterruptProgram } from './interrupt-program.js';
import { Rig } from './rig.js';

/** Units for programs of interrupt requests. */
export const INTERRUPT_CONFIGURATIONS: readonly Configuration[] = [
  { name: 'xAPIC', options: { intremap: true }, modes: ['legacy'] },
  { name: 'x2APIC', options: { intremap: true, eim: true, 'fault-records': 2 }, modes: ['legacy'] },
  { name: 'posting', options: { intremap: true, 'x-pi': true, 'fault-records': 4 }, modes: ['legacy'] },
  {
    name: 'posting, x2APIC, caching mode',
    options: { intremap: true, eim: true, 'x-pi': true, 'caching-mode': true },
    modes: ['legacy'],
  },
  {
    name: 'posting, x2APIC, scalable mode',
    options: { intremap: true, eim: true, 'x-pi': true, 'x-scalable-mode': 'on', 'fault-records': 3 },
    modes: ['second'],
  },
];

/** Requesters: the second differs from the first in its function, the third in its bus. */
const RIDS = [0x0113, 0x0110, 0x0213, 0xff00] as const;
/** Some share a range of every mask; the last is the end of a table of one page. */
const INDICES = [0, 1, 2, 3, 8, 9, 0x42, 0xff] as const;

const page = (frame: number): bigint => BigInt(frame) << 12n;
const TABLES = [page(HIGH.first + 1), page(LOW.first + 1), page(ROM.first + 1)] as const;
/** A page of posted descriptors in each kind of memory, and where there is none. */
const DESCRIPTORS = [page(HIGH.first + 2), page(LOW.first + 2), page(ROM.first + 2), page(NOWHERE)] as const;
const QUEUE = page(LOW.first + 3);
/** A root table of zeros: every DMA request faults. */
const NO_ROOT = page(LOW.first + 4);
const FENCE = 0x45n;
const IQE = 0x10;
/** S of a table of one page. */
const ONE_PAGE = 7n;
const EIME = 0x800n;

export function runInterrupts(program: InterruptProgram, memory: FuzzMemory, coverage: Coverage): void {
  memory.clear();
  new InterruptInterpreter(program, memory, coverage).run();
}

class InterruptInterpreter {
  readonly #program: InterruptProgram;
  readonly #memory: FuzzMemory;
  readonly #rig: Rig;
  readonly #scalable: boolean;
  readonly #posting: boolean;
  #table: bigint = TABLES[0];
  #tail = 0;

  constructor(program: InterruptProgram, memory: FuzzMemory, coverage: Coverage) {
    const configuration = INTERRUPT_CONFIGURATIONS[program.configuration]!;
    this.#program = program;
    this.#memory = memory;
    this.#scalable = configuration.modes[0] !== 'legacy';
    this.#posting = configuration.options['x-pi'] === true;
    this.#rig = new Rig(configuration, memory, coverage);
  }

  run(): void {
    const { genes, operations } = this.#program;
    const gene = (i: number): number => genes[i % genes.length]!;
    const rig = this.#rig;
    rig.setTail(0n, false);
    rig.setQueueAddress(QUEUE | (this.#scalable ? 0x800n : 0n));
    rig.command(true, true, NO_ROOT | (this.#scalable ? 0x400n : 0n));
    rig.writeFaultControl(gene(0) % 2 === 0 ? 0 : 0x8000_0000);
    this.#table = TABLES[gene(1) % 2]!;
    rig.interruptCommand(true, gene(2) % 2 === 0, this.#table | ONE_PAGE | (gene(3) % 2 === 0 ? EIME : 0n));
    for (const [i, index] of INDICES.entries()) this.#putEntry(index, genes.slice(i * 2 + 4, i * 2 + 10));
    for (const operation of operations) this.#perform(operation);
  }

  #perform(operation: InterruptOperation): void {
    const rig = this.#rig;
    switch (operation.op) {
      case 'request':
        this.#request(operation);
        break;
      case 'entry':
        this.#putEntry(INDICES[operation.index % INDICES.length]!, operation.genes);
        break;
      case 'damage':
        this.#damage(operation);
        break;
      case 'invalidate':
        this.#invalidate(operation.index, operation.mask, operation.how);
        break;
      case 'command':
        this.#command(operation.how, operation.gene);
        break;
      case 'service':
        if (operation.how % 4 === 0) rig.writeFaultControl((operation.how & 4) * 0x2000_0000);
        else if (operation.how % 4 === 1) rig.writeFaultStatus(operation.how & 0xef);
        else rig.writeFaultRecord(operation.how % rig.facts.faultRecords, 0x8000_0000);
    }
  }

  /** Mostly one in remappable format for an index of the pool. */
  #request({ rid, index, how, data }: InterruptOperation & { readonly op: 'request' }): void {
    const chosen = INDICES[index % INDICES.length]!;
    const requester = RIDS[rid % RIDS.length]!;
    const remappable = (each: number): bigint =>
      0xfee0_0010n | (BigInt(each & 0x7fff) << 5n) | (BigInt(each >>> 15) << 2n) | BigInt(how & 3);
    const kinds: readonly (() => { address: bigint; data: number })[] = [
      () => ({ address: remappable(chosen), data }),
      () => ({ address: remappable(chosen), data: 0 }),
      // A subhandle; now and then with reserved bits, and with sums beyond the table or beyond 16 bits.
      () => ({ address: remappable(chosen >>> 1) | 8n, data: chosen - (chosen >>> 1) }),
      () => ({ address: remappable(index) | 8n, data: how % 4 === 0 ? data >>> 0 : data & 0xffff }),
      () => ({ address: remappable(index), data }),
      () => ({ address: 0xfee0_0000n | BigInt(data & 0xf_ffef), data: how }),
      () => ({ address: remappable(chosen) ^ (1n << BigInt(how % 64)), data: data & 7 }),
    ];
    const kind = how % 16 < 9 ? how % 2 : how % kinds.length;
    if (how % 32 === 0) this.#rig.request({ rid: requester, pasid: -1, address: 0x1000n, access: 1 });
    this.#rig.interrupt({ rid: requester, ...kinds[kind]!() });
  }

  #putEntry(index: number, genes: readonly number[]): void {
    const [first, second, third, fourth, fifth, sixth] = genes as [number, number, number, number, number, number];
    const source = BigInt(RIDS[second % 2]!);
    // Mostly a validation that the pool's requesters pass.
    const svt = [0n, 0n, 1n, 1n, 2n][third % 5]!;
    const sid = svt === 2n ? 0x0100n + BigInt((third >>> 4) & 3) : source;
    const high = sid | (BigInt((third >>> 8) & 3) << 16n) | (svt << 18n);
    const common = (first % 8 === 0 ? 2n : 0n) | (first % 16 === 1 ? 0n : 1n) | (BigInt(fourth & 0xff) << 16n);
    const at = this.#table + BigInt(index) * 16n;
    if (this.#posting && fifth % 2 === 0) {
      const descriptor = this.#descriptorOf(fifth, sixth);
      const urgent = BigInt((fifth >>> 8) & 1) << 14n;
      this.#memory.putQuad(at, common | 0x8000n | urgent | ((descriptor & 0xffff_ffc0n) << 32n));
      this.#memory.putQuad(at + 8n, high | (descriptor & ~0xffff_ffffn));
      if ((fifth >>> 9) % 4 !== 0) this.#putDescriptor(descriptor, fourth, sixth);
      return;
    }
    const mode = [0n, 0n, 1n, 2n, 4n, 5n, 7n][(fourth >>> 8) % 7]! << 5n;
    const destination = sixth % 4 === 0 ? BigInt(sixth) << 16n : BigInt(sixth & 0xff00);
    this.#memory.putQuad(at, common | mode | BigInt((sixth & 7) << 2) | (destination << 32n));
    this.#memory.putQuad(at + 8n, high);
  }

  #descriptorOf(fifth: number, sixth: number): bigint {
    return DESCRIPTORS[(fifth >>> 4) % 8] ?? DESCRIPTORS[(sixth >>> 8) % 2]!;
  }

  #putDescriptor(at: bigint, fourth: number, sixth: number): void {
    const control = BigInt(sixth & 3) | (BigInt(fourth & 0xff) << 16n) | (BigInt(sixth & 0xff00) << 32n);
    for (let i = 0n; i < 8n; i++) this.#memory.putQuad(at + i * 8n, i === 4n ? control : 0n);
  }

  #damage({ index, bit, how }: InterruptOperation & { readonly op: 'damage' }): void {
    const chosen = INDICES[index % INDICES.length]!;
    const entry = this.#table + BigInt(chosen) * 16n;
    const address = bit < 128 ? entry + BigInt(bit >>> 6) * 8n : this.#descriptorBehind(entry, bit - 128);
    if (address === undefined) return;
    const before = this.#memory.quad(address);
    if (before === undefined) return;
    if (how % 4 === 0) this.#requestFor(chosen);
    this.#memory.putQuad(address, before ^ (1n << BigInt(bit & 63)));
    if (how % 3 !== 0) this.#invalidate(chosen, 0, 2);
    this.#requestFor(chosen);
    if (how % 8 !== 7)
      this.#memory.putQuad(
        address,
        (this.#memory.quad(address)! & ~(1n << BigInt(bit & 63))) | (before & (1n << BigInt(bit & 63))),
      );
  }

  /** A quadword of the posted descriptor that an entry leads to; undefined for a remapped entry. */
  #descriptorBehind(entry: bigint, bit: number): bigint | undefined {
    const low = this.#memory.quad(entry)!;
    if ((low & 0x8000n) === 0n) return undefined;
    const high = this.#memory.quad(entry + 8n)!;
    // Mostly the quadword that has fields.
    const quad = bit % 3 === 0 ? BigInt(bit >>> 6) : 4n;
    return ((low >> 32n) & 0xffff_ffc0n) + (high & ~0xffff_ffffn) + quad * 8n;
  }

  #requestFor(index: number): void {
    this.#rig.interrupt({ rid: RIDS[0], address: 0xfee0_0010n | (BigInt(index) << 5n), data: 0 });
  }

  #invalidate(index: number, mask: number, how: number): void {
    const selective = how % 8 !== 0;
    const im = how % 4 === 0 ? mask : mask % 9;
    const iidx = how % 16 === 1 ? index : INDICES[index % INDICES.length]!;
    let low = 4n | (selective ? 0x10n : 0n) | (BigInt(selective ? im : 0) << 27n) | (BigInt(iidx) << 32n);
    if (how % 32 === 31) low ^= 1n << BigInt(32 + (mask & 31));
    this.#submit(low);
  }

  #command(how: number, gene: number): void {
    const { interrupts } = this.#rig;
    const rig = this.#rig;
    switch (how % 6) {
      case 0:
        rig.interruptCommand(false, interrupts.compatible);
        this.#requestFor(INDICES[gene % INDICES.length]!);
        rig.interruptCommand(true, interrupts.compatible);
        break;
      case 1:
        rig.interruptCommand(interrupts.enabled, !interrupts.compatible);
        break;
      case 2:
        // Nowhere, for one request; what is cached is served all the same.
        rig.interruptCommand(true, interrupts.compatible, page(NOWHERE) | ONE_PAGE);
        this.#requestFor(INDICES[gene % INDICES.length]!);
        rig.interruptCommand(true, interrupts.compatible, this.#table | ONE_PAGE);
        break;
      case 3:
        // A table of 2 to 256 entries, or of more than its page.
        rig.interruptCommand(true, interrupts.compatible, this.#table | BigInt(gene % 16));
        break;
      default:
        this.#table = TABLES[gene % TABLES.length]!;
        rig.interruptCommand(true, interrupts.compatible, this.#table | ONE_PAGE | (gene % 8 < 4 ? EIME : 0n));
    }
  }

  /** One descriptor; an error is put right as Linux does it. */
  #submit(low: bigint): void {
    const { queue } = this.#rig;
    const bytes = queue.descriptorBytes;
    const quads = [low, 0n, 0n, 0n].slice(0, bytes / 8);
    for (const [i, value] of quads.entries()) this.#memory.putQuad(queue.base + BigInt(this.#tail + i * 8), value);
    this.#tail = (this.#tail + bytes) % queue.bytes;
    this.#rig.setTail(BigInt(this.#tail), false);
    if (!queue.stopped) return;
    this.#memory.putQuad(queue.base + BigInt(queue.head), FENCE);
    this.#rig.writeFaultStatus(IQE);
  }
}

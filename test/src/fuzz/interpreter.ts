/** Runs a fuzz program: the skeleton is built and enabled as an operating system does it, then bent as the program says. */
import { CONFIGURATIONS, type Configuration } from './configurations.js';
import type { Coverage } from './coverage.js';
import { damage, pathOf } from './damage.js';
import type { FuzzMemory } from './fuzz-memory.js';
import type { Request } from './naive/translate.js';
import { descriptorWords } from './descriptor-words.js';
import type { Operation, Program, Who } from './program.js';
import { invalidation, moveLeaf, moveLookup, moveTable } from './remap.js';
import { Rig } from './rig.js';
import { DOMAINS, PAGES, PASIDS, RIDS, World } from './world.js';

const LEGACY = 0n;
const SCALABLE = 1n << 10n;
const FENCE = 0x45n;
const IQE = 0x10;
/** The first pages of the pool are within every width. */
const WITHIN_WIDTHS = 7;

export function run(program: Program, memory: FuzzMemory, coverage: Coverage): void {
  memory.clear();
  new Interpreter(program, memory, coverage).run();
}

class Interpreter {
  readonly #program: Program;
  readonly #configuration: Configuration;
  readonly #rig: Rig;
  readonly #world: World;
  readonly #memory: FuzzMemory;
  /** The root table in the mode that goes with the tables. */
  readonly #rtaddr: bigint;
  #tail = 0;

  constructor(program: Program, memory: FuzzMemory, coverage: Coverage) {
    const { genes } = program;
    this.#program = program;
    this.#configuration = CONFIGURATIONS[program.configuration]!;
    this.#memory = memory;
    this.#rig = new Rig(this.#configuration, memory, coverage);
    const { modes } = this.#configuration;
    this.#world = new World(memory, this.#rig.facts, modes[genes[0]! % modes.length]!, genes);
    this.#rtaddr = this.#world.root | (this.#world.mode === 'legacy' ? LEGACY : SCALABLE);
  }

  run(): void {
    const { genes, operations } = this.#program;
    const world = this.#world;
    for (const [i, rid] of RIDS.entries())
      world.putContext(rid, [genes[i]!, genes[i + 3]!, genes[i + 6]!, genes[i + 9]! | 1]);
    if (world.mode !== 'legacy') {
      for (const directory of [0, 1]) {
        for (const [i, pasid] of PASIDS.entries()) world.putPasid(directory, pasid, genes.slice(i * 4 + directory));
      }
    }
    this.#enableQueue(genes[12]!);
    if (genes[16]! % 4 === 0) this.#lap();
    this.#rig.writeFaultControl(genes[13]! % 2 === 0 ? 0 : 0x8000_0000);
    this.#rig.writeCompletionControl(genes[14]! % 2 === 0 ? 0 : 0x8000_0000);
    this.#rig.command(genes[15]! % 16 !== 0, this.#rig.queue.enabled, this.#rtaddr);
    for (const operation of operations) this.#perform(operation);
  }

  #perform(operation: Operation): void {
    const world = this.#world;
    switch (operation.op) {
      case 'request': {
        const request = this.#requestOf(operation.who);
        this.#rig.request(request);
        // What is cached now must not serve another kind of access that it does not permit.
        if (request.pasid !== -1) this.#rig.request({ ...request, access: (request.access * 7 + 3) & 15 });
        break;
      }
      case 'damage':
        this.#damage(operation);
        break;
      case 'remap':
        this.#remap(operation.who, operation.gene);
        break;
      case 'map': {
        const tables = [...world.firsts, ...world.seconds];
        world.map(tables[operation.table % tables.length]!, PAGES[operation.page]!, operation.leaf);
        break;
      }
      case 'context':
        world.putContext(RIDS[operation.rid]!, operation.genes);
        break;
      case 'pasid':
        if (world.mode !== 'legacy') world.putPasid(operation.directory, PASIDS[operation.pasid]!, operation.genes);
        break;
      case 'submit':
        if (this.#rig.queue.stopped && operation.descriptors[0]!.flags % 4 !== 0) this.#recover(0);
        this.#submit(operation.descriptors.map(each => descriptorWords(world, this.#rig.naive.mode, each)));
        break;
      case 'flush':
        this.#flush(operation.how);
        break;
      case 'command':
        this.#command(operation.how, operation.gene);
        break;
      case 'register':
        this.#register(operation.which, operation.gene);
        break;
    }
  }

  #requestOf({ rid, pasid, page, offset, access }: Who): Request {
    const chosen = PASIDS[pasid] ?? -1;
    // Requests with a PASID are for units that have them; now and then another gets one.
    const tagged = (this.#world.mode !== 'legacy' && this.#rig.facts.pasids) || offset % 32 === 0;
    // Three of four requests are for pages within every width.
    const address =
      PAGES[offset % 4 === 1 ? page : page % WITHIN_WIDTHS]! + BigInt(offset % 8 === 0 ? offset : offset & 0xfff);
    return {
      rid: RIDS[rid]!,
      pasid: tagged ? chosen : -1,
      address: BigInt.asUintN(64, address),
      // Execute and privileged are attributes of a PASID; half of the requests want neither.
      access: tagged && chosen !== -1 && access >= 16 ? access & 15 : access & 3,
    };
  }

  #damage({ who, depth, how, gene, second, cold, undo }: Operation & { readonly op: 'damage' }): void {
    const request = this.#requestOf(who);
    const path = pathOf(this.#world, request.rid, request.pasid, request.address);
    // In nested mode most of the path is second-stage entries: what comes before them gets a share of its own.
    const structure = path[gene % 5 === 0 ? (depth % 6) % path.length : depth % path.length];
    if (structure === undefined) return;
    if (gene % 4 === 0) this.#rig.request(request);
    const restore = damage(this.#world, structure, how, gene);
    if (second !== undefined) damage(this.#world, structure, second, gene >>> 4);
    if (cold) this.#flush(gene);
    this.#rig.request(request);
    if (undo) restore();
  }

  /** Two pages are used, one of them moves, an invalidation around the other follows, and they are used again. */
  #remap(who: Who, gene: number): void {
    const { queue } = this.#rig;
    const one = this.#requestOf(who);
    const neighbour = [0x1000n, 0x1000n, 0x20_0000n, 0n][gene % 4]!;
    const other = { ...one, address: BigInt.asUintN(64, one.address ^ neighbour) };
    this.#rig.request(one);
    this.#rig.request(other);
    const moves = [moveLookup, moveLeaf, moveTable];
    moves[(gene >>> 2) % 3]!(this.#world, one, gene >>> 4);
    const words = invalidation(this.#world, one, other.address, gene);
    if (words !== undefined && queue.enabled) {
      if (queue.stopped) this.#recover(1);
      this.#submit([words]);
    } else if (words !== undefined && this.#rig.naive.mode === 0) {
      const [low, high] = words as [bigint, bigint];
      const granularity = Number((low >> 4n) & 3n);
      const domain = Number((low >> 16n) & 0xffffn);
      const [source, functionMask] = [Number((low >> 32n) & 0xffffn), Number((low >> 48n) & 3n)];
      if ((low & 0xfn) === 1n) this.#rig.contextCommand(granularity, domain, source, functionMask);
      else this.#rig.iotlbCommand(granularity, domain, high & ~0xfffn, Number(high & 0x3fn), (high & 0x40n) !== 0n);
    }
    this.#rig.request(one);
    this.#rig.request(other);
  }

  /** Empties all caches: by SRTP, or as the queue or the register commands do it. */
  #flush(how: number): void {
    const { queue, naive } = this.#rig;
    const scalable = naive.mode !== 0;
    if (how % 3 === 0 && queue.enabled && !queue.stopped && (queue.wide || !scalable) && naive.mode !== 2) {
      const commands = [0x11n, ...(scalable ? [0x37n] : []), 0x12n];
      if (this.#submit(commands.map(low => [low, 0n, 0n, 0n]))) return;
    }
    if (how % 3 === 1 && !queue.enabled && !scalable) {
      this.#rig.contextCommand(1, 0, 0, 0);
      this.#rig.iotlbCommand(1, 0, 0n, 0, false);
      return;
    }
    this.#rig.command(naive.enabled, queue.enabled, naive.root | (BigInt(naive.mode) << 10n));
  }

  #command(how: number, gene: number): void {
    const { naive, queue } = this.#rig;
    switch (how % 8) {
      case 0:
        this.#rig.command(!naive.enabled, queue.enabled);
        this.#rig.request(this.#requestOf({ rid: 0, pasid: 0, page: 0, offset: gene, access: 1 }));
        this.#rig.command(true, queue.enabled);
        break;
      case 1:
      case 2: {
        // Another mode, or another root table, and back again after a request.
        const root = gene % 3 === 0 ? this.#world.status : gene % 3 === 1 ? 0x70_0000n : this.#world.root;
        this.#rig.command(naive.enabled, queue.enabled, root | (BigInt(gene % 4) << 10n));
        this.#rig.request(this.#requestOf({ rid: gene % 3, pasid: gene % 8, page: 0, offset: gene, access: 1 }));
        if (gene % 2 === 0) this.#submit([[FENCE, 0n, 0n, 0n]]);
        this.#rig.command(naive.enabled, queue.enabled, this.#rtaddr);
        break;
      }
      case 3:
      case 4:
        if (queue.enabled) this.#rig.command(naive.enabled, false);
        else this.#enableQueue(gene);
        break;
      default:
        this.#recover(gene);
    }
  }

  #register(which: number, gene: number): void {
    const rig = this.#rig;
    switch (which % 8) {
      case 0:
        rig.writeFaultStatus(gene % 4 === 0 ? gene & 0xff : gene & 0xef);
        break;
      case 1:
        rig.writeFaultControl((gene % 2) * 0x8000_0000 + (gene & 0x7fff));
        break;
      case 2:
        rig.writeCompletionControl((gene % 2) * 0x8000_0000 + (gene & 0x7fff));
        break;
      case 3:
        rig.writeCompletionStatus(gene & 3);
        break;
      case 4:
      case 5:
        rig.writeFaultRecord(gene % rig.facts.faultRecords, gene % 8 === 0 ? 0x7fff_ffff : 0x8000_0000);
        break;
      case 6:
        rig.contextCommand(gene % 4, DOMAINS[(gene >>> 2) % 3]!, RIDS[(gene >>> 4) % 3]!, (gene >>> 6) % 4);
        break;
      default:
        rig.iotlbCommand(
          gene % 4,
          DOMAINS[(gene >>> 2) % 3]!,
          PAGES[(gene >>> 4) % PAGES.length]!,
          (gene >>> 8) % 24,
          gene >= 0x8000,
        );
    }
  }

  #enableQueue(gene: number): void {
    const wide = this.#world.mode !== 'legacy' ? gene % 16 !== 0 : this.#rig.facts.scalable && gene % 2 === 0;
    const base = gene % 32 === 1 ? 0x70_0000n : this.#world.queue;
    this.#tail = 0;
    this.#rig.setTail(0n, false);
    this.#rig.setQueueAddress(base | (wide ? 0x800n : 0n) | BigInt((gene >>> 5) % 2));
    // Register commands are for a queue that is off.
    const without = this.#world.mode === 'legacy' ? 3 : 8;
    this.#rig.command(this.#rig.naive.enabled, gene % without !== without - 1);
  }

  /** Most of a round: the program's own descriptors will meet the queue's end. */
  #lap(): void {
    const { queue } = this.#rig;
    if (queue.enabled) this.#submit(Array<bigint[]>(queue.bytes / queue.descriptorBytes - 3).fill([FENCE, 0n, 0n, 0n]));
  }

  /** Puts descriptors behind the tail and writes it. Returns whether they were executed. */
  #submit(descriptors: readonly (readonly bigint[])[]): boolean {
    const { queue } = this.#rig;
    if (!queue.enabled) return false;
    const bytes = queue.descriptorBytes;
    for (const words of descriptors) {
      const next = (this.#tail + bytes) % queue.bytes;
      if (next === queue.head) break;
      for (let i = 0; i < bytes / 8; i++) {
        this.#memory.putQuad(queue.base + BigInt(this.#tail + i * 8), words[i]!);
      }
      this.#tail = next;
    }
    this.#rig.setTail(BigInt(this.#tail), this.#tail % 64 === 0);
    return !queue.stopped;
  }

  /** What Linux does after a queue error: a wait in place of what failed, and IQE cleared. Or a bad tail, which is one more error. */
  #recover(gene: number): void {
    const { queue } = this.#rig;
    if (!queue.enabled) return;
    if (!queue.stopped) {
      if (gene % 2 !== 0) return;
      const tails = [0x8n, 0x1_0001n, 1n << 19n, 1n << 32n, BigInt(queue.bytes), 0x10n, BigInt(queue.head + 16)];
      this.#rig.setTail(tails[(gene >>> 1) % tails.length]!, true);
      return;
    }
    this.#memory.putQuad(queue.base + BigInt(queue.head), FENCE);
    for (let i = 1; i < queue.descriptorBytes / 8; i++)
      this.#memory.putQuad(queue.base + BigInt(queue.head + i * 8), 0n);
    if (gene % 4 === 1) this.#tail = queue.head;
    this.#rig.setTail(BigInt(this.#tail), false);
    this.#rig.writeFaultStatus(IQE);
  }
}

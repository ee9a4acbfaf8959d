/**
 * Runs a fuzz program of device TLBs: the tables of World, with ATS and page requests enabled in most context entries, and a page request
 * queue. Nothing is cached when a request is made. The first disagreement with the oracle in naive/ats.ts throws.
 */
import { Reg, VtdUnit, vtdConfig } from '@hw/intel-iommu';
import { TxAttrs } from '@remora/core';
import { AtsCompletion, AtsStatus } from '@remora/iommu';
import type { AtsOperation, AtsProgram, AtsRequest } from './ats-program.js';
import type { Configuration } from './configurations.js';
import type { Coverage } from './coverage.js';
import { damage, pathOf } from './damage.js';
import type { FuzzMemory } from './fuzz-memory.js';
import { atsRecordOf, NaiveAts, type Kind, type Verdict } from './naive/ats.js';
import { factsOf } from './naive/facts.js';
import { isSuppressed } from './naive/faults.js';
import { NaivePageQueue } from './naive/page-queue.js';
import type { Request } from './naive/translate.js';
import { Disagreement } from './rig.js';
import { PAGES, PASIDS, RIDS, World } from './world.js';

const ATS = { 'device-iotlb': true } as const;
const PHYSICAL = { nesting: true, 'x-ssads': true, 'x-eafs': true, 'x-rps': true, 'x-smpwcs': true, ...ATS } as const;

/** Units for programs of device TLBs. */
export const ATS_CONFIGURATIONS: readonly Configuration[] = [
  { name: 'legacy', options: ATS, modes: ['legacy'] },
  {
    name: 'legacy, 57 bits, snoop control',
    options: { ...ATS, 'aw-bits': 57, 'snoop-control': true },
    modes: ['legacy'],
  },
  {
    name: 'scalable, second stage',
    options: { ...ATS, 'x-scalable-mode': 'on', 'pasid-bits': 20 },
    modes: ['legacy', 'second'],
  },
  { name: 'modern', options: { ...ATS, 'x-scalable-mode': 'modern', 'x-smpwcs': true, svm: true }, modes: ['first'] },
  {
    name: 'nesting, 57 bits',
    options: { ...PHYSICAL, svm: true, 'x-ers': true, 'aw-bits': 57 },
    modes: ['first', 'second', 'nested'],
  },
  { name: 'nesting', options: { ...PHYSICAL, svm: true, 'x-ers': true }, modes: ['second', 'nested', 'nested'] },
  {
    name: 'nesting, no NW',
    options: { ...PHYSICAL, svm: true, 'x-nwfs': false, pt: false },
    modes: ['legacy', 'nested'],
  },
];

const TE = 0x8000_0000;
const SRTP = 0x4000_0000;
const PAGE_MESSAGE = 0x51;
const FLAGS = ['untranslatedOnly', 'privileged', 'global', 'nonSnooped'] as const;
const STATUS = { ok: AtsStatus.OK, unsupported: AtsStatus.UNSUPPORTED, abort: AtsStatus.ABORT } as const;
const DTE = 4n;
const PRE = 16n;
/** TT = 01. */
const TT_ATS = 4n;
/** The first pages of the pool are within every width. */
const WITHIN_WIDTHS = 7;

export function runAts(program: AtsProgram, memory: FuzzMemory, coverage: Coverage): void {
  memory.clear();
  new AtsInterpreter(program, memory, coverage).run();
}

class AtsInterpreter {
  readonly #program: AtsProgram;
  readonly #memory: FuzzMemory;
  readonly #coverage: Coverage;
  readonly #unit: VtdUnit;
  readonly #naive: NaiveAts;
  readonly #world: World;
  readonly #queue: NaivePageQueue;
  readonly #attrs = new TxAttrs();
  readonly #words = new Int32Array(2);
  readonly #out = new AtsCompletion();
  #offered: bigint[][] = [];
  #suppressed: number[] = [];
  #events = 0;
  #responses: string[] = [];

  constructor(program: AtsProgram, memory: FuzzMemory, coverage: Coverage) {
    const { options, modes } = ATS_CONFIGURATIONS[program.configuration]!;
    this.#program = program;
    this.#memory = memory;
    this.#coverage = coverage;
    this.#unit = new VtdUnit(vtdConfig(options), {
      name: 'fuzz',
      memory,
      sendMsi: (_hi, _lo, data) => void (data === PAGE_MESSAGE && this.#events++),
      faultOffered: record => this.#offered.push(quadsOf(record)),
      faultSuppressed: reason => this.#suppressed.push(reason),
      endpoint: requesterId => ({
        invalidate: () => true,
        pageResponse: (pasid, group, code) => void this.#responses.push(`${requesterId} ${pasid} ${group} ${code}`),
      }),
    });
    const facts = factsOf(this.#read64(Reg.CAP), this.#read64(Reg.ECAP));
    const { genes } = program;
    this.#naive = new NaiveAts(facts, memory);
    this.#world = new World(memory, facts, modes[genes[0]! % modes.length]!, genes);
    this.#queue = new NaivePageQueue(memory, this.#world.queue);
  }

  run(): void {
    const { genes, operations } = this.#program;
    const world = this.#world;
    for (const [i, rid] of RIDS.entries()) this.#putContext(rid, genes.slice(i, i + 5), genes[i + 12]! | 0x18);
    if (world.mode !== 'legacy') {
      for (const directory of [0, 1]) {
        for (const [i, pasid] of PASIDS.entries()) world.putPasid(directory, pasid, genes.slice(i * 4 + directory));
      }
    }
    this.#write64(Reg.PQA, world.queue);
    this.#write32(Reg.PEDATA, PAGE_MESSAGE);
    this.#write32(Reg.PECTL, 0);
    for (const operation of operations) this.#perform(operation);
  }

  #perform(operation: AtsOperation): void {
    const world = this.#world;
    switch (operation.op) {
      case 'request':
        this.#request(operation.request);
        break;
      case 'damage':
        this.#damage(operation);
        break;
      case 'context':
        this.#putContext(RIDS[operation.rid]!, operation.genes, operation.enables);
        break;
      case 'pasid':
        if (world.mode !== 'legacy') world.putPasid(operation.directory, PASIDS[operation.pasid]!, operation.genes);
        break;
      case 'serve':
        this.#serve(operation.how, operation.gene);
        break;
      case 'mode':
        if (operation.how % 4 === 0) this.#request(operation.request, false);
        else this.#request(operation.request, true, [0, 1, 2, 3][(operation.how >>> 2) % 4]!);
    }
  }

  /** A context entry of the world's, mostly with what device TLBs need. */
  #putContext(rid: number, genes: readonly number[], enables: number): void {
    const world = this.#world;
    const at = world.contextAddress(rid);
    world.putContext(rid, genes);
    const low = this.#memory.quad(at)!;
    if (world.mode === 'legacy') {
      if (enables % 4 !== 0) this.#memory.putQuad(at, (low & ~0xcn) | TT_ATS);
      return;
    }
    const dte = enables % 8 === 0 ? 0n : DTE;
    const pre = this.#read64(Reg.ECAP) & (1n << 29n) && (enables >>> 3) % 8 !== 0 ? PRE : 0n;
    this.#memory.putQuad(at, low | dte | pre);
  }

  #requestOf({ kind, who }: AtsRequest): Request {
    const { rid, pasid, page, offset, access } = who;
    const tagged = this.#world.mode !== 'legacy' || offset % 32 === 0;
    const chosen = tagged ? (PASIDS[pasid] ?? -1) : -1;
    const address =
      PAGES[offset % 4 === 1 ? page : page % WITHIN_WIDTHS]! + BigInt(offset % 8 === 0 ? offset : offset & 0xfff);
    const attributes = chosen === -1 ? 0 : access & 12;
    // A translation request is one for reading at least.
    const wanted = kind === 'translation' ? 1 | (access & 2) : access & 3;
    return { rid: RIDS[rid]!, pasid: chosen, address: BigInt.asUintN(64, address), access: wanted | attributes };
  }

  #damage({ request, depth, how, gene, undo }: AtsOperation & { readonly op: 'damage' }): void {
    const { rid, pasid, address } = this.#requestOf(request);
    const path = pathOf(this.#world, rid, pasid, address);
    const early = request.kind !== 'translation' || gene % 5 === 0;
    const structure = path[early ? (depth % 3) % path.length : depth % path.length];
    if (structure === undefined) return;
    const restore = damage(this.#world, structure, how, gene);
    this.#request(request);
    if (undo) restore();
  }

  /** Makes a request of a unit with cold caches. */
  #request(request: AtsRequest, enabled = true, mode = this.#world.mode === 'legacy' ? 0 : 1): void {
    const naive = this.#naive;
    naive.enabled = enabled;
    naive.root = this.#world.root;
    naive.mode = mode;
    this.#write64(Reg.RTADDR, naive.root | (BigInt(mode) << 10n));
    this.#write32(Reg.GCMD, (enabled ? TE : 0) + SRTP);
    if (enabled) this.#coverage.hit('TE');
    this.#memory.forget();
    this.#offered = [];
    this.#suppressed = [];
    const asked = this.#requestOf(request);
    if (request.kind === 'translation') this.#translation(asked);
    else if (request.kind === 'translated') this.#translated(asked);
    else this.#page(asked, request);
  }

  #translation(request: Request): void {
    const expected = this.#naive.translation(request);
    const [hi, lo] = halves(request.address);
    const status = this.#unit.translationRequest(request.rid, request.pasid, hi, lo, request.access, this.#out);
    this.#equal(request, 'status', status, STATUS[expected.status]);
    this.#verdict(request, expected, 'translation');
    const writes = new Map(
      this.#memory.stores.map(({ address, words }) => [address, quadsOf(Int32Array.from(words))[0]!]),
    );
    this.#equal(request, 'writes', textOf(writes), textOf(expected.writes));
    if (expected.status !== 'ok') return;
    const out = this.#out;
    this.#equal(request, 'granted', out.access, expected.access);
    const flags = FLAGS.filter(flag => out[flag]).join();
    const expectedFlags = FLAGS.filter(flag => (expected as unknown as Record<string, unknown>)[flag] === true).join();
    this.#equal(request, 'flags', flags, expectedFlags);
    this.#coverage.hit(`granted ${expected.access}${flags === '' ? '' : ` ${flags}`}`);
    if (expected.access === 0) return;
    this.#equal(request, 'page', (BigInt(out.hi) << 32n) | BigInt(out.lo), expected.base);
    this.#equal(request, 'size', out.shift, expected.shift);
    this.#coverage.hit(`page size ${expected.shift}`);
  }

  #translated(request: Request): void {
    const expected = this.#naive.translated(request);
    const [hi, lo] = halves(request.address);
    const status = this.#unit.translatedRequest(request.rid, request.pasid, hi, lo, request.access);
    this.#equal(request, 'status', status, STATUS[expected.status]);
    this.#verdict(request, expected, 'translated');
    this.#coverage.hit(`translated ${expected.status}`);
  }

  #page(request: Request, { group, last }: AtsRequest): void {
    const { rid, pasid, access } = request;
    const expected = this.#naive.page(request);
    const [hi, lo] = halves(request.address);
    this.#responses = [];
    const taken = this.#unit.pageRequest({ requesterId: rid, pasid, hi, lo, access, group, last });
    this.#equal(request, 'taken', taken, expected.status === 'ok');
    this.#verdict(request, expected, 'page');
    if (taken) this.#coverage.hit(`page ${this.#queue.put(request, group, last)}`);
    this.#equal(request, 'responses', this.#responses.join(), this.#queue.takeResponses().join());
    this.#settle(request);
  }

  /** What a handler does: responses apart, which the unit does not look at. */
  #serve(how: number, gene: number): void {
    const queue = this.#queue;
    if (this.#read64(Reg.ECAP) & (1n << 29n)) {
      if (how % 4 === 0) this.#write32(Reg.PRS, queue.clear(gene & 3));
      // All of it, or so that little room is left.
      else this.#write32(Reg.PQH, queue.serve(how % 4 === 1 ? 0 : 1 + (gene % 3)));
    }
    this.#settle(undefined);
  }

  #settle(request: Request | undefined): void {
    const queue = this.#queue;
    if ((this.#read64(Reg.ECAP) & (1n << 29n)) === 0n) return;
    this.#equal(request, 'PQT', this.#read64(Reg.PQT), BigInt(queue.tail));
    this.#equal(request, 'PQH', this.#read64(Reg.PQH), BigInt(queue.head));
    this.#equal(request, 'PRS', this.#unit.mmio.read(Reg.PRS, 4, this.#attrs), queue.status);
    this.#equal(request, 'events', this.#events, queue.events);
    const wrong = queue.wrongSlot();
    if (wrong !== undefined) throw new Disagreement(`the queue's slot ${wrong} is not what was asked`);
  }

  /** What was recorded, or suppressed, is what the oracle says. */
  #verdict(request: Request, expected: Verdict, kind: Kind): void {
    const { reason } = expected;
    const recorded = reason !== 0 && !isSuppressed(expected);
    this.#equal(request, 'faults', this.#offered.length, Number(recorded));
    this.#equal(request, 'suppressed faults', this.#suppressed.join(), reason !== 0 && !recorded ? `${reason}` : '');
    if (reason === 0) return;
    this.#coverage.hit(`${kind} 0x${reason.toString(16).padStart(2, '0')}`);
    if (!recorded) {
      this.#coverage.hit('FPD');
      return;
    }
    const [low, high] = atsRecordOf(request, reason, kind);
    this.#equal(request, 'fault record, low', this.#offered[0]![0], low);
    this.#equal(request, 'fault record, high', this.#offered[0]![1], high);
  }

  #read64(offset: number): bigint {
    this.#unit.mmio.read64!(offset, this.#words, this.#attrs);
    return quadsOf(this.#words)[0]!;
  }

  #write32(offset: number, value: number): void {
    this.#unit.mmio.write(offset, value >>> 0, 4, this.#attrs);
  }

  #write64(offset: number, value: bigint): void {
    this.#unit.mmio.write64!(offset, Number(value >> 32n), Number(value & 0xffff_ffffn), this.#attrs);
  }

  #equal<T>(request: Request | undefined, what: string, got: T, expected: T): void {
    if (got === expected) return;
    const hex = (value: unknown): string => (typeof value === 'bigint' ? `0x${value.toString(16)}` : String(value));
    throw new Disagreement(
      `${what}: ${hex(got)}, not ${hex(expected)}${request === undefined ? '' : `, of ${textOf(request)}`}`,
    );
  }
}

function halves(value: bigint): readonly [hi: number, lo: number] {
  return [Number(BigInt.asIntN(32, value >> 32n)), Number(BigInt.asIntN(32, value))];
}

function quadsOf(words: Int32Array): bigint[] {
  return Array.from(
    { length: words.length / 2 },
    (_, i) => (BigInt(words[i * 2 + 1]! >>> 0) << 32n) | BigInt(words[i * 2]! >>> 0),
  );
}

function textOf(value: Request | ReadonlyMap<bigint, bigint>): string {
  const hex = (each: bigint): string => each.toString(16);
  if (value instanceof Map) {
    return [...value]
      .map(([at, quad]) => `${hex(at as bigint)}=${hex(quad as bigint)}`)
      .sort()
      .join();
  }
  const { rid, pasid, address, access } = value as Request;
  return `rid ${rid.toString(16)} pasid ${pasid} address ${hex(address)} access ${access}`;
}

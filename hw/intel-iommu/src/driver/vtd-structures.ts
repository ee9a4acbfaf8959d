/** The structures that tell a VT-d unit what each function may do, as its driver keeps them in memory (VT-d 9). */
import type { MemoryPort, StateReader, StateWriter } from '@remora/core';
import { ContextEntry, PasidEntry, ScalableContextEntry, TranslationType } from '../spec/index.js';
import { VtdCapabilities } from './capabilities.js';
import { ContextTables } from './context-tables.js';
import type { ContextValues, PasidValues, ScalableContextValues } from './entry-values.js';
import { VtdInvalidations } from './invalidations.js';
import type { PageAllocator } from './page-allocator.js';
import { directorySize, PasidDirectory } from './pasid-directory.js';
import type { VtdRegisters } from './registers.js';

export interface VtdStructureOptions {
  /** Translation table mode; scalable needs ECAP.SMTS. Default legacy. */
  readonly mode?: 'legacy' | 'scalable';
  /** PASID bits that a function's directory covers; default: all that the unit has. */
  readonly pasidBits?: number;
}

/** Its verbs only write memory; what must be flushed afterwards is up to the caller. */
export class VtdStructures extends VtdInvalidations {
  readonly mode: 'legacy' | 'scalable';
  /** Where its tables come from. */
  readonly pages: PageAllocator;
  readonly #memory: MemoryPort;
  readonly #pasidBits: number;
  readonly #directories = new Map<number, PasidDirectory>();
  readonly #context = new Int32Array(ScalableContextEntry.words);
  #tables: ContextTables | undefined;

  /** Reads the unit's capabilities. @throws Error if no unit answers, or it lacks the mode that is asked for. */
  constructor(registers: VtdRegisters, memory: MemoryPort, pages: PageAllocator, options: VtdStructureOptions) {
    super(registers, new VtdCapabilities(registers));
    this.mode = options.mode ?? 'legacy';
    if (this.scalable && this.capabilities.ecap.smts === 0) throw new Error('VT-d: the unit has no scalable mode');
    this.pages = pages;
    this.#memory = memory;
    this.#pasidBits = options.pasidBits ?? this.capabilities.pasidBits;
  }

  get scalable(): boolean {
    return this.mode === 'scalable';
  }

  /** Root and context tables; made when first needed. */
  get tables(): ContextTables {
    return (this.#tables ??= new ContextTables(this.#memory, this.pages, this.scalable));
  }

  /** Where its structures are; they themselves are in memory. */
  save(into: StateWriter): void {
    if (this.#tables !== undefined) into.integer('root-frame', this.#tables.rootFrame);
    into.list('directories', this.#directories, (each, [requesterId, { pdts, frame }]) => {
      each.integer('requester', requesterId).integer('pdts', pdts).integer('frame', frame);
    });
  }

  /** Goes on with what `save` wrote of; memory and the unit are as they were. */
  load(from: StateReader): void {
    if (from.has('root-frame'))
      this.#tables = new ContextTables(this.#memory, this.pages, this.scalable, from.integer('root-frame'));
    for (const each of from.list('directories')) {
      const pdts = each.integer('pdts', { max: 7 });
      const directory = PasidDirectory.at(this.#memory, this.pages, pdts, each.integer('frame'));
      this.#directories.set(each.integer('requester', { max: 0xffff }), directory);
    }
  }

  /**
   * Writes a function's context entry, present unless the values say otherwise. In scalable mode without `pasiddirptr` it gets the
   * function's own PASID directory, made when first needed, and PASIDE where the unit has PASIDs. 0, or -ENOMEM.
   */
  contextEntry(requesterId: number, values: ContextValues | ScalableContextValues): number {
    if (!this.scalable)
      return this.tables.write(requesterId, ContextEntry.encode({ p: 1, ...(values as ContextValues) }));
    const scalable = values as ScalableContextValues;
    if (scalable.pasiddirptr !== undefined) {
      return this.tables.write(requesterId, ScalableContextEntry.encode({ p: 1, ...scalable }));
    }
    const directory = this.#directory(requesterId);
    if (typeof directory === 'number') return directory;
    const own = { p: 1, paside: this.capabilities.ecap.pasid, pdts: directory.pdts, pasiddirptr: directory.frame };
    return this.tables.write(requesterId, ScalableContextEntry.encode({ ...own, ...scalable }));
  }

  clearContextEntry(requesterId: number): void {
    this.tables.clear(requesterId);
  }

  /** Writes an entry of the function's own PASID directory. 0; -EINVAL beyond the directory; -ENOMEM. */
  pasidEntry(requesterId: number, pasid: number, values: PasidValues): number {
    return this.writePasidEntry(requesterId, pasid, PasidEntry.encode({ p: 1, ...values }));
  }

  /** As pasidEntry, from words. */
  writePasidEntry(requesterId: number, pasid: number, entry: Int32Array): number {
    const directory = this.#directory(requesterId);
    return typeof directory === 'number' ? directory : directory.write(pasid, entry);
  }

  clearPasidEntry(requesterId: number, pasid: number): void {
    this.#directories.get(requesterId)?.clear(pasid);
  }

  /** Reads an entry of the function's own PASID directory into `out` (16 words). False if it is not present. */
  readPasidEntry(requesterId: number, pasid: number, out: Int32Array): boolean {
    return this.#directories.get(requesterId)?.read(pasid, out) ?? false;
  }

  /** The function's own PASID directory; undefined while it has none. */
  directory(requesterId: number): PasidDirectory | undefined {
    return this.#directories.get(requesterId);
  }

  /** Whether the function's context entry lets it use a device TLB. */
  hasDeviceTlb(requesterId: number): boolean {
    if (!this.tables.read(requesterId, this.#context)) return false;
    return this.scalable
      ? ScalableContextEntry.fields.dte.get(this.#context, 0) === 1
      : ContextEntry.fields.tt.get(this.#context, 0) === TranslationType.ATS;
  }

  /** Whether the function's context entry lets it request pages. */
  requestsPages(requesterId: number): boolean {
    if (!this.scalable || !this.tables.read(requesterId, this.#context)) return false;
    return ScalableContextEntry.fields.pre.get(this.#context, 0) === 1;
  }

  /** Returns the tables of a function whose context entry is cleared and forgotten by the unit. */
  releaseFunction(requesterId: number): void {
    this.#directories.get(requesterId)?.free();
    this.#directories.delete(requesterId);
    this.tables.prune(requesterId);
  }

  /** Makes a PASID entry absent, and returns its table if nothing else is in it: only where the unit never knew of it. */
  dropPasidEntry(requesterId: number, pasid: number): void {
    this.#directories.get(requesterId)?.clear(pasid);
    this.#directories.get(requesterId)?.prune(pasid);
  }

  /** Returns every page; the unit must be stopped. */
  free(): void {
    for (const directory of this.#directories.values()) directory.free();
    this.#directories.clear();
    this.#tables?.free();
    this.#tables = undefined;
  }

  #directory(requesterId: number): PasidDirectory | number {
    const known = this.#directories.get(requesterId);
    if (known !== undefined) return known;
    const made = PasidDirectory.create(this.#memory, this.pages, directorySize(this.#pasidBits));
    if (typeof made !== 'number') this.#directories.set(requesterId, made);
    return made;
  }
}

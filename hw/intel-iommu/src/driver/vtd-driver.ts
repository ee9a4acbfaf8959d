/**
 * A bare-metal VT-d driver: knows nothing of its unit but registers and memory, and does what Linux does in Linux's order (vtd.md 11). It plays the
 * guest in tests, and a host's kernel drives its physical unit with it.
 *
 * Verbs return 0 or a negated errno, as their descriptors do (`VtdInvalidations`). A unit that does not answer a handshake makes them throw.
 */
import { Errno, type MemoryPort, type StateReader, type StateWriter } from '@remora/core';
import {
  ContextEntry,
  EventControl,
  GlobalCommand,
  Granularity,
  InterruptTableAddress,
  PasidCacheGranularity,
  PasidEntry,
  PasidIotlbGranularity,
  Pgtt,
  Reg,
  RootTableAddress,
  ScalableContextEntry,
  TranslationType,
  Ttm,
} from '../spec/index.js';
import { VtdCapabilities } from './capabilities.js';
import { ContextTables } from './context-tables.js';
import type { ContextValues, PasidValues, ScalableContextValues } from './entry-values.js';
import { takeFaultRecords, type VtdFault } from './fault-log.js';
import { GlobalCommands, poll } from './global-command.js';
import { pasidDeviceTlbDescriptor, pasidIotlbDescriptor, waitDescriptor } from './descriptors.js';
import { InvalidationQueue } from './invalidation-queue.js';
import { EVERYTHING_SHIFT, VtdInvalidations } from './invalidations.js';
import type { PageAllocator } from './page-allocator.js';
import { type PageRequestOptions, PageRequestQueue } from './page-requests.js';
import { directorySize, PasidDirectory } from './pasid-directory.js';
import type { VtdRegisters } from './registers.js';
import { VirtualCommands } from './virtual-command.js';

export interface VtdDriverOptions {
  /** Translation table mode; scalable needs ECAP.SMTS. Default legacy. */
  readonly mode?: 'legacy' | 'scalable';
  /** Layout of the virtual command registers; default 3.3. */
  readonly vcmdLayout?: '3.0' | '3.3';
  /** Size of the invalidation queue: 4096 << order bytes. Default: room for 256 descriptors. */
  readonly queueOrder?: number;
  /** PASID bits that a function's directory covers; default: all that the unit has. */
  readonly pasidBits?: number;
}

/** Where the unit's own messages go. */
export interface EventMessage {
  readonly hi: number;
  readonly lo: number;
  readonly data: number;
}

/** PMEN.EPM (enable) and PMEN.PRS (status). */
const PMEN_PRS = 1;

export class VtdDriver extends VtdInvalidations {
  readonly mode: 'legacy' | 'scalable';
  readonly #registers: VtdRegisters;
  readonly #memory: MemoryPort;
  /** Where its tables come from. */
  readonly pages: PageAllocator;
  readonly #options: VtdDriverOptions;
  readonly #commands: GlobalCommands;
  readonly #virtual: VirtualCommands;
  readonly #directories = new Map<number, PasidDirectory>();
  readonly #context = new Int32Array(ScalableContextEntry.words);
  #tables: ContextTables | undefined;
  #ownQueue: InvalidationQueue | undefined;
  #pageRequests: PageRequestQueue | undefined;

  /** Reads the unit's capabilities and what is enabled. @throws Error if no unit answers, or it lacks the mode that is asked for. */
  constructor(registers: VtdRegisters, memory: MemoryPort, pages: PageAllocator, options: VtdDriverOptions = {}) {
    super(registers, new VtdCapabilities(registers));
    this.mode = options.mode ?? 'legacy';
    if (this.scalable && this.capabilities.ecap.smts === 0) throw new Error('VT-d: the unit has no scalable mode');
    this.#registers = registers;
    this.#memory = memory;
    this.pages = pages;
    this.#options = options;
    this.#commands = new GlobalCommands(registers);
    this.#virtual = new VirtualCommands(registers, options.vcmdLayout ?? '3.3');
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
    this.#ownQueue?.save(into.child('queue'));
    into.flag('queued', this.queued);
    into.list('directories', this.#directories, (each, [requesterId, { pdts, frame }]) => {
      each.integer('requester', requesterId).integer('pdts', pdts).integer('frame', frame);
    });
  }

  /** Goes on with what `save` wrote of; memory and the unit are as they were. */
  load(from: StateReader): void {
    if (from.has('root-frame'))
      this.#tables = new ContextTables(this.#memory, this.pages, this.scalable, from.integer('root-frame'));
    const queue = from.optional('queue');
    if (queue !== undefined) this.#ownQueue = InvalidationQueue.load(queue, this.#registers, this.#memory, this.pages);
    this.useQueue(from.flag('queued') ? this.#ownQueue : undefined);
    for (const each of from.list('directories')) {
      const pdts = each.integer('pdts', { max: 7 });
      const directory = PasidDirectory.at(this.#memory, this.pages, pdts, each.integer('frame'));
      this.#directories.set(each.integer('requester', { max: 0xffff }), directory);
    }
  }

  // Set-up (vtd.md 11.2 to 11.4).

  /** Everything from the queue to TE, in Linux's order; functions that `attach` names are put in before translation begins. */
  start(faults?: EventMessage, attach?: () => void): void {
    if (this.capabilities.ecap.qi) this.enableQueue();
    if (this.#commands.status() & GlobalCommand.TE) this.disableTranslation();
    this.flushWriteBuffer();
    this.setRootTable();
    if (faults !== undefined) this.enableFaultEvents(faults.hi, faults.lo, faults.data);
    attach?.();
    this.enableTranslation();
  }

  enableQueue(): void {
    if (this.#commands.status() & GlobalCommand.QIE) this.#commands.disable(GlobalCommand.QIE);
    this.#ownQueue ??= new InvalidationQueue(this.#registers, this.#memory, this.pages, {
      wide: this.capabilities.ecap.smts === 1,
      ...(this.#options.queueOrder === undefined ? {} : { order: this.#options.queueOrder }),
    });
    this.#ownQueue.enable(this.#commands);
    this.useQueue(this.#ownQueue);
  }

  /** From here on invalidations go through registers. */
  disableQueue(): void {
    this.#ownQueue?.disable(this.#commands);
    this.useQueue(undefined);
  }

  /** RTADDR and SRTP; the caches are flushed unless the unit does so itself (CAP.ESRTPS). */
  setRootTable(): void {
    const address = RootTableAddress.encode({
      rta: this.tables.rootFrame,
      ttm: this.scalable ? Ttm.SCALABLE : Ttm.LEGACY,
    });
    this.#registers.write64(Reg.RTADDR, address[1]!, address[0]!);
    this.#commands.once(GlobalCommand.SRTP);
    if (this.capabilities.cap.esrtps) return;
    this.contextCacheInvalidate(Granularity.GLOBAL);
    if (this.scalable) this.pasidCacheInvalidate(PasidCacheGranularity.GLOBAL);
    this.iotlbInvalidate(Granularity.GLOBAL);
  }

  enableTranslation(): void {
    this.#commands.enable(GlobalCommand.TE);
    this.#disableProtectedMemory();
  }

  disableTranslation(): void {
    this.#commands.disable(GlobalCommand.TE);
  }

  /** Says where fault messages go, and leaves the mask alone. */
  routeFaultEvents(hi: number, lo: number, data: number): void {
    this.#registers.write32(Reg.FEDATA, data);
    this.#registers.write32(Reg.FEADDR, lo);
    this.#registers.write32(Reg.FEUADDR, hi);
  }

  /** Says where fault messages go, and unmasks them. */
  enableFaultEvents(hi: number, lo: number, data: number): void {
    this.routeFaultEvents(hi, lo, data);
    this.#setFaultMask(0);
  }

  maskFaultEvents(): void {
    this.#setFaultMask(1);
  }

  /** Forgets what happened before: writes back whatever FSTS shows. */
  clearFaultStatus(): void {
    this.#registers.write32(Reg.FSTS, this.#registers.read32(Reg.FSTS));
  }

  /** Interrupt remapping table of `2 ** (size + 1)` entries at `frame`: IRTA, SIRTP, and a global flush unless CAP.ESIRTPS. */
  setInterruptTable(frame: number, size: number, extended: boolean): void {
    const address = InterruptTableAddress.encode({ s: size, eime: Number(extended), irta: frame });
    this.#registers.write64(Reg.IRTA, address[1]!, address[0]!);
    this.#commands.once(GlobalCommand.SIRTP);
    if (!this.capabilities.cap.esirtps) this.interruptEntryCacheInvalidate();
  }

  /** IRE on, compatibility format off. */
  enableInterruptRemapping(): void {
    this.#commands.enable(GlobalCommand.IRE);
    if (this.#commands.status() & GlobalCommand.CFI) this.#commands.disable(GlobalCommand.CFI);
  }

  /**
   * Sets the page request queue up, after the root table and before functions get at it (vtd.md 11.4); with `message` its events are
   * unmasked. @throws Error if the unit takes no page requests, or there are no pages.
   */
  enablePageRequests(options: Omit<PageRequestOptions, 'respond'>, message?: EventMessage): PageRequestQueue {
    if (!this.capabilities.ecap.prs) throw new Error('VT-d: the unit takes no page requests');
    this.#pageRequests = new PageRequestQueue(this.#registers, this.#memory, this.pages, {
      ...options,
      respond: response => this.pageGroupResponse(response),
    });
    this.#pageRequests.enable();
    if (message !== undefined) this.#pageRequests.enableEvents(message.hi, message.lo, message.data);
    return this.#pageRequests;
  }

  /** The page request queue, while there is one. @throws Error otherwise. */
  get pageRequests(): PageRequestQueue {
    if (this.#pageRequests === undefined) throw new Error('VT-d: page requests are not enabled');
    return this.#pageRequests;
  }

  /** The functions with PRE must not request pages any more. */
  disablePageRequests(): void {
    this.#pageRequests?.disable();
    this.#pageRequests = undefined;
  }

  /** Translation, interrupt remapping and the queue off, in this order. */
  stop(): void {
    this.disablePageRequests();
    if (this.#commands.status() & GlobalCommand.TE) this.disableTranslation();
    if (this.#commands.status() & GlobalCommand.IRE) this.#commands.disable(GlobalCommand.IRE);
    if (this.queued) this.disableQueue();
  }

  /** Returns every page; the unit must be stopped. */
  free(): void {
    for (const directory of this.#directories.values()) directory.free();
    this.#directories.clear();
    this.#tables?.free();
    this.#tables = undefined;
    this.#ownQueue?.free();
    this.#ownQueue = undefined;
  }

  /** After changes to structures, for units that have write buffers (CAP.RWBF). */
  flushWriteBuffer(): void {
    if (this.capabilities.cap.rwbf) this.#commands.flushWriteBuffer();
  }

  // Entries. These only write memory; what must be flushed afterwards is up to the caller, or use attach() and its kin.

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

  // Entries together with the flushes that Linux gives.

  /** Writes a context entry and flushes what a caching unit may hold of the old one (11.3, 11.4). On failure the entry is absent again. */
  attach(requesterId: number, values: ContextValues | ScalableContextValues): number {
    const status = this.contextEntry(requesterId, values);
    if (status !== 0) return status;
    const domain = this.scalable ? 0 : Number((values as ContextValues).did ?? 0);
    return this.#afterNewEntry(
      () => this.clearContextEntry(requesterId),
      () => this.contextCacheInvalidate(Granularity.DEVICE, 0, requesterId),
      () => this.iotlbInvalidate(Granularity.DOMAIN, domain),
    );
  }

  /**
   * Clears a context entry, flushes, and returns the function's PASID directory if it has one (11.8). `domain`: of its requests without
   * PASID. If a flush fails the entry is back.
   */
  detach(requesterId: number, domain: number): number {
    const entry = new Int32Array(ScalableContextEntry.words);
    if (!this.tables.read(requesterId, entry)) return -Errno.EINVAL;
    const hasDeviceTlb = this.hasDeviceTlb(requesterId);
    this.clearContextEntry(requesterId);
    let status = this.contextCacheInvalidate(Granularity.DEVICE, this.scalable ? 0 : domain, requesterId);
    if (status === 0 && this.scalable) status = this.pasidCacheInvalidate(PasidCacheGranularity.DOMAIN, domain);
    if (status === 0) status = this.iotlbInvalidate(Granularity.DOMAIN, domain);
    if (status === 0 && hasDeviceTlb) status = answered(this.deviceTlbInvalidate(requesterId));
    if (status !== 0) {
      this.tables.write(requesterId, this.scalable ? entry : entry.subarray(0, ContextEntry.words));
      return status;
    }
    this.releaseFunction(requesterId);
    return 0;
  }

  /** Returns the tables of a function whose context entry is cleared and forgotten by the unit. */
  releaseFunction(requesterId: number): void {
    this.#directories.get(requesterId)?.free();
    this.#directories.delete(requesterId);
    this.tables.prune(requesterId);
  }

  /** Writes a PASID entry where none was, and flushes what a caching unit may hold. On failure there is none again. */
  addPasid(requesterId: number, pasid: number, values: PasidValues): number {
    const status = this.pasidEntry(requesterId, pasid, values);
    if (status !== 0) return status;
    const domain = Number(values.did ?? 0);
    return this.#afterNewEntry(
      () => this.#dropPasidEntry(requesterId, pasid),
      () => this.flushPasid(domain, pasid),
    );
  }

  /**
   * Clears a PASID entry and flushes what was cached of it. As in Linux its table stays until the function is released, so that a late
   * request finds an entry that is not present. -EINVAL if there is none; if a flush fails the entry is
   * back.
   */
  removePasid(requesterId: number, pasid: number): number {
    const entry = new Int32Array(PasidEntry.words);
    if (!this.readPasidEntry(requesterId, pasid, entry)) return -Errno.EINVAL;
    this.clearPasidEntry(requesterId, pasid);
    const { did, pgtt } = PasidEntry.fields;
    // The PASID-based flush spares second-stage translations.
    const secondStage = pgtt.get(entry, 0) === Pgtt.SECOND_STAGE;
    let status = this.flushPasid(did.get(entry, 0), pasid);
    if (status === 0 && secondStage) status = this.iotlbInvalidate(Granularity.DOMAIN, did.get(entry, 0));
    if (status === 0 && this.hasDeviceTlb(requesterId)) {
      status = answered(this.pasidDeviceTlbInvalidate(requesterId, pasid));
    }
    if (status === 0) status = answered(this.drainPageRequests(requesterId, did.get(entry, 0), pasid, secondStage));
    if (status !== 0) {
      this.writePasidEntry(requesterId, pasid, entry);
      return status;
    }
    return 0;
  }

  /**
   * Sees to it that no request for a PASID that is gone comes after this, from a function that requests pages (vtd.md 11.6). Whatever is
   * queued is handled. 0, or a negated errno.
   */
  drainPageRequests(requesterId: number, domain: number, pasid: number, secondStage = false): number {
    const requests = this.#pageRequests;
    if (requests === undefined || !this.requestsPages(requesterId)) return 0;
    const flush = secondStage
      ? this.iotlbDescriptor(Granularity.DOMAIN, domain)
      : pasidIotlbDescriptor(PasidIotlbGranularity.PASID, domain, pasid);
    const batch = [
      waitDescriptor({ fence: true }),
      flush,
      pasidDeviceTlbDescriptor(requesterId, pasid, 0, 0, EVERYTHING_SHIFT),
    ];
    requests.handle();
    for (;;) {
      const { queue } = this;
      const status = this.capabilities.ecap.pds ? queue.submitDraining(...batch) : queue.submit(...batch);
      if (status !== 0) return status;
      // What was dropped because the queue was full may come again.
      const overflowed = requests.overflowing;
      requests.handle();
      if (!overflowed) return 0;
    }
  }

  // Virtual commands, faults.

  /** A PASID from the host, or a negated errno; -ENODEV without virtual commands. */
  allocPasid(): number {
    return this.capabilities.ecap.vcs && this.#virtual.offersPasids ? this.#virtual.allocatePasid() : -Errno.ENODEV;
  }

  freePasid(pasid: number): number {
    return this.capabilities.ecap.vcs && this.#virtual.offersPasids ? this.#virtual.freePasid(pasid) : -Errno.ENODEV;
  }

  /** What a fault interrupt's handler does: takes the pending records, oldest first. */
  handleFaults(): VtdFault[] {
    return takeFaultRecords(this.#registers, this.capabilities);
  }

  #directory(requesterId: number): PasidDirectory | number {
    const known = this.#directories.get(requesterId);
    if (known !== undefined) return known;
    const bits = this.#options.pasidBits ?? this.capabilities.pasidBits;
    const made = PasidDirectory.create(this.#memory, this.pages, directorySize(bits));
    if (typeof made !== 'number') this.#directories.set(requesterId, made);
    return made;
  }

  #dropPasidEntry(requesterId: number, pasid: number): void {
    this.#directories.get(requesterId)?.clear(pasid);
    this.#directories.get(requesterId)?.prune(pasid);
  }

  /** A unit in caching mode may hold the entry's absence; others need their write buffer flushed at most. */
  #afterNewEntry(undo: () => void, ...flushes: readonly (() => number)[]): number {
    if (!this.capabilities.cap.cm) {
      this.flushWriteBuffer();
      return 0;
    }
    for (const flush of flushes) {
      const status = flush();
      if (status === 0) continue;
      undo();
      return status;
    }
    return 0;
  }

  #setFaultMask(masked: 0 | 1): void {
    this.#registers.write32(Reg.FECTL, EventControl.encode({ im: masked })[0]!);
    // Reading it back makes sure that the write arrived.
    this.#registers.read32(Reg.FECTL);
  }

  #disableProtectedMemory(): void {
    if (!this.capabilities.cap.plmr && !this.capabilities.cap.phmr) return;
    this.#registers.write32(Reg.PMEN, 0);
    poll('PMEN.PRS', () => (this.#registers.read32(Reg.PMEN) & PMEN_PRS) === 0);
  }
}

/** A function that is gone, or does not answer, keeps nobody from taking its tables away (Linux goes on, too). */
function answered(status: number): number {
  return status === -Errno.ETIMEDOUT ? 0 : status;
}

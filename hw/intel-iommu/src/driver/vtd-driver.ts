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
  Ttm,
} from '../spec/index.js';
import type { ContextValues, PasidValues, ScalableContextValues } from './entry-values.js';
import { type FaultClaim, takeFaultRecords, type VtdFault } from './fault-log.js';
import { GlobalCommands, poll } from './global-command.js';
import { deviceTlbOf, type PageGroupResponse, pasidIotlbDescriptor, waitDescriptor } from './descriptors.js';
import { InvalidationQueue } from './invalidation-queue.js';
import type { PageAllocator } from './page-allocator.js';
import { type PageRequestOptions, type PageRequestPlace, PageRequestQueue } from './page-requests.js';
import type { VtdRegisters } from './registers.js';
import { VirtualCommands } from './virtual-command.js';
import { type VtdStructureOptions, VtdStructures } from './vtd-structures.js';

export interface VtdDriverOptions extends VtdStructureOptions {
  /** Layout of the virtual command registers; default 3.3. */
  readonly vcmdLayout?: '3.0' | '3.3';
  /** Size of the invalidation queue: 4096 << order bytes. Default: room for 256 descriptors. */
  readonly queueOrder?: number;
}

/** Where the unit's own messages go. */
export interface EventMessage {
  readonly hi: number;
  readonly lo: number;
  readonly data: number;
}

/** PMEN.EPM (enable) and PMEN.PRS (status). */
const PMEN_PRS = 1;

export class VtdDriver extends VtdStructures {
  readonly #registers: VtdRegisters;
  readonly #memory: MemoryPort;
  readonly #options: VtdDriverOptions;
  readonly #commands: GlobalCommands;
  readonly #virtual: VirtualCommands;
  #ownQueue: InvalidationQueue | undefined;
  #pageRequests: PageRequestQueue | undefined;
  /** Where a page request queue was when this was saved. */
  #requestsAt: PageRequestPlace | undefined;

  /** Reads the unit's capabilities and what is enabled. @throws Error if no unit answers, or it lacks the mode that is asked for. */
  constructor(registers: VtdRegisters, memory: MemoryPort, pages: PageAllocator, options: VtdDriverOptions = {}) {
    super(registers, memory, pages, options);
    this.#registers = registers;
    this.#memory = memory;
    this.#options = options;
    this.#commands = new GlobalCommands(registers);
    this.#virtual = new VirtualCommands(registers, options.vcmdLayout ?? '3.3');
  }

  /** Where its structures are; they themselves are in memory. */
  override save(into: StateWriter): void {
    super.save(into);
    this.#ownQueue?.save(into.child('queue'));
    into.flag('queued', this.queued);
    this.#pageRequests?.save(into.child('page-requests'));
  }

  /** Goes on with what `save` wrote of; memory and the unit are as they were. A page request queue is used again by enablePageRequests. */
  override load(from: StateReader): void {
    super.load(from);
    const queue = from.optional('queue');
    if (queue !== undefined) this.#ownQueue = InvalidationQueue.load(queue, this.#registers, this.#memory, this.pages);
    this.useQueue(from.flag('queued') ? this.#ownQueue : undefined);
    const requests = from.optional('page-requests');
    this.#requestsAt = requests === undefined ? undefined : PageRequestQueue.placeOf(requests);
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
   * unmasked. One that was loaded is used as it is. @throws Error if the unit takes no page requests, or there are no pages.
   */
  enablePageRequests(options: Omit<PageRequestOptions, 'respond'>, message?: EventMessage): PageRequestQueue {
    if (!this.capabilities.ecap.prs) throw new Error('VT-d: the unit takes no page requests');
    const at = this.#requestsAt;
    this.#requestsAt = undefined;
    const respond = (response: PageGroupResponse): number => this.pageGroupResponse(response);
    this.#pageRequests = new PageRequestQueue(this.#registers, this.#memory, this.pages, { ...options, respond }, at);
    if (at === undefined) this.#pageRequests.enable();
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

  override free(): void {
    super.free();
    this.#ownQueue?.free();
    this.#ownQueue = undefined;
  }

  /** After changes to structures, for units that have write buffers (CAP.RWBF). */
  flushWriteBuffer(): void {
    if (this.capabilities.cap.rwbf) this.#commands.flushWriteBuffer();
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
    if (this.requestsPages(requesterId)) this.#stopPageRequests(requesterId, entry);
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

  /** Writes a PASID entry where none was, and flushes what a caching unit may hold. On failure there is none again. */
  addPasid(requesterId: number, pasid: number, values: PasidValues): number {
    const status = this.pasidEntry(requesterId, pasid, values);
    if (status !== 0) return status;
    const domain = Number(values.did ?? 0);
    return this.#afterNewEntry(
      () => this.dropPasidEntry(requesterId, pasid),
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
    const status = this.#forgetPasid(requesterId, pasid, entry);
    if (status !== 0) this.writePasidEntry(requesterId, pasid, entry);
    return status;
  }

  /** Puts another PASID entry in the place of one, and flushes what was cached of that (11.6). -EINVAL if there is none; if a flush fails it is back. */
  replacePasid(requesterId: number, pasid: number, values: PasidValues): number {
    const entry = new Int32Array(PasidEntry.words);
    if (!this.readPasidEntry(requesterId, pasid, entry)) return -Errno.EINVAL;
    this.pasidEntry(requesterId, pasid, values);
    const status = this.#forgetPasid(requesterId, pasid, entry);
    if (status !== 0) this.writePasidEntry(requesterId, pasid, entry);
    return status;
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
    const batch = [waitDescriptor({ fence: true }), flush, deviceTlbOf(requesterId, pasid)];
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

  /** Drops what was cached of `entry`, which is not at this PASID any more. */
  #forgetPasid(requesterId: number, pasid: number, entry: Int32Array): number {
    const { did, pgtt } = PasidEntry.fields;
    const domain = did.get(entry, 0);
    // The PASID-based flush spares what was read of a second stage, also below a first stage.
    const type = pgtt.get(entry, 0);
    const secondStage = type === Pgtt.SECOND_STAGE || type === Pgtt.NESTED;
    let status = this.flushPasid(domain, pasid);
    if (status === 0 && secondStage) status = this.iotlbInvalidate(Granularity.DOMAIN, domain);
    if (status === 0 && this.hasDeviceTlb(requesterId)) {
      status = answered(this.invalidate(deviceTlbOf(requesterId, pasid)));
    }
    return status === 0 ? answered(this.drainPageRequests(requesterId, domain, pasid, secondStage)) : status;
  }

  /** Clears PRE, before the function's entry goes: a late request is refused, and no fault of an absent entry. What came is handled. */
  #stopPageRequests(requesterId: number, entry: Int32Array): void {
    const without = entry.slice();
    ScalableContextEntry.fields.pre.set(without, 0, 0);
    this.tables.write(requesterId, without);
    this.contextCacheInvalidate(Granularity.DEVICE, 0, requesterId);
    this.#pageRequests?.handle();
  }

  // Virtual commands, faults.

  /** A PASID from the host, or a negated errno; -ENODEV without virtual commands. */
  allocPasid(): number {
    return this.capabilities.ecap.vcs && this.#virtual.offersPasids ? this.#virtual.allocatePasid() : -Errno.ENODEV;
  }

  freePasid(pasid: number): number {
    return this.capabilities.ecap.vcs && this.#virtual.offersPasids ? this.#virtual.freePasid(pasid) : -Errno.ENODEV;
  }

  /** What a fault interrupt's handler does: takes the pending records, oldest first; those that nobody claims. */
  handleFaults(claim?: FaultClaim): VtdFault[] {
    return takeFaultRecords(this.#registers, this.capabilities, claim);
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

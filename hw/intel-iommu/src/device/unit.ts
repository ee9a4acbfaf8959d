/**
 * A VT-d remapping unit: registers, tables, queue, faults. The same class is a guest's vIOMMU and, with `nesting=on`, a host's physical
 * IOMMU. This file composes; behaviour is in the files beside it.
 */
import type { Inspector, MmioOps, StateReader, StateWriter, Translation } from '@remora/core';
import {
  Iotlb,
  PagingStructureCache,
  type AtsCompletion,
  type AtsStatus,
  type HostStage1Fault,
  type PageRequest,
  type RemappedInterrupt,
} from '@remora/iommu';
import type { VtdConfig } from '../config/index.js';
import { Reg, Ttm, virtualCommandLayout, WINDOW_BYTES } from '../spec/index.js';
import { AtsRequests } from './ats-requests.js';
import { QEMU_10_2, SPECIFICATION, type Behaviour } from './behaviour.js';
import { loadCaches, saveCaches, type UnitCaches } from './cache-state.js';
import { Capabilities } from './capabilities.js';
import { ContextCache } from './context-cache.js';
import { Descriptors } from './descriptors.js';
import { DeviceTlbInvalidations } from './device-tlb-invalidation.js';
import type { VtdEnvironment } from './environment.js';
import { EventInterrupt } from './event-interrupt.js';
import { FaultRecording } from './fault-recording.js';
import { FaultingContexts, FaultingPasids } from './faulting-entries.js';
import { FirstStageWalk } from './first-stage.js';
import { GlobalCommands } from './global-command.js';
import { HostFaults } from './host-faults.js';
import { inspectUnit } from './inspect.js';
import { InterruptEntryCache } from './interrupt-entry-cache.js';
import { InterruptRemapping } from './interrupt-remapping.js';
import { InvalidationQueue } from './invalidation-queue.js';
import { Invalidator } from './invalidate.js';
import { Lookup } from './lookup.js';
import { PageRequestQueue } from './page-request-queue.js';
import { PageRequests } from './page-requests.js';
import { PasidEntryCache } from './pasid-entry-cache.js';
import { PassingRequesters } from './passing-requesters.js';
import { RegisterBlock } from './register-block.js';
import { RegisterCommands } from './register-commands.js';
import type { RegisterFile } from './register-file.js';
import { registerMap } from './register-map.js';
import { RequesterIotlb } from './requester-iotlb.js';
import { ReservedMasks } from './reserved.js';
import { SecondStageWalk } from './second-stage.js';
import { UnitState } from './state.js';
import { TableReader } from './table-reader.js';
import { vtdTrace, type VtdTrace } from './trace-events.js';
import { Translator } from './translate.js';
import { VirtualCommands } from './virtual-command.js';

/** Non-leaf paging entries that are cached: 16 GiB of 4 KiB pages, at two ways and 128 KiB. */
const PAGING_STRUCTURES = 8192;
/** Pages are mapped by entries of levels 1 to 3. */
const LARGEST_LEAF = 3;

export class VtdUnit {
  readonly config: VtdConfig;
  /** CAP and ECAP, decoded. */
  readonly capabilities: Capabilities;
  /** The profile it plays. */
  readonly behaviour: Behaviour;
  readonly capHi: number;
  readonly capLo: number;
  readonly ecapHi: number;
  readonly ecapLo: number;
  /** Bytes of the register window. */
  readonly mmioBytes = WINDOW_BYTES;
  /** The register window, as a region's operations. */
  readonly mmio: MmioOps;
  /** Raw register contents, for inspection, snapshots and tests that force a state. Changing them has no side effects. */
  readonly registers: RegisterFile;
  readonly #environment: VtdEnvironment;
  readonly #trace: VtdTrace;
  readonly #state = new UnitState();
  readonly #lookup: Lookup;
  readonly #iotlb: Iotlb;
  readonly #caches: UnitCaches;
  /** Takes the IOTLB's place in the compatible profile. */
  readonly #byRequester: RequesterIotlb | undefined;
  readonly #reader: TableReader;
  /** For readContextEntry and readPasidEntry, whose callers may be inside a translation. */
  readonly #inspectingReader: TableReader;
  readonly #faults: FaultRecording;
  readonly #invalidator: Invalidator;
  readonly #queue: InvalidationQueue;
  readonly #block: RegisterBlock;
  readonly #translator: Translator;
  readonly #ats: AtsRequests;
  readonly #pageRequests: PageRequests;
  readonly #hostFaults: HostFaults;
  readonly #deviceTlbs: DeviceTlbInvalidations;
  readonly #interruptEntries = new InterruptEntryCache();
  readonly #interrupts: InterruptRemapping;

  /** `behaviour` takes the place of the profile that `config.compat` names: to try one departure by itself. */
  constructor(
    config: VtdConfig,
    environment: VtdEnvironment,
    behaviour: Behaviour = config.compat === 'qemu-10.2' ? QEMU_10_2 : SPECIFICATION,
  ) {
    const caps = new Capabilities(config);
    const layout = virtualCommandLayout(config['vcmd-layout']);
    const { memory, propagation } = environment;
    const state = this.#state;
    const registers = registerMap(caps, behaviour, layout);
    const masks = new ReservedMasks(caps, behaviour);
    const trace = vtdTrace(environment);
    this.config = config;
    this.capabilities = caps;
    this.behaviour = behaviour;
    this.capHi = caps.capHi;
    this.capLo = caps.capLo;
    this.ecapHi = caps.ecapHi;
    this.ecapLo = caps.ecapLo;
    this.registers = registers;
    this.#environment = environment;
    this.#trace = trace;

    this.#iotlb = new Iotlb(config['iotlb-entries']);
    const limit = behaviour.requesterTranslations;
    const byRequester = limit > 0 ? new RequesterIotlb(limit, trace) : undefined;
    this.#byRequester = byRequester;
    this.#reader = new TableReader(caps, behaviour, memory, state, masks, trace);
    this.#inspectingReader = new TableReader(caps, behaviour, memory, state, masks);
    const faultsCached = behaviour.faultsCached && caps.cachingMode;
    const contexts = new ContextCache(faultsCached ? new FaultingContexts() : undefined);
    const pasids = new PasidEntryCache(faultsCached ? new FaultingPasids() : undefined);
    const structures = behaviour.pagingStructuresCached
      ? new PagingStructureCache(PAGING_STRUCTURES, LARGEST_LEAF)
      : undefined;
    this.#lookup = new Lookup(caps, this.#reader, contexts, pasids, this.#iotlb, structures);
    const passing = behaviour.passThroughLatched
      ? new PassingRequesters(
          state,
          new TableReader(caps, behaviour, memory, state, masks),
          () => this.scalable,
          () => environment.requesters?.() ?? [],
        )
      : undefined;
    this.#caches = {
      lookup: this.#lookup,
      iotlb: this.#iotlb,
      byRequester,
      structures,
      interruptEntries: this.#interruptEntries,
      passing,
    };
    this.#invalidator = new Invalidator(
      behaviour,
      contexts,
      pasids,
      this.#iotlb,
      structures,
      this.#interruptEntries,
      propagation,
      byRequester,
      passing,
      trace,
    );

    const faultEvent = new EventInterrupt(registers, environment, Reg.FECTL, trace);
    const completionEvent = new EventInterrupt(registers, environment, Reg.IECTL, trace);
    this.#faults = new FaultRecording(registers, caps, behaviour, environment, faultEvent, trace);
    this.#deviceTlbs = new DeviceTlbInvalidations(registers, behaviour, this.#faults, environment);
    const descriptors = new Descriptors(
      caps,
      behaviour,
      registers,
      state,
      masks,
      this.#invalidator,
      this.#deviceTlbs,
      completionEvent,
      environment,
      config['quirk-any-pasid-device-tlb'],
      trace,
    );
    this.#queue = new InvalidationQueue(
      caps,
      behaviour,
      registers,
      state,
      this.#faults,
      descriptors,
      environment,
      trace,
    );
    this.#deviceTlbs.serves(this.#queue);
    const pageEvent = new EventInterrupt(registers, environment, Reg.PECTL, trace);
    const pageQueue = new PageRequestQueue(registers, memory, pageEvent);
    this.#pageRequests = new PageRequests(
      caps,
      behaviour,
      state,
      this.#lookup,
      this.#invalidator,
      pageQueue,
      this.#faults,
      environment,
    );
    this.#hostFaults = new HostFaults(state, () => this.scalable, this.#inspectingReader, this.#faults);
    const effects = {
      faults: this.#faults,
      faultEvent,
      completionEvent,
      pageEvent,
      pageQueue,
      queue: this.#queue,
      global: new GlobalCommands(caps, behaviour, registers, state, this.#queue, this.#invalidator, propagation, trace),
      commands: new RegisterCommands(caps, behaviour, registers, state, this.#invalidator),
      virtual: new VirtualCommands(registers, layout, environment, config['quirk-high-dword-command']),
    };
    this.#block = new RegisterBlock(caps, behaviour, layout, registers, environment, effects, trace);
    this.mmio = this.#block.ops;

    const second = new SecondStageWalk(caps, behaviour, memory, structures);
    const first = new FirstStageWalk(caps, behaviour, memory, second, structures);
    this.#translator = new Translator(
      caps,
      behaviour,
      state,
      this.#lookup,
      this.#iotlb,
      first,
      second,
      this.#faults,
      byRequester,
      passing,
      trace,
    );
    this.#ats = new AtsRequests(caps, behaviour, state, this.#translator);
    this.#interrupts = new InterruptRemapping(
      caps,
      behaviour,
      memory,
      state,
      this.#interruptEntries,
      this.#faults,
      trace,
    );
  }

  /** GSTS.TES. */
  get translationEnabled(): boolean {
    return this.#state.translationEnabled;
  }

  /** The latched root table is in scalable mode. */
  get scalable(): boolean {
    return this.#state.ttm === Ttm.SCALABLE && this.capabilities.scalable;
  }

  /** Everything as after power-on: registers, latches, caches. */
  reset(): void {
    if (this.#trace.vtd_reset_exit.on) this.#trace.vtd_reset_exit.emit();
    this.registers.reset();
    this.#state.reset();
    this.#deviceTlbs.reset();
    this.#queue.reset();
    this.#faults.restart();
    this.#invalidator.everything();
    this.#invalidator.interruptEntries();
    this.#environment.propagation?.reset?.();
  }

  /** Registers, latches, caches and what is awaited, between two accesses. */
  save(into: StateWriter): void {
    into.words('registers', this.registers.words);
    this.#state.save(into.child('latched'));
    this.#queue.save(into.child('queue'));
    this.#faults.save(into.child('faults'));
    this.#deviceTlbs.save(into.child('device-tlbs'), this.#environment.clock?.now ?? 0);
    saveCaches(into.child('caches'), this.#caches);
  }

  /** As `save` wrote it, into a unit that was reset. Nothing is sent, and nobody told. @throws StateError if it is of another unit. */
  load(from: StateReader): void {
    const { words } = this.registers;
    const initial = words.slice();
    from.words('registers', words);
    for (const at of [Reg.CAP, Reg.CAP + 4, Reg.ECAP, Reg.ECAP + 4]) {
      if (words[at >>> 2] === initial[at >>> 2]) continue;
      throw from.problem('registers', 'CAP and ECAP are of a unit with other capabilities');
    }
    this.#state.load(from.child('latched'));
    this.#queue.load(from.child('queue'));
    this.#faults.load(from.child('faults'));
    this.#deviceTlbs.load(from.child('device-tlbs'));
    loadCaches(from.child('caches'), this.#caches);
  }

  /** What functions below owe is asked for again. Returns how much that was. */
  resume(): number {
    return this.#deviceTlbs.sendAgain();
  }

  /**
   * Translates one untranslated request at the byte address (hi, lo); `access` has the Access bits of the request (0: a zero-length
   * read), `pasid` is NO_PASID for a request without one. Returns 0 and fills `out`, or the fault reason; it has then been
   * recorded, unless FPD suppressed it.
   */
  translate(requesterId: number, pasid: number, hi: number, lo: number, access: number, out: Translation): number {
    return this.#translator.translate(requesterId, pasid, hi | 0, lo | 0, access, out);
  }

  /** Answers a translation request (AT = 1); see AtsRequests.translation. */
  translationRequest(
    requesterId: number,
    pasid: number,
    hi: number,
    lo: number,
    access: number,
    out: AtsCompletion,
  ): AtsStatus {
    return this.#ats.translation(requesterId, pasid, hi | 0, lo | 0, access, out);
  }

  /** Whether a translated request (AT = 2) may go to memory as it is; see AtsRequests.translated. */
  translatedRequest(requesterId: number, pasid: number, hi: number, lo: number, access: number): AtsStatus {
    return this.#ats.translated(requesterId, pasid, hi | 0, lo | 0, access);
  }

  /** Takes a page request; false if it is refused. See PageRequests.take. */
  pageRequest(request: PageRequest): boolean {
    return this.#pageRequests.take(request);
  }

  /** Records a fault that a host found in this guest's first stage. Returns the reason that the guest reads; 0: none. See HostFaults. */
  hostFault(requesterId: number, fault: HostStage1Fault): number {
    return this.#hostFaults.report(requesterId, fault);
  }

  /**
   * Remaps one interrupt request: a DWORD `data` written to the byte address (hi, lo). Returns 0 and fills `out`, or the fault
   * reason; it has then been recorded, unless FPD suppressed it or `report` is false. Not for the unit's own messages.
   */
  remapInterrupt(
    requesterId: number,
    hi: number,
    lo: number,
    data: number,
    out: RemappedInterrupt,
    report = true,
  ): number {
    return this.#interrupts.remap(requesterId, hi | 0, lo | 0, data | 0, out, report);
  }

  /**
   * A requester's context entry straight from memory: 4 words in legacy mode, 8 in scalable mode, into `out`. Returns 0 if it is present
   * and in order, else the fault reason. Nothing is cached or recorded.
   */
  readContextEntry(requesterId: number, out: Int32Array): number {
    const reader = this.#inspectingReader;
    return this.scalable ? reader.scalableContext(requesterId, out) : reader.legacyContext(requesterId, out);
  }

  /** A requester's PASID entry (16 words) straight from memory, as readContextEntry. `pasid` beyond the directory is a fault. */
  readPasidEntry(requesterId: number, pasid: number, out: Int32Array): number {
    return this.#inspectingReader.pasidEntryOf(requesterId, pasid, out);
  }

  /** Registers, latched state and caches, for people and tests. */
  inspect(into: Inspector): void {
    const translations = this.#byRequester ?? this.#iotlb;
    inspectUnit(
      into,
      this.registers,
      this.#state,
      this.#lookup,
      translations,
      this.#interruptEntries,
      this.#deviceTlbs.outstanding,
    );
  }
}

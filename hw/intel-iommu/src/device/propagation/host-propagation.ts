/**
 * What a vIOMMU does beyond its own caches: guest invalidations, pointer changes and virtual commands, on their way to the hosts
 * behind its devices [A10 - A21]. The unit calls in here while it processes a descriptor or a register write; a negative result
 * becomes a queue error at that descriptor (decisions 43, 59).
 */
import {
  ConfigError,
  Errno,
  errnoName,
  type Inspector,
  type Ledger,
  type MemoryPort,
  type Resumed,
  type StateReader,
  type StateWriter,
} from '@remora/core';
import { Stage1Format, type HostIOMMUContext } from '@remora/iommu';
import type { PciBus } from '@remora/pci';
import type { VtdConfig } from '../../config/index.js';
import { VirtualCommandCode } from '../../spec/index.js';
import type { VirtualCommandResult, VtdPropagation } from '../environment.js';
import type { Shadows } from '../shadow/shadows.js';
import { GuestPasids } from './guest-pasids.js';
import { HostReports, type ReportingUnit } from './host-reports.js';
import { HostedFunctions, type HostedFunction } from './hosted-functions.js';
import { PasidCache } from './pasid-cache.js';
import { PasidTables, type PasidTableUnit } from './pasid-tables.js';
import { SyncScope } from './scope.js';
import { Stage1Flusher } from './stage1-flush.js';

/** Address mask above which RFC v3.1 refused a flush: VTD_MAMV [A19]. */
const RFC_MAX_ADDRESS_MASK = 18;

export interface PropagationServices {
  /** The vIOMMU's name in messages and in the ledger. */
  readonly name: string;
  readonly memory: MemoryPort;
  readonly ledger: Ledger;
  readonly warn: (message: string) => void;
  /** For hosts that do not nest. */
  readonly shadows: Shadows;
}

export class HostPropagation implements VtdPropagation {
  readonly functions = new HostedFunctions();
  readonly cache: PasidCache;
  readonly #config: VtdConfig;
  readonly #services: PropagationServices;
  readonly #pasids: GuestPasids;
  readonly #flusher: Stage1Flusher;
  readonly #reports: HostReports;

  constructor(unit: () => PasidTableUnit & ReportingUnit, config: VtdConfig, services: PropagationServices) {
    this.#config = config;
    this.#services = services;
    this.#pasids = new GuestPasids(this.functions, config['quirk-command-on-every-bus']);
    const { name, ledger, memory } = services;
    const tables = new PasidTables(unit, memory, config);
    const reports = {
      failed: (action: string, hosted: HostedFunction, pasid: number, errno: number) =>
        this.#reportFailure(action, hosted.context, pasid, errno),
      pasid0Unbound: (hosted: HostedFunction) => this.#warnAboutPasid0(hosted),
    };
    this.cache = new PasidCache(this.functions, tables, config, reports, ledger, name);
    this.#flusher = new Stage1Flusher(
      this.functions,
      this.cache,
      config,
      (context, pasid, errno) => this.#reportFailure('flush', context, pasid, errno),
      ledger,
      name,
    );
    this.#reports = new HostReports(unit, {
      name,
      ledger,
      warn: services.warn,
      failed: (hosted, pasid, errno) => {
        this.#reportFailure('page response', hosted.context, pasid, errno);
        return config['quirk-failures-invisible'] ? 0 : errno;
      },
    });
  }

  /**
   * A host-backed function appeared. What its tables already bind is bound at once.
   * @throws ConfigError if the host's first stage has another format (behaviour 62; quirk Q9 only logs it).
   */
  attach(bus: PciBus, devfn: number, context: HostIOMMUContext): void {
    if (context.stage1Format !== Stage1Format.INTEL_VTD) {
      const problem = `${context.name} has first-stage format ${context.stage1Format}, expected ${Stage1Format.INTEL_VTD} (Intel VT-d)`;
      if (!this.#config['quirk-format-only-logged']) throw new ConfigError(this.#services.name, problem);
      this.#services.warn(problem);
    }
    const hosted = this.functions.add(bus, devfn, context);
    this.#reports.listen(hosted);
    this.#sync(SyncScope.ofFunction(hosted), false);
  }

  /** A host-backed function is about to go: unbind it while its context is still there, and give back what nobody uses. */
  detach(bus: PciBus, devfn: number): void {
    const hosted = this.functions.find(bus, devfn);
    if (hosted === undefined) return;
    this.#reports.leave(hosted);
    this.cache.drop(hosted);
    this.functions.remove(hosted);
    if (this.functions.uses(hosted.context)) return;
    this.#pasids.release(hosted.context);
    this.#pasids.contextGone(hosted.context);
  }

  pasidCacheInvalidate(granularity: number, domain: number, pasid: number): number {
    const shadowed = this.#services.shadows.pasidCacheInvalidate(granularity, domain, pasid);
    const bound = this.#syncPasids(granularity, domain, pasid);
    return shadowed < 0 ? shadowed : bound;
  }

  /** Global and domain-selective context invalidations look at everything; context entries have no domain here [A16]. */
  contextCacheInvalidate(granularity: number, domain: number, sourceId: number, functionMask: number): number {
    const shadowed = this.#services.shadows.contextCacheInvalidate(granularity, domain, sourceId, functionMask);
    const scope =
      granularity === 3
        ? SyncScope.ofSource(sourceId, functionMask, this.#config['quirk-device-selective-inverted'])
        : SyncScope.everything;
    const bound = this.#sync(scope, true);
    return shadowed < 0 ? shadowed : bound;
  }

  iotlbInvalidate(granularity: number, domain: number, hi: number, lo: number, addressMask: number): number {
    return this.#services.shadows.iotlbInvalidate(granularity, domain, hi, lo, addressMask);
  }

  pasidIotlbInvalidate(
    granularity: number,
    domain: number,
    pasid: number,
    hi: number,
    lo: number,
    addressMask: number,
    leaf: boolean,
  ): number {
    if (granularity === 2) this.#flusher.wholePasid(domain, pasid);
    else if (addressMask > RFC_MAX_ADDRESS_MASK && this.#config['quirk-address-mask-limited']) return -Errno.EINVAL;
    else this.#flusher.pages(domain, pasid, hi, lo, addressMask, leaf);
    return 0;
  }

  settle(): number {
    return this.#flusher.settle();
  }

  pageResponse(requesterId: number, pasid: number, group: number, code: number): number | undefined {
    return this.#reports.respond(requesterId, pasid, group, code);
  }

  rootTableSet(): void {
    this.#services.shadows.everything();
    this.#sync(SyncScope.everything, false);
  }

  translationChanged(): void {
    this.#services.shadows.everything();
    this.#sync(SyncScope.everything, false);
  }

  /** Nothing of the guest's survives a reset: all bindings go, then every PASID it was given (behaviour 54). */
  reset(): void {
    this.#reports.reset();
    for (const hosted of this.functions.withDeparted()) {
      this.cache.drop(hosted);
      hosted.warnedAboutPasid0 = false;
    }
    this.functions.settle();
    this.#pasids.release();
  }

  #syncPasids(granularity: number, domain: number, pasid: number): number {
    if (granularity === 3) {
      return this.#config['quirk-global-rebinds'] ? this.cache.rebindAll() : this.#sync(SyncScope.everything, true);
    }
    return this.#sync(granularity === 0 ? SyncScope.ofDomain(domain) : SyncScope.ofPasid(domain, pasid), true);
  }

  /** Whatever brings the host up to date is an occasion to give back what it would not take before. */
  #sync(scope: SyncScope, stopAtFailure: boolean): number {
    const result = this.cache.sync(scope, stopAtFailure);
    this.#pasids.retry();
    return result;
  }

  virtualCommand(opcode: number, pasid: number): VirtualCommandResult {
    const { ledger, name } = this.#services;
    const id = ledger.on ? ledger.open(name, 'virtual-command', { opcode, operand: pasid }) : 0;
    const answer = this.#execute(opcode, pasid);
    if (id !== 0) ledger.close(id, { ...answer });
    return answer;
  }

  #execute(opcode: number, pasid: number): VirtualCommandResult {
    const allocates = opcode === VirtualCommandCode.ALLOC_PASID;
    if (!allocates && opcode !== VirtualCommandCode.FREE_PASID) return { status: 'undefined', result: 0 };
    const result = allocates ? this.#pasids.allocate() : this.#pasids.free(pasid);
    return result < 0 ? { status: 'no-pasid', result: 0 } : { status: 'ok', result: allocates ? result : 0 };
  }

  /**
   * The PASIDs that the guest has, and what the host has been told of its tables.
   * @throws StateError while a host waits for an answer to a page request.
   */
  save(into: StateWriter): void {
    this.#reports.save(into);
    this.#pasids.save(into);
    this.cache.save(into);
  }

  load(from: StateReader): void {
    this.#pasids.load(from);
    this.cache.load(from);
  }

  /** Establishes at the host what stood there: PASIDs first, then their bindings. @throws StateError if the host refuses. */
  resume(): Resumed[] {
    const done: Resumed[] = this.#pasids
      .allocateAgain()
      .map(pasid => ({ what: 'PASID', detail: `0x${pasid.toString(16)} is the guest's again` }));
    this.cache.bindAgain((hosted, pasid, current) => {
      const source = current ? "from the guest's table" : 'as last invalidated: the table has changed since';
      done.push({ what: 'binding', detail: `PASID 0x${pasid.toString(16)} of ${hosted.place}, ${source}` });
    });
    return done;
  }

  inspect(into: Inspector): void {
    for (const hosted of this.functions.inBusOrder()) {
      const device = into.child(hosted.requesterId.toString(16).padStart(4, '0'));
      device.value('host', hosted.context.name);
      const pending = this.#reports.pendingOf(hosted);
      if (pending > 0) device.value('pendingPageRequests', pending);
      for (const cached of hosted.pasids.values()) {
        device.value(`pasid ${cached.pasid}`, cached.bound ? 'bound' : 'cached');
      }
    }
  }

  #reportFailure(action: string, context: HostIOMMUContext, pasid: number, errno: number): void {
    const { name, ledger, warn } = this.#services;
    warn(`${context.name}: ${action} of PASID ${pasid} failed: ${errnoName(errno)}`);
    if (ledger.on) ledger.add(name, 'host-failure', { action, context: context.name, pasid, errno });
  }

  #warnAboutPasid0(hosted: HostedFunction): void {
    const { name, ledger, warn } = this.#services;
    const requesterId = hosted.requesterId;
    warn(
      `device ${requesterId.toString(16)}: PASID 0 has a first stage, which this host interface cannot bind: ` +
        'its DMA without PASID uses guest-physical addresses',
    );
    if (ledger.on) ledger.add(name, 'warning', { what: 'pasid0-unbound', requesterId });
  }
}

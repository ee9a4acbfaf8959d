/**
 * What hosts report of the functions that they lend, on its way up: page requests become entries of the guest's page request queue, faults
 * become fault records, both with the guest's own requester id and PASID; the guest's page group responses go back down. What the guest
 * cannot be told stays in the ledger.
 */
import { Access, Errno, type Ledger, type StateWriter } from '@remora/core';
import {
  HostIommuFlag,
  PageResponse,
  Stage1Format,
  type HostIommuEvents,
  type HostPageRequest,
  type HostStage1Fault,
  type PageRequest,
} from '@remora/iommu';
import type { PriCapability } from '@remora/pci';
import type { HostedFunction } from './hosted-functions.js';

const GROUPS = 512;

/** What reports need of the unit. */
export interface ReportingUnit {
  /** Queues a request, or answers it; false if it is refused. */
  pageRequest(request: PageRequest): boolean;
  /** Records a fault as the guest's. Returns the reason that the guest reads; 0: none. */
  hostFault(requesterId: number, fault: HostStage1Fault): number;
}

export interface ReportServices {
  readonly name: string;
  readonly ledger: Ledger;
  readonly warn: (message: string) => void;
  /** A host did not take a response. Returns what the guest is to see of it: the negated errno, or 0. */
  readonly failed: (hosted: HostedFunction, pasid: number, errno: number) => number;
}

interface Listening {
  readonly hosted: HostedFunction;
  readonly registration: Disposable;
  /** Groups whose response the host waits for; see keyOf. */
  readonly pending: Set<number>;
  /** Groups that the host has refused itself, while the guest owes a response that nobody waits for. */
  readonly late: Set<number>;
}

export class HostReports {
  readonly #unit: () => ReportingUnit;
  readonly #services: ReportServices;
  readonly #listening: Listening[] = [];

  constructor(unit: () => ReportingUnit, services: ReportServices) {
    this.#unit = unit;
    this.#services = services;
  }

  /** Takes the reports of a function, if its host has any. */
  listen(hosted: HostedFunction): void {
    const { context, user } = hosted;
    if ((context.flags & (HostIommuFlag.PAGE_REQUESTS | HostIommuFlag.FAULTS)) === 0) return;
    const events: HostIommuEvents = {
      pageRequest: request => this.#pageRequest(listening, request),
      fault: fault => this.#fault(hosted, fault),
      lost: count => this.#lost(hosted, count),
      abandoned: pasid => this.#abandoned(listening, pasid),
    };
    const registration = context.listen?.(user, events);
    if (registration === undefined) return;
    const listening: Listening = { hosted, registration, pending: new Set(), late: new Set() };
    this.#listening.push(listening);
  }

  /** The function goes: the host waits for nothing of it any more. */
  leave(hosted: HostedFunction): void {
    const at = this.#listening.findIndex(each => each.hosted === hosted);
    if (at < 0) return;
    const listening = this.#listening[at]!;
    this.#giveUp(listening);
    listening.registration[Symbol.dispose]();
    this.#listening.splice(at, 1);
  }

  /** The guest forgot what it was asked. */
  reset(): void {
    for (const listening of this.#listening) this.#giveUp(listening);
  }

  /** Page requests of a function that wait for the guest's answer. */
  pendingOf(hosted: HostedFunction): number {
    return this.#listening.find(each => each.hosted === hosted)?.pending.size ?? 0;
  }

  /** There is nothing to keep. @throws StateError while a host waits for the guest's answer, which would reach another host. */
  save(into: StateWriter): void {
    for (const { hosted, pending } of this.#listening) {
      if (pending.size === 0) continue;
      throw into.refusal(`${hosted.context.name} waits for the guest's answer to ${pending.size} page requests`);
    }
  }

  /** A guest's response: 0 or a negated errno; undefined if it is for no function of which page requests are reported. */
  respond(requesterId: number, pasid: number, group: number, code: number): number | undefined {
    const listening = this.#listening.find(({ hosted }) => hosted.requesterId === requesterId);
    if (listening === undefined) return undefined;
    if ((listening.hosted.context.flags & HostIommuFlag.PAGE_REQUESTS) === 0) return undefined;
    const pri = priOf(listening.hosted);
    const key = keyOf(pasid, group);
    // Even if the function has asked again in this group: the guest owes a response to each, and this one first.
    if (listening.late.delete(key)) {
      this.#log(listening.hosted, 'page-response-late', { pasid, group, code });
      return 0;
    }
    if (!listening.pending.has(key)) {
      // As a function does with what it did not ask for.
      pri?.unexpected();
      this.#log(listening.hosted, 'unexpected-page-response', { pasid, group, code });
      return 0;
    }
    const result = this.#answer(listening, pasid, group, code);
    // The host's interface may not know this code, but the guest's function must stop asking until it is enabled anew.
    if (result === 0 && code !== PageResponse.SUCCESS && code !== PageResponse.INVALID_REQUEST) pri?.fail();
    return result;
  }

  #pageRequest(listening: Listening, request: HostPageRequest): void {
    const { hosted } = listening;
    const { name, ledger } = this.#services;
    const { requesterId } = hosted;
    const id = ledger.on
      ? ledger.open(name, 'host-page-request', { context: hosted.context.name, requesterId, ...request })
      : 0;
    if (request.last) this.#expect(listening, keyOf(request.pasid, request.group));
    // Without READ and WRITE, the guest would take it for a stop marker, to which it owes no response.
    const asks = (request.access & Access.READ_WRITE) !== 0;
    const allowed = asks && priOf(hosted)?.enabled === true;
    const taken = allowed && this.#unit().pageRequest({ ...request, requesterId });
    if (!taken && request.last) {
      this.#answer(listening, request.pasid, request.group, PageResponse.INVALID_REQUEST);
    }
    if (id !== 0) ledger.close(id, { taken });
  }

  #fault(hosted: HostedFunction, fault: HostStage1Fault): void {
    const { name, ledger, warn } = this.#services;
    const { context, requesterId } = hosted;
    const id = ledger.on ? ledger.open(name, 'host-fault-report', { context: context.name, requesterId, ...fault }) : 0;
    const known = context.stage1Format === Stage1Format.INTEL_VTD;
    const told = known ? this.#unit().hostFault(requesterId, fault) : 0;
    if (told === 0) warn(`${context.name}: fault ${hex(fault.reason)} of PASID ${fault.pasid} is the host's own`);
    if (id !== 0) ledger.close(id, { told });
  }

  #lost(hosted: HostedFunction, count: number): void {
    this.#services.warn(`${hosted.context.name}: ${count === 0 ? 'some' : count} reports were lost`);
    this.#log(hosted, 'host-reports-lost', { count });
  }

  #abandoned(listening: Listening, pasid: number): void {
    const { pending, late } = listening;
    for (const key of [...pending]) {
      if (pasidOf(key) !== pasid) continue;
      pending.delete(key);
      late.add(key);
    }
    this.#count(listening);
  }

  /** Answers what the guest will not answer any more. */
  #giveUp(listening: Listening): void {
    listening.late.clear();
    for (const key of [...listening.pending]) {
      this.#answer(listening, pasidOf(key), key % GROUPS, PageResponse.INVALID_REQUEST);
    }
  }

  /**
   * On an error the host waits on, and so do we; but where it has answered itself, nothing is owed. The function may ask for the next page,
   * in the same group, before the host's call returns.
   */
  #answer(listening: Listening, pasid: number, group: number, code: number): number {
    const { hosted } = listening;
    const { name, ledger } = this.#services;
    const { requesterId, user } = hosted;
    const id = ledger.on
      ? ledger.open(name, 'decision', { action: 'page response', requesterId, pasid, group, code })
      : 0;
    listening.pending.delete(keyOf(pasid, group));
    const result = hosted.context.respondToPage?.(user, pasid, group, code) ?? -Errno.ENOENT;
    if (id !== 0) ledger.close(id, { result });
    this.#count(listening);
    if (result >= 0) return 0;
    if (result === -Errno.EINVAL) {
      this.#log(hosted, 'page-response-late', { pasid, group, code });
      return 0;
    }
    this.#expect(listening, keyOf(pasid, group));
    return this.#services.failed(hosted, pasid, result);
  }

  #expect(listening: Listening, key: number): void {
    listening.pending.add(key);
    this.#count(listening);
  }

  /** The guest's function is not "stopped" while responses are due. */
  #count({ hosted, pending }: Listening): void {
    const pri = priOf(hosted);
    if (pri !== undefined) pri.outstanding = pending.size;
  }

  #log({ context, requesterId }: HostedFunction, kind: string, data: Record<string, unknown>): void {
    const { name, ledger } = this.#services;
    if (ledger.on) ledger.add(name, kind, { context: context.name, requesterId, ...data });
  }
}

/** PASIDs from NO_PASID on, each with its groups. */
function keyOf(pasid: number, group: number): number {
  return (pasid + 1) * GROUPS + group;
}

function pasidOf(key: number): number {
  return Math.floor(key / GROUPS) - 1;
}

/** What software has allowed the guest's function to ask. */
function priOf({ bus, devfn }: HostedFunction): PriCapability | undefined {
  return bus.functions[devfn]?.priCapability;
}

function hex(reason: number): string {
  return `0x${reason.toString(16)}`;
}

/** The unit of a live machine, and what a guest did to it: one account a boot. */
import { Reg, type UnitFactory, VtdUnit } from '@hw/intel-iommu';
import { FaultRecord, GlobalCommand, VCMD_3_3 } from '@hw/intel-iommu/spec';
import type { Trace, Traced, Translation } from '@remora/core';
import { AtsStatus, type RemappedInterrupt } from '@remora/iommu';
import { formatBdf } from '@remora/pci';
import type { ModelFault } from './verdict.js';

/** All of a boot: from one reset of the unit to the next. */
export class UnitAccount {
  /** How often each register was read, and written, by its name. */
  readonly reads = new Map<string, number>();
  readonly writes = new Map<string, number>();
  /** Invalidation descriptors by the names of their types. */
  readonly descriptors = new Map<string, number>();
  readonly faults: ModelFault[] = [];
  /** Requests of devices that were translated, passed through, refused; and those before translation was on, and after it. */
  translated = 0;
  passed = 0;
  refused = 0;
  before = 0;
  after = 0;
  /** Requests with addresses that device TLBs were given (not among those before), and how often they asked for one. */
  direct = 0;
  asked = 0;
  enabled = false;
  /** Interrupts while remapping was on: those that went through the table, those that were refused, and those in the format that does not. */
  remapped = 0;
  blocked = 0;
  unremapped = 0;
  /** CAP and ECAP, as Linux writes them. */
  readonly capabilities: string;

  constructor(capabilities: string) {
    this.capabilities = capabilities;
  }

  get used(): boolean {
    return this.writes.size > 0;
  }
}

/** What it has counted so far. */
export type UnitCounts = Omit<UnitAccount, 'used'>;

/** Of a message's address (VT-d 5.1.2.2). */
const REMAPPABLE_FORMAT = 1 << 4;

export class ObservedUnit extends VtdUnit {
  /** Accounts of those boots whose guest used the unit, and of the present one. */
  readonly accounts: UnitAccount[] = [];
  #account: UnitAccount;

  constructor(...parameters: ConstructorParameters<typeof VtdUnit>) {
    super(...parameters);
    this.#account = this.#opened();
    this.accounts.push(this.#account);
    const { trace } = parameters[1];
    if (trace !== undefined) this.#watch(trace);
  }

  override translate(
    requesterId: number,
    pasid: number,
    hi: number,
    lo: number,
    access: number,
    out: Translation,
  ): number {
    const account = this.#account;
    const enabled = this.translationEnabled;
    const { passed } = account;
    const reason = super.translate(requesterId, pasid, hi, lo, access, out);
    if (enabled) {
      account.enabled = true;
      if (reason !== 0) account.refused++;
      else if (account.passed === passed) account.translated++;
    } else if (account.enabled) account.after++;
    else account.before++;
    return reason;
  }

  override translationRequest(...parameters: Parameters<VtdUnit['translationRequest']>): AtsStatus {
    this.#account.asked++;
    return super.translationRequest(...parameters);
  }

  override translatedRequest(...parameters: Parameters<VtdUnit['translatedRequest']>): AtsStatus {
    const status = super.translatedRequest(...parameters);
    if (status === AtsStatus.OK) this.#account.direct++;
    else this.#account.refused++;
    return status;
  }

  override reset(): void {
    super.reset();
    if (!this.#account.used) this.accounts.pop();
    this.#account = this.#opened();
    this.accounts.push(this.#account);
  }

  override remapInterrupt(
    requesterId: number,
    hi: number,
    lo: number,
    data: number,
    out: RemappedInterrupt,
    report = true,
  ): number {
    const account = this.#account;
    const reason = super.remapInterrupt(requesterId, hi, lo, data, out, report);
    if (!report || (this.registers.words[Reg.GSTS >>> 2]! & GlobalCommand.IRE) === 0) return reason;
    if (reason !== 0) account.blocked++;
    else if ((lo & REMAPPABLE_FORMAT) !== 0) account.remapped++;
    else account.unremapped++;
    return reason;
  }

  #opened(): UnitAccount {
    const { words } = this.registers;
    const [cap, ecap] = [Reg.CAP, Reg.ECAP].map(at => {
      const [lo, hi] = [words[at >>> 2]!, words[(at >>> 2) + 1]!];
      return ((BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0)).toString(16);
    });
    return new UnitAccount(`cap ${cap} ecap ${ecap}`);
  }

  #watch(trace: Trace): void {
    trace.watch(['vtd_reg_read'], ({ values }) => count(this.#account.reads, registerName(Number(values['addr']))));
    trace.watch(['vtd_reg_write'], ({ values }) => count(this.#account.writes, registerName(Number(values['addr']))));
    trace.watch(['vtd_inv_desc'], ({ values }) => count(this.#account.descriptors, String(values['type'])));
    trace.watch(['vtd_translate_pt'], () => this.#account.passed++);
    trace.watch(['vtd_frr_new'], event => this.#account.faults.push(faultOf(event)));
  }
}

/** The units that a machine was given: one after the other, if it is made again. */
export class ObservedUnits {
  readonly #units: ObservedUnit[] = [];

  /** Makes one. */
  readonly make: UnitFactory = (...parameters) => {
    const unit = new ObservedUnit(...parameters);
    this.#units.push(unit);
    return unit;
  };

  /** What the guests of each boot did. */
  get accounts(): readonly UnitAccount[] {
    return this.#units.flatMap(unit => unit.accounts.filter(({ used }) => used));
  }

  /** What the present boot's guest did, used or not. */
  get present(): UnitAccount {
    return this.#units.at(-1)!.accounts.at(-1)!;
  }
}

function faultOf({ values }: Traced): ModelFault {
  const hi = BigInt(values['hi']!);
  const lo = BigInt(values['lo']!);
  const words = Int32Array.from([lo, lo >> 32n, hi, hi >> 32n], word => Number(word & 0xffff_ffffn) | 0);
  const { sid, fr } = FaultRecord.fields;
  const source = sid.get(words, 0);
  return { source: formatBdf(source >>> 8, source & 0xff), reason: fr.get(words, 0), address: Number(lo & ~0xfffn) };
}

function count(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

/** Where the unit has its fault recording registers, as CAP.FRO says. */
const FAULT_RECORDS = 0x220;
/** No unit has so many of those that they would reach here. */
const VIRTUAL_COMMANDS = 0xe00;
const { VCCAP, VCMD, VCRSP } = VCMD_3_3;
const REGISTER_NAMES = new Map(
  Object.entries({ ...Reg, VCCAP, VCMD, VCRSP }).map(([name, offset]) => [offset as number, name]),
);

/** The register at an offset, or that whose upper half is there. */
function registerName(offset: number): string {
  const name = REGISTER_NAMES.get(offset);
  if (name !== undefined) return name;
  if (offset >= FAULT_RECORDS && offset < VIRTUAL_COMMANDS) return 'FRCD';
  const lower = REGISTER_NAMES.get(offset - 4);
  return lower === undefined ? `0x${offset.toString(16)}` : `${lower} (upper half)`;
}

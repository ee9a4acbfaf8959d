/**
 * The boundaries that an action of the guest crossed, read from the ledger and from nothing else: what the vIOMMU was told and
 * decided, what the host was asked, what the physical unit did, what DMA saw.
 */
import { hex } from '@remora/bits';
import { errnoName, NO_PASID, type LedgerEvent } from '@remora/core';
import { decodeIoctl } from '@remora/uapi';

/** From the guest outwards; the order of the table's columns. */
export const BOUNDARIES = ['vIOMMU', 'host call', 'physical unit', 'DMA'] as const;

export interface Crossing {
  /** Index into BOUNDARIES. */
  readonly boundary: number;
  readonly text: string;
}

/** Waits only say that what came before is done. */
const WAIT = 'vtd.inv-wait';

/** What a person wants to see of an event; undefined for one that only adds detail. `machine` is the guest's name. */
export function crossingOf(event: LedgerEvent, machine: string): Crossing | undefined {
  const inGuest = event.source.startsWith(`${machine}/`);
  switch (event.kind) {
    case 'descriptor':
      return event.data['name'] === WAIT ? undefined : { boundary: inGuest ? 0 : 2, text: descriptor(event) };
    case 'decision':
      return { boundary: 0, text: decision(event) };
    case 'virtual-command':
      return { boundary: 0, text: virtualCommand(event) };
    case 'queue-error':
      return { boundary: inGuest ? 0 : 2, text: `queue error ${String(event.data['error'])}` };
    case 'host-page-request':
      return { boundary: 0, text: pageRequest(event) };
    case 'host-fault-report':
      return { boundary: 0, text: faultReport(event) };
    case 'ioctl':
      return { boundary: 1, text: ioctl(event) };
    case 'pasid-entry':
      return { boundary: 2, text: pasidEntry(event) };
    case 'translation':
      return { boundary: inGuest ? 0 : 2, text: translation(event) };
    case 'fault':
      return { boundary: inGuest ? 0 : 2, text: fault(event) };
    case 'dma':
      return { boundary: 3, text: dma(event) };
    default:
      return undefined;
  }
}

function descriptor({ data }: LedgerEvent): string {
  const name = text(data['name']).replace(/^vtd\.inv-/, '');
  const fields = text(data['fields']).replace(/^type=\S+ ?/, '');
  return `${name} invalidation${fields === '' ? '' : `: ${fields}`}`;
}

function decision({ data }: LedgerEvent): string {
  const result = Number(data['result'] ?? 0);
  return `${text(data['action'])}${tag(data['pasid'])} of ${bdf(data['requesterId'])}${result < 0 ? `: ${errnoName(result)}` : ''}`;
}

function pageRequest({ data }: LedgerEvent): string {
  const outcome = data['taken'] === true ? 'queued for the guest' : 'refused';
  return `page request for ${hex(Number(data['hi']), Number(data['lo']))}${tag(data['pasid'])} of ${bdf(data['requesterId'])}: ${outcome}`;
}

function faultReport({ data }: LedgerEvent): string {
  const told = Number(data['told'] ?? 0);
  const outcome = told === 0 ? "the host's own" : `the guest's ${hexOf(told)}`;
  return `fault ${hexOf(data['reason'])} at ${hex(Number(data['hi']), Number(data['lo']))}${tag(data['pasid'])} of ${bdf(data['requesterId'])}: ${outcome}`;
}

const VIRTUAL_COMMANDS = ['null', 'allocate', 'free'];

function virtualCommand({ data }: LedgerEvent): string {
  const opcode = Number(data['opcode']);
  const pasid = Number(data['result']) || Number(data['operand']);
  return `virtual command ${VIRTUAL_COMMANDS[opcode] ?? hexOf(opcode)}: ${text(data['status'])}${pasid === 0 ? '' : ` PASID ${hexOf(pasid)}`}`;
}

function ioctl({ data }: LedgerEvent): string {
  const { argsz, ...fields } = (data['fields'] ?? {}) as Record<string, unknown>;
  const size = data['argsz'] ?? argsz;
  const head = `${text(data['name'])} ${hexOf(data['number'])}${size === undefined ? '' : ` argsz=${text(size)}`}`;
  const shown = flatten(fields);
  const result = Number(data['result'] ?? 0);
  const answer = data['answer'] instanceof Uint8Array ? flatten(answered(data['number'], data['answer'])) : '';
  const outcome = result < 0 ? `-${errnoName(result)}` : `${result}${answer === '' ? '' : `, ${answer}`}`;
  return [head, shown, `= ${outcome}`].filter(part => part !== '').join('\n');
}

/** What the kernel wrote back: the field that a caller waits for. */
function answered(number: unknown, answer: Uint8Array): Record<string, unknown> {
  const { result } = decodeIoctl(Number(number), answer);
  return { result };
}

/** Fields that are not 0; nested structures without their names. */
function flatten(fields: Readonly<Record<string, unknown>>): string {
  return Object.entries(fields)
    .map(([name, value]) => {
      if (value instanceof Uint8Array || value === 0 || value === undefined) return '';
      return typeof value === 'object' && value !== null
        ? flatten(value as Record<string, unknown>)
        : `${name}=${hexOf(value)}`;
    })
    .filter(part => part !== '')
    .join(' ');
}

function pasidEntry({ data }: LedgerEvent): string {
  return `PASID entry ${hexOf(data['pasid'])} of ${bdf(data['requesterId'])}: ${text(data['entry'])}`;
}

function translation({ data }: LedgerEvent): string {
  const from = hex(Number(data['hi']), Number(data['lo']));
  return `${from}${tag(data['pasid'])} -> ${hex(Number(data['toHi']), Number(data['toLo']))}`;
}

function fault({ data }: LedgerEvent): string {
  const where = hex(Number(data['hi']), Number(data['lo']));
  const what = data['write'] === true ? 'write' : 'read';
  return `FAULT ${hexOf(data['reason'])} ${text(data['name'])}: ${what} of ${where} by ${bdf(data['requesterId'])}${tag(data['pasid'])}`;
}

function dma({ data }: LedgerEvent): string {
  const where = hex(Number(data['hi']), Number(data['lo']));
  const outcome = data['result'] === 0 ? 'ok' : 'REFUSED';
  return `${data['write'] === true ? 'write' : 'read'} ${text(data['bytes'])} B at ${where}${tag(data['pasid'])}: ${outcome}`;
}

function tag(pasid: unknown): string {
  return pasid === undefined || pasid === NO_PASID ? '' : ` PASID ${hexOf(pasid)}`;
}

function hexOf(value: unknown): string {
  const number = typeof value === 'bigint' ? value : Number(value);
  return number > 9 ? `0x${number.toString(16)}` : String(number);
}

function bdf(requesterId: unknown): string {
  const id = Number(requesterId);
  const part = (value: number): string => value.toString(16).padStart(2, '0');
  return `${part(id >>> 8)}:${part((id >>> 3) & 0x1f)}.${id & 7}`;
}

function text(value: unknown): string {
  return value === undefined ? '' : String(value);
}

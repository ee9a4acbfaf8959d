/** What a driver did to its unit, in words: register writes with their fields, and the descriptors behind each tail write. */
import type { RecordType } from '@remora/bits';
import type { MemoryPort } from '@remora/core';
import {
  ContextCacheDescriptor,
  DescriptorType,
  DeviceTlbDescriptor,
  EventControl,
  FaultStatus,
  GlobalCommand,
  InterruptEntryCacheDescriptor,
  InterruptTableAddress,
  IotlbDescriptor,
  PageGroupResponseDescriptor,
  PageQueueAddress,
  PasidCacheDescriptor,
  PasidDeviceTlbDescriptor,
  PasidIotlbDescriptor,
  QueueAddress,
  Reg,
  RootTableAddress,
  WaitDescriptor,
} from '../spec/index.js';
import type { VtdRegisters } from './registers.js';

const NAMES = new Map<number, string>(Object.entries(Reg).map(([name, offset]) => [offset, name]));

const DESCRIPTORS = new Map<number, [name: string, layout: RecordType]>([
  [DescriptorType.CONTEXT_CACHE, ['context-cache', ContextCacheDescriptor]],
  [DescriptorType.IOTLB, ['iotlb', IotlbDescriptor]],
  [DescriptorType.DEVICE_TLB, ['device-tlb', DeviceTlbDescriptor]],
  [DescriptorType.INTERRUPT_ENTRY_CACHE, ['iec', InterruptEntryCacheDescriptor]],
  [DescriptorType.WAIT, ['wait', WaitDescriptor]],
  [DescriptorType.PASID_IOTLB, ['pasid-iotlb', PasidIotlbDescriptor]],
  [DescriptorType.PASID_CACHE, ['pasid-cache', PasidCacheDescriptor]],
  [DescriptorType.PASID_DEVICE_TLB, ['pasid-device-tlb', PasidDeviceTlbDescriptor]],
  [DescriptorType.PAGE_GROUP_RESPONSE, ['page-response', PageGroupResponseDescriptor]],
]);

/** The fields of `words` but for addresses, which differ from machine to machine. */
function fields(layout: RecordType, words: Int32Array, hidden: readonly string[]): string {
  return layout
    .format(words)
    .split(' ')
    .filter(part => part !== '' && !hidden.some(name => part.startsWith(`${name}=`)))
    .join(' ');
}

export class OperationLog {
  readonly operations: string[] = [];
  readonly #memory: MemoryPort;
  readonly #queue = new Int32Array(2);
  #head = 0;

  constructor(memory: MemoryPort) {
    this.#memory = memory;
  }

  note(offset: number, hi: number, lo: number): void {
    const name = NAMES.get(offset) ?? `0x${offset.toString(16)}`;
    const words = Int32Array.of(lo, hi);
    const push = (rest: string): number => this.operations.push(rest === '' ? name : `${name} ${rest}`);
    switch (offset) {
      case Reg.GCMD:
        if ((lo & GlobalCommand.QIE) === 0) this.#head = 0;
        push(
          Object.entries(GlobalCommand)
            .filter(([, bit]) => (lo & bit) !== 0)
            .map(([command]) => command)
            .join(' '),
        );
        break;
      case Reg.IQA:
        this.#queue.set(words);
        this.#head = 0;
        push(fields(QueueAddress, words, ['iqa']));
        break;
      case Reg.RTADDR:
        push(fields(RootTableAddress, words, ['rta']));
        break;
      case Reg.IRTA:
        push(fields(InterruptTableAddress, words, ['irta']));
        break;
      case Reg.PQA:
        push(fields(PageQueueAddress, words, ['pqa']));
        break;
      case Reg.PRS:
      case Reg.PQH:
      case Reg.PQT:
        push(lo.toString(16));
        break;
      case Reg.FECTL:
      case Reg.PECTL:
        push(fields(EventControl, words, []));
        break;
      case Reg.FSTS:
        push(fields(FaultStatus, words, []));
        break;
      case Reg.IQT:
        push(this.#descriptors(lo));
        break;
      default:
        push('');
    }
  }

  #descriptors(tail: number): string {
    const { qs, dw, iqa } = QueueAddress.fields;
    const bytes = dw.get(this.#queue, 0) ? 32 : 16;
    const base = iqa.frame(this.#queue, 0) * 4096;
    const queued: string[] = [];
    for (; this.#head !== tail; this.#head = (this.#head + bytes) % (4096 << qs.get(this.#queue, 0))) {
      const words = new Int32Array(8);
      const at = base + this.#head;
      this.#memory.load(Math.floor(at / 2 ** 32), at % 2 ** 32, words, 0, bytes / 4);
      const [name, layout] = DESCRIPTORS.get(words[0]! & 0xf)!;
      const hidden = ['type', 'addr', 'statusAddressLow', 'statusAddressHigh', 'statusData'];
      queued.push(`${name} ${fields(layout, words, hidden)}`.trim());
    }
    return queued.join(', ');
  }
}

/** Registers that note every write before it takes effect. */
export class LoggedRegisters implements VtdRegisters {
  readonly log: OperationLog;
  readonly #below: VtdRegisters;

  constructor(below: VtdRegisters, memory: MemoryPort) {
    this.#below = below;
    this.log = new OperationLog(memory);
  }

  read32(offset: number): number {
    return this.#below.read32(offset);
  }

  write32(offset: number, value: number): void {
    this.log.note(offset, 0, value);
    this.#below.write32(offset, value);
  }

  read64(offset: number, out: Int32Array): void {
    this.#below.read64(offset, out);
  }

  write64(offset: number, hi: number, lo: number): void {
    this.log.note(offset, hi, lo);
    this.#below.write64(offset, hi, lo);
  }
}

/**
 * A simulated host that lends its Data Streaming Accelerator: its memory is a file, a part of which is the memory of the live guest. What the
 * guest does to the unit of its machine goes down to the host's kernel, and from there to the host's own unit.
 */
import { closeSync, ftruncateSync, openSync } from 'node:fs';
import dsaPlugin from '@hw/dsa/plugin';
import { FileMemory } from '@remora/host-linux';
import { createHost } from '@remora/machine';
import { physicalVtd } from '@remora/machines';
import type { ServedMachineOptions } from '../../serve/index.js';
import { ObservedUnits } from '../observed-unit.js';
import { type CallCount, CountedCalls } from './counted-calls.js';
import type { DsaMode, Lending } from './dsa-modes.js';
import type { LentAccount } from './lent-verdict.js';
import { NumberedPasids } from './numbered-pasids.js';
import { PASID_QUOTA } from './pasids-verdict.js';

const MIB = 0x10_0000;
export const GUEST_BYTES = 512 * MIB;
/** With room for the kernel. */
export const HOST_BYTES = GUEST_BYTES + 64 * MIB;
/** Where a server has the first of its accelerators. */
const FUNCTION = '0000:6a:01.0';
const IOMMUFD = 'iommufd0';
/**
 * A seed with which PASIDs have 16 bits: of longer ones Linux 6.1 gives the lower 16 back (it writes the operand of VCMD as if the register had
 * 32), which it does not have.
 */
const SMALL_PASIDS = 7;
const UNIT = { 'device-iotlb': true, svm: true, 'x-smpwcs': true };

export class DsaHost implements Disposable {
  readonly lending: Lending;
  /** What ServedMachine takes. */
  readonly on: NonNullable<ServedMachineOptions['on']>;
  /** Options of the guest's unit: it nests, and is told of what is new in the guest's tables. */
  readonly unit = { 'x-scalable-mode': 'modern', 'caching-mode': true };
  /** What the guest's accelerator is. */
  readonly device: { readonly driver: string; readonly options: Readonly<Record<string, boolean | string>> };
  readonly #memory: FileMemory;
  readonly #host: ReturnType<typeof createHost>['platform'];
  readonly #units = new ObservedUnits();
  #calls: CountedCalls | undefined;

  /** Makes the file `memory`. */
  constructor(memory: string, lending: Lending, guest: DsaMode['guest']) {
    this.lending = lending;
    const iommufd = lending === 'iommufd';
    const numbers = guest === 'pasids';
    const fd = openSync(memory, 'wx+', 0o600);
    ftruncateSync(fd, HOST_BYTES);
    closeSync(fd);
    this.#memory = new FileMemory(memory, HOST_BYTES);
    // Page requests have no way through a container: there the device makes none. A device with ATS is refused a translation, which is no fault.
    const ats = guest !== 'faults';
    const dsa = { driver: 'dsa', options: { addr: FUNCTION, ats, pri: ats && iommufd } };
    const host = createHost({
      ram: this.#memory.ram,
      iommu: physicalVtd(UNIT, this.#units.make),
      plugins: [dsaPlugin],
      devices: [dsa],
      ...(numbers ? { kernel: { pasidQuota: PASID_QUOTA }, seed: SMALL_PASIDS } : {}),
      ...(ats ? {} : { kernel: { vtdEvents: true } }),
    });
    this.#host = host.platform;
    const how = iommufd ? { iommufd: IOMMUFD } : { 'x-ats': true };
    this.device = { driver: 'vfio-pci', options: { host: FUNCTION, ...how } };
    this.on = {
      host,
      memory: GUEST_BYTES,
      objects: iommufd ? [{ driver: 'iommufd', options: { id: IOMMUFD } }] : [],
      interpose: kernel => (this.#calls = new CountedCalls(iommufd || numbers ? kernel : new NumberedPasids(kernel))),
    };
  }

  /** What has come down to the host so far: all is taken down again in the end. */
  get account(): LentAccount {
    const unit = this.#units.present;
    const calls = this.#calls?.counts ?? new Map<string, CallCount>();
    const { faults } = this.#host;
    const pasids = (this.#host.dump()['pasids'] as readonly { pasid: number }[]).map(({ pasid }) => pasid);
    return structuredClone({ lending: this.lending, unit, calls, faults: faults.length, pasids });
  }

  [Symbol.dispose](): void {
    this.on.host[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
  }
}

/** The I/O address spaces of an iommufd: devices that see the same memory share one, and what it maps. QEMU: VFIOIOMMUFDContainer. */
import { type AddressSpace, Errno, logger } from '@remora/core';
import type { VfioConnectOptions } from '../vfio/connections.js';
import type { HostConnection } from '../connection.js';
import { VfioMemoryListener } from '../vfio/memory-listener.js';
import { expectOk } from '../vfio/vfio-error.js';
import type { BoundDevice } from './bound-device.js';
import { nestingProblem, nestsReadOnly } from './hardware-info.js';
import { IommufdHostIOMMUContext } from './host-iommu-context.js';
import { Ioas } from './ioas.js';
import type { Iommufd } from './iommufd.js';
import type { PasidNumbers } from './pasid-numbers.js';

/** As for containers. Quirks are those of another interface. */
export type IommufdConnectOptions = Omit<VfioConnectOptions, 'quirks' | 'vmid'>;

export interface IommufdConnection extends HostConnection {
  /** The object of the iommufd that stands for the device. */
  readonly deviceId: number;
  readonly ioas: Ioas;
  readonly context: IommufdHostIOMMUContext | undefined;
}

interface Home {
  readonly ioas: Ioas;
  readonly space: AddressSpace;
  readonly nested: boolean;
  readonly shared: boolean;
  listener: VfioMemoryListener | undefined;
  devices: number;
}

export class IommufdSpaces {
  readonly iommufd: Iommufd;
  readonly #pasids: PasidNumbers;
  readonly #homes: Home[] = [];
  #next = 0;

  constructor(iommufd: Iommufd, pasids: PasidNumbers) {
    this.iommufd = iommufd;
    this.#pasids = pasids;
  }

  /**
   * Attaches `device` to an address space that maps what `options` say. Disposing of the connection closes the device, then calls `closed`.
   * @throws VfioError if the host refuses; the device is attached to nothing then, and still open.
   */
  attach(device: BoundDevice, options: IommufdConnectOptions, closed: () => void): IommufdConnection {
    const refused = options.wantsNesting ? nestingProblem(device.hardware) : undefined;
    if (refused !== undefined) this.#warn(options, `no nesting: ${refused}`);
    const nested = options.wantsNesting && refused === undefined;
    const fellBack = options.wantsNesting && !nested;
    const space = fellBack ? (options.spaceWithoutNesting?.() ?? options.space) : options.space;
    const { home, hwpt } = this.#place(device, space, nested, options);
    try {
      home.listener ??= new VfioMemoryListener(home.ioas, space, options.memory);
      const context = nested ? this.#context(device, hwpt, options) : undefined;
      return {
        device: device.device,
        deviceId: device.id,
        ioas: home.ioas,
        home: home.ioas.name,
        group: -1,
        nested,
        nestingRefused: refused,
        context,
        [Symbol.dispose]: () => {
          context?.[Symbol.dispose]();
          this.#leave(home, device, hwpt);
          device[Symbol.dispose]();
          closed();
        },
      };
    } catch (error) {
      this.#leave(home, device, hwpt);
      throw error;
    }
  }

  #context(device: BoundDevice, parent: number, { ledger }: IommufdConnectOptions): IommufdHostIOMMUContext {
    const { iommufd } = this;
    const name = `${iommufd.name}/${device.bdf}`;
    return new IommufdHostIOMMUContext({ name, iommufd, device, parent, pasids: this.#pasids, ledger });
  }

  /** In a space that is there and takes the device, or in a new one. */
  #place(
    device: BoundDevice,
    space: AddressSpace,
    nested: boolean,
    options: IommufdConnectOptions,
  ): { home: Home; hwpt: number } {
    for (const home of options.fresh === true ? [] : this.#homes) {
      if (!home.shared || home.space !== space || home.nested !== nested) continue;
      const hwpt = home.ioas.attach(device, nested);
      if (hwpt === -Errno.ENOMEM) expectOk(`${home.ioas.name}: attach ${device.bdf}`, hwpt);
      if (hwpt < 0) continue;
      home.devices++;
      return { home, hwpt };
    }
    const writableOnly = nested && !nestsReadOnly(device.hardware);
    const name = `${this.iommufd.name}/ioas${this.#next}`;
    const ioas = new Ioas(this.iommufd, name, { trace: options.trace, writableOnly });
    const hwpt = ioas.attach(device, nested);
    if (hwpt < 0) {
      ioas.destroy();
      expectOk(`${ioas.name}: attach ${device.bdf}`, hwpt);
    }
    this.#next++;
    const home = { ioas, space, nested, shared: options.fresh !== true, listener: undefined, devices: 1 };
    this.#homes.push(home);
    return { home, hwpt };
  }

  /** The last device's mappings go while their page table is still there. */
  #leave(home: Home, device: BoundDevice, hwpt: number): void {
    if (--home.devices === 0) home.listener?.[Symbol.dispose]();
    home.ioas.detach(device, hwpt);
    if (home.devices > 0) return;
    home.ioas.destroy();
    this.#homes.splice(this.#homes.indexOf(home), 1);
  }

  #warn({ ledger }: IommufdConnectOptions, message: string): void {
    logger('remora:host:iommufd', this.iommufd.name).warn('%s', message);
    if (ledger?.on === true) ledger.add(this.iommufd.name, 'warning', { message });
  }
}

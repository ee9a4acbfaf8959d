/** `-object iommufd`: the /dev/iommu of a machine, open while a device uses it. QEMU: iommufd_backend_connect. */
import type { HostSyscalls } from '../syscalls.js';
import { VfioError } from '../vfio/vfio-error.js';
import { BoundDevice } from './bound-device.js';
import { Iommufd } from './iommufd.js';
import { type IommufdConnection, type IommufdConnectOptions, IommufdSpaces } from './spaces.js';
import type { PasidNumbers } from './pasid-numbers.js';

export class IommufdBackend {
  readonly id: string;
  /** For messages: `vm0/iommufd0`. */
  readonly name: string;
  readonly #syscalls: HostSyscalls;
  readonly #pasids: PasidNumbers;
  readonly #devices = new Map<string, IommufdConnection>();
  #spaces: IommufdSpaces | undefined;

  constructor(syscalls: HostSyscalls, machine: string, id: string, pasids: PasidNumbers) {
    this.#syscalls = syscalls;
    this.#pasids = pasids;
    this.id = id;
    this.name = `${machine}/${id}`;
  }

  /** Devices of the host that are open through it, by address. */
  get devices(): ReadonlyMap<string, IommufdConnection> {
    return this.#devices;
  }

  /**
   * Opens the device at `bdf` of the host (`0000:3f:00.0`), in an I/O address space that maps `options.space`.
   * @throws VfioError if the host has no such device, does not lend it, or refuses on the way; nothing stays open then.
   */
  connect(bdf: string, options: IommufdConnectOptions): IommufdConnection {
    if (this.#devices.has(bdf)) throw new VfioError(bdf, 0, 'it is attached to this machine already');
    const spaces = (this.#spaces ??= new IommufdSpaces(Iommufd.open(this.#syscalls, this.name), this.#pasids));
    let bound: BoundDevice | undefined;
    try {
      bound = BoundDevice.open(spaces.iommufd, bdf, () => undefined);
      const connection = spaces.attach(bound, options, () => this.#closed(bdf));
      this.#devices.set(bdf, connection);
      return connection;
    } catch (error) {
      bound?.[Symbol.dispose]();
      this.#closed(bdf);
      throw error;
    }
  }

  #closed(bdf: string): void {
    this.#devices.delete(bdf);
    if (this.#devices.size > 0) return;
    this.#spaces?.iommufd[Symbol.dispose]();
    this.#spaces = undefined;
  }
}

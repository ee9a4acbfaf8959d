/**
 * The VFIO connections of one machine: which groups and containers are open, who shares them, and who closes them. QEMU: the lists of
 * vfio_get_group and vfio_connect_container.
 */
import type { AddressSpace } from '@remora/core';
import type { HostConnection } from '../connection.js';
import type { HostSyscalls } from '../syscalls.js';
import { VfioContainer } from './container.js';
import type { VfioGroup } from './group.js';
import { VfioMemoryListener, type VfioMemoryOptions } from './memory-listener.js';
import type { VfioContainerOptions } from './options.js';
import { requireVfioPci } from './sysfs.js';
import { VfioError } from './vfio-error.js';
import { VmVmid } from './vmid.js';

export interface VfioConnectOptions extends Omit<VfioContainerOptions, 'name' | 'vmid'> {
  /** Speak the VMID series: the machine's containers have one VMID. */
  readonly vmid?: boolean;
  /** What the container maps. Devices with the same address space share a container. */
  readonly space: AddressSpace;
  /** What it maps instead if nesting is wanted and the host does not offer it; asked for only then. */
  readonly spaceWithoutNesting?: () => AddressSpace;
  readonly memory: VfioMemoryOptions;
  /** Do not share: a container of the device's own. */
  readonly fresh?: boolean;
}

export interface VfioConnection extends HostConnection {
  readonly container: VfioContainer;
}

interface Home {
  readonly container: VfioContainer;
  readonly listener: VfioMemoryListener;
  readonly space: AddressSpace;
  readonly shared: boolean;
}

export class VfioConnections {
  readonly #syscalls: HostSyscalls;
  readonly #name: string;
  readonly #homes: Home[] = [];
  /** One for the machine. */
  readonly vmid = new VmVmid();
  #next = 0;

  /** `name` is the machine's: its containers are called `vm0/container0` and so on. */
  constructor(syscalls: HostSyscalls, name: string) {
    this.#syscalls = syscalls;
    this.#name = name;
  }

  get containers(): readonly VfioContainer[] {
    return this.#homes.map(home => home.container);
  }

  /** Whether the device at `bdf` of the host is open here. */
  has(bdf: string): boolean {
    const groups = this.#homes.flatMap(home => [...home.container.groups]);
    return groups.some(group => [...group.devices].some(device => device.bdf === bdf));
  }

  /**
   * Opens the device at `bdf` of the host (`0000:3f:00.0`), in a container that maps `options.space`.
   * @throws VfioError if the host has no such device, does not lend it, or refuses on the way; nothing stays open then.
   */
  connect(bdf: string, options: VfioConnectOptions): VfioConnection {
    if (this.has(bdf)) throw new VfioError(bdf, 0, 'it is attached to this machine already');
    const { home, group } = this.#groupFor(requireVfioPci(this.#syscalls, bdf), options);
    try {
      const device = group.openDevice(bdf);
      const { container } = home;
      return {
        device,
        container,
        home: container.name,
        group: group.number,
        nested: container.nested,
        nestingRefused: container.nestingRefused,
        context: container.context,
        [Symbol.dispose]: () => {
          device[Symbol.dispose]();
          this.#release(home, group);
        },
      };
    } catch (error) {
      this.#release(home, group);
      throw error;
    }
  }

  #groupFor(number: number, options: VfioConnectOptions): { home: Home; group: VfioGroup } {
    for (const home of this.#homes) {
      const group = [...home.container.groups].find(open => open.number === number);
      if (group === undefined) continue;
      if (home.space !== spaceIn(home.container, options) || options.fresh === true) {
        throw new VfioError(group.name, 0, 'its devices must share a container, but differ in what it maps');
      }
      return { home, group };
    }
    for (const home of this.#homes) {
      if (!home.shared || options.fresh === true || home.space !== spaceIn(home.container, options)) continue;
      return { home, group: home.container.attachGroup(number) };
    }
    return this.#newHome(number, options);
  }

  #newHome(number: number, options: VfioConnectOptions): { home: Home; group: VfioGroup } {
    const name = `${this.#name}/container${this.#next}`;
    const vmid = options.vmid === true ? this.vmid : undefined;
    const container = VfioContainer.open(this.#syscalls, { ...options, name, vmid });
    try {
      const group = container.attachGroup(number);
      const space = spaceIn(container, options);
      const listener = new VfioMemoryListener(container, space, options.memory);
      const home = { container, listener, space, shared: options.fresh !== true };
      this.#homes.push(home);
      this.#next++;
      return { home, group };
    } catch (error) {
      container[Symbol.dispose]();
      throw error;
    }
  }

  #release(home: Home, group: VfioGroup): void {
    if (group.devices.size > 0) return;
    if (home.container.groups.size > 1) {
      home.container.detachGroup(group);
      return;
    }
    // As QEMU: the mappings go while their IOMMU is still there.
    home.listener[Symbol.dispose]();
    home.container[Symbol.dispose]();
    this.#homes.splice(this.#homes.indexOf(home), 1);
  }
}

/** What `container` maps, or would map, for these options. */
function spaceIn(container: VfioContainer, options: VfioConnectOptions): AddressSpace {
  const fellBack = options.wantsNesting && !container.nested;
  return fellBack ? (options.spaceWithoutNesting?.() ?? options.space) : options.space;
}

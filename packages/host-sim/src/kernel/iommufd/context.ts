/** One open /dev/iommu. */
import type { HostProcess } from '../../process.js';
import type { Kernel } from '../kernel.js';
import type { PinPayer } from '../pin-accounts.js';
import type { Ioas } from './ioas.js';
import { ObjectTable } from './objects.js';

export class IommufdContext {
  readonly kernel: Kernel;
  /** Who pays for what is pinned: the calling process' user, or the process alone. */
  accounting: 'user' | 'process' = 'user';
  /** The I/O address space that VFIO's own ioctls mean, if it is among the objects still. */
  vfioIoas: Ioas | undefined;
  readonly objects: ObjectTable;
  /** Who makes the call that is being served: whose memory its pointers, and whose descriptors its numbers mean. */
  process: HostProcess;
  #holders = 1;

  /** Held once, by its file. */
  constructor(kernel: Kernel, opener: HostProcess) {
    this.kernel = kernel;
    this.objects = new ObjectTable(kernel.fails);
    this.process = opener;
  }

  /** Who pays for what the caller maps. */
  get payer(): PinPayer {
    return this.accounting === 'user' ? this.process.user : this.process;
  }

  /** A bound VFIO device, or an open queue, keeps the context when /dev/iommu is closed. */
  hold(): void {
    this.#holders++;
  }

  /** The last holder takes all objects along. */
  drop(): void {
    if (--this.#holders > 0) return;
    this.objects.clear();
  }

  state(): unknown {
    return { objects: this.objects.state() };
  }
}

/** One open /dev/iommu. */
import type { HostProcess } from '../../process.js';
import type { Kernel } from '../kernel.js';
import { ObjectTable } from './objects.js';

export class IommufdContext {
  readonly kernel: Kernel;
  readonly objects = new ObjectTable();
  /** Who makes the call that is being served: whose memory its pointers, and whose descriptors its numbers mean. */
  process: HostProcess;
  #holders = 1;

  /** Held once, by its file. */
  constructor(kernel: Kernel, opener: HostProcess) {
    this.kernel = kernel;
    this.process = opener;
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

/** VFIO_DEVICE_FEATURE_DMA_BUF: parts of a lent device's BARs as dma-bufs, for as long as the device answers there. */
import { Errno, PAGE_BYTES } from '@remora/core';
import type { IoctlArgument } from '@remora/host';
import {
  VfioDeviceFeature,
  VfioDeviceFeatureDmaBuf,
  VfioDeviceFeatureFlag,
  VfioPciRegion,
  VfioRegionDmaRange,
} from '@remora/uapi';
import type { PhysicalDevice } from '../devices/physical-device.js';
import { userBytes, userStruct } from '../kernel/user.js';
import type { HostProcess } from '../process.js';
import { DmaBuf } from './dma-buf.js';

const { GET, SET, PROBE } = VfioDeviceFeatureFlag;
const HEAD = VfioDeviceFeature.size;
const BODY = HEAD + VfioDeviceFeatureDmaBuf.size;

export class DmaBufExport {
  readonly #device: PhysicalDevice;
  readonly #made = new Set<DmaBuf>();
  #there = false;

  constructor(device: PhysicalDevice) {
    this.#device = device;
  }

  /**
   * GET answers with a descriptor of the caller. -ENODEV for what is no BAR, or one that the host's firmware gave no address; -EINVAL for ranges that are not of whole
   * pages, or not within it; -EOPNOTSUPP for more than one: nobody here maps those.
   */
  feature(argument: IoctlArgument, caller: HostProcess): number {
    const head = userStruct(argument, HEAD);
    if (typeof head === 'number') return head;
    const flags = VfioDeviceFeature.fields.flags.get(head);
    if ((flags & SET) !== 0 || (flags & (GET | PROBE)) === 0) return -Errno.EINVAL;
    if ((flags & PROBE) !== 0) return 0;
    const needed = BODY + VfioRegionDmaRange.size;
    if (VfioDeviceFeature.fields.argsz.get(head) < needed) return -Errno.EINVAL;
    const view = userBytes(argument, needed);
    if (typeof view === 'number') return view;
    const { fields } = VfioDeviceFeatureDmaBuf;
    const count = fields.nr_ranges.get(view, HEAD);
    if (count === 0 || fields.flags.get(view, HEAD) !== 0) return -Errno.EINVAL;
    const index = fields.region_index.get(view, HEAD);
    const bars = this.#device.fn.bars;
    const region = index < VfioPciRegion.ROM ? bars.region(index) : undefined;
    const address = index < VfioPciRegion.ROM ? bars.address(index) : undefined;
    if (region === undefined || address === undefined) return -Errno.ENODEV;
    const start = VfioRegionDmaRange.fields.offset.number(view, BODY);
    const length = VfioRegionDmaRange.fields.length.number(view, BODY);
    if (start % PAGE_BYTES !== 0 || length % PAGE_BYTES !== 0 || length === 0) return -Errno.EINVAL;
    if (start + length > region.size) return -Errno.EINVAL;
    if (count > 1) return -Errno.EOPNOTSUPP;
    const first = (address + start) / PAGE_BYTES;
    const frames = Int32Array.from({ length: length / PAGE_BYTES }, (_, page) => first + page);
    const made = new DmaBuf(frames, this.#there);
    const fd = caller.addFile(made);
    if (fd >= 0) this.#made.add(made);
    return fd;
  }

  /** The device answers at its BARs from now on, or not any more. */
  move(there: boolean): void {
    if (there === this.#there) return;
    this.#there = there;
    for (const each of this.#made) each.move(there);
  }
}

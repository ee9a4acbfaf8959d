/** IOMMU_HW_QUEUE_ALLOC: a ring in the guest's memory that the unit reads by itself. The memory stays where it is as long. */
import { Errno, PAGE_BYTES } from '@remora/core';
import type { HostHardwareQueue } from '@remora/iommu';
import { IOMMU_HW_QUEUE_ALLOC, IommuHwQueueAlloc, IommuHwQueueType } from '@remora/uapi';
import { iommufdIoctl } from './ioctls.js';
import { IommufdObject } from './objects.js';
import { Viommu } from './viommu.js';

const ADDRESSES = 2n ** 64n;

export class HardwareQueue extends IommufdObject {
  readonly kind = 'hw-queue';
  readonly host: HostHardwareQueue;
  readonly #viommu: Viommu;
  readonly #needs: HardwareQueue | undefined;
  readonly #unlock: () => void;

  constructor(viommu: Viommu, host: HostHardwareQueue, unlock: () => void) {
    super();
    this.host = host;
    this.#viommu = viommu;
    this.#needs = [...viommu.hardwareQueues].find(queue => queue.host === host.needs);
    this.#unlock = unlock;
    viommu.users++;
    viommu.hardwareQueues.add(this);
    if (this.#needs !== undefined) this.#needs.users++;
  }

  override release(): void {
    this.host[Symbol.dispose]();
    this.#unlock();
    if (this.#needs !== undefined) this.#needs.users--;
    this.#viommu.hardwareQueues.delete(this);
    this.#viommu.users--;
  }

  override state(): unknown {
    return { viommu: this.#viommu.id, needs: this.#needs?.id ?? null };
  }
}

const allocate = iommufdIoctl('IOMMU_HW_QUEUE_ALLOC', IOMMU_HW_QUEUE_ALLOC, IommuHwQueueAlloc, (context, view) => {
  const { fields } = IommuHwQueueAlloc;
  const type = fields.type.get(view);
  if (fields.flags.get(view) !== 0 || type === IommuHwQueueType.DEFAULT) return -Errno.EOPNOTSUPP;
  const iova = fields.nesting_parent_iova.big(view);
  const length = fields.length.big(view);
  if (length === 0n) return -Errno.EINVAL;
  if (iova + length > ADDRESSES) return -Errno.EOVERFLOW;
  const viommu = context.objects.get(fields.viommu_id.get(view), Viommu);
  if (typeof viommu === 'number') return viommu;
  if (viommu.host.hardwareQueueTypes?.includes(type) !== true) return -Errno.EOPNOTSUPP;
  const locked = viommu.parent.ioas.lockPages(iova, length);
  if (typeof locked === 'number') return locked;
  const host = contiguous(locked.frames)
    ? viommu.host.createHardwareQueue!(
        type,
        fields.index.get(view),
        locked.frames[0]! * PAGE_BYTES + locked.offset,
        Number(length),
      )
    : -Errno.EFAULT;
  if (typeof host === 'number') {
    locked.unlock();
    return host;
  }
  const queue = new HardwareQueue(viommu, host, () => locked.unlock());
  const failed = context.objects.add(queue);
  if (failed !== 0) return failed;
  context.kernel.note('hw-queue-alloc', { id: queue.id, viommu: viommu.id, index: fields.index.get(view) });
  fields.out_hw_queue_id.set(view, queue.id);
  return 0;
});

/** Whether the frames follow each other in host memory. */
function contiguous(frames: Int32Array): boolean {
  return frames.every((frame, index) => frame === frames[0]! + index);
}

export const hardwareQueueIoctls = [allocate];

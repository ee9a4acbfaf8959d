/** IOMMU_VIOMMU_ALLOC: a VM's share of a physical IOMMU, over the nesting parent that has its memory; and its queues of events. */
import { Errno } from '@remora/core';
import {
  type HostNestedDomain,
  type HostNestedOptions,
  type HostViommu,
  REMORA_VTD_EVENTS,
  type ViommuReport,
} from '@remora/iommu';
import {
  IOMMU_VEVENTQ_ALLOC,
  IOMMU_VIOMMU_ALLOC,
  IommuVeventqAlloc,
  IommuVeventqType,
  IommuViommuAlloc,
  IommuViommuType,
} from '@remora/uapi';
import type { IommufdContext } from './context.js';
import { IommufdDevice } from './device.js';
import type { HardwareQueue } from './hw-queue.js';
import { HwptPaging } from './hwpt.js';
import { iommufdIoctl } from './ioctls.js';
import { IommufdObject } from './objects.js';
import { readPayload } from './payload.js';
import { MAX_DEPTH, VirtualEventQueue } from './veventq.js';

/** Up to and with what the kernel answers. */
const VIOMMU_MINIMUM = 24;
const VEVENTQ_MINIMUM = 28;

export class Viommu extends IommufdObject {
  readonly kind = 'viommu';
  /** IOMMU_VIOMMU_TYPE_*. */
  readonly type: number;
  readonly parent: HwptPaging;
  readonly host: HostViommu;
  /** By vEVENTQ type. */
  readonly queues: Map<number, VirtualEventQueue>;
  /** Ids by which the guest knows functions, with the object that says so. */
  readonly virtualIds = new Map<bigint, IommufdObject>();
  readonly hardwareQueues = new Set<HardwareQueue>();

  constructor(type: number, parent: HwptPaging, host: HostViommu, queues: Map<number, VirtualEventQueue>) {
    super();
    this.type = type;
    this.parent = parent;
    this.host = host;
    this.queues = queues;
    parent.users++;
  }

  /** -EINVAL for a device that is behind another unit. */
  refuses(device: IommufdDevice): number {
    return this.host.serves(device.requesterId) ? 0 : -Errno.EINVAL;
  }

  /** For HWPT_ALLOC over this vIOMMU. */
  createNested(dataType: number, data: Uint8Array, options: HostNestedOptions): HostNestedDomain | number {
    return this.host.createNested?.(dataType, data, options) ?? -Errno.EOPNOTSUPP;
  }

  override release(): void {
    this.host[Symbol.dispose]();
    this.parent.users--;
  }

  override state(): unknown {
    return { type: this.type, parent: this.parent.id, virtualIds: [...this.virtualIds.keys()].map(String) };
  }
}

const allocate = iommufdIoctl(
  'IOMMU_VIOMMU_ALLOC',
  IOMMU_VIOMMU_ALLOC,
  IommuViommuAlloc,
  (context, view) => {
    const { fields } = IommuViommuAlloc;
    const type = fields.type.get(view);
    if (fields.flags.get(view) !== 0 || type === IommuViommuType.DEFAULT || IommuViommuAlloc.hasPadding(view)) {
      return -Errno.EOPNOTSUPP;
    }
    const device = context.objects.get(fields.dev_id.get(view), IommufdDevice);
    if (typeof device === 'number') return device;
    const ops = context.kernel.iommu?.driver.user?.viommu;
    if (ops?.offers(device.requesterId, type) !== true) return -Errno.EOPNOTSUPP;
    if (type === REMORA_VTD_EVENTS && !context.kernel.knobs.vtdEvents) return -Errno.EOPNOTSUPP;
    const parent = context.objects.get(fields.hwpt_id.get(view), HwptPaging);
    if (typeof parent === 'number') return parent;
    if (!parent.nestParent) return -Errno.EINVAL;
    const length = fields.data_len.get(view);
    const data = readPayload(context, fields.data_uptr.number(view), length);
    if (typeof data === 'number') return data;
    const queues = new Map<number, VirtualEventQueue>();
    const host = ops.createViommu(device.requesterId, parent.domain, type, data, reportTo(queues));
    if (typeof host === 'number') return host;
    const refused = context.process.memory.write(fields.data_uptr.number(view), data);
    if (refused !== 0) {
      host[Symbol.dispose]();
      return refused;
    }
    const viommu = new Viommu(type, parent, host, queues);
    const failed = context.objects.add(viommu);
    if (failed !== 0) return failed;
    context.kernel.note('viommu-alloc', { id: viommu.id, type, device: device.id, parent: parent.id });
    fields.out_viommu_id.set(view, viommu.id);
    return 0;
  },
  VIOMMU_MINIMUM,
);

/** Events go to the queue of their type. Of what nobody can read (any more) the host's own log is the better place. */
function reportTo(queues: ReadonlyMap<number, VirtualEventQueue>): ViommuReport {
  return (type, record) => {
    const queue = queues.get(type);
    if (queue?.open !== true) return -Errno.EOPNOTSUPP;
    queue.add(record);
    return 0;
  };
}

const allocateQueue = iommufdIoctl(
  'IOMMU_VEVENTQ_ALLOC',
  IOMMU_VEVENTQ_ALLOC,
  IommuVeventqAlloc,
  (context, view) => {
    const { fields } = IommuVeventqAlloc;
    const type = fields.type.get(view);
    if (fields.flags.get(view) !== 0 || type === IommuVeventqType.DEFAULT || IommuVeventqAlloc.hasPadding(view)) {
      return -Errno.EOPNOTSUPP;
    }
    const depth = fields.veventq_depth.get(view);
    if (depth === 0 || depth > MAX_DEPTH) return -Errno.EINVAL;
    const viommu = context.objects.get(fields.viommu_id.get(view), Viommu);
    if (typeof viommu === 'number') return viommu;
    if (!viommu.host.eventTypes.includes(type)) return -Errno.EOPNOTSUPP;
    if (viommu.queues.has(type)) return -Errno.EEXIST;
    const queue = openQueue(context, viommu, type, depth);
    const fd = queue.publish(context);
    if (fd < 0) return fd;
    context.kernel.note('veventq-alloc', { id: queue.id, type, depth, viommu: viommu.id });
    fields.out_veventq_id.set(view, queue.id);
    fields.out_veventq_fd.set(view, fd);
    return 0;
  },
  VEVENTQ_MINIMUM,
);

function openQueue(context: IommufdContext, viommu: Viommu, type: number, depth: number): VirtualEventQueue {
  const queue = new VirtualEventQueue(context.kernel, type, depth, () => {
    viommu.queues.delete(type);
    viommu.users--;
  });
  viommu.queues.set(type, queue);
  viommu.users++;
  return queue;
}

export const viommuIoctls = [allocate, allocateQueue];

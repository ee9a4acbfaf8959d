/** IOMMU_VDEVICE_ALLOC: under which number a guest knows a device. It lives no longer than the device does. */
import { Errno } from '@remora/core';
import { IOMMU_VDEVICE_ALLOC, IommuVdeviceAlloc } from '@remora/uapi';
import { IommufdDevice } from './device.js';
import { iommufdIoctl } from './ioctls.js';
import { IommufdObject } from './objects.js';
import { Viommu } from './viommu.js';

export class Vdevice extends IommufdObject {
  readonly kind = 'vdevice';
  readonly virtualId: bigint;
  readonly #viommu: Viommu;
  readonly #device: IommufdDevice;
  readonly #host: Disposable;

  constructor(viommu: Viommu, device: IommufdDevice, virtualId: bigint, host: Disposable) {
    super();
    this.virtualId = virtualId;
    this.#viommu = viommu;
    this.#device = device;
    this.#host = host;
    viommu.users++;
    viommu.virtualIds.set(virtualId, this);
    device.vdevice = this;
  }

  override release(): void {
    this.#host[Symbol.dispose]();
    this.#device.vdevice = undefined;
    this.#viommu.virtualIds.delete(this.virtualId);
    this.#viommu.users--;
  }

  override state(): unknown {
    return { viommu: this.#viommu.id, device: this.#device.id, virtualId: String(this.virtualId) };
  }
}

const allocate = iommufdIoctl('IOMMU_VDEVICE_ALLOC', IOMMU_VDEVICE_ALLOC, IommuVdeviceAlloc, (context, view) => {
  const { fields } = IommuVdeviceAlloc;
  const viommu = context.objects.get(fields.viommu_id.get(view), Viommu);
  if (typeof viommu === 'number') return viommu;
  const device = context.objects.get(fields.dev_id.get(view), IommufdDevice);
  if (typeof device === 'number') return device;
  const refused = viommu.refuses(device);
  if (refused !== 0) return refused;
  const virtualId = fields.virt_id.big(view);
  if (device.vdevice !== undefined || viommu.virtualIds.has(virtualId)) return -Errno.EEXIST;
  const { virt_id } = fields;
  const host = viommu.host.createVirtualDevice(device.requesterId, virt_id.hi(view), virt_id.lo(view));
  if (typeof host === 'number') return host;
  const vdevice = new Vdevice(viommu, device, virtualId, host);
  const failed = context.objects.add(vdevice);
  if (failed !== 0) return failed;
  const virtual = String(virtualId);
  context.kernel.note('vdevice-alloc', { id: vdevice.id, viommu: viommu.id, device: device.id, virtual });
  fields.out_vdevice_id.set(view, vdevice.id);
  return 0;
});

export const vdeviceIoctls = [allocate];

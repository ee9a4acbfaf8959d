/** A host with iommufd, as far as a client can tell: ids count up, and what is refused is the test's choice. */
import type { AddressSpace } from '@remora/core';
import { AddressSpace as Space, Ram, Region, Errno } from '@remora/core';
import { hva } from '@remora/bits';
import {
  IOMMU_DESTROY,
  IOMMU_FAULT_QUEUE_ALLOC,
  IOMMU_GET_HW_INFO,
  IOMMU_HWPT_ALLOC,
  IOMMU_HWPT_INVALIDATE,
  IOMMU_IOAS_ALLOC,
  IOMMU_IOAS_MAP,
  IOMMU_IOAS_UNMAP,
  IommuDestroy,
  IommuFaultAlloc,
  IommuHwInfo,
  IommuHwInfoVtd,
  IommuHwptAlloc,
  IommuIoasAlloc,
  ioctlName,
  VFIO_DEVICE_ATTACH_IOMMUFD_PT,
  VFIO_DEVICE_BIND_IOMMUFD,
  VFIO_DEVICE_DETACH_IOMMUFD_PT,
  VFIO_DEVICE_GET_INFO,
  VfioDeviceAttachIommufdPt,
  VfioDeviceBindIommufd,
  VfioDeviceDetachIommufdPt,
  VfioDeviceFlag,
  VfioDeviceInfo,
  viewOf,
} from '@remora/uapi';
import { ScriptedSyscalls } from '../scripted-syscalls.test.helper.js';
import type { MappedMemory } from '../syscalls.js';
import { IommufdBackend } from './backend.js';
import { PasidNumbers } from './pasid-numbers.js';
import type { IommufdConnection, IommufdConnectOptions } from './spaces.js';

export const FIRST = '0000:3f:00.0';
export const SECOND = '0000:3f:01.0';
const ECAP_NEST = 1 << 26;
const BASE = 0x7f00_0000_0000;

export interface ScriptedHardware {
  readonly type?: number;
  readonly nests?: boolean;
  readonly pasidBits?: number;
  readonly erratum?: boolean;
  /** Configuration space from 0x100 on, in dwords. */
  readonly extended?: readonly number[];
}

export class ScriptedIommufd extends ScriptedSyscalls {
  /** Negated errnos for the next calls of an ioctl by name, or of one of an object: `DESTROY 5`. Each counts once. */
  readonly refusals = new Map<string, number[]>();
  /** What was done: `HWPT_ALLOC 4 on 3`, `ATTACH 4 pasid 5`. */
  readonly done: string[] = [];
  /** Payload memory, as the client left it. */
  readonly memory = Ram.allocate(0x1_0000);
  #nextId = 1;

  constructor({ type = 1, nests = true, pasidBits = 20, erratum = false, extended = [] }: ScriptedHardware = {}) {
    super();
    for (const [index, bdf] of [FIRST, SECOND].entries()) {
      this.directories.set(`/sys/bus/pci/devices/${bdf}/vfio-dev`, [`vfio${index}`]);
    }
    this.#answer(VFIO_DEVICE_BIND_IOMMUFD, view => {
      const id = this.#nextId++;
      VfioDeviceBindIommufd.fields.out_devid.set(view, id);
      return `BIND ${id}`;
    });
    this.#answer(IOMMU_GET_HW_INFO, view => {
      IommuHwInfo.fields.out_data_type.set(view, type);
      IommuHwInfo.fields.out_max_pasid_log2.set(view, pasidBits);
      const data = IommuHwInfoVtd.encode({ flags: Number(erratum), ecap_reg: nests ? ECAP_NEST : 0 });
      this.memory.write(0, 0, data);
      return 'GET_HW_INFO';
    });
    this.#answer(IOMMU_IOAS_ALLOC, view => {
      const id = this.#nextId++;
      IommuIoasAlloc.fields.out_ioas_id.set(view, id);
      return `IOAS_ALLOC ${id}`;
    });
    this.#answer(IOMMU_HWPT_ALLOC, view => {
      const id = this.#nextId++;
      const { out_hwpt_id, pt_id, flags, fault_id } = IommuHwptAlloc.fields;
      out_hwpt_id.set(view, id);
      const fault = fault_id.get(view) === 0 ? '' : ` fault ${fault_id.get(view)}`;
      return `HWPT_ALLOC ${id} on ${pt_id.get(view)} flags ${flags.get(view)}${fault}`;
    });
    this.#answer(VFIO_DEVICE_ATTACH_IOMMUFD_PT, view => {
      const { pt_id, flags, pasid } = VfioDeviceAttachIommufdPt.fields;
      return `ATTACH ${pt_id.get(view)}${flags.get(view) === 0 ? '' : ` pasid ${pasid.get(view)}`}`;
    });
    this.#answer(VFIO_DEVICE_DETACH_IOMMUFD_PT, view => {
      const { flags, pasid } = VfioDeviceDetachIommufdPt.fields;
      return `DETACH${flags.get(view) === 0 ? '' : ` pasid ${pasid.get(view)}`}`;
    });
    this.#answer(IOMMU_DESTROY, view => `DESTROY ${IommuDestroy.fields.id.get(view)}`);
    this.#answer(IOMMU_HWPT_INVALIDATE, () => 'HWPT_INVALIDATE');
    this.#answer(IOMMU_IOAS_MAP, () => 'IOAS_MAP');
    this.#answer(IOMMU_IOAS_UNMAP, () => 'IOAS_UNMAP');
    this.#answer(IOMMU_FAULT_QUEUE_ALLOC, view => {
      const id = this.#nextId++;
      IommuFaultAlloc.fields.out_fault_id.set(view, id);
      IommuFaultAlloc.fields.out_fault_fd.set(view, 100);
      return `FAULT_QUEUE_ALLOC ${id}`;
    });
    this.on(VFIO_DEVICE_GET_INFO, bytes => {
      const view = viewOf(bytes as Uint8Array);
      VfioDeviceInfo.fields.flags.set(view, VfioDeviceFlag.PCI);
      VfioDeviceInfo.fields.num_regions.set(view, 9);
      return 0;
    });
    this.#extended = extended;
  }

  readonly #extended: readonly number[];

  refuse(what: string, ...errnos: number[]): void {
    this.refusals.set(what, errnos);
  }

  /** What was done since the last call. */
  take(): string[] {
    return this.done.splice(0);
  }

  override readlink(path: string): string | number {
    if (path.endsWith('/iommu_group')) return '../../../kernel/iommu_groups/7';
    return path.endsWith('/driver') ? '../../../bus/pci/drivers/vfio-pci' : -Errno.ENOENT;
  }

  override mmap(): MappedMemory {
    return { address: hva(BASE), ram: this.memory };
  }

  /** Configuration space is the only region that is read. */
  override pread(_fd: number, buffer: Uint8Array, offset: number): number {
    buffer.fill(0);
    const dword = this.#extended[(offset - 0x100) / 4] ?? 0;
    new DataView(buffer.buffer, buffer.byteOffset).setUint32(0, dword, true);
    return buffer.length;
  }

  #answer(request: number, act: (view: DataView) => string): void {
    const name = ioctlName(request).replace(/^IOMMU_|^VFIO_DEVICE_|_IOMMUFD(_PT)?$/g, '');
    this.on(request, argument => {
      const view = viewOf(argument as Uint8Array);
      const refusal = this.refusals.get(name)?.shift();
      if (refusal !== undefined && refusal !== 0) {
        this.done.push(`${name} refused`);
        return refusal;
      }
      const what = act(view);
      const particular = this.refusals.get(what)?.shift() ?? 0;
      this.done.push(particular === 0 ? what : `${what} refused`);
      return particular;
    });
  }
}

/** 64 KiB of guest memory; with `rom` as much again behind it, which may only be read. */
export function guestMemory(rom = false): AddressSpace {
  const ram = Region.ram('ram', Ram.allocate(0x1_0000));
  if (!rom) return new Space('guest', ram);
  const root = Region.container('guest', 0x2_0000);
  root.add(0, ram);
  root.add(0x1_0000, Region.ram('rom', Ram.allocate(0x1_0000), { readonly: true }));
  return new Space('guest', root);
}

export function backendOn(host: ScriptedIommufd): IommufdBackend {
  return new IommufdBackend(host, 'vm0', 'iommufd0', new PasidNumbers());
}

export function connect(
  backend: IommufdBackend,
  bdf: string,
  space: AddressSpace,
  options: Partial<IommufdConnectOptions> = {},
): IommufdConnection {
  return backend.connect(bdf, {
    wantsNesting: true,
    space,
    memory: { addressOf: () => hva(0x1000_0000) },
    ...options,
  });
}

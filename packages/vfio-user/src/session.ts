/** What one client may ask of one device, after the version is agreed: each command's payload in, the reply's payload out. */
import { Errno } from '@remora/core';
import { type StructType, VfioDeviceFlag, VfioIrqInfo, VfioRegionFlag, VfioRegionInfo, viewOf } from '@remora/uapi';
import type { Agreed } from './capabilities.js';
import type { EventLines } from './descriptors/event-lines.js';
import { NOTHING_PASSED, type Passed } from './descriptors/passed.js';
import type { ClientMemory } from './guest-memory.js';
import { irqInfoFlags, setIrqs } from './irqs.js';
import {
  DeviceInfo,
  DmaMap,
  DmaUnmap,
  DmaUnmapFlag,
  MAX_DATA_XFER_SIZE,
  RegionAccess,
  VfioUserCommand,
  WriteMulti,
  WriteMultiOne,
} from './protocol.js';
import { piece } from './piece.js';
import type { ServedDevice, ServedRegion } from './served-device.js';

const NOTHING = new Uint8Array(0);

/** The reply's payload, which may be a part of the command's, or a Linux error number. */
export type Answer = Uint8Array | number;

export interface SessionOptions {
  readonly device: ServedDevice;
  readonly memory: ClientMemory;
  readonly agreed: Agreed;
  /** For a client that passes descriptors. */
  readonly lines?: EventLines | undefined;
}

export class Session {
  readonly #device: ServedDevice;
  readonly #memory: ClientMemory;
  readonly #agreed: Agreed;
  readonly #lines: EventLines | undefined;

  constructor({ device, memory, agreed, lines }: SessionOptions) {
    this.#device = device;
    this.#memory = memory;
    this.#agreed = agreed;
    this.#lines = lines;
  }

  /**
   * Carries out one command. EINVAL: it is not well-formed, or names what the device does not have, or no command of a client's;
   * EOPNOTSUPP: this server does not do that. Descriptors that come with a command which takes none, or too many of them, are EINVAL, too.
   */
  execute(command: number, payload: Uint8Array, passed: Passed = NOTHING_PASSED): Answer {
    const most = command === VfioUserCommand.DEVICE_SET_IRQS ? Infinity : command === VfioUserCommand.DMA_MAP ? 1 : 0;
    if (passed.truncated || passed.descriptors.length > most) return Errno.EINVAL;
    switch (command) {
      case VfioUserCommand.DMA_MAP:
        return this.#dmaMap(payload, passed);
      case VfioUserCommand.DMA_UNMAP:
        return this.#dmaUnmap(payload);
      case VfioUserCommand.DEVICE_GET_INFO:
        return this.#deviceInfo(payload);
      case VfioUserCommand.DEVICE_GET_REGION_INFO:
        return this.#regionInfo(payload);
      case VfioUserCommand.DEVICE_GET_IRQ_INFO:
        return this.#irqInfo(payload);
      case VfioUserCommand.DEVICE_SET_IRQS:
        return setIrqs(this.#device, payload, this.#lines, passed.descriptors);
      case VfioUserCommand.REGION_READ:
        return this.#regionRead(payload);
      case VfioUserCommand.REGION_WRITE:
        return this.#regionWrite(payload);
      case VfioUserCommand.REGION_WRITE_MULTI:
        return this.#agreed.writeMultiple ? this.#writeMulti(payload) : Errno.EINVAL;
      case VfioUserCommand.DEVICE_RESET:
        this.#device.reset();
        return NOTHING;
      case VfioUserCommand.DEVICE_GET_REGION_IO_FDS:
      case VfioUserCommand.DIRTY_PAGES:
      case VfioUserCommand.DEVICE_FEATURE:
      case VfioUserCommand.MIG_DATA_READ:
      case VfioUserCommand.MIG_DATA_WRITE:
        return Errno.EOPNOTSUPP;
      default:
        return Errno.EINVAL;
    }
  }

  #dmaMap(payload: Uint8Array, { descriptors }: Passed): Answer {
    if (!takes(DmaMap, payload)) return Errno.EINVAL;
    const view = viewOf(payload);
    const { flags, offset, address, size } = DmaMap.fields;
    const request = {
      flags: flags.get(view),
      offset: offset.big(view),
      address: address.big(view),
      size: size.big(view),
    };
    const error = this.#memory.map(request, descriptors[0]);
    return error === 0 ? NOTHING : error;
  }

  #dmaUnmap(payload: Uint8Array): Answer {
    if (!takes(DmaUnmap, payload)) return Errno.EINVAL;
    const view = viewOf(payload);
    const flags = DmaUnmap.fields.flags.get(view);
    const address = DmaUnmap.fields.address.big(view);
    const size = DmaUnmap.fields.size.big(view);
    if ((flags & DmaUnmapFlag.GET_DIRTY_BITMAP) !== 0) return Errno.EOPNOTSUPP;
    if (flags === DmaUnmapFlag.ALL) {
      if (address !== 0n || size !== 0n) return Errno.EINVAL;
      this.#memory.unmapAll();
    } else {
      if (flags !== 0 || size === 0n) return Errno.EINVAL;
      const error = this.#memory.unmap(address, size);
      if (error !== 0) return error;
    }
    return payload.slice(0, DmaUnmap.size);
  }

  #deviceInfo(payload: Uint8Array): Answer {
    if (!takes(DeviceInfo, payload)) return Errno.EINVAL;
    return DeviceInfo.encode({
      argsz: DeviceInfo.size,
      flags: VfioDeviceFlag.RESET | VfioDeviceFlag.PCI,
      num_regions: this.#device.regions.length,
      num_irqs: this.#device.interrupts.length,
    });
  }

  #regionInfo(payload: Uint8Array): Answer {
    if (!takes(VfioRegionInfo, payload)) return Errno.EINVAL;
    const index = VfioRegionInfo.fields.index.get(viewOf(payload));
    if (index >= this.#device.regions.length) return Errno.EINVAL;
    const region = this.#device.regions[index];
    return VfioRegionInfo.encode({
      argsz: VfioRegionInfo.size,
      flags: region === undefined ? 0 : VfioRegionFlag.READ | VfioRegionFlag.WRITE,
      index,
      size: region?.size ?? 0,
    });
  }

  #irqInfo(payload: Uint8Array): Answer {
    if (!takes(VfioIrqInfo, payload)) return Errno.EINVAL;
    const index = VfioIrqInfo.fields.index.get(viewOf(payload));
    const count = this.#device.interrupts[index];
    if (count === undefined) return Errno.EINVAL;
    const flags = count === 0 ? 0 : irqInfoFlags(index, this.#lines !== undefined);
    return VfioIrqInfo.encode({ argsz: VfioIrqInfo.size, flags, index, count });
  }

  #regionRead(payload: Uint8Array): Answer {
    if (payload.length !== RegionAccess.size) return Errno.EINVAL;
    const view = viewOf(payload);
    const count = RegionAccess.fields.count.get(view);
    const offset = RegionAccess.fields.offset.number(view);
    const region = this.#inside(RegionAccess.fields.region.get(view), offset, count);
    if (region === undefined) return Errno.EINVAL;
    const reply = piece(RegionAccess.size + count);
    reply.set(payload);
    region.read(offset, reply.subarray(RegionAccess.size));
    return reply;
  }

  #regionWrite(payload: Uint8Array): Answer {
    if (payload.length < RegionAccess.size) return Errno.EINVAL;
    const view = viewOf(payload);
    const count = RegionAccess.fields.count.get(view);
    const offset = RegionAccess.fields.offset.number(view);
    const region = this.#inside(RegionAccess.fields.region.get(view), offset, count);
    if (region === undefined || payload.length !== RegionAccess.size + count) return Errno.EINVAL;
    region.write(offset, payload.subarray(RegionAccess.size));
    return payload.subarray(0, RegionAccess.size);
  }

  /** Ends at the first write that cannot be; the reply counts those before it. */
  #writeMulti(payload: Uint8Array): Answer {
    if (payload.length < WriteMulti.size) return Errno.EINVAL;
    const view = viewOf(payload);
    const writes = WriteMulti.fields.wr_cnt.number(view);
    if (payload.length - WriteMulti.size !== writes * WriteMultiOne.size) return Errno.EINVAL;
    const { fields, size } = WriteMultiOne;
    let done = 0;
    for (; done < writes; done++) {
      const at = WriteMulti.size + done * size;
      const count = fields.count.get(view, at);
      const offset = fields.offset.number(view, at);
      const region = count > 8 ? undefined : this.#inside(fields.region.get(view, at), offset, count);
      if (region === undefined) break;
      const data = at + fields.data.offset;
      region.write(offset, payload.subarray(data, data + count));
    }
    return done === 0 && writes > 0 ? Errno.EINVAL : WriteMulti.encode({ wr_cnt: done });
  }

  /** The region, if all of the access lies in it. */
  #inside(index: number, offset: number, count: number): ServedRegion | undefined {
    const region = this.#device.regions[index];
    const fits = region !== undefined && count > 0 && count <= MAX_DATA_XFER_SIZE && offset + count <= region.size;
    return fits ? region : undefined;
  }
}

/** Whether the payload has the whole structure, and says so in `argsz`, its first field. */
function takes({ size }: StructType, payload: Uint8Array): boolean {
  return payload.length >= size && viewOf(payload).getUint32(0, true) >= size;
}

/** IOMMU_HWPT_ALLOC and IOMMU_HWPT_INVALIDATE: what is refused and in which order (peers.md 3.4). */
import { Errno, PAGE_BYTES } from '@remora/core';
import type { HostInvalidation, HostNestedDomain, HostNestedOptions } from '@remora/iommu';
import {
  IOMMU_HWPT_ALLOC,
  IOMMU_HWPT_INVALIDATE,
  IommuHwptAlloc,
  IommuHwptAllocFlag,
  IommuHwptDataType,
  IommuHwptInvalidate,
} from '@remora/uapi';
import type { IommufdContext } from './context.js';
import { IommufdDevice } from './device.js';
import { FaultQueue } from './fault-queue.js';
import { createPaging, type Hwpt, HwptNested, HwptPaging } from './hwpt.js';
import { Ioas } from './ioas.js';
import { iommufdIoctl } from './ioctls.js';
import { IommufdObject } from './objects.js';
import { readPayload } from './payload.js';
import { Viommu } from './viommu.js';

const { NEST_PARENT, DIRTY_TRACKING, FAULT_ID_VALID, PASID } = IommuHwptAllocFlag;
const PAGING_FLAGS = NEST_PARENT | DIRTY_TRACKING | FAULT_ID_VALID | PASID;
const NESTED_FLAGS = FAULT_ID_VALID | PASID;
const ENTRIES_LIMIT = 2 ** 19;
/** Entries are copied in at most so many bytes at a time. */
const CHUNK_BYTES = 0x1_0000;
/** What the kernel allocates for one array at most. */
const ARRAY_BYTES = 0x400_0000;

/** Bytes up to the end of `__reserved`: what the first kernels with these ioctls had. */
const ALLOC_MINIMUM = 24;

interface AllocRequest {
  readonly flags: number;
  readonly dataType: number;
  readonly dataLength: number;
  readonly dataAddress: number;
  readonly faultQueue: FaultQueue | undefined;
}

const allocate = iommufdIoctl(
  'IOMMU_HWPT_ALLOC',
  IOMMU_HWPT_ALLOC,
  IommuHwptAlloc,
  (context, view) => {
    const { fields } = IommuHwptAlloc;
    const flags = fields.flags.get(view);
    const dataType = fields.data_type.get(view);
    const dataLength = fields.data_len.get(view);
    if (IommuHwptAlloc.hasPadding(view)) return -Errno.EOPNOTSUPP;
    if ((dataType === IommuHwptDataType.NONE) !== (dataLength === 0)) return -Errno.EINVAL;
    const device = context.objects.get(fields.dev_id.get(view), IommufdDevice);
    if (typeof device === 'number') return device;
    const over = context.objects.get(fields.pt_id.get(view), IommufdObject);
    // Nobody's id is as wrong as that of an object of another kind.
    if (typeof over === 'number') return -Errno.EINVAL;
    const wanted = (flags & FAULT_ID_VALID) !== 0;
    const faultQueue = wanted ? context.objects.get(fields.fault_id.get(view), FaultQueue) : undefined;
    const found = typeof faultQueue === 'number' ? undefined : faultQueue;
    const dataAddress = fields.data_uptr.number(view);
    const hwpt = create(context, device, over, { flags, dataType, dataLength, dataAddress, faultQueue: found });
    if (typeof hwpt === 'number') return hwpt;
    if (typeof faultQueue === 'number') {
      hwpt.release();
      return faultQueue;
    }
    const failed = context.objects.add(hwpt);
    if (failed !== 0) return failed;
    context.kernel.note('hwpt-alloc', { id: hwpt.id, over: over.id, flags, dataType });
    fields.out_hwpt_id.set(view, hwpt.id);
    return 0;
  },
  ALLOC_MINIMUM,
);

function create(
  context: IommufdContext,
  device: IommufdDevice,
  over: IommufdObject,
  request: AllocRequest,
): Hwpt | number {
  if (over instanceof Ioas) return createOver(context, over, request);
  if (over instanceof HwptPaging) return nestOver(context, over, request);
  if (!(over instanceof Viommu)) return -Errno.EINVAL;
  return over.refuses(device) || nestOfViommu(context, over, request);
}

function createOver(context: IommufdContext, ioas: Ioas, request: AllocRequest): HwptPaging | number {
  const { flags, dataLength, faultQueue } = request;
  const nestParent = (flags & NEST_PARENT) !== 0;
  const dirtyTracking = (flags & DIRTY_TRACKING) !== 0;
  if ((flags & ~PAGING_FLAGS) !== 0 || dataLength !== 0) return -Errno.EOPNOTSUPP;
  if (dirtyTracking && !context.kernel.iommu!.driver.user!.dirtyTracking) return -Errno.EOPNOTSUPP;
  if (nestParent && (flags & FAULT_ID_VALID) !== 0) return -Errno.EOPNOTSUPP;
  const pasidCompatible = (flags & PASID) !== 0;
  return createPaging(context, ioas, { nestParent, dirtyTracking, auto: false, pasidCompatible, faultQueue });
}

function nestOver(context: IommufdContext, parent: HwptPaging, request: AllocRequest): HwptNested | number {
  const user = context.kernel.iommu!.driver.user!;
  if ((request.flags & ~NESTED_FLAGS) !== 0 || request.dataLength === 0) return -Errno.EOPNOTSUPP;
  if (!parent.nestParent) return -Errno.EINVAL;
  return nest(context, parent, undefined, request, (data, options) =>
    user.createNested(parent.domain, request.dataType, data, options),
  );
}

/** Of a vIOMMU, which knows the VM; one that has nothing of its own to say about it leaves it to the driver. */
function nestOfViommu(context: IommufdContext, viommu: Viommu, request: AllocRequest): HwptNested | number {
  if ((request.flags & ~NESTED_FLAGS) !== 0 || request.dataLength === 0) return -Errno.EOPNOTSUPP;
  return nest(context, viommu.parent, viommu, request, (data, options) =>
    viommu.createNested(request.dataType, data, options),
  );
}

function nest(
  context: IommufdContext,
  parent: HwptPaging,
  viommu: Viommu | undefined,
  { flags, dataAddress, dataLength, faultQueue }: AllocRequest,
  make: (data: Uint8Array, options: HostNestedOptions) => HostNestedDomain | number,
): HwptNested | number {
  const data = readPayload(context, dataAddress, dataLength);
  if (typeof data === 'number') return data;
  const pasidCompatible = (flags & PASID) !== 0;
  const domain = make(data, { pasid: pasidCompatible, pageRequests: faultQueue !== undefined });
  return typeof domain === 'number' ? domain : new HwptNested(domain, parent, viommu, { pasidCompatible, faultQueue });
}

interface InvalidateRequest {
  readonly dataType: number;
  readonly address: number;
  readonly entryLength: number;
  readonly count: number;
}

/** `entry_num` says how many entries were done, whatever the result. */
const invalidate = iommufdIoctl(
  'IOMMU_HWPT_INVALIDATE',
  IOMMU_HWPT_INVALIDATE,
  IommuHwptInvalidate,
  (context, view) => {
    const { fields } = IommuHwptInvalidate;
    const request = {
      dataType: fields.data_type.get(view),
      address: fields.data_uptr.number(view),
      entryLength: fields.entry_len.get(view),
      count: fields.entry_num.get(view),
    };
    fields.entry_num.set(view, 0);
    if (IommuHwptInvalidate.hasPadding(view)) return -Errno.EOPNOTSUPP;
    const { address, entryLength, count } = request;
    const senseless = address === 0 || entryLength === 0 || entryLength > PAGE_BYTES || count > ENTRIES_LIMIT;
    if (count > 0 && senseless) return -Errno.EINVAL;
    const id = fields.hwpt_id.get(view);
    const object = context.objects.get(id, IommufdObject);
    if (typeof object === 'number') return object;
    const done = invalidateArray(context, object, request);
    if (typeof done === 'number') return done;
    fields.entry_num.set(view, done.processed);
    const { kernel } = context;
    if (kernel.ledger.on) kernel.note('hwpt-invalidate', { id, count, processed: done.processed, result: done.result });
    return done.result;
  },
);

function invalidateArray(
  context: IommufdContext,
  object: IommufdObject,
  request: InvalidateRequest,
): HostInvalidation | number {
  if (object instanceof HwptNested) return invalidateNested(context, object.domain, request);
  if (!(object instanceof Viommu)) return -Errno.EINVAL;
  const { host } = object;
  if (host.invalidate === undefined) return -Errno.EOPNOTSUPP;
  const { dataType, entryLength, count, address } = request;
  if (entryLength * count > ARRAY_BYTES) return -Errno.ENOMEM;
  // The whole array is copied before the first command is looked at.
  const entries = new Uint8Array(entryLength * count);
  const error = context.process.memory.read(address, entries);
  return error === 0 ? host.invalidate(dataType, entryLength, entries, count) : error;
}

/** Each entry is copied when its turn comes: those before one that is not there are done. */
function invalidateNested(
  context: IommufdContext,
  domain: HostNestedDomain,
  { dataType, entryLength, count, address }: InvalidateRequest,
): HostInvalidation | number {
  if (domain.invalidate === undefined) return -Errno.EOPNOTSUPP;
  if (count === 0) return domain.invalidate(dataType, 0, new Uint8Array(0), 0);
  const chunk = Math.floor(CHUNK_BYTES / entryLength);
  for (let processed = 0; processed < count;) {
    const left = Math.min(chunk, count - processed);
    const entries = readEntries(context, address + processed * entryLength, entryLength, left);
    const whole = entries.length / entryLength;
    const done = domain.invalidate(dataType, entryLength, entries, whole);
    processed += done.processed;
    if (done.result !== 0) return { processed, result: done.result };
    if (whole < left) return { processed, result: -Errno.EFAULT };
  }
  return { processed: count, result: 0 };
}

/** Up to `count` entries: as many as there are. */
function readEntries(context: IommufdContext, address: number, entryLength: number, count: number): Uint8Array {
  const { memory } = context.process;
  const entries = new Uint8Array(entryLength * count);
  if (memory.read(address, entries) === 0) return entries;
  let there = 0;
  while (there < entries.length && memory.read(address + there, entries.subarray(there, there + entryLength)) === 0)
    there += entryLength;
  return entries.subarray(0, there);
}

export const hwptIoctls = [allocate, invalidate];

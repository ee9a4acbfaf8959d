/** Ioctls of /dev/iommu that make and fill I/O address spaces (peers.md 3.1, 3.4). */
import { Access, Errno, PAGE_BYTES } from '@remora/core';
import {
  IOMMU_IOAS_ALLOC,
  IOMMU_IOAS_ALLOW_IOVAS,
  IOMMU_IOAS_CHANGE_PROCESS,
  IOMMU_IOAS_COPY,
  IOMMU_IOAS_IOVA_RANGES,
  IOMMU_IOAS_MAP,
  IOMMU_IOAS_MAP_FILE,
  IOMMU_IOAS_NOIOMMU_GET_PA,
  IOMMU_IOAS_UNMAP,
  IommuIoasAlloc,
  IommuIoasAllowIovas,
  IommuIoasChangeProcess,
  IommuIoasCopy,
  IommuIoasIovaRanges,
  IommuIoasMap,
  IommuIoasMapFile,
  IommuIoasMapFlag,
  IommuIoasNoiommuGetPa,
  IommuIoasUnmap,
  IommuIovaRange,
  viewOf,
} from '@remora/uapi';
import { DmaBuf } from '../../files/dma-buf.js';
import { MemFd } from '../../files/memfd.js';
import { IntervalList } from '../interval-list.js';
import type { IommufdContext } from './context.js';
import { dmaBufPages, filePages, type PageSource, userPages } from './io-pages.js';
import { Ioas, type PageStretch } from './ioas.js';
import { iommufdIoctl, type IommufdIoctl } from './ioctls.js';
import type { IovaBytes } from './iova-room.js';
import { mapSource } from './map-pages.js';

const U64_MAX = 2n ** 64n - 1n;
const PAGE = BigInt(PAGE_BYTES);
const MAP_FLAGS = IommuIoasMapFlag.FIXED_IOVA | IommuIoasMapFlag.WRITEABLE | IommuIoasMapFlag.READABLE;

function alloc(context: IommufdContext, view: DataView): number {
  const { flags, out_ioas_id } = IommuIoasAlloc.fields;
  if (flags.get(view) !== 0) return -Errno.EOPNOTSUPP;
  const ioas = new Ioas(context.kernel);
  const failed = context.objects.add(ioas);
  if (failed !== 0) return failed;
  out_ioas_id.set(view, ioas.id);
  return 0;
}

function iovaRanges(context: IommufdContext, view: DataView): number {
  const { ioas_id, num_iovas, allowed_iovas, out_iova_alignment } = IommuIoasIovaRanges.fields;
  if (IommuIoasIovaRanges.hasPadding(view)) return -Errno.EOPNOTSUPP;
  const ioas = context.objects.get(ioas_id.get(view), Ioas);
  if (typeof ioas === 'number') return ioas;
  const holes = ioas.room.holes();
  const room = num_iovas.get(view);
  const address = allowed_iovas.number(view);
  for (const [index, { start, end }] of holes.slice(0, room).entries()) {
    const range = IommuIovaRange.encode({ start, last: end - 1n });
    if (context.process.memory.write(address + index * IommuIovaRange.size, range) !== 0) return -Errno.EFAULT;
  }
  num_iovas.set(view, holes.length);
  out_iova_alignment.setWide(view, ioas.alignment);
  return holes.length > room ? -Errno.EMSGSIZE : 0;
}

function allowIovas(context: IommufdContext, view: DataView): number {
  const { ioas_id, num_iovas, allowed_iovas } = IommuIoasAllowIovas.fields;
  if (IommuIoasAllowIovas.hasPadding(view)) return -Errno.EOPNOTSUPP;
  const ioas = context.objects.get(ioas_id.get(view), Ioas);
  if (typeof ioas === 'number') return ioas;
  const allowed = new IntervalList<bigint, IovaBytes>();
  const bytes = new Uint8Array(IommuIovaRange.size);
  const range = viewOf(bytes);
  for (let index = 0; index < num_iovas.get(view); index++) {
    if (context.process.memory.read(allowed_iovas.number(view) + index * bytes.length, bytes) !== 0) {
      return -Errno.EFAULT;
    }
    const start = IommuIovaRange.fields.start.big(range);
    const end = IommuIovaRange.fields.last.big(range) + 1n;
    if (end - 1n <= start || allowed.overlapping(start, end) !== undefined) return -Errno.EINVAL;
    allowed.insert({ start, end });
  }
  return ioas.room.allow(allowed);
}

function map(context: IommufdContext, view: DataView): number {
  const { user_va } = IommuIoasMap.fields;
  if (IommuIoasMap.hasPadding(view)) return -Errno.EOPNOTSUPP;
  const address = user_va.big(view);
  return mapPages(context, view, address, () => userPages(context.process, address));
}

function mapFile(context: IommufdContext, view: DataView): number {
  const { fd, start } = IommuIoasMapFile.fields;
  const first = start.big(view);
  return mapPages(context, view, first, () => {
    const file = context.process.file(fd.get(view));
    if (file === undefined) return -Errno.EBADF;
    if (file instanceof DmaBuf) return ofDmaBuf(file, view, first);
    return filePages(file instanceof MemFd ? file : undefined, first);
  });
}

/** Its end is known at once: -EINVAL beyond it. */
function ofDmaBuf(buffer: DmaBuf, view: DataView, start: bigint): PageSource | number {
  const end = start + IommuIoasMapFile.fields.length.big(view);
  return end > BigInt(buffer.pages) * PAGE ? -Errno.EINVAL : dmaBufPages(buffer, start);
}

/** What MAP and MAP_FILE have in common. `address`: where the pages lie in what they come from. */
function mapPages(
  context: IommufdContext,
  view: DataView,
  address: bigint,
  sourceOf: () => PageSource | number,
): number {
  const fields = IommuIoasMap.fields;
  const flags = fields.flags.get(view);
  const length = fields.length.big(view);
  const fixed = fields.iova.big(view);
  if ((flags & ~MAP_FLAGS) !== 0) return -Errno.EOPNOTSUPP;
  if (fixed === U64_MAX || length === U64_MAX) return -Errno.EOVERFLOW;
  const access = accessOf(flags);
  if (access === 0) return -Errno.EINVAL;
  const ioas = context.objects.get(fields.ioas_id.get(view), Ioas);
  if (typeof ioas === 'number') return ioas;
  const iova = mapSource(context, ioas, sourceOf, { address, length, iova: fixedIova(flags, fixed), access });
  if (typeof iova === 'number') return iova;
  fields.iova.setWide(view, iova);
  return 0;
}

function copy(context: IommufdContext, view: DataView): number {
  const { fields } = IommuIoasCopy;
  const flags = fields.flags.get(view);
  const length = fields.length.big(view);
  const from = fields.src_iova.big(view);
  const fixed = fields.dst_iova.big(view);
  if ((flags & ~MAP_FLAGS) !== 0) return -Errno.EOPNOTSUPP;
  if (length === U64_MAX || fixed === U64_MAX || from === U64_MAX) return -Errno.EOVERFLOW;
  const access = accessOf(flags);
  if (access === 0) return -Errno.EINVAL;
  const source = context.objects.get(fields.src_ioas_id.get(view), Ioas);
  if (typeof source === 'number') return source;
  if (length === 0n) return -Errno.EINVAL;
  if (from + length > U64_MAX + 1n) return -Errno.EOVERFLOW;
  const stretches = source.stretches(from, from + length);
  if (typeof stretches === 'number') return stretches;
  const target = context.objects.get(fields.dst_ioas_id.get(view), Ioas);
  if (typeof target === 'number') return target;
  const iova = target.map(stretches, addressOf(stretches), fixedIova(flags, fixed), access);
  if (typeof iova === 'number') return iova;
  fields.dst_iova.setWide(view, iova);
  return 0;
}

function unmap(context: IommufdContext, view: DataView): number {
  const fields = IommuIoasUnmap.fields;
  const ioas = context.objects.get(fields.ioas_id.get(view), Ioas);
  if (typeof ioas === 'number') return ioas;
  const iova = fields.iova.big(view);
  const length = fields.length.big(view);
  const everything = iova === 0n && length === U64_MAX;
  if (!everything) {
    if (iova === U64_MAX || length === U64_MAX) return -Errno.EOVERFLOW;
    if (length === 0n) return -Errno.EINVAL;
    if (iova + length > U64_MAX + 1n) return -Errno.EOVERFLOW;
  }
  const { bytes, error } = ioas.unmap(iova, everything ? U64_MAX + 1n : iova + length);
  context.kernel.note('ioas-unmap', { ioas: ioas.id, bytes: String(bytes), result: error });
  if (error !== 0) return error;
  if (bytes === 0n && !everything) return -Errno.ENOENT;
  fields.length.setWide(view, bytes);
  return 0;
}

/** The caller takes over what others have mapped, and pays for it. Only what is mapped from files can be: memory belongs to who mapped it. */
function changeProcess(context: IommufdContext, view: DataView): number {
  if (IommuIoasChangeProcess.hasPadding(view)) return -Errno.EOPNOTSUPP;
  const pages = [...new Set(context.objects.all(Ioas).flatMap(ioas => ioas.pages()))];
  if (pages.some(({ source }) => source.kind !== 'file')) return -Errno.EINVAL;
  const before = pages.map(one => one.payer);
  for (const [index, one] of pages.entries()) {
    const error = one.transfer(context.payer);
    if (error === 0) continue;
    for (const [at, done] of pages.slice(0, index).entries()) done.transfer(before[at]!);
    return error;
  }
  return 0;
}

/** For functions without an IOMMU in front of them: a kernel that lends none has nothing to tell. */
function noiommuGetPa(context: IommufdContext, view: DataView): number {
  const fields = IommuIoasNoiommuGetPa.fields;
  if (!context.kernel.knobs.noiommu) return -Errno.EOPNOTSUPP;
  if (fields.flags.get(view) !== 0 || IommuIoasNoiommuGetPa.hasPadding(view)) return -Errno.EOPNOTSUPP;
  const length = fields.length.big(view);
  const iova = fields.iova.big(view);
  if (length === 0n) return -Errno.EINVAL;
  if (iova + length > U64_MAX) return -Errno.EOVERFLOW;
  const ioas = context.objects.get(fields.ioas_id.get(view), Ioas);
  if (typeof ioas === 'number') return ioas;
  const found = ioas.contiguous(iova, length);
  if (typeof found === 'number') return found;
  fields.out_phys.setWide(view, found.physical);
  fields.length.setWide(view, found.length);
  return 0;
}

function accessOf(flags: number): number {
  return (
    (flags & IommuIoasMapFlag.READABLE ? Access.READ : 0) | (flags & IommuIoasMapFlag.WRITEABLE ? Access.WRITE : 0)
  );
}

function fixedIova(flags: number, iova: bigint): bigint | undefined {
  return (flags & IommuIoasMapFlag.FIXED_IOVA) === 0 ? undefined : iova;
}

function addressOf(stretches: readonly PageStretch[]): bigint {
  const first = stretches[0]!;
  return first.pages.source.address + first.offset;
}

export const ioasIoctls: readonly IommufdIoctl[] = [
  iommufdIoctl('IOMMU_IOAS_ALLOC', IOMMU_IOAS_ALLOC, IommuIoasAlloc, alloc),
  iommufdIoctl('IOMMU_IOAS_ALLOW_IOVAS', IOMMU_IOAS_ALLOW_IOVAS, IommuIoasAllowIovas, allowIovas),
  iommufdIoctl('IOMMU_IOAS_COPY', IOMMU_IOAS_COPY, IommuIoasCopy, copy),
  iommufdIoctl('IOMMU_IOAS_IOVA_RANGES', IOMMU_IOAS_IOVA_RANGES, IommuIoasIovaRanges, iovaRanges),
  iommufdIoctl('IOMMU_IOAS_MAP', IOMMU_IOAS_MAP, IommuIoasMap, map),
  iommufdIoctl('IOMMU_IOAS_MAP_FILE', IOMMU_IOAS_MAP_FILE, IommuIoasMapFile, mapFile),
  iommufdIoctl('IOMMU_IOAS_UNMAP', IOMMU_IOAS_UNMAP, IommuIoasUnmap, unmap),
  iommufdIoctl('IOMMU_IOAS_CHANGE_PROCESS', IOMMU_IOAS_CHANGE_PROCESS, IommuIoasChangeProcess, changeProcess),
  iommufdIoctl('IOMMU_IOAS_NOIOMMU_GET_PA', IOMMU_IOAS_NOIOMMU_GET_PA, IommuIoasNoiommuGetPa, noiommuGetPa),
];

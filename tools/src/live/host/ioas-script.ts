/** /dev/iommu without a device: structures of any size, objects, and address spaces. */
import {
  IOMMU_DESTROY,
  IOMMU_IOAS_ALLOC,
  IOMMU_IOAS_ALLOW_IOVAS,
  IOMMU_IOAS_CHANGE_PROCESS,
  IOMMU_IOAS_COPY,
  IOMMU_IOAS_IOVA_RANGES,
  IOMMU_IOAS_MAP,
  IOMMU_IOAS_MAP_FILE,
  IOMMU_IOAS_UNMAP,
  IOMMU_OPTION,
  IOMMU_VFIO_IOAS,
  IOMMUFD_IOCTLS,
  IommuDestroy,
  IommuIoasAlloc,
  IommuIoasAllowIovas,
  IommuIoasCopy,
  IommuIoasIovaRanges,
  IommuIoasMap,
  IommuIoasMapFile,
  IommuIoasUnmap,
  IommuOption,
  IommuVfioIoas,
  viewOf,
} from '@remora/uapi';
import { hex } from './mapping-script.js';
import { IOMMU } from './paths.js';
import type { HostRig } from './rig.js';
import type { Output, Script } from './script.js';

export const PAGE = 0x1000;
const FIXED = 1;
const WRITE = 2;
const READ = 4;
/** An id that was never given. */
export const NOBODY = 0x7fff_0000;

/** An address space, or the errno as it is. */
export function newIoas(script: Script, fd: number): number {
  const bytes = IommuIoasAlloc.encode({ size: IommuIoasAlloc.size });
  const result = script.syscalls.ioctl(fd, IOMMU_IOAS_ALLOC, bytes);
  return result < 0 ? result : IommuIoasAlloc.fields.out_ioas_id.get(viewOf(bytes));
}

export function destroy(script: Script, step: string, fd: number, id: number): void {
  script.ioctl(step, fd, IOMMU_DESTROY, IommuDestroy.encode({ size: IommuDestroy.size, id }));
}

export function ioasScript(script: Script, rig: HostRig): void {
  const { syscalls } = rig;
  script.chapter('iommufd');
  const fd = script.open('open', IOMMU);
  const second = script.open('open again', IOMMU);
  if (fd < 0) return;
  script.ioctl('unknown ioctl', fd, 0x3bff);
  script.ioctl('an ioctl of VFIO that it has not', fd, 0x3b64);
  script.say('read', syscalls.read(fd, new Uint8Array(40)));
  script.say('write', syscalls.write(fd, new Uint8Array(8)));
  sizes(script, second);
  syscalls.close(second);
  options(script, fd);
  objects(script, fd);
  mapping(script, fd);
  copies(script, fd);
  ranges(script, fd);
  syscalls.close(fd);
}

/** Each structure of the sizes that callers of other versions have, all other fields clear. */
function sizes(script: Script, fd: number): void {
  script.chapter('sizes');
  for (const { name, request, struct } of IOMMUFD_IOCTLS.filter(each => each.name.startsWith('IOMMU_'))) {
    if (struct === undefined) continue;
    const { size } = struct;
    const short = name.replace(/^IOMMU_/, '');
    const call = (step: string, claimed: number, last: number): void => {
      const bytes = new Uint8Array(Math.max(size, claimed) + 8);
      new DataView(bytes.buffer).setUint32(0, claimed, true);
      if (claimed > size) bytes[claimed - 1] = last;
      script.ioctl(`${short} ${step}`, fd, request, bytes);
    };
    for (const claimed of new Set([0, 4, size - 8, size - 4, size - 1])) call(`of ${claimed} bytes`, claimed, 0);
    call(`of ${size} bytes`, size, 0);
    call('with more zeroes', size + 8, 0);
    call('with more', size + 8, 1);
    call('of a page', PAGE, 0);
    call('of more than a page', PAGE + 8, 0);
  }
}

function options(script: Script, fd: number): void {
  script.chapter('options');
  const ioas = newIoas(script, fd);
  const option = (step: string, values: Parameters<typeof IommuOption.encode>[0]): void => {
    const bytes = IommuOption.encode({ size: IommuOption.size, ...values });
    script.ioctl(step, fd, IOMMU_OPTION, bytes, view => hex(IommuOption.decode(view).val64));
  };
  const [SET, GET] = [0, 1];
  option('accounting', { option_id: 0, op: GET });
  option('accounting of an object', { option_id: 0, op: GET, object_id: ioas });
  option('accounting by process', { option_id: 0, op: SET, val64: 1 });
  option('accounting 2', { option_id: 0, op: SET, val64: 2 });
  option('huge pages', { option_id: 1, op: GET, object_id: ioas });
  option('huge pages of nobody', { option_id: 1, op: GET, object_id: NOBODY });
  option('no huge pages', { option_id: 1, op: SET, object_id: ioas, val64: 0 });
  option('huge pages are', { option_id: 1, op: GET, object_id: ioas });
  option('huge pages 2', { option_id: 1, op: SET, object_id: ioas, val64: 2 });
  option('unknown', { option_id: 2, op: GET });
  option('neither set nor get', { option_id: 1, op: 2, object_id: ioas });
  destroy(script, 'destroy', fd, ioas);
  const vfio = (step: string, op: number, ioas_id: number): void => {
    script.ioctl(step, fd, IOMMU_VFIO_IOAS, IommuVfioIoas.encode({ size: IommuVfioIoas.size, op, ioas_id }));
  };
  const own = newIoas(script, fd);
  vfio("VFIO's, of which there is none", 0, 0);
  vfio("nobody is VFIO's", 1, NOBODY);
  vfio("make it VFIO's", 1, own);
  vfio("VFIO's", 0, 0);
  vfio("nothing is VFIO's any more", 2, 0);
  vfio("VFIO's again", 0, 0);
  vfio("VFIO's by an unknown operation", 3, own);
  script.ioctl('change of process', fd, IOMMU_IOAS_CHANGE_PROCESS, Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0));
  destroy(script, 'destroy the other', fd, own);
}

function objects(script: Script, fd: number): void {
  script.chapter('objects');
  const [first, second] = [newIoas(script, fd), newIoas(script, fd)];
  script.say('two', 0, first > 0 && second > first);
  script.ioctl('with flags', fd, IOMMU_IOAS_ALLOC, IommuIoasAlloc.encode({ size: IommuIoasAlloc.size, flags: 1 }));
  destroy(script, 'destroy nobody', fd, NOBODY);
  destroy(script, 'destroy 0', fd, 0);
  destroy(script, 'destroy', fd, first);
  destroy(script, 'destroy again', fd, first);
  script.say('the id again', 0, newIoas(script, fd) === first);
  destroy(script, 'destroy the second', fd, second);
}

type Values<T> = Partial<Record<keyof T, number | bigint>>;

function mapping(script: Script, fd: number): void {
  script.chapter('ioas map');
  const ioas_id = newIoas(script, fd);
  const address = script.alignedMemory(16 * PAGE);
  const base = { size: IommuIoasMap.size, ioas_id, flags: FIXED | READ | WRITE, user_va: address, length: 4 * PAGE };
  const map = (step: string, values: Values<typeof IommuIoasMap.fields>): void => {
    const bytes = IommuIoasMap.encode({ ...base, iova: 0x10_0000, ...values } as never);
    script.ioctl(step, fd, IOMMU_IOAS_MAP, bytes, view => hex(IommuIoasMap.decode(view).iova));
  };
  map('into nothing', { ioas_id: NOBODY });
  map('unknown flag', { flags: FIXED | READ | 8 });
  map('no flag', { flags: 0 });
  map('neither read nor written', { flags: FIXED });
  map('no length', { length: 0 });
  map('crooked address', { user_va: address + 1, iova: 0x80_0000, length: PAGE });
  map('crooked IOVA', { iova: 0x90_0001, length: PAGE });
  map('crooked length', { iova: 0xa0_0000, length: PAGE + 1 });
  map('all crooked alike', { user_va: address + 1, iova: 0xb0_0001, length: PAGE });
  map('address that is not there', { user_va: 0x1000, length: PAGE, iova: 0xc0_0000 });
  map('address past the end', { user_va: 2n ** 64n - 4096n, length: 2 * PAGE });
  map('IOVA past the end', { iova: 2n ** 64n - 4096n, length: 2 * PAGE });
  map('everything', { iova: 0, length: 2n ** 64n - 1n });
  map('four pages', {});
  map('the same again', {});
  map('across its end', { iova: 0x10_3000, length: 2 * PAGE });
  map('right behind', { iova: 0x10_4000, length: PAGE });
  map('the last page of all', { iova: 2n ** 64n - 4096n, length: PAGE });
  map('to be read only', { flags: FIXED | READ, iova: 0x20_0000 });
  map('to be written only', { flags: FIXED | WRITE, iova: 0x30_0000 });
  map('wherever', { flags: READ | WRITE, iova: 0, length: PAGE });
  map('wherever, and more', { flags: READ | WRITE, iova: 0, length: 4 * PAGE });
  destroy(script, 'destroy with mappings', fd, ioas_id);

  script.chapter('ioas unmap');
  base.ioas_id = newIoas(script, fd);
  const unmap = (step: string, values: Values<typeof IommuIoasUnmap.fields>): void => {
    const whole = { size: IommuIoasUnmap.size, ioas_id: base.ioas_id, iova: 0x10_0000, length: 4 * PAGE, ...values };
    const bytes = IommuIoasUnmap.encode(whole as never);
    script.ioctl(step, fd, IOMMU_IOAS_UNMAP, bytes, view => hex(IommuIoasUnmap.decode(view).length));
  };
  unmap('from nothing', { ioas_id: NOBODY });
  unmap('where nothing is', {});
  unmap('everything, of which there is nothing', { iova: 0, length: 2n ** 64n - 1n });
  map('map four pages', {});
  map('map four more', { iova: 0x10_4000 });
  unmap('no length', { length: 0 });
  unmap('crooked', { iova: 0x10_0001, length: 4 * PAGE });
  unmap('the first page of four', { length: PAGE });
  unmap('the last page of four', { iova: 0x10_3000, length: PAGE });
  unmap('from the middle on', { iova: 0x10_2000, length: 6 * PAGE });
  unmap('past the end', { iova: 2n ** 64n - 4096n, length: 2 * PAGE });
  unmap('one and a half', { length: 6 * PAGE });
  unmap('four pages', {});
  unmap('four pages again', {});
  unmap('more than there is', { iova: 0xf_0000, length: 0x10_0000 });
  map('map one', { length: PAGE });
  unmap('everything', { iova: 0, length: 2n ** 64n - 1n });
  const file = IommuIoasMapFile.encode({
    size: IommuIoasMapFile.size,
    ioas_id: base.ioas_id,
    flags: 7,
    fd: -1,
    length: PAGE,
  });
  script.ioctl('a file that is not open', fd, IOMMU_IOAS_MAP_FILE, file);
  destroy(script, 'destroy', fd, base.ioas_id);
}

function copies(script: Script, fd: number): void {
  script.chapter('ioas copy');
  const [from, to] = [newIoas(script, fd), newIoas(script, fd)];
  const address = script.alignedMemory(4 * PAGE);
  const source = {
    size: IommuIoasMap.size,
    ioas_id: from,
    flags: 7,
    user_va: address,
    length: 4 * PAGE,
    iova: 0x10_0000,
  };
  script.ioctl('source', fd, IOMMU_IOAS_MAP, IommuIoasMap.encode(source));
  const copy = (step: string, values: Values<typeof IommuIoasCopy.fields>): void => {
    const whole = { size: IommuIoasCopy.size, flags: 7, dst_ioas_id: to, src_ioas_id: from, length: 4 * PAGE };
    const bytes = IommuIoasCopy.encode({ ...whole, dst_iova: 0x50_0000, src_iova: 0x10_0000, ...values } as never);
    script.ioctl(step, fd, IOMMU_IOAS_COPY, bytes, view => hex(IommuIoasCopy.decode(view).dst_iova));
  };
  copy('from nothing', { src_ioas_id: NOBODY });
  copy('to nothing', { dst_ioas_id: NOBODY });
  copy('no flag', { flags: 0 });
  copy('unknown flag', { flags: 15 });
  copy('neither read nor written', { flags: FIXED });
  copy('no length', { length: 0 });
  copy('where nothing is', { src_iova: 0x40_0000 });
  copy('more than is mapped', { length: 5 * PAGE });
  copy('the second page', { src_iova: 0x10_1000, length: PAGE });
  copy('half a page', { src_iova: 0x10_0800, length: PAGE });
  copy('all', { dst_iova: 0x60_0000 });
  copy('all again', { dst_iova: 0x60_0000 });
  copy('within one', { dst_ioas_id: from, dst_iova: 0x70_0000 });
  copy('wherever', { flags: READ | WRITE, dst_iova: 0 });
  destroy(script, 'destroy the source', fd, from);
  destroy(script, 'destroy the target', fd, to);
}

function ranges(script: Script, fd: number): void {
  script.chapter('ioas ranges');
  const id = newIoas(script, fd);
  const list = script.memory(PAGE);
  const write = (pairs: readonly (readonly [bigint, bigint])[]): void =>
    pairs.forEach(([start, last], index) => {
      const bytes = new Uint8Array(16);
      const view = viewOf(bytes);
      view.setBigUint64(0, start, true);
      view.setBigUint64(8, last, true);
      list.ram.write(0, 16 * index, bytes);
    });
  const ask = (step: string, values: Parameters<typeof IommuIoasIovaRanges.encode>[0] = {}): void => {
    askRanges(script, step, fd, { ioas_id: id, num_iovas: 16, allowed_iovas: list.address, ...values }, list.ram);
  };
  const allow = (step: string, pairs: readonly (readonly [bigint, bigint])[], values: object = {}): void => {
    write(pairs);
    const num_iovas = pairs.length;
    const whole = { size: IommuIoasAllowIovas.size, ioas_id: id, num_iovas, allowed_iovas: list.address };
    script.ioctl(step, fd, IOMMU_IOAS_ALLOW_IOVAS, IommuIoasAllowIovas.encode({ ...whole, ...values }));
  };
  ask('of nobody', { ioas_id: NOBODY });
  ask('all');
  ask('none wanted', { num_iovas: 0 });
  ask('none wanted, nowhere', { num_iovas: 0, allowed_iovas: 0 });
  ask('to where no memory is', { allowed_iovas: 0x1000 });
  allow('allow, of nobody', [[0n, 0xfffn]], { ioas_id: NOBODY });
  allow('backwards', [[0x2000n, 0x1000n]]);
  allow('crooked', [[0x10n, 0xfffn]]);
  allow('one after the other', [
    [0x1000n, 0x1fffn],
    [0x2000n, 0x2fffn],
  ]);
  allow('overlapping', [
    [0x1000n, 0x2fffn],
    [0x2000n, 0x3fffn],
  ]);
  allow('two', [
    [0x10_0000n, 0x1f_ffffn],
    [0x40_0000n, 0x4f_ffffn],
  ]);
  ask('of two');
  const address = script.alignedMemory(4 * PAGE);
  const map = (step: string, iova: number, flags: number): void => {
    const values = { size: IommuIoasMap.size, ioas_id: id, flags, user_va: address, length: 4 * PAGE, iova };
    script.ioctl(step, fd, IOMMU_IOAS_MAP, IommuIoasMap.encode(values), view => hex(IommuIoasMap.decode(view).iova));
  };
  map('map in one', 0x10_0000, FIXED | READ);
  map('map elsewhere by name', 0x20_0000, FIXED | READ);
  map('map wherever', 0, READ);
  allow('without what is mapped', [[0x40_0000n, 0x4f_ffffn]]);
  allow('none', []);
  ask('of none');
  map('map wherever when nothing is allowed', 0, READ);
  destroy(script, 'destroy', fd, id);
}

/** IOAS_IOVA_RANGES, and what it writes where the caller says. */
export function askRanges(
  script: Script,
  step: string,
  fd: number,
  values: Parameters<typeof IommuIoasIovaRanges.encode>[0],
  ram: { read(hi: number, lo: number, out: Uint8Array): unknown },
): void {
  const bytes = IommuIoasIovaRanges.encode({ size: IommuIoasIovaRanges.size, ...values });
  const room = Number(values.num_iovas);
  const result = script.syscalls.ioctl(fd, IOMMU_IOAS_IOVA_RANGES, bytes);
  const { num_iovas, out_iova_alignment } = IommuIoasIovaRanges.decode(viewOf(bytes));
  const pairs: Output[] = [];
  const list = new Uint8Array(16 * Math.min(room, num_iovas));
  ram.read(0, 0, list);
  for (let at = 0; result >= 0 && at < list.length; at += 8) pairs.push(hex(viewOf(list).getBigUint64(at, true)));
  script.say(step, result, { num_iovas, alignment: hex(out_iova_alignment), pairs });
}

/** Transfers through two stages: a guest's own page tables over those of an address space, by iommufd and a device's requests without PASID. */
import type { MappedMemory } from '@remora/host';
import {
  IOMMU_HWPT_ALLOC,
  IOMMU_HWPT_INVALIDATE,
  IOMMU_IOAS_MAP,
  IommuHwptAlloc,
  IommuHwptAllocFlag,
  IommuHwptDataType,
  IommuHwptInvalidate,
  IommuHwptVtdS1,
  IommuHwptVtdS1Invalidate,
  IommuIoasMap,
  viewOf,
} from '@remora/uapi';
import { attach, bound, type Bound, detach } from './bind-script.js';
import { Regions } from './device-script.js';
import { Tries } from './dma-script.js';
import { destroy, newIoas, PAGE } from './ioas-script.js';
import type { HostRig } from './rig.js';
import type { Script } from './script.js';

/** Where the guest has its memory. */
export const GUEST = 0x800_0000;
/** Pages of it: source, target, another target, and four levels of tables; then those of a second set. */
const [SOURCE, TARGET, OTHER, TABLES, SECOND] = [0, 1, 2, 4, 8];
/** What the guest's process has them at. */
const [FROM, TO, NOWHERE] = [0x10_0000, 0x18_0000, 0x1c_0000];
/** Accessed and dirty: a unit whose walks are not snooped sets neither. */
const PRESENT_WRITABLE_USER = 0x67n;
const READ_ONLY_USER = 0x25n;

export function nestedScript(script: Script, rig: HostRig): void {
  script.chapter('two stages');
  const at = bound(rig);
  const { iommu, device } = at;
  const memory = script.memory(12 * PAGE);
  const ioas = newIoas(script, iommu);
  const guest = { size: IommuIoasMap.size, ioas_id: ioas, flags: 7, user_va: memory.address, length: 12 * PAGE };
  script.ioctl('guest memory', iommu, IOMMU_IOAS_MAP, IommuIoasMap.encode({ ...guest, iova: GUEST }));
  const parent = allocate(script, 'parent', at, { pt_id: ioas, flags: IommuHwptAllocFlag.NEST_PARENT });
  const readOnly = { ...guest, flags: 5, user_va: memory.address, length: PAGE, iova: 2 * GUEST };
  script.ioctl('read-only memory below', iommu, IOMMU_IOAS_MAP, IommuIoasMap.encode(readOnly));
  const regions = new Regions(rig.syscalls, device);
  regions.enable();
  const tries = new Tries(script, rig, regions, memory);
  tables(memory, TABLES);
  tables(memory, SECOND);
  enter(memory, TABLES, FROM, SOURCE);
  enter(memory, TABLES, TO, TARGET);
  const first = nestedOn(script, 'first stage', at, parent, TABLES);
  attach(script, 'attach', device, first);
  tries.copy('copy', FROM, TO);
  tries.copy('by guest-physical addresses', GUEST, GUEST + PAGE);
  tries.copy('to where the guest maps nothing', FROM, NOWHERE);
  tries.alive('alive after that');
  enter(memory, TABLES, TO, OTHER);
  flush(script, 'flush', at, first, TO, 1);
  tries.copy('to another page, seen from the first', FROM, TO);
  enter(memory, TABLES, TO, TARGET);
  flush(script, 'flush everything', at, first, 0, undefined);
  tries.copy('copy again', FROM, TO);
  enter(memory, TABLES, TO, TARGET, READ_ONLY_USER);
  flush(script, 'flush what is read only', at, first, TO, 1);
  tries.copy('to what may be read only', FROM, TO);
  const second = nestedOn(script, 'second tables', at, parent, SECOND);
  attach(script, 'replace by tables that are empty', device, second);
  tries.copy('by tables that are empty', FROM, TO);
  enter(memory, SECOND, FROM, SOURCE);
  enter(memory, SECOND, TO, TARGET);
  flush(script, 'flush the second', at, second, 0, undefined);
  tries.copy('by the second tables', FROM, TO);
  attach(script, 'replace by the parent', device, parent);
  tries.copy('by guest-physical addresses, of the parent', GUEST, GUEST + PAGE);
  tries.copy('by addresses of the process, of the parent', FROM, TO);
  detach(script, 'detach', device);
  for (const [name, id] of Object.entries({ first, second, parent, ioas }))
    destroy(script, `destroy the ${name}`, iommu, id);
  rig.syscalls.close(device);
  rig.syscalls.close(iommu);
}

/** HWPT_ALLOC for the device; gives the id. */
export function allocate(
  script: Script,
  step: string,
  { iommu, id }: Bound,
  values: Parameters<typeof IommuHwptAlloc.encode>[0],
): number {
  const bytes = IommuHwptAlloc.encode({ size: IommuHwptAlloc.size, dev_id: id, ...values });
  script.ioctl(step, iommu, IOMMU_HWPT_ALLOC, bytes);
  return IommuHwptAlloc.decode(viewOf(bytes)).out_hwpt_id;
}

function nestedOn(script: Script, step: string, at: Bound, pt_id: number, page: number): number {
  const data = script.memory(PAGE);
  data.ram.write(0, 0, IommuHwptVtdS1.encode({ flags: 0, pgtbl_addr: GUEST + page * PAGE, addr_width: 48 }));
  const values = { pt_id, data_type: IommuHwptDataType.VTD_S1, data_len: IommuHwptVtdS1.size, data_uptr: data.address };
  return allocate(script, step, at, values);
}

/** Four levels, one page each, that lead to the last one. */
export function tables({ ram }: MappedMemory, page: number): void {
  ram.write(0, page * PAGE, new Uint8Array(4 * PAGE));
  for (let level = 0; level < 3; level++) ram.write(0, (page + level) * PAGE, entry(page + level + 1));
}

/** Maps a page of the guest's memory at an address of its process'. */
export function enter(
  { ram }: MappedMemory,
  set: number,
  address: number,
  page: number,
  rights = PRESENT_WRITABLE_USER,
): void {
  ram.write(0, (set + 3) * PAGE + 8 * (address / PAGE), entry(page, rights));
}

function entry(page: number, rights = PRESENT_WRITABLE_USER): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt(GUEST + page * PAGE) | rights).buffer);
}

/** `pages` undefined: everything. */
function flush(
  script: Script,
  step: string,
  at: Bound,
  hwpt_id: number,
  addr: number,
  pages: number | undefined,
): void {
  const data = script.memory(PAGE);
  const npages = pages === undefined ? 2n ** 64n - 1n : BigInt(pages);
  data.ram.write(0, 0, IommuHwptVtdS1Invalidate.encode({ addr, npages }));
  const values = { hwpt_id, data_uptr: data.address, entry_len: IommuHwptVtdS1Invalidate.size, entry_num: 1 };
  const bytes = IommuHwptInvalidate.encode({ size: IommuHwptInvalidate.size, ...values });
  script.ioctl(step, at.iommu, IOMMU_HWPT_INVALIDATE, bytes, view => IommuHwptInvalidate.decode(view).entry_num);
}

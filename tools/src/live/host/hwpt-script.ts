/** Hardware page tables of the caller's, and what belongs to them: nesting, caches, dirty pages, fault queues, virtual IOMMUs. */
import {
  IOMMU_FAULT_QUEUE_ALLOC,
  IOMMU_HW_QUEUE_ALLOC,
  IOMMU_HWPT_ALLOC,
  IOMMU_HWPT_GET_DIRTY_BITMAP,
  IOMMU_HWPT_INVALIDATE,
  IOMMU_HWPT_SET_DIRTY_TRACKING,
  IOMMU_IOAS_MAP,
  IOMMU_VDEVICE_ALLOC,
  IOMMU_VEVENTQ_ALLOC,
  IOMMU_VIOMMU_ALLOC,
  IommuFaultAlloc,
  IommuHwptAlloc,
  IommuHwptAllocFlag,
  IommuHwptDataType,
  IommuHwptGetDirtyBitmap,
  IommuHwptInvalidate,
  IommuHwptSetDirtyTracking,
  IommuHwptVtdS1,
  IommuHwptVtdS1Invalidate,
  IommuHwQueueAlloc,
  IommuIoasMap,
  IommuVdeviceAlloc,
  IommuVeventqAlloc,
  IommuViommuAlloc,
  viewOf,
} from '@remora/uapi';
import type { MappedMemory } from '@remora/host';
import { attach, bound, type Bound, detach } from './bind-script.js';
import { Regions } from './device-script.js';
import { Tries } from './dma-script.js';
import { destroy, newIoas, NOBODY, PAGE } from './ioas-script.js';
import type { HostRig } from './rig.js';
import type { Script } from './script.js';

type AllocValues = Parameters<typeof IommuHwptAlloc.encode>[0];
const { NEST_PARENT, DIRTY_TRACKING, FAULT_ID_VALID, PASID } = IommuHwptAllocFlag;
const { VTD_S1, ARM_SMMUV3 } = IommuHwptDataType;

/** HWPT_ALLOC for the device, from `pt_id`. Gives the id; NOBODY's if it was refused. */
function allocate(script: Script, step: string, { iommu, id }: Bound, values: AllocValues): number {
  const bytes = IommuHwptAlloc.encode({ size: IommuHwptAlloc.size, dev_id: id, ...values });
  const result = script.ioctl(step, iommu, IOMMU_HWPT_ALLOC, bytes);
  return result < 0 ? NOBODY : IommuHwptAlloc.decode(viewOf(bytes)).out_hwpt_id;
}

export function hwptScript(script: Script, rig: HostRig): void {
  const at = bound(rig);
  const { iommu, device, id } = at;
  const memory = script.memory(8 * PAGE);
  script.chapter('hwpt');
  const ioas = newIoas(script, iommu);
  const alloc = (step: string, values: AllocValues): number => allocate(script, step, at, { pt_id: ioas, ...values });
  alloc('for nobody', { dev_id: NOBODY });
  alloc('from nobody', { pt_id: NOBODY });
  alloc('from the device', { pt_id: id });
  alloc('unknown flag', { flags: 0x10 });
  alloc('data without a type', { data_len: 24, data_uptr: memory.address });
  alloc('a type without data', { data_type: VTD_S1 });
  alloc('a stage of VT-d on an address space', { data_type: VTD_S1, data_len: 24, data_uptr: memory.address });
  alloc('unknown type', { data_type: 99, data_len: 24, data_uptr: memory.address });
  alloc('a fault queue that is none', { flags: FAULT_ID_VALID, fault_id: NOBODY });
  const plain = alloc('a fault queue without its flag', { fault_id: NOBODY });
  const paging = alloc('paging', {});
  destroy(script, 'destroy the address space below', iommu, ioas);
  alloc('on a paging one', { pt_id: paging });
  alloc('a stage of VT-d on a paging one', {
    pt_id: paging,
    data_type: VTD_S1,
    data_len: 24,
    data_uptr: memory.address,
  });
  attach(script, 'attach', device, paging);
  destroy(script, 'destroy what is attached', iommu, paging);
  const values = { size: IommuIoasMap.size, ioas_id: ioas, flags: 7, length: PAGE };
  const map = (step: string, iova: number, page: number): void => {
    const whole = { ...values, iova, user_va: memory.address + page * PAGE };
    script.ioctl(step, iommu, IOMMU_IOAS_MAP, IommuIoasMap.encode(whole));
  };
  map('source', 0x10_0000, 0);
  map('target', 0x20_0000, 1);
  const regions = new Regions(rig.syscalls, device);
  regions.enable();
  const tries = new Tries(script, rig, regions, memory);
  tries.copy('copy', 0x10_0000, 0x20_0000);
  attach(script, 'replace by the address space', device, ioas);
  tries.copy('copy after that', 0x10_0000, 0x20_0000);
  destroy(script, 'destroy what was attached', iommu, paging);
  detach(script, 'detach', device);
  const parent = alloc('that others can stand on', { flags: NEST_PARENT });
  const dirty = alloc('that tells of writes', { flags: DIRTY_TRACKING });
  const pasid = alloc('for PASIDs', { flags: PASID });
  alloc('that others can stand on, for PASIDs', { flags: NEST_PARENT | PASID });
  alloc('that others can stand on, with faults', { flags: NEST_PARENT | FAULT_ID_VALID });
  nested(script, at, parent, memory);
  invalidations(script, at, ioas);
  dirtyPages(script, at, ioas, dirty, memory);
  faults(script, at, ioas);
  virtual(script, at, ioas, parent);
  script.chapter('hwpt at last');
  for (const [name, each] of Object.entries({ parent, dirty, pasid, plain }))
    if (each !== NOBODY) destroy(script, name, iommu, each);
  destroy(script, 'address space', iommu, ioas);
  rig.syscalls.close(device);
  rig.syscalls.close(iommu);
}

function nested(script: Script, at: Bound, parent: number, memory: MappedMemory): void {
  script.chapter('nested');
  const { iommu, device } = at;
  const alloc = (step: string, stage: Parameters<typeof IommuHwptVtdS1.encode>[0], other: AllocValues = {}): number => {
    const whole = { pgtbl_addr: 0x10_0000, addr_width: 48, ...stage };
    memory.ram.write(0, 4 * PAGE, IommuHwptVtdS1.encode(whole));
    const values = { pt_id: parent, data_type: VTD_S1, data_len: 24, data_uptr: memory.address + 4 * PAGE, ...other };
    return allocate(script, step, at, values);
  };
  // Where nothing can stand on anything, all of it is refused for its parent's id.
  const first = alloc('stage 1', {});
  alloc('of 23 bytes', {}, { data_len: 23 });
  alloc('of 25 bytes', {}, { data_len: 25 });
  alloc('nowhere', {}, { data_uptr: 0 });
  alloc('of another vendor', {}, { data_type: ARM_SMMUV3 });
  const odd = (step: string, stage: Parameters<typeof IommuHwptVtdS1.encode>[0]): void => {
    const made = alloc(step, stage);
    if (made === NOBODY) return;
    attach(script, `attach, ${step}`, device, made);
    detach(script, `detach, ${step}`, device);
    destroy(script, `destroy, ${step}`, iommu, made);
  };
  odd('of 57 bits', { addr_width: 57 });
  odd('of 39 bits', { addr_width: 39 });
  odd('of no bits', { addr_width: 0 });
  odd('unknown flag', { flags: 8 });
  odd('supervisor requests', { flags: 1 });
  odd('extended access', { flags: 2 });
  odd('write protection', { flags: 4 });
  odd('all flags', { flags: 7 });
  odd('crooked tables', { pgtbl_addr: 0x10_0001 });
  odd('tables beyond 52 bits', { pgtbl_addr: 2n ** 60n });
  alloc('that others can stand on', {}, { flags: NEST_PARENT });
  const second = alloc('for PASIDs', {}, { flags: PASID });
  alloc('on a nested one', {}, { pt_id: first });
  if (first === NOBODY) return;
  attach(script, 'attach', device, first);
  destroy(script, 'destroy what is attached', iommu, first);
  destroy(script, 'destroy what it stands on', iommu, parent);
  if (second !== NOBODY) attach(script, 'replace', device, second);
  detach(script, 'detach', device);
  if (second !== NOBODY) destroy(script, 'destroy the second', iommu, second);
  const entries = (
    step: string,
    values: Parameters<typeof IommuHwptInvalidate.encode>[0],
    list: readonly Uint8Array[],
  ): void => {
    list.forEach((entry, index) => memory.ram.write(0, 5 * PAGE + 24 * index, entry));
    const data = { hwpt_id: first, data_uptr: memory.address + 5 * PAGE, entry_len: 24, entry_num: list.length };
    const bytes = IommuHwptInvalidate.encode({ size: IommuHwptInvalidate.size, ...data, ...values });
    const result = script.syscalls.ioctl(iommu, IOMMU_HWPT_INVALIDATE, bytes);
    script.say(step, result, IommuHwptInvalidate.decode(viewOf(bytes)).entry_num);
  };
  const entry = (values: Parameters<typeof IommuHwptVtdS1Invalidate.encode>[0]): Uint8Array =>
    IommuHwptVtdS1Invalidate.encode(values);
  const ALL = 2n ** 64n - 1n;
  entries('flush, no entries', {}, []);
  entries('flush, no entries of another type', { data_type: 1 }, []);
  entries('flush, no entries, unknown type', { data_type: 99 }, []);
  entries('flush, one', {}, [entry({ addr: 0x1000, npages: 1 })]);
  entries('flush, everything', {}, [entry({ addr: 0, npages: ALL })]);
  entries('flush, everything from somewhere on', {}, [entry({ addr: 0x1000, npages: ALL })]);
  entries('flush, crooked', {}, [entry({ addr: 0x1001, npages: 1 })]);
  entries('flush, unknown flag', {}, [entry({ npages: 1, flags: 2 })]);
  entries('flush, leaf', {}, [entry({ npages: 1, flags: 1 })]);
  entries('flush, of 23 bytes', { entry_len: 23 }, [entry({ npages: 1 })]);
  entries('flush, of 32 bytes', { entry_len: 32 }, [entry({ npages: 1 })]);
  entries('flush, of no bytes', { entry_len: 0 }, [entry({ npages: 1 })]);
  entries('flush, nowhere', { data_uptr: 0 }, [entry({ npages: 1 })]);
  entries('flush, one, and a wrong one', {}, [
    entry({ npages: 1 }),
    entry({ npages: 1, flags: 2 }),
    entry({ npages: 1 }),
  ]);
  entries('flush, too many', { entry_num: 2 ** 19 + 1 }, [entry({ npages: 1 })]);
  destroy(script, 'destroy', iommu, first);
}

function invalidations(script: Script, { iommu, id }: Bound, ioas: number): void {
  script.chapter('invalidate');
  const call = (step: string, values: Parameters<typeof IommuHwptInvalidate.encode>[0]): void => {
    const bytes = IommuHwptInvalidate.encode({ size: IommuHwptInvalidate.size, ...values });
    const result = script.syscalls.ioctl(iommu, IOMMU_HWPT_INVALIDATE, bytes);
    script.say(step, result, IommuHwptInvalidate.decode(viewOf(bytes)).entry_num);
  };
  call('nobody', { hwpt_id: NOBODY });
  call('an address space', { hwpt_id: ioas });
  call('a device', { hwpt_id: id });
  call('no length', { hwpt_id: ioas, data_uptr: 0x1000, entry_num: 1 });
}

function dirtyPages(script: Script, { iommu }: Bound, ioas: number, hwpt: number, memory: MappedMemory): void {
  script.chapter('dirty pages');
  const hwpt_id = hwpt === NOBODY ? ioas : hwpt;
  const track = (step: string, values: Parameters<typeof IommuHwptSetDirtyTracking.encode>[0]): void => {
    const bytes = IommuHwptSetDirtyTracking.encode({ size: IommuHwptSetDirtyTracking.size, hwpt_id, ...values });
    script.ioctl(step, iommu, IOMMU_HWPT_SET_DIRTY_TRACKING, bytes);
  };
  const bitmap = (step: string, values: Parameters<typeof IommuHwptGetDirtyBitmap.encode>[0]): void => {
    const given = { hwpt_id, iova: 0x10_0000, length: 0x10_0000, page_size: PAGE, data: memory.address + 6 * PAGE };
    const bytes = IommuHwptGetDirtyBitmap.encode({ size: IommuHwptGetDirtyBitmap.size, ...given, ...values });
    script.ioctl(step, iommu, IOMMU_HWPT_GET_DIRTY_BITMAP, bytes);
  };
  track('of nobody', { hwpt_id: NOBODY, flags: 1 });
  track('of an address space', { hwpt_id: ioas, flags: 1 });
  track('unknown flag', { flags: 2 });
  bitmap('bitmap before', {});
  track('on', { flags: 1 });
  track('on again', { flags: 1 });
  bitmap('bitmap', {});
  bitmap('bitmap, which stays', { flags: 1 });
  bitmap('bitmap, unknown flag', { flags: 2 });
  bitmap('bitmap of nobody', { hwpt_id: NOBODY });
  bitmap('bitmap of no bytes', { length: 0 });
  bitmap('bitmap of crooked pages', { page_size: 3000 });
  bitmap('bitmap of crooked IOVAs', { iova: 0x10_0800 });
  bitmap('bitmap nowhere', { data: 0x1000 });
  track('off', { flags: 0 });
  track('off again', { flags: 0 });
}

function faults(script: Script, at: Bound, ioas: number): void {
  script.chapter('fault queue');
  const { iommu, device } = at;
  const { syscalls } = script;
  script.ioctl(
    'with flags',
    iommu,
    IOMMU_FAULT_QUEUE_ALLOC,
    IommuFaultAlloc.encode({ size: IommuFaultAlloc.size, flags: 1 }),
  );
  const bytes = IommuFaultAlloc.encode({ size: IommuFaultAlloc.size });
  script.ioctl('allocate', iommu, IOMMU_FAULT_QUEUE_ALLOC, bytes);
  const { out_fault_id: id, out_fault_fd: fd } = IommuFaultAlloc.decode(viewOf(bytes));
  script.say('read nothing', syscalls.read(fd, new Uint8Array(40)));
  script.say('read 39 bytes', syscalls.read(fd, new Uint8Array(39)));
  script.say('read no bytes', syscalls.read(fd, new Uint8Array(0)));
  script.say('read at a position', syscalls.pread(fd, new Uint8Array(40), 40));
  script.say('answer nobody', syscalls.write(fd, new Uint8Array(8)));
  script.say('answer with 7 bytes', syscalls.write(fd, new Uint8Array(7)));
  script.say('answer with no bytes', syscalls.write(fd, new Uint8Array(0)));
  script.ioctl('ioctl', fd, 0x3b80, new Uint8Array(8).fill(8, 0, 1));
  const flags = FAULT_ID_VALID;
  const hwpt = allocate(script, 'page tables with it', at, { pt_id: ioas, flags, fault_id: id });
  if (hwpt !== NOBODY) {
    attach(script, 'attach to a device without page requests', device, hwpt);
    destroy(script, 'destroy it in use', iommu, id);
    destroy(script, 'destroy the page tables', iommu, hwpt);
  }
  destroy(script, 'destroy while its file is open', iommu, id);
  script.say('read after that', syscalls.read(fd, new Uint8Array(40)));
  script.close(fd);
  destroy(script, 'destroy when its file is closed', iommu, id);
}

function virtual(script: Script, { iommu, id }: Bound, ioas: number, parent: number): void {
  script.chapter('viommu');
  const hwpt_id = parent === NOBODY ? ioas : parent;
  const viommu = (step: string, values: Parameters<typeof IommuViommuAlloc.encode>[0]): void => {
    const bytes = IommuViommuAlloc.encode({ size: IommuViommuAlloc.size, type: 1, dev_id: id, hwpt_id, ...values });
    script.ioctl(step, iommu, IOMMU_VIOMMU_ALLOC, bytes);
  };
  viommu('unknown flag', { flags: 1 });
  viommu('default type', { type: 0 });
  viommu('of another vendor', {});
  viommu('unknown type', { type: 99 });
  viommu('for nobody', { dev_id: NOBODY });
  viommu('on nothing', { hwpt_id: NOBODY });
  viommu('on an address space', { hwpt_id: ioas });
  const vdevice = { size: IommuVdeviceAlloc.size, viommu_id: NOBODY, dev_id: id };
  script.ioctl('device of nobody', iommu, IOMMU_VDEVICE_ALLOC, IommuVdeviceAlloc.encode(vdevice));
  script.ioctl(
    'device of an address space',
    iommu,
    IOMMU_VDEVICE_ALLOC,
    IommuVdeviceAlloc.encode({ ...vdevice, viommu_id: ioas }),
  );
  const queue = { size: IommuVeventqAlloc.size, viommu_id: NOBODY, type: 1, veventq_depth: 2 };
  script.ioctl('events of nobody', iommu, IOMMU_VEVENTQ_ALLOC, IommuVeventqAlloc.encode(queue));
  script.ioctl('events, unknown flag', iommu, IOMMU_VEVENTQ_ALLOC, IommuVeventqAlloc.encode({ ...queue, flags: 1 }));
  script.ioctl('events, none', iommu, IOMMU_VEVENTQ_ALLOC, IommuVeventqAlloc.encode({ ...queue, veventq_depth: 0 }));
  script.ioctl('events of no type', iommu, IOMMU_VEVENTQ_ALLOC, IommuVeventqAlloc.encode({ ...queue, type: 0 }));
  const hardware = { size: IommuHwQueueAlloc.size, viommu_id: NOBODY, type: 1, length: PAGE };
  script.ioctl('queue of nobody', iommu, IOMMU_HW_QUEUE_ALLOC, IommuHwQueueAlloc.encode(hardware));
  script.ioctl('queue, unknown flag', iommu, IOMMU_HW_QUEUE_ALLOC, IommuHwQueueAlloc.encode({ ...hardware, flags: 1 }));
  script.ioctl('queue of no type', iommu, IOMMU_HW_QUEUE_ALLOC, IommuHwQueueAlloc.encode({ ...hardware, type: 0 }));
  script.ioctl('queue of no bytes', iommu, IOMMU_HW_QUEUE_ALLOC, IommuHwQueueAlloc.encode({ ...hardware, length: 0 }));
  const past = { ...hardware, nesting_parent_iova: 2n ** 64n - 1n };
  script.ioctl('queue past the end', iommu, IOMMU_HW_QUEUE_ALLOC, IommuHwQueueAlloc.encode(past));
}

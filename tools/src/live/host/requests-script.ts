/** Page requests of a device that has PASIDs, ATS and PRI: by way of a fault queue of iommufd. */
import { EngineDriver } from '@remora/machines';
import {
  IOMMU_FAULT_QUEUE_ALLOC,
  IOMMU_GET_HW_INFO,
  IOMMU_IOAS_MAP,
  IommuFaultAlloc,
  IommuHwptAllocFlag,
  IommuHwptDataType,
  IommuHwptPageResponse,
  IommuHwptPgfault,
  IommuHwptVtdS1,
  IommuHwInfo,
  IommuHwInfoVtd,
  IommuIoasMap,
  VfioPciRegion,
  viewOf,
} from '@remora/uapi';
import { attach, bound, type Bound, detach } from './bind-script.js';
import { Regions } from './device-script.js';
import { destroy, newIoas, PAGE } from './ioas-script.js';
import { hex } from './mapping-script.js';
import { allocate, enter, GUEST, tables } from './nested-script.js';
import { ENGINE, type HostRig } from './rig.js';
import type { Output, Script } from './script.js';

const PASID = 5;
const [TABLES, TARGET] = [4, 1];
const FIRST = 0x10_0000;
const TRIES = 100;
const SUCCESS = 0;
const INVALID = 1;

class LentEngine extends EngineDriver {
  readonly #regions: Regions;

  constructor(regions: Regions) {
    super();
    this.#regions = regions;
  }

  override read(offset: number): number {
    return Number(this.#regions.read(VfioPciRegion.BAR0, offset, 4).value);
  }

  override write(offset: number, value: number): void {
    this.#regions.write(VfioPciRegion.BAR0, offset, value >>> 0, 4);
  }
}

export function requestsScript(script: Script, rig: HostRig): void {
  script.chapter('page requests');
  const { syscalls } = rig;
  const at = bound({ ...rig, devices: [ENGINE, ENGINE] });
  const { iommu, device } = at;
  hardware(script, 'hardware at first', at);
  const memory = script.memory(12 * PAGE);
  const ioas = newIoas(script, iommu);
  const guest = { size: IommuIoasMap.size, ioas_id: ioas, flags: 7, user_va: memory.address, length: 12 * PAGE };
  script.ioctl('guest memory', iommu, IOMMU_IOAS_MAP, IommuIoasMap.encode({ ...guest, iova: GUEST }));
  const parent = allocate(script, 'parent', at, { pt_id: ioas, flags: IommuHwptAllocFlag.NEST_PARENT });
  const plain = allocate(script, 'for requests without a PASID', at, { pt_id: ioas, flags: IommuHwptAllocFlag.PASID });
  attach(script, 'attach that', device, plain);
  hardware(script, 'hardware', at);
  tables(memory, TABLES);
  const regions = new Regions(syscalls, device);
  script.say('enable', regions.enable());
  const engine = new LentEngine(regions);
  script.say('identification', 0, hex(engine.read(0)));
  script.say('extended capabilities', 0, extendedCapabilities(regions));

  const queue = newQueue(script, 'queue', iommu);
  const nested = nestedOn(script, 'first stage with it', at, parent, queue.id);
  attach(script, 'attach it', device, nested, PASID);
  let page = 0;
  /** The engine writes where nothing is mapped; gives the address. */
  const ask = (): number => {
    const address = FIRST + PAGE * page++;
    engine.fill({ pasid: PASID, to: address, length: 16, pattern: 0x5a5a_5a5a });
    return address;
  };
  const ended = (step: string): void => {
    for (let tries = 0; tries < TRIES && engine.result().busy; tries++) rig.wait();
    const { busy, ok, error, moved } = engine.result();
    script.say(step, busy ? 'busy' : 0, { ok, error, moved });
  };
  const told = ask();
  const cookie = take(script, rig, 'request', queue.fd);
  enter(memory, TABLES, told, TARGET);
  respond(script, 'response', queue.fd, cookie, SUCCESS);
  ended('transfer');
  respond(script, 'response again', queue.fd, cookie, SUCCESS);
  ask();
  const second = take(script, rig, 'second request', queue.fd);
  respond(script, 'unknown code', queue.fd, second, 2);
  respond(script, 'refusal', queue.fd, second, INVALID);
  ended('refused transfer');
  ask();
  const third = take(script, rig, 'third request', queue.fd);
  destroy(script, 'destroy the queue in use', iommu, queue.id);
  detach(script, 'detach while one is not answered', device, PASID);
  ended('transfer when it is detached');
  respond(script, 'response after that', queue.fd, third, SUCCESS);
  attach(script, 'attach again', device, nested, PASID);
  ask();
  take(script, rig, 'request before it is closed', queue.fd);
  script.say('close the queue', syscalls.close(queue.fd));
  ended('transfer when the queue is closed');
  detach(script, 'detach after that', device, PASID);
  ended('transfer when it is detached then');
  for (const [name, id] of Object.entries({ nested, queue: queue.id }))
    destroy(script, `destroy the ${name}`, iommu, id);
  detach(script, 'detach the rest', device);
  for (const [name, id] of Object.entries({ plain, parent, ioas })) destroy(script, `destroy the ${name}`, iommu, id);
  syscalls.close(device);
  syscalls.close(iommu);
}

/** Their ids, in order. */
function extendedCapabilities(regions: Regions): Output {
  const ids: number[] = [];
  for (let at = 0x100; at !== 0 && ids.length < 32;) {
    const header = Number(regions.read(VfioPciRegion.CONFIG, at, 4).value);
    if (header === 0) break;
    ids.push(header & 0xffff);
    at = (header >>> 20) & 0xffc;
  }
  return ids;
}

function hardware(script: Script, step: string, { iommu, id }: Bound): void {
  const { address, ram } = script.memory(PAGE);
  const room = { data_len: IommuHwInfoVtd.size, data_uptr: address };
  const bytes = IommuHwInfo.encode({ size: IommuHwInfo.size, dev_id: id, ...room });
  script.ioctl(step, iommu, IOMMU_GET_HW_INFO, bytes, view => {
    const { out_max_pasid_log2, out_capabilities } = IommuHwInfo.decode(view);
    const data = new Uint8Array(IommuHwInfoVtd.size);
    ram.read(0, 0, data);
    const { flags } = IommuHwInfoVtd.decode(viewOf(data));
    return { flags, pasids: out_max_pasid_log2, capabilities: hex(out_capabilities) };
  });
}

function newQueue(script: Script, step: string, iommu: number): { id: number; fd: number } {
  const bytes = IommuFaultAlloc.encode({ size: IommuFaultAlloc.size });
  script.ioctl(step, iommu, IOMMU_FAULT_QUEUE_ALLOC, bytes);
  const { out_fault_id: id, out_fault_fd: fd } = IommuFaultAlloc.decode(viewOf(bytes));
  return { id, fd };
}

/** Waits for a request; gives its cookie. */
function take(script: Script, rig: HostRig, step: string, fd: number): number {
  const bytes = new Uint8Array(IommuHwptPgfault.size);
  for (let tries = 0; tries < TRIES; tries++) {
    const result = rig.syscalls.read(fd, bytes);
    if (result === 0) {
      rig.wait();
      continue;
    }
    const { flags, pasid, perm, addr, length, cookie } = IommuHwptPgfault.decode(viewOf(bytes));
    const out: Output = { flags, pasid, perm, addr: hex(addr), length, cookie };
    script.say(step, result, result < 0 ? undefined : out);
    return cookie;
  }
  script.say(step, 'none');
  return 0;
}

function respond(script: Script, step: string, fd: number, cookie: number, code: number): void {
  script.say(step, script.syscalls.write(fd, IommuHwptPageResponse.encode({ cookie, code })));
}

function nestedOn(script: Script, step: string, at: Bound, pt_id: number, fault_id: number): number {
  const data = script.memory(PAGE);
  data.ram.write(0, 0, IommuHwptVtdS1.encode({ flags: 0, pgtbl_addr: GUEST + TABLES * PAGE, addr_width: 48 }));
  const flags = IommuHwptAllocFlag.PASID | IommuHwptAllocFlag.FAULT_ID_VALID;
  const stage = { data_type: IommuHwptDataType.VTD_S1, data_len: IommuHwptVtdS1.size, data_uptr: data.address };
  return allocate(script, step, at, { pt_id, flags, fault_id, ...stage });
}

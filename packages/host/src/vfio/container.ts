/** A VFIO container: an IOMMU domain of the host, what is mapped in it, and its HostIOMMUContext [A03, A06, A07]. */
import { frameHi, frameLo, type Hva } from '@remora/bits';
import { Access, Errno, logger, trackDisposable, untrackDisposable } from '@remora/core';
import { Stage1Format } from '@remora/iommu';
import {
  IOMMU_UAPI_VERSION,
  VFIO_API_VERSION,
  VFIO_CHECK_EXTENSION,
  VFIO_GET_API_VERSION,
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_UNMAP_DMA,
  VFIO_NESTING_IOMMU_UAPI,
  VFIO_SET_IOMMU,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1_NESTING_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  VfioDmaMapFlag,
  VfioIommuType1DmaMap,
  VfioIommuType1DmaUnmap,
  viewOf,
} from '@remora/uapi';
import type { HostSyscalls } from '../syscalls.js';
import { DmaLimits } from './dma-limits.js';
import { VfioGroup } from './group.js';
import { VfioHostIOMMUContext } from './host-iommu-context.js';
import { type IommuInfo, readIommuInfo } from './iommu-info.js';
import type { VfioContainerOptions } from './options.js';
import { type VfioTrace, vfioTrace } from './trace-events.js';
import { expectOk, VfioError } from './vfio-error.js';
import type { VmVmid } from './vmid.js';

export const VFIO_CONTAINER_PATH = '/dev/vfio/vfio';

const TYPE_NAMES = new Map([
  [VFIO_TYPE1_NESTING_IOMMU, 'VFIO_TYPE1_NESTING_IOMMU'],
  [VFIO_TYPE1v2_IOMMU, 'VFIO_TYPE1v2_IOMMU'],
  [VFIO_TYPE1_IOMMU, 'VFIO_TYPE1_IOMMU'],
]);

const PAGE_BYTES = 4096;

export class VfioContainer implements Disposable {
  readonly name: string;
  readonly syscalls: HostSyscalls;
  readonly fd: number;
  /** The IOMMU type that was chosen: VFIO_TYPE1_NESTING_IOMMU, VFIO_TYPE1v2_IOMMU or VFIO_TYPE1_IOMMU. */
  readonly type: number;
  /** Why nesting was wanted and not taken; undefined if it was taken or not wanted. */
  readonly nestingRefused: string | undefined;
  readonly trace: VfioTrace;
  readonly #options: VfioContainerOptions;
  readonly #groups = new Set<VfioGroup>();
  #info: IommuInfo | undefined;
  #limits: DmaLimits | undefined;
  #context: VfioHostIOMMUContext | undefined;
  #joined = 0;
  #closed = false;

  private constructor(
    syscalls: HostSyscalls,
    fd: number,
    options: VfioContainerOptions,
    choice: { readonly type: number; readonly refused?: string },
  ) {
    this.syscalls = syscalls;
    this.fd = fd;
    this.name = options.name;
    this.type = choice.type;
    this.nestingRefused = choice.refused;
    this.#options = options;
    this.trace = vfioTrace(options.name, options.trace);
    trackDisposable(this, `VFIO container ${options.name}`);
  }

  /**
   * Opens a container and chooses its IOMMU type. Which IOMMU it is, the host decides when the first group is attached.
   * @throws VfioError if there is no VFIO, its API version is unknown, or no type fits.
   */
  static open(syscalls: HostSyscalls, options: VfioContainerOptions): VfioContainer {
    const fd = expectOk(`${options.name}: open ${VFIO_CONTAINER_PATH}`, syscalls.open(VFIO_CONTAINER_PATH));
    try {
      const version = expectOk(`${options.name}: VFIO_GET_API_VERSION`, syscalls.ioctl(fd, VFIO_GET_API_VERSION));
      if (version !== VFIO_API_VERSION) {
        throw new VfioError(options.name, 0, `the host speaks VFIO API version ${version}, not ${VFIO_API_VERSION}`);
      }
      return new VfioContainer(syscalls, fd, options, chooseType(syscalls, fd, options));
    } catch (error) {
      syscalls.close(fd);
      throw error;
    }
  }

  get nested(): boolean {
    return this.type === VFIO_TYPE1_NESTING_IOMMU;
  }

  /** The VM's VMID, if this container has it. */
  get #vmid(): VmVmid | undefined {
    return this.nested ? this.#options.vmid : undefined;
  }

  /** One for all devices of the container; undefined while it has no group, and always if it does not nest [A06]. */
  get context(): VfioHostIOMMUContext | undefined {
    return this.#context;
  }

  /** What the host told of its IOMMU; undefined while no group is attached. */
  get info(): IommuInfo | undefined {
    return this.#info;
  }

  get groups(): ReadonlySet<VfioGroup> {
    return this.#groups;
  }

  /** How many devices ever joined. */
  get joined(): number {
    return this.#joined;
  }

  /**
   * Opens group `number` and attaches it; the first one makes the host set its IOMMU up.
   * @throws VfioError if the group does not exist, is in use or not viable, or the host's IOMMU does not fit; the group is then
   * closed again.
   */
  attachGroup(number: number): VfioGroup {
    const group = VfioGroup.open(this, number);
    try {
      group.setContainer();
      if (this.#groups.size === 0) this.#setIommu();
    } catch (error) {
      group.close();
      throw error;
    }
    this.#groups.add(group);
    return group;
  }

  /** Closes `group`; with the last one the host takes the IOMMU down, and what is mapped and bound with it. */
  detachGroup(group: VfioGroup): void {
    if (!this.#groups.delete(group)) return;
    if (this.#groups.size === 0) {
      this.#context = undefined;
      this.#info = undefined;
      this.#limits = undefined;
      this.#vmid?.drop();
    }
    group.close();
  }

  /** A device of the container was opened: it has none of the bindings made before. */
  deviceJoined(): void {
    this.#joined++;
  }

  /**
   * MAP_DMA of `pages` pages of process memory at `address` to `iovaFrame`, with Access bits. 0 or a negated errno; then nothing was mapped.
   * What the host has said it will not map, it is not asked for.
   */
  mapDma(iovaFrame: number, pages: number, address: Hva, access: number = Access.READ_WRITE): number {
    const refusal = this.#limits?.refusal(iovaFrame, pages) ?? 0;
    if (refusal !== 0) return refusal;
    const bytes = VfioIommuType1DmaMap.encode({
      argsz: VfioIommuType1DmaMap.size,
      flags: (access & Access.READ ? VfioDmaMapFlag.READ : 0) | (access & Access.WRITE ? VfioDmaMapFlag.WRITE : 0),
      vaddr: address,
    });
    const view = viewOf(bytes);
    VfioIommuType1DmaMap.fields.iova.set(view, frameHi(iovaFrame), frameLo(iovaFrame));
    VfioIommuType1DmaMap.fields.size.set(view, frameHi(pages), frameLo(pages));
    const result = this.syscalls.ioctl(this.fd, VFIO_IOMMU_MAP_DMA, bytes);
    if (result < 0) return result;
    this.#limits?.used(1);
    return 0;
  }

  /** UNMAP_DMA of a range that holds `mappings` mappings, none of them in part. Returns how many pages were unmapped, or a negated errno. */
  unmapDma(iovaFrame: number, pages: number, mappings = 1): number {
    const bytes = VfioIommuType1DmaUnmap.encode({ argsz: VfioIommuType1DmaUnmap.size });
    const view = viewOf(bytes);
    const { iova, size } = VfioIommuType1DmaUnmap.fields;
    iova.set(view, frameHi(iovaFrame), frameLo(iovaFrame));
    size.set(view, frameHi(pages), frameLo(pages));
    const result = this.syscalls.ioctl(this.fd, VFIO_IOMMU_UNMAP_DMA, bytes);
    if (result < 0) return result;
    this.#limits?.used(-mappings);
    return size.number(view) / PAGE_BYTES;
  }

  /** For messages: which limit of the host keeps these pages from being mapped; undefined if none that it told of. */
  limitOn(iovaFrame: number, pages: number): string | undefined {
    return this.#limits?.explain(iovaFrame, pages);
  }

  /** Detaches all groups and closes the container. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const group of [...this.#groups].reverse()) this.detachGroup(group);
    const { vfio_disconnect_container: disconnected } = this.trace;
    if (disconnected.on) disconnected.emit(this.fd);
    this.syscalls.close(this.fd);
    untrackDisposable(this);
  }

  #setIommu(): void {
    const vmid = this.#vmid;
    try {
      if (this.#options.quirks?.vmidAfterSetIommu !== true) vmid?.bring(this);
      const type = TYPE_NAMES.get(this.type)!;
      expectOk(`${this.name}: VFIO_SET_IOMMU ${type}`, this.syscalls.ioctl(this.fd, VFIO_SET_IOMMU, this.type));
      if (this.#options.quirks?.vmidAfterSetIommu === true) vmid?.bring(this);
      vmid?.fetch(this);
      this.#readInfo();
    } catch (error) {
      vmid?.forgetUnused();
      throw error;
    }
    vmid?.hold();
  }

  #readInfo(): void {
    const info = readIommuInfo(this.syscalls, this.fd);
    if (typeof info === 'number') throw new VfioError(`${this.name}: VFIO_IOMMU_GET_INFO`, info);
    this.#info = info;
    this.#limits = new DmaLimits(info);
    if (this.nested && this.#options.vmid === undefined) this.#context = this.#createContext(info);
  }

  #createContext(info: IommuInfo): VfioHostIOMMUContext {
    const quirks = this.#options.quirks ?? {};
    if (info.nesting === undefined && quirks.missingNestingCap !== true) {
      throw new VfioError(`${this.name}: nesting`, -Errno.EINVAL, 'the host reports no nesting capability');
    }
    const format = info.nesting?.stage1Format;
    if (format !== undefined && format !== Stage1Format.INTEL_VTD && quirks.anyFormat !== true) {
      const detail = `the host's first-stage format is ${format}, only ${Stage1Format.INTEL_VTD} (Intel VT-d) is known`;
      throw new VfioError(`${this.name}: nesting`, -Errno.EINVAL, detail);
    }
    return new VfioHostIOMMUContext(this, info.nesting, quirks);
  }
}

/** In order of preference [A03]: nesting, only if wanted and, for first stages, of a version that is known; then version 2; then version 1. */
function chooseType(
  syscalls: HostSyscalls,
  fd: number,
  options: VfioContainerOptions,
): { type: number; refused?: string } {
  const offered = (extension: number): boolean => syscalls.ioctl(fd, VFIO_CHECK_EXTENSION, extension) > 0;
  const wanted = options.wantsNesting || options.vmid !== undefined;
  const refused = wanted ? nestingProblem(syscalls, fd, offered, options.wantsNesting) : undefined;
  if (wanted && refused === undefined) return { type: VFIO_TYPE1_NESTING_IOMMU };
  if (refused !== undefined) {
    logger('remora:host:vfio', options.name).warn('no nesting: %s', refused);
    if (options.ledger?.on === true) options.ledger.add(options.name, 'warning', { message: `no nesting: ${refused}` });
  }
  for (const type of [VFIO_TYPE1v2_IOMMU, VFIO_TYPE1_IOMMU]) {
    if (offered(type)) return refused === undefined ? { type } : { type, refused };
  }
  throw new VfioError(`${options.name}: VFIO_CHECK_EXTENSION`, -Errno.EINVAL, 'the host offers no known IOMMU type');
}

function nestingProblem(
  syscalls: HostSyscalls,
  fd: number,
  offered: (extension: number) => boolean,
  firstStages: boolean,
): string | undefined {
  if (!offered(VFIO_TYPE1_NESTING_IOMMU)) return 'the host does not offer VFIO_TYPE1_NESTING_IOMMU';
  if (!firstStages) return undefined;
  const version = syscalls.ioctl(fd, VFIO_CHECK_EXTENSION, VFIO_NESTING_IOMMU_UAPI);
  if (version >= IOMMU_UAPI_VERSION) return undefined;
  return `the host's IOMMU uAPI version is ${version}, at least ${IOMMU_UAPI_VERSION} is needed`;
}

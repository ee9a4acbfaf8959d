/** A host whose unit is the SMMU in plain memory, and a VMM on it that talks to /dev/iommu as it likes. */
import type { ExecutionContext } from 'ava';
import { NO_PASID } from '@remora/core';
import {
  type FakeSmmuOptions,
  FakeSmmuDriver,
  type FakeVsmmu,
  IommufdUser,
  owner,
  SmmuNested,
  SmmuStage2,
  SmmuType,
} from '@remora/testing';
import { IommuHwptAllocFlag } from '@remora/uapi';
import { bench, type Bench, type BenchOptions, ENGINE_ID, gadget } from '../../bench.test.helper.js';
import type { HostProcess } from '../../process.js';

/** Where the VM's memory begins for it. */
export const MEMORY_AT = 0x10_0000;
export const MEMORY_BYTES = 0x4000;

/** Stream table entries of a guest (smmuv3.md 12.1), as iommu_hwpt_arm_smmuv3. */
export const GuestSte = {
  ABORT: words(0x1, 0, 0, 0),
  BYPASS: words(0x9, 0, 0, 0),
  TRANSLATE: words(0x8000_000b, 0, 0xd6, 0),
  INVALID: words(0x0, 0, 0, 0),
} as const;

export function words(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

export interface LentDevice {
  readonly fd: number;
  readonly id: number;
  readonly requesterId: number;
}

export interface SmmuHost {
  readonly bench: Bench;
  readonly driver: FakeSmmuDriver;
  readonly vmm: HostProcess;
  readonly user: IommufdUser;
  /** Two functions, 3f:00.0 and 3f:01.0, each a group of its own, bound to the iommufd. */
  readonly devices: readonly [LentDevice, LentDevice];
  readonly ioas: number;
  /** A nesting parent over the VM's memory. */
  readonly parent: number;
  /** Where the VM's memory is in the VMM. */
  readonly address: number;
}

export function smmuHost(t: ExecutionContext, options: FakeSmmuOptions = {}, more: BenchOptions = {}): SmmuHost {
  const driver = new FakeSmmuDriver(options);
  const made = owner(t)(bench({ driver, devices: [gadget('0000:3f:00.0'), gadget('0000:3f:01.0')], ...more }));
  const vmm = made.host.process('vmm');
  const user = new IommufdUser(vmm);
  const lent = (index: number): LentDevice => ({
    ...user.bind(`/dev/vfio/devices/vfio${index}`),
    requesterId: ENGINE_ID + 8 * index,
  });
  const devices = [lent(0), lent(1)] as const;
  const ioas = user.ioas();
  const { address } = user.memory(MEMORY_BYTES);
  t.is(user.map(ioas, MEMORY_AT, address, MEMORY_BYTES), 0);
  const parent = user.hwpt(devices[0].id, ioas, { flags: IommuHwptAllocFlag.NEST_PARENT });
  t.true(parent > 0);
  return { bench: made, driver, vmm, user, devices, ioas, parent, address };
}

/** What serves a function's requests without PASID at the unit: its kind, for a nested domain that of the guest's entry. */
export function servedBy(driver: FakeSmmuDriver, requesterId: number): string | undefined {
  const domain = driver.streams.get(requesterId)?.get(NO_PASID);
  if (domain instanceof SmmuNested) return domain.stage1.kind;
  return domain instanceof SmmuStage2 ? 'stage 2' : undefined;
}

/** The guest's stage 1 in force for a function: where its VM is looked at. */
export function vmOf(driver: FakeSmmuDriver, requesterId: number): FakeVsmmu {
  const domain = driver.streams.get(requesterId)?.get(NO_PASID);
  if (!(domain instanceof SmmuNested)) throw new Error('no nested domain is in force');
  return domain.vsmmu;
}

/** A vIOMMU of the first device; -errno fails the test. */
export function viommuOf(
  t: ExecutionContext,
  { user, devices, parent }: SmmuHost,
  type: number = SmmuType.VIOMMU_SMMUV3,
) {
  const viommu = user.viommu(devices[0].id, parent, type);
  t.true(viommu > 0, `VIOMMU_ALLOC: ${viommu}`);
  return viommu;
}

/** Nests `entry` over a vIOMMU; the id or -errno. */
export function nested(host: SmmuHost, viommu: number, entry: Uint8Array, device = 0): number {
  return host.user.hwpt(host.devices[device]!.id, viommu, { dataType: SmmuType.HWPT_SMMUV3, data: entry });
}

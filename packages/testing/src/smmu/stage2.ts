import { Errno } from '@remora/core';
import type { HostPagingDomain } from '@remora/iommu';
import { FakeIommuDomain } from '../fake-iommu-driver.js';
import type { FakeSmmuDriver } from './fake-smmu-driver.js';

/** A second stage: guest-physical addresses to host frames. Its id is its VMID. */
export class SmmuStage2 extends FakeIommuDomain implements HostPagingDomain {
  readonly kind = 'paging';
  readonly pageSizes = 0x1000;
  readonly addressWidth = 48;
  readonly nestParent: boolean;
  readonly driver: FakeSmmuDriver;

  constructor(driver: FakeSmmuDriver, id: number, nestParent: boolean) {
    super(driver, id);
    this.driver = driver;
    this.nestParent = nestParent;
  }

  setDirtyTracking(): number {
    return -Errno.EOPNOTSUPP;
  }

  readDirty(): number {
    return -Errno.EINVAL;
  }
}

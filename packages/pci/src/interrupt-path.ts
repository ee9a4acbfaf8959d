import type { RemappedInterrupt } from '@remora/iommu';
import type { PciIommuOps } from './iommu.js';
import type { MsiSink } from './msi-sink.js';

/**
 * Sends an interrupt request to the platform's sink, through the remapping of `iommu` if it has any; `scratch` is the caller's own.
 * Returns false if the IOMMU blocked it.
 */
export function sendInterrupt(
  iommu: PciIommuOps | undefined,
  msi: MsiSink,
  requesterId: number,
  hi: number,
  lo: number,
  data: number,
  scratch: RemappedInterrupt,
): boolean {
  if (iommu?.remapInterrupt === undefined) {
    msi(requesterId, hi, lo, data);
    return true;
  }
  if (!iommu.remapInterrupt(requesterId, hi, lo, data, scratch)) return false;
  if (scratch.send) msi(requesterId, scratch.hi, scratch.lo, scratch.data);
  return true;
}

import { properties } from '@remora/core';
import type { PciPlacement, TypedDevice } from '@remora/pci';

/** The device has no options of its own. */
export const iommuTestdevProperties = properties({});
export type IommuTestdevConfig = ReturnType<typeof iommuTestdevProperties.parse>;

/** `-device iommu-testdev` as an object. */
export function iommuTestdev(options: PciPlacement = {}): TypedDevice {
  return { driver: 'iommu-testdev', options: { ...options } };
}

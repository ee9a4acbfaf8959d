import type { TypedDevice } from '@remora/pci';
import type { VtdConfig } from './options.js';

/** `-device intel-iommu,...` as an object. */
export function intelIommu(options: Partial<VtdConfig> & { readonly id?: string } = {}): TypedDevice {
  return { driver: 'intel-iommu', options: { ...options } };
}

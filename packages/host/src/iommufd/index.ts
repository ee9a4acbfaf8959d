export * from './backend.js';
export * from './bound-device.js';
export * from './hardware-info.js';
export * from './host-iommu-context.js';
export * from './ioas.js';
export * from './iommufd.js';
export * from './pasid-numbers.js';
export type { IommufdConnection, IommufdConnectOptions } from './spaces.js';

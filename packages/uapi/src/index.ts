export * from './rfc-iommu.js';
export * from './rfc-vfio.js';
export * from './struct.js';
export * from './vfio.js';

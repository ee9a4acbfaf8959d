export * from './c-names.js';
export * from './field.js';
export * from './format.js';
export * from './ioctl.js';
export * from './rfc-iommu.js';
export * from './rfc-vfio.js';
export * from './struct.js';
export * from './vfio.js';

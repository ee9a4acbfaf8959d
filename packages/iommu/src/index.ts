export * from './ats.js';
export * from './host-iommu-context.js';
export * from './host-iommu-driver.js';
export * from './invalidation.js';
export * from './iotlb.js';
export * from './paging-structure-cache.js';
export * from './remapped-interrupt.js';
export * from './stage1.js';

export * from './fake-iommu-driver.js';
export * from './fault-plan.js';
export * from './owner.js';

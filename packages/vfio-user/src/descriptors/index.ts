export * from './descriptors.js';
export type { DescriptorSystem, PassedDescriptor } from './passed.js';

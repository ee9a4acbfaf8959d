export * from './descriptors.js';
export type { DescriptorSystem } from './passed.js';
export { PassedDescriptor } from './passed.js';

export * from './connection.js';
export type { DmaTarget } from './dma-target.js';
export * from './forwarding-syscalls.js';
export * from './iommufd/index.js';
export * from './machine-process.js';
export * from './recording-syscalls.js';
export * from './syscalls.js';
export * from './vfio/index.js';

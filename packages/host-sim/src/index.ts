export type { PhysicalDevice } from './devices/physical-device.js';
export { DEFAULT_KNOBS, type KernelKnobs } from './kernel/knobs.js';
export type { VmidDefects } from './kernel/vmid-defects.js';
export type { KernelPages } from './memory/kernel-pages.js';
export * from './options.js';
export type { HostProcess } from './process.js';
export * from './simulated-host.js';

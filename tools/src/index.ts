export * from './headers/index.js';
export * from './replay/index.js';
export { MachineTarget, type MachineTargetOptions } from './qmp/index.js';

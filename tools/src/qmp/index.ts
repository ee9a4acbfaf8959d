export { MACHINES, VERSION } from './identity.js';
export { MachineTarget, type MachineTargetOptions } from './machine-target.js';

/**
 * Entry point for those who assemble machines on no host, and do not save them: without the simulated host, which takes as long to load
 * as the machine takes to start.
 */
export { createMachine } from './create-machine.js';
export { Kinds } from './device-kinds.js';
export { hostScope } from './host.js';
export type { Machine } from './machine.js';

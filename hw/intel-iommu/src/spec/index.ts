export * from './descriptors.js';
export * from './faults.js';
export * from './interrupt.js';
export * from './paging.js';
export * from './registers.js';
export * from './tables.js';
export * from './virtual-command.js';

export * from './copy-program.js';
export * from './dsa-modes.js';
export * from './dsa-run.js';
export * from './dsa-verdict.js';
export * from './faults-verdict.js';
export * from './lent-verdict.js';
export * from './pasids-verdict.js';

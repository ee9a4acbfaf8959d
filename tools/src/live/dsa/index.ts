export * from './copy-program.js';
export * from './dsa-run.js';
export * from './dsa-verdict.js';

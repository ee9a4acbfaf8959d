export * from './host-run.js';
export * from './rig.js';
export * from './script.js';
export * from './transcript.js';
export * from './simulated.js';

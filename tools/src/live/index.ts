export * from './console.js';
export * from './live-command.js';
export * from './live-run.js';
export * from './modes.js';
export * from './peers/cache-folder.js';
export * from './peers/live-error.js';
export * from './peers/peers.js';
export * from './verdict.js';

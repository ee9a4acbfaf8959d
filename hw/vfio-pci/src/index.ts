export * from './config.js';
export * from './device.js';
export { vfioPciKind } from './plugin.js';

export * from './config.js';
export * from './device.js';
export { eduKind } from './plugin.js';
export * from './spec.js';

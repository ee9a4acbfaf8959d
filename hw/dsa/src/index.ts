export * from './config.js';
export * from './device/device.js';
export { dsaKind } from './plugin.js';
export * from './spec/index.js';

export * from './config.js';
export * from './device/device.js';
export { nvmeKind } from './plugin.js';
export * from './spec/index.js';

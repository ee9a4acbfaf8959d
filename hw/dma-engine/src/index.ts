export * from './config.js';
export * from './device.js';
export { dmaEngineKind } from './plugin.js';
export * from './spec.js';

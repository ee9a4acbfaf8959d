export * from './config.js';
export * from './device.js';
export { iommuTestdevKind } from './plugin.js';
export * from './spec.js';

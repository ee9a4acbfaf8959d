export * from './config/index.js';
export * from './device/index.js';
export * from './spec/index.js';

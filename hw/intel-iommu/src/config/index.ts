export * from './capabilities.js';
export * from './options.js';
export * from './typed-device.js';
export * from './validate.js';

export * from './capabilities.js';
export * from './options.js';
export * from './validate.js';

export * from './brand.js';
export * from './random.js';
export * from './range.js';
export * from './record.js';
export * from './words.js';

export * from './headers/index.js';
export * from './replay/index.js';

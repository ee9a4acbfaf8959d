export * from './commands.js';
export * from './descriptor.js';
export * from './registers.js';

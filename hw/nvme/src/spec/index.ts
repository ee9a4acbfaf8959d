export * from './commands.js';
export * from './features.js';
export * from './identify.js';
export * from './logs.js';
export * from './registers.js';
export * from './status.js';

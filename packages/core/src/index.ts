export * from './errors.js';
export * from './ledger.js';
export * from './memory/memtx.js';
export * from './memory/port.js';
export * from './memory/ram.js';
export * from './memory/translation.js';
export * from './token.js';

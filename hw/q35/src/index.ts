export * from './board.js';
export * from './config.js';
export * from './dmar.js';
export * from './intx.js';
export * from './ioapic.js';
export * from './ioapic-spec.js';
export { q35Kind } from './plugin.js';
export * from './smram-spec.js';
export * from './spec.js';

export * from './nvme-driver.js';
export * from './prps.js';
export type { CommandValues, Completion, QueuePlace } from './queue-pair.js';
export { QueuePair } from './queue-pair.js';

export { QmpError, type QmpErrorClass } from './errors.js';
export { JSON_LIMITS, type JsonLimits } from './json/stream.js';
export { ObjectStore } from './objects.js';
export * from './qom.js';
export { serveQmp } from './serve.js';
export type { QmpOptions, QmpSession } from './session.js';
export { COMMANDS, EVENTS } from './schema/commands.js';
export * from './target.js';

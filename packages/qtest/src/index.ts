export * from './server.js';
export * from './session.js';
export * from './target.js';
export * from './transport.js';

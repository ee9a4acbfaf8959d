export * from './headers-command.js';
export * from './importer.js';
